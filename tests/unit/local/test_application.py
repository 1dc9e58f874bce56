"""The application around the executor: what it does itself is not disturbed, and wherever it is used from, it works."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import List

import pytest

from psij import Job, JobState, JobStatus

from .conftest import Local, final, program, read_pids, runs

PREAMBLE = """
import os, signal, subprocess, sys, threading, time
from pathlib import Path
from psij import Job, JobExecutor, JobSpec, JobState
executor = JobExecutor.get_instance('local')

def shell(script, **fields):
    return JobSpec('/bin/sh', ['-c', script], **fields)

def submit(spec):
    job = Job(spec)
    executor.submit(job)
    return job

def run(script):
    return submit(shell(script)).wait()
"""


def application(code: str, *arguments: object, home: Path, **more: object) -> str:
    """Run a program that uses the library; warnings are errors, and so is anything on stderr."""
    return program(PREAMBLE + textwrap.dedent(code), *map(str, arguments), home=home, **more)  # type: ignore[arg-type]


# --- children and signals of the application ----------------------------------------------------------------------


def test_children_of_the_application_stay_its_own(local: Local) -> None:
    """It alone learns of their ends, with jobs ending all the time."""
    gate = local.directory / 'gate'
    os.mkfifo(gate)
    with subprocess.Popen(['sh', '-c', f'read line < {gate}; exit 11']) as own:
        jobs = [local.submit(local.shell(f'exit {number}')) for number in range(10)]
        assert [final(job).exit_code for job in jobs] == list(range(10))
        assert own.poll() is None
        gate.write_text('go\n')
        assert own.wait() == 11


def test_waiting_for_any_child_is_possible_although_it_takes_jobs_too(tmp_path: Path) -> None:
    """An application that does so may take note of the end of a job before the library; nothing hangs then."""
    code = """
        job = submit(shell('read line < ' + sys.argv[1]))
        own = os.spawnlp(os.P_NOWAIT, 'sh', 'sh', '-c', 'exit 12')
        ended = dict([os.wait()])
        assert os.waitstatus_to_exitcode(ended[own]) == 12
        def wait():
            try:
                os.wait()
            except ChildProcessError:
                pass  # the library was first
        waiter = threading.Thread(target=wait)
        waiter.start()
        with open(sys.argv[1], 'w') as gate:
            gate.write('go')
        waiter.join()
        status = job.wait()
        print(status.state, status.exit_code, (status.metadata or {}).get('reason'))
    """
    os.mkfifo(tmp_path / 'gate')
    output = application(code, tmp_path / 'gate', home=tmp_path)
    # on older systems the exit code is lost if the thread was first
    assert output in ('FAILED 1 exit_code\n', 'COMPLETED 0 None\n', 'FAILED None lost\n')


def test_the_handler_of_sigchld_stays(tmp_path: Path) -> None:
    code = """
        def handler(*_):
            pass
        signal.signal(signal.SIGCHLD, handler)
        before = [signal.getsignal(number) for number in signal.valid_signals()]
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        job = submit(shell('exec sleep 300'))
        job.cancel()
        print(job.wait().state, run('exit 3').exit_code)
        assert [signal.getsignal(number) for number in signal.valid_signals()] == before
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
        assert signal.set_wakeup_fd(-1) == -1
    """
    assert application(code, home=tmp_path) == 'CANCELED 3\n'


def test_sigchld_may_be_ignored(tmp_path: Path) -> None:
    """The system reaps the children then, and keeps the exit code if it is recent and the library was there in time.

    Where the exit code is not known the library says so.
    """
    code = """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        for status, code in ((run('exit 0'), 0), (run('exit 3'), 3)):
            if status.exit_code is None:
                assert status.state is JobState.FAILED
                assert status.metadata == {'reason': 'lost'}
            else:
                assert status.exit_code == code
        job = submit(shell('exec sleep 300'))
        job.cancel()
        print(job.wait().state)
    """
    assert application(code, home=tmp_path) == 'CANCELED\n'


def test_where_the_exit_code_is_lost_it_is_said(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on systems that do not keep it: never COMPLETED without evidence."""
    from psij._runtime import process_tree, reaper

    monkeypatch.setattr(process_tree, 'wait_status', lambda pid, fd: None)
    monkeypatch.setattr(reaper, '_STATUS_PATIENCE', 0.05)
    gate = local.directory / 'gate'
    os.mkfifo(gate)
    job = local.submit(local.shell(f'read line < {gate}'))
    monkeypatch.setattr(os, 'waitpid', _no_child)
    gate.write_text('go\n')
    status = final(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, None)
    assert status.metadata == {'reason': 'lost'}
    assert 'SIGCHLD' in str(status.message)
    monkeypatch.undo()
    os.waitpid(int(str(job.native_id)), 0)


