"""How processes are started, and that nothing is left of them."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Dict, List

import psutil
import pytest

from psij import Job, JobSpec, JobState, ResourceSpecV1, SubmitException
from psij._runtime import job_files
from psij._runtime.event_loop import EventLoop

from .conftest import Local, descriptors, eventually, final, program, reach, wait_for_end, wait_for_idle_threads

Way = Callable[[JobSpec], JobSpec]


def test_a_plain_job_is_a_child_without_anything_in_between(local: Local) -> None:
    output = local.directory / 'out'
    job = local.submit(local.shell('echo $$ $PPID', stdout_path=output))
    final(job)
    assert output.read_text() == f'{job.native_id} {os.getpid()}\n'


ONE_JOB = """
import sys
from psij import Job, JobExecutor, JobSpec
executor = JobExecutor.get_instance('local')
job = Job(JobSpec('/bin/true', pre_launch=sys.argv[1] if len(sys.argv) > 1 else None))
executor.submit(job)
assert job.wait().exit_code == 0
"""


@pytest.mark.skipif(shutil.which('strace') is None, reason='needs strace')
@pytest.mark.parametrize('way', ['direct', 'script'])
def test_no_program_is_run_but_the_executable_and_one_shell(local: Local, way: str) -> None:
    """One ``execve`` for a plain job; a script takes a shell and a process of it."""
    trace = local.directory / 'trace'
    arguments = [local.write('nothing.sh', ':\n')] if way == 'script' else []
    calls = 'trace=execve,fork,vfork,clone,clone3'
    program(ONE_JOB, *arguments, home=local.directory, before=['strace', '-f', '-qq', '-e', calls, '-o', str(trace)])
    lines = [line for line in trace.read_text().splitlines() if 'CLONE_THREAD' not in line and ' resumed>' not in line]
    programs = [line.split('"')[1] for line in lines if 'execve(' in line]
    processes = [line for line in lines if 'clone' in line or 'fork(' in line]
    assert programs[1:] == {'direct': ['/bin/true'], 'script': ['/bin/bash', '/bin/true']}[way]
    assert len(processes) == len(programs) - 1


def test_only_the_standard_streams_are_open_in_a_job(local: Local, way: Way) -> None:
    output = local.directory / 'out'
    code = 'import os; print(sorted(int(fd) for fd in os.listdir("/proc/self/fd") if fd != str(os.dup(0) - 1)))'
    other = os.open('/dev/null', os.O_RDONLY)
    os.set_inheritable(other, True)  # whatever the application has open is not for jobs
    try:
        local.run(way(JobSpec(sys.executable, ['-c', code], stdout_path=output)))
    finally:
        os.close(other)
    assert output.read_text() == '[0, 1, 2, 3]\n'  # 3 is the directory that is being read


def test_jobs_have_a_session_of_their_own(local: Local, way: Way) -> None:
    output = local.directory / 'out'
    job = local.submit(way(JobSpec(sys.executable, ['-c', 'import os; print(os.getsid(0))'], stdout_path=output)))
    final(job)
    assert output.read_text() == f'{job.native_id}\n'


def test_nothing_is_left_of_jobs_that_have_ended(local: Local, way: Way) -> None:
    """No zombie, no descriptor, no file, no thread."""
    wait_for_idle_threads()
    before = descriptors()
    for script in ('exit 0', 'exit 3', 'kill -9 $$'):
        local.run(way(local.shell(script, resources=ResourceSpecV1(1), stdout_path=local.directory / 'out')))
    job = local.submit(way(local.shell('exec sleep 300')))
    reach(job, JobState.ACTIVE)
    job.cancel()
    final(job)
    assert local.left_files() == []
    assert [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE] == []
    wait_for_idle_threads()
    assert descriptors() == before


def test_waiting_for_jobs_takes_no_cpu_and_no_wake_ups(local: Local) -> None:
    if not hasattr(os, 'pidfd_open'):
        pytest.skip('needs pidfds')
    jobs = [local.submit(local.shell('exec sleep 300')) for _ in range(20)]
    thread = next(thread for thread in threading.enumerate() if thread.name == 'psij-reaper')
    switches = Path(f'/proc/self/task/{thread.native_id}/status')

    def count() -> int:
        return sum(int(line.split()[1]) for line in switches.read_text().splitlines() if '_ctxt_switches' in line)

    eventually(lambda: '\nState:\tS' in switches.read_text(), 'the reaper waits')
    before = count()
    time.sleep(0.25)  # two and a half rounds, if it were to look again and again
    assert count() == before
    for job in jobs:
        job.cancel()
    for job in jobs:
        final(job)


def test_a_process_that_cannot_be_watched_is_ended(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """A submission that fails leaves a job that can be submitted again, and no process."""
    wait_for_idle_threads()
    before = descriptors()
    started = local.directory / 'pid'

    def no_thread(self: EventLoop, fd: int, callback: Callable[[], None]) -> None:
        eventually(started.exists, 'the job runs')
        raise RuntimeError("can't start new thread")

    job = Job(local.shell(f'echo $$ > {started}.new; mv {started}.new {started}; exec sleep 300'))
    with monkeypatch.context() as patch:
        patch.setattr(EventLoop, 'add_reader', no_thread)
        with pytest.raises(SubmitException, match="can't start new thread") as info:
            local.executor.submit(job)
    assert info.value.transient
    wait_for_end(int(started.read_text()))
    assert (job.status.state, job.executor, job.native_id) == (JobState.NEW, None, None)
    assert descriptors() == before
    job.spec = local.shell('exit 4')
    local.executor.submit(job)
    assert final(job).exit_code == 4


def test_the_library_recovers_when_threads_can_be_started_again(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_for_idle_threads()
    before = descriptors()

    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, 'start', no_thread)
        for _ in range(3):
            with pytest.raises(SubmitException, match="can't start new thread"):
                local.submit(local.shell('exec sleep 300'))
    assert descriptors() == before
    assert local.run(local.shell('exit 4')).exit_code == 4


def test_a_script_that_cannot_be_written_is_a_failed_submission(local: Local) -> None:
    """The error names the directory and says how to choose another; the job can be submitted again."""
    local.write('work', 'a file where the directory should be')
    job = Job(local.through_script(local.shell('true')))
    with pytest.raises(SubmitException, match=r'work.*JobExecutorConfig\(work_directory=') as info:
        local.executor.submit(job)
    assert isinstance(info.value.__cause__, OSError)
    assert (job.status.state, job.executor) == (JobState.NEW, None)
    (local.directory / 'work').unlink()
    local.executor.submit(job)
    assert final(job).state is JobState.COMPLETED


def test_arguments_that_are_too_long_for_the_system(local: Local, way: Way) -> None:
    """Linux takes 128 KiB for one argument. It is as if a shell had tried to run the program."""
    errors = local.directory / 'errors'
    status = local.run(way(JobSpec('/bin/true', ['x' * 200_000], stderr_path=errors)))
    assert (status.state, status.exit_code) == (JobState.FAILED, 126)
    assert 'Argument list too long' in errors.read_text()
    assert status.message == 'psij: /bin/true: Argument list too long'


def test_an_environment_that_is_too_large_for_the_system(local: Local, way: Way) -> None:
    job = Job(way(JobSpec('/bin/true', environment={'LARGE': 'x' * 200_000})))
    with pytest.raises(SubmitException, match='too long') as info:
        local.executor.submit(job)
    assert not info.value.transient
    assert job.status.state is JobState.NEW
    assert local.left_files() == []


def test_a_directory_that_cannot_be_entered(local: Local, way: Way, ordinary_user: List[str]) -> None:
    closed = local.directory / 'closed'
    closed.mkdir(mode=0o000)
    code = """
        import sys
        from pathlib import Path
        from psij import Job, JobExecutor, JobSpec, SubmitException
        nothing = Path(sys.argv[2]) if len(sys.argv) > 2 else None
        job = Job(JobSpec('/bin/true', directory=Path(sys.argv[1]), pre_launch=nothing))
        try:
            JobExecutor.get_instance('local').submit(job)
        except SubmitException as ex:
            print(ex)
    """
    home = local.directory / 'home'
    home.mkdir()
    home.chmod(0o777)
    nothing = way(JobSpec()).pre_launch
    output = program(code, closed, *([nothing] if nothing else []), home=home, before=ordinary_user)
    assert output == (
        f'Failed to submit job: the directory of the job, {closed}, cannot be entered: Permission denied.\n'
    )


def test_a_program_whose_directory_was_removed(local: Local, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = local.directory / 'gone'
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    job = Job(way(local.shell('exit 3', directory=local.directory)))
    if job.spec is not None and job.spec.pre_launch is None:
        local.executor.submit(job)
        assert final(job).exit_code == 3
        job = Job(local.shell('true', directory=local.directory, cleanup={'x'}))
    with pytest.raises(SubmitException, match='current directory of this program does not exist'):
        local.executor.submit(job)
    assert job.status.state is JobState.NEW
    assert local.left_files() == []


@pytest.mark.parametrize('path', ['/dev/stdout', '/dev/fd/1', '/proc/self/fd/1'])
def test_the_output_of_a_job_is_never_that_of_the_program(
    local: Local, way: Way, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
        import os, sys
        from pathlib import Path
        from psij import Job, JobExecutor, JobSpec
        os.dup2(os.open('log', os.O_WRONLY | os.O_CREAT), 1)
        print('before', flush=True)
        pre_launch = Path(sys.argv[2]) if len(sys.argv) > 2 else None
        job = Job(JobSpec('/bin/echo', ['of the job'], stdout_path=Path(sys.argv[1]), pre_launch=pre_launch))
        JobExecutor.get_instance('local').submit(job)
        print(job.wait().state)
    """
    nothing = way(JobSpec()).pre_launch
    monkeypatch.chdir(local.directory)
    program(code, path, *([nothing] if nothing else []), home=local.directory)
    assert (local.directory / 'log').read_text() == 'before\nCOMPLETED\n'