def _no_child(pid: int, options: int) -> None:
    raise ChildProcessError


# --- the end of the program ---------------------------------------------------------------------------------------


@pytest.mark.parametrize('end', ['', 'sys.exit()', 'os.kill(os.getpid(), signal.SIGTERM)'])
def test_jobs_go_on_when_the_program_ends(local: Local, end: str) -> None:
    """It ends at once, prints nothing (warnings are on), and leaves running what runs."""
    pids = local.directory / 'pids'
    code = f"""
        nothing = Path(sys.argv[2]); nothing.write_text(':')
        for number, spec in enumerate((shell('echo $$ >> ' + sys.argv[1] + '; exec sleep 300'),
                                       shell('echo $$ >> ' + sys.argv[1] + '; exec sleep 300', pre_launch=nothing))):
            job = submit(spec)
            job.set_job_status_callback(lambda job, status: None)
            while len(Path(sys.argv[1]).read_text().split() if os.path.exists(sys.argv[1]) else []) <= number:
                time.sleep(0.001)
        {end}
    """
    arguments = ['-X', 'dev', '-W', 'error', '-c', PREAMBLE + textwrap.dedent(code)]
    done = subprocess.run(
        [sys.executable, *arguments, str(pids), str(local.directory / 'nothing.sh')],
        env={**os.environ, 'HOME': str(local.directory)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-15 if 'SIGTERM' in end else 0, '', '')
    running = read_pids(pids, 2)
    assert all(map(runs, running))
    for pid in running:
        os.kill(pid, 9)


def test_canceled_jobs_do_not_go_on_when_the_program_ends(local: Local) -> None:
    """Nobody would kill later what ignores the signal to end."""
    pids = local.directory / 'pids'
    code = """
        pids = Path(sys.argv[1])
        job = submit(shell('trap "" TERM; (sleep 300; :) & echo $! $$ > ' + sys.argv[1] + '; wait'))
        while not (pids.exists() and len(pids.read_text().split()) == 2):
            time.sleep(0.001)
        job.cancel()
    """
    application(code, pids, home=local.directory)
    assert not any(map(runs, read_pids(pids, 2)))


def test_the_end_of_the_program_in_the_middle_of_everything(tmp_path: Path) -> None:
    """Jobs that end, are submitted, canceled and called back just then change nothing."""
    code = """
        busy = threading.Event()
        def slow(job, status):
            busy.set()
            time.sleep(30)
        executor.set_job_status_callback(slow)
        jobs = [submit(shell('exit 0')) for _ in range(20)] + [submit(shell('exec sleep 300')) for _ in range(5)]
        for job in jobs:
            job.cancel()
        busy.wait()
    """
    assert application(code, home=tmp_path) == ''


def test_jobs_can_be_submitted_while_the_program_ends(tmp_path: Path) -> None:
    """Where Python starts no threads any more, it is an error, and no process is left."""
    code = """
        import atexit
        from psij import SubmitException
        def last():
            try:
                print(run('exit 3').exit_code)
            except SubmitException as ex:
                print(3 if 'watched' in str(ex) else ex)
        atexit.register(last)
    """
    assert application(code, home=tmp_path) == '3\n'


# --- where it is used from ----------------------------------------------------------------------------------------


def test_import_and_use_in_a_thread(tmp_path: Path) -> None:
    code = """
        import threading
        def work():
            from psij import Job, JobExecutor, JobSpec
            job = Job(JobSpec('/bin/sh', ['-c', 'exit 3']))
            JobExecutor.get_instance('local').submit(job)
            print(job.wait().exit_code)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    """
    assert program(code, home=tmp_path) == '3\n'


def test_under_asyncio(local: Local) -> None:
    """Together with processes of asyncio's own; a callback can wake up a coroutine."""

    async def work() -> List[object]:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[object] = loop.create_future()
        job = local.submit(local.shell('exit 3'))
        other = await asyncio.create_subprocess_exec('sh', '-c', 'exit 4')
        watched = local.submit(local.shell('exec sleep 300'))

        def note(job: Job, status: JobStatus) -> None:
            if status.final:
                loop.call_soon_threadsafe(ended.set_result, status.state)

        watched.set_job_status_callback(note)
        watched.cancel()
        status = await loop.run_in_executor(None, lambda: final(job))
        return [status.exit_code, await other.wait(), await ended]

    assert asyncio.run(work()) == [3, 4, JobState.CANCELED]


def test_two_programs_with_one_home(local: Local) -> None:
    """They start at the same time with an empty home, and use the same scripts."""
    code = """
        spec = shell('exit 3', pre_launch='/dev/null')
        sys.stdin.readline()
        print([submit(spec).wait().exit_code for _ in range(10)])
    """
    command = [sys.executable, '-c', PREAMBLE + textwrap.dedent(code)]
    environment = {**os.environ, 'HOME': str(local.directory)}
    programs = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
        for _ in range(3)
    ]
    for each in programs:
        assert each.stdin is not None
        each.stdin.write('\n')
        each.stdin.flush()
    assert [each.communicate(timeout=60)[0] for each in programs] == [f'{[3] * 10}\n'] * 3
    assert list((local.directory / '.psij' / 'work' / 'local').glob('[!.]*')) == []