@pytest.mark.parametrize('path', ['relative', 'through PATH'])
def test_executables_are_found_as_a_shell_finds_them(local: Local, way: Way, path: str) -> None:
    local.write('program', '#!/bin/sh\nexit 7\n', 0o755)
    spec = JobSpec('./program', directory=local.directory)
    if path == 'through PATH':
        spec = JobSpec('program', environment={'PATH': f'/nonexistent:{local.directory}:/bin'})
    assert local.run(way(spec)).exit_code == 7


def test_a_script_without_an_interpreter_line_is_run_by_a_shell(local: Local, way: Way) -> None:
    plain = local.write('plain', 'exit 9\n', 0o755)
    assert local.run(way(JobSpec(str(plain)))).exit_code == 9


MESSAGES: Dict[str, List[object]] = {
    'absent': [127, 'No such file or directory'],
    'plain': [126, 'Permission denied'],
    'folder': [126, 'Is a directory'],
    'no interpreter': [127, 'bad interpreter'],
    'command-that-is-nowhere': [127, 'command not found'],
}


@pytest.mark.parametrize('name', MESSAGES)
def test_what_cannot_be_run_is_named(local: Local, way: Way, name: str) -> None:
    """As a shell does it: 127 for what is not there, 126 for what cannot be run."""
    local.write('plain', 'true\n')
    (local.directory / 'folder').mkdir()
    local.write('no interpreter', '#!/no/such/interpreter\n', 0o755)
    executable = name if name.startswith('command') else str(local.directory / name)
    status = local.run(way(JobSpec(executable)))
    code, reason = MESSAGES[name]
    assert (status.state, status.exit_code) == (JobState.FAILED, code)
    assert executable in str(status.message)
    assert str(reason) in str(status.message)
    assert status.metadata == {'reason': 'exit_code'}


def test_a_work_directory_that_vanishes_is_made_again(local: Local) -> None:
    for _ in range(2):
        assert local.run(local.through_script(local.shell('exit 3'))).exit_code == 3
        shutil.rmtree(local.work / 'local')
    assert local.run(local.through_script(local.shell('exit 3'))).exit_code == 3
    assert (local.work / 'local').stat().st_mode & 0o077 == 0


def test_what_ended_programs_have_left_is_removed_one_day(local: Local) -> None:
    """A job goes on when its program ends, and nobody is there to remove its files."""
    directory = local.work / 'local'
    directory.mkdir(parents=True)
    for name, age in (('old.job', 31), ('young.job', 29)):
        (directory / name).write_text('')
        os.utime(directory / name, (time.time() - age * 86400,) * 2)
    assert local.run(local.through_script(local.shell('exit 3'))).exit_code == 3
    assert local.left_files() == ['young.job']


def test_a_relative_work_directory(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is relative to the directory of the program, not to that of the job."""
    monkeypatch.chdir(local.directory)
    (local.directory / 'elsewhere').mkdir()
    executor = local.new_executor(work_directory='relative')
    spec = local.through_script(local.shell('wc -l < "$PSIJ_NODEFILE" > lines', directory=Path('elsewhere')))
    spec.resources = ResourceSpecV1(process_count=2)
    assert local.run(spec, executor).state is JobState.COMPLETED
    assert (local.directory / 'elsewhere' / 'lines').read_text().strip() == '2'
    assert (local.directory / 'relative' / 'local').is_dir()


def test_a_full_disk(local: Local) -> None:
    """The submission fails, the error says where, and nothing is left."""
    job = Job(local.through_script(local.shell('true')))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job_files, 'write_text', _no_space)
        with pytest.raises(SubmitException, match=r'Cannot write .*\.job: No space left on device'):
            local.executor.submit(job)
    assert job.status.state is JobState.NEW
    assert local.left_files() == []
    local.executor.submit(job)
    assert final(job).state is JobState.COMPLETED


def _no_space(fd: int, text: str) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