def test_home_with_blanks_and_quotes(tmp_path: Path) -> None:
    home = tmp_path / 'it\'s my "home"\nand more'
    home.mkdir()
    code = "print(submit(shell('exit 3', pre_launch='/dev/null')).wait().exit_code)"
    assert application(code, home=home) == '3\n'
    assert (home / '.psij' / 'work').stat().st_mode & 0o077 == 0


def test_home_that_is_not_writable(tmp_path: Path, ordinary_user: List[str]) -> None:
    """Jobs that need no files run; for others the error names the directory and the way to choose another."""
    home = tmp_path / 'home'
    home.mkdir(mode=0o555)
    code = """
        from psij import SubmitException
        print(run('exit 3').exit_code)
        job = Job(shell('exit 4', pre_launch='/dev/null'))
        try:
            executor.submit(job)
        except SubmitException as ex:
            print(ex)
        print(job.status.state, job.executor)
        print(submit(JobSpec('/no/such/program')) if len(sys.argv) > 1 else '')
    """
    lines = application(code, home=home, before=ordinary_user).splitlines()
    assert lines[0] == '3'
    assert str(home) in lines[1]
    assert 'JobExecutorConfig(work_directory=' in lines[1]
    assert lines[2] == 'NEW None'


def test_few_descriptors(tmp_path: Path) -> None:
    """Hundreds of jobs one after the other, and more at once than there are descriptors."""
    code = """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        assert [run('exit 3').exit_code for _ in range(300)] == [3] * 300
        nothing = Path(sys.argv[1]); nothing.write_text(':')
        jobs = [submit(shell('exec sleep 300', pre_launch=nothing if number % 2 else None)) for number in range(100)]
        for job in jobs[::10]:
            job.cancel()
            assert job.wait().state is JobState.CANCELED
        for job in jobs:
            if not job.status.final:
                os.killpg(int(job.native_id), signal.SIGKILL)
        assert {job.wait().exit_code for job in jobs} == {None, 137}
        print([file for file in os.listdir(Path.home() / '.psij' / 'work' / 'local') if not file.startswith('.')])
    """
    assert application(code, tmp_path / 'nothing.sh', home=tmp_path) == '[]\n'


# --- fork ---------------------------------------------------------------------------------------------------------

FORK = """
from psij import SubmitException
before = submit(shell('read line < ' + sys.argv[1] + '; exit 5'))
assert run('exit 3').exit_code == 3  # all threads of the library are there
seen = []
before.set_job_status_callback(lambda job, status: seen.append(status.state.name))
pid = os.fork()
if pid == 0:
    assert run('exit 6').exit_code == 6
    job = submit(shell('exec sleep 300'))
    job.set_job_status_callback(lambda job, status: print('child', status.state, flush=True))
    job.cancel()
    job.wait()
    try:
        before.cancel()
    except SubmitException as ex:
        print('child', 'forked' in str(ex), flush=True)
    again = Job()
    executor.attach(again, before.native_id)
    assert again.status.state is JobState.ACTIVE
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
with open(sys.argv[1], 'w') as gate:
    gate.write('go')
print('parent', before.wait().exit_code, seen)
"""


def test_fork(tmp_path: Path) -> None:
    """A child begins anew, with threads of its own; the jobs of the parent stay the parent's."""
    os.mkfifo(tmp_path / 'gate')
    options = ['-X', 'dev', '-W', 'error', '-W', 'ignore::DeprecationWarning']  # of fork() where there are threads
    output = application(FORK, tmp_path / 'gate', home=tmp_path, options=options)
    assert output == "child CANCELED\nchild True\nparent 5 ['STAGE_OUT', 'CLEANUP', 'FAILED']\n"


def test_fork_while_other_threads_submit(tmp_path: Path) -> None:
    """Whatever locks are held at that moment, children can use the library."""
    code = """
        assert run('exit 1').exit_code == 1
        stop = threading.Event()
        def work():
            while not stop.is_set():
                run('exit 0')
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                os._exit(0 if run('exit 3').exit_code == 3 else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        stop.set()
        for thread in threads:
            thread.join()
        print('done')
    """
    options = ['-W', 'error', '-W', 'ignore::DeprecationWarning']
    assert application(code, home=tmp_path, options=options) == 'done\n'


def test_multiprocessing(tmp_path: Path) -> None:
    script = tmp_path / 'script.py'
    script.write_text(
        PREAMBLE
        + textwrap.dedent("""
        import multiprocessing
        def work(code):
            return run(f'exit {code}').exit_code
        if __name__ == '__main__':
            assert run('exit 1').exit_code == 1
            with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
                print(pool.map(work, [2, 3, 4]))
        """)
    )
    for method in ('fork', 'spawn'):
        done = subprocess.run(
            [sys.executable, str(script), method], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout) == (0, '[2, 3, 4]\n'), done.stderr


# --- threads ------------------------------------------------------------------------------------------------------


def test_callbacks_and_states_do_not_wait_for_each_other(local: Local) -> None:
    """While a callback takes long, other jobs are submitted, end and are waited for in targets short of the end."""
    release = threading.Event()
    entered = threading.Event()

    def slow(job: object, status: object) -> None:
        entered.set()
        release.wait(30)

    first = local.submit(local.shell('exit 0'))
    first.set_job_status_callback(slow)
    local.executor.set_job_status_callback(slow)
    second = local.submit(local.shell('exit 3'), local.new_executor())
    assert final(second).exit_code == 3
    release.set()
    final(first)
