"""Canceling: all processes of a job end, soon and surely, and the job ends once."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from datetime import timedelta
from typing import Callable, List

import pytest

from psij import Job, JobSpec, JobState, JobStatus, StageOut, StageOutFlags
from psij._runtime.reaper import reaper

from .conftest import Local, final, reach, read_pids, runs, wait_for_end

Way = Callable[[JobSpec], JobSpec]

TREES = {
    # a shell that waits for a child in the same process group
    'child': ('sleep 300 & echo $! $$ > "$1"; wait', 2),
    'suspended': ('echo $$ > "$1"; kill -STOP $$; sleep 300', 1),
    'ignores SIGTERM': ('trap "" TERM; sleep 300 & echo $! $$ > "$1"; wait; wait', 2),
    'child in a session of its own': ('setsid sh -c \'echo $$ $PPID > "$1"; exec sleep 300\' sh "$1" & wait', 2),
    'grandchildren in sessions of their own that ignore SIGTERM': (
        'setsid sh -c \'trap "" TERM; setsid sh -c "echo \\$\\$ \\$PPID $PPID > \\"\\$1\\"; exec sleep 300" sh "$1"'
        '; sleep 300\' sh "$1" & wait',
        3,
    ),
    # the shell in between has ended, so only the session tells that the process belongs to the job
    'orphan in the session': ('(sleep 300 & echo $! > "$1.a"); cat "$1.a" > "$1"; echo $$ >> "$1"; sleep 300', 2),
    'orphan that outlives the first process': ('(trap "" TERM; sleep 300 & echo $! > "$1"); exec sleep 300', 1),
}


@pytest.mark.parametrize('tree', TREES)
def test_the_whole_tree_is_ended(local: Local, way: Way, tree: str) -> None:
    script, count = TREES[tree]
    file = local.directory / 'pids'
    executor = local.new_executor(cancel_grace=0.2)
    job = local.submit(way(JobSpec('/bin/bash', ['-c', script, 'job', str(file)])), executor)
    pids = read_pids(file, count)
    job.cancel()
    status = final(job)
    assert status.state is JobState.CANCELED
    assert status.metadata == {'reason': 'cancelled_by_user'}
    assert status.exit_code is None
    assert [pid for pid in pids if runs(pid)] == []


def test_processes_that_are_just_being_started_are_ended(local: Local) -> None:
    """A job that starts one process after the other, each in a session of its own, leaves none."""
    marker = str(local.write('marker', ''))
    started = local.directory / 'pids'
    script = f'echo $$ > {started}; while :; do setsid sh -c "exec sleep 300 3<{marker}" & done'
    for _ in range(3):
        job = local.submit(JobSpec('/bin/bash', ['-c', script]))
        read_pids(started, 1)
        time.sleep(0.1)  # some dozens of them, the last ones just when the job is canceled
        job.cancel()
        assert final(job).state is JobState.CANCELED
        assert _processes_with(marker) == []


def _processes_with(file: str) -> List[int]:
    """Return the processes that have a file open."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            links = [os.readlink(f'/proc/{pid}/fd/{fd}') for fd in os.listdir(f'/proc/{pid}/fd')]
        except OSError:
            continue
        if file in links:
            found.append(int(pid))
    return found


WAIT_FOR_SIGTERM = """
        import os, signal, sys, time
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        open(sys.argv[2], 'w').write(f'{os.getpid()}\\n')
        signal.sigwait({signal.SIGTERM})
""".strip()


@pytest.mark.parametrize('where', ['the executable', 'a child of it'])
def test_there_is_time_to_save_work(local: Local, way: Way, where: str) -> None:
    """Between SIGTERM and SIGKILL, also for processes that outlive the first one."""
    saved, ready = local.directory / 'saved', local.directory / 'ready'
    code = f"""
        {WAIT_FOR_SIGTERM}
        time.sleep(0.2)
        open(sys.argv[1], 'w').write('saved')
    """
    command = [sys.executable, '-c', textwrap.dedent(code), str(saved), str(ready)]
    if where != 'the executable':
        command = ['/bin/sh', '-c', '"$@" & wait', 'sh', *command]
    job = local.submit(way(JobSpec(command[0], command[1:])), local.new_executor(cancel_grace=20.0))
    read_pids(ready, 1)
    job.cancel()
    assert final(job).state is JobState.CANCELED
    assert saved.read_text() == 'saved'


def test_sigterm_is_delivered_once(local: Local, way: Way) -> None:
    """Programs take a second SIGTERM as a demand to give up at once what they do after the first."""
    ready, seen = local.directory / 'ready', local.directory / 'seen'
    code = f"""
        {WAIT_FOR_SIGTERM}
        again = signal.sigtimedwait({{signal.SIGTERM}}, 0.1)
        open(sys.argv[1], 'w').write('once' if again is None else 'twice')
    """
    job = local.submit(
        way(JobSpec(sys.executable, ['-c', textwrap.dedent(code), str(seen), str(ready)])),
        local.new_executor(cancel_grace=20.0),
    )
    read_pids(ready, 1)
    job.cancel()
    final(job)
    assert seen.read_text() == 'once'


def test_nothing_but_the_job_is_signalled(local: Local) -> None:
    """Children of the application, and other jobs, go on."""
    with subprocess.Popen(['sleep', '300']) as own:
        other = local.submit(local.shell('exec sleep 300'))
        job = local.submit(local.shell('exec sleep 300'))
        job.cancel()
        final(job)
        assert own.poll() is None
        assert not other.status.final
        other.cancel()
        final(other)
        own.kill()


def test_canceling_200_jobs_ends_each_once(local: Local) -> None:
    finals: Counter[str] = Counter()
    states: List[JobState] = []

    def note(job: Job, status: JobStatus) -> None:
        if status.final:
            finals[job.id] += 1
            states.append(status.state)

    local.executor.set_job_status_callback(note)
    jobs = [local.submit(local.shell('exec sleep 300')) for _ in range(200)]
    pids = [int(str(job.native_id)) for job in jobs]

    def cancel() -> None:
        for job in jobs:
            job.cancel()

    threads = [threading.Thread(target=cancel) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {final(job).state for job in jobs} == {JobState.CANCELED}
    assert sorted(finals.values()) == [1] * 200
    assert set(states) == {JobState.CANCELED}
    assert [pid for pid in pids if runs(pid)] == []


def test_a_job_that_ended_before_is_what_it_was(local: Local) -> None:
    """Although nobody has taken note of its end: the thread that does is busy with something else."""
    gate = local.directory / 'gate'
    os.mkfifo(gate)
    job = local.submit(local.shell(f'read line < {gate}; exit 5'))
    busy = threading.Event()

    def be_busy() -> None:
        busy.wait(30)

    reaper().loop.call_later(0, be_busy)
    gate.write_text('go\n')
    wait_for_end(int(str(job.native_id)))
    assert not job.status.final
    job.cancel()
    busy.set()
    status = final(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 5)


def test_cancel_from_a_callback_at_the_first_state(local: Local) -> None:
    """It comes while ``submit`` is not yet done; no such request is lost."""
    for _ in range(30):
        job = Job(local.shell('exec sleep 300'))
        job.set_job_status_callback(lambda job, status: job.cancel())
        local.executor.submit(job)
        assert final(job).state is JobState.CANCELED


def test_cancel_while_the_job_is_being_submitted(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread holds the job already, and cancels it between its start and the moment it is watched."""
    job = Job(local.shell('exec sleep 300'))
    watch_child = reaper().watch_child

    def cancel_first(pid: int, listener: Callable[..., None]) -> object:
        canceler = threading.Thread(target=job.cancel)
        canceler.start()
        canceler.join()
        return watch_child(pid, listener)

    monkeypatch.setattr(reaper(), 'watch_child', cancel_first)
    local.executor.submit(job)
    assert final(job).state is JobState.CANCELED


def test_a_staged_job_gets_its_files_before_it_is_canceled(local: Local) -> None:
    """Also if its executable ignores SIGTERM, and so has to be killed."""
    ready = local.directory / 'ready'
    spec = local.shell(f'trap "" TERM; echo result > result; echo $$ > {ready}; while :; do sleep 300; done')
    spec.directory = local.directory
    spec.stage_out = {StageOut('result', local.directory / 'kept', StageOutFlags.ON_CANCEL)}
    job = local.submit(spec, local.new_executor(cancel_grace=0.2))
    pids = read_pids(ready, 1)
    job.cancel()
    assert final(job).state is JobState.CANCELED
    assert (local.directory / 'kept').read_text() == 'result\n'
    assert not runs(pids[0])


CANCEL_OWN_JOB = """
    import os
    from psij import Job, JobExecutor
    job = Job()
    JobExecutor.get_instance('local').attach(job, os.environ['LEADER'])
    job.cancel()
    job.wait()
"""


@pytest.mark.parametrize('who', ['the first process', 'a child', 'a child in a session of its own'])
def test_a_job_that_cancels_itself(local: Local, way: Way, who: str) -> None:
    """The process that does it ends last, and does not suspend itself before."""
    pids = local.directory / 'pids'
    command = {
        'the first process': 'exec "$@"',
        'a child': '"$@"; :',
        'a child in a session of its own': 'setsid "$@"; :',
    }
    code = textwrap.dedent(CANCEL_OWN_JOB)
    script = f'export LEADER=$(cut -d " " -f 6 /proc/$$/stat); sleep 300 & echo $! > {pids}; {command[who]}'
    job = local.submit(way(JobSpec('/bin/bash', ['-c', script, 'bash', sys.executable, '-c', code])))
    status = final(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 128 + signal.SIGTERM)
    wait_for_end(read_pids(pids, 1)[0])


def test_a_walltime_of_a_month(local: Local) -> None:
    """Longer than the system waits at a time."""
    job = Job(local.shell('exit 3'))
    assert job.spec is not None
    assert job.spec.attributes is not None
    job.spec.attributes.duration = timedelta(days=30)
    executor = local.new_executor(enforce_walltime=True, cancel_grace=math.inf)
    executor.submit(job)
    assert final(job).exit_code == 3
    job = local.submit(local.shell('exec sleep 300'), executor)
    job.cancel()
    assert final(job).state is JobState.CANCELED


def test_an_interrupt_while_the_job_is_being_submitted(local: Local, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has to wait until the job is there, so that the process can be found and canceled."""
    job = Job(way(local.shell('exec sleep 300')))
    watch_child = reaper().watch_child

    def interrupted(pid: int, listener: Callable[..., None]) -> object:
        os.kill(os.getpid(), signal.SIGINT)
        return watch_child(pid, listener)

    monkeypatch.setattr(reaper(), 'watch_child', interrupted)
    with pytest.raises(KeyboardInterrupt):
        local.executor.submit(job)
    assert job.status.state is JobState.ACTIVE
    job.cancel()
    assert final(job).state is JobState.CANCELED


def test_walltime_is_not_enforced_unless_asked_for(local: Local) -> None:
    gate = local.directory / 'gate'
    os.mkfifo(gate)
    job = Job(local.shell(f'read line < {gate}'))
    assert job.spec is not None
    assert job.spec.attributes is not None
    job.spec.attributes.duration = timedelta(milliseconds=1)
    local.executor.submit(job)
    assert job.wait(timedelta(seconds=0.1)) is None
    gate.write_text('go\n')
    assert final(job).state is JobState.COMPLETED


def test_walltime_is_enforced_if_asked_for(local: Local, way: Way) -> None:
    pids = local.directory / 'pids'
    job = Job(way(local.shell(f'sleep 300 & echo $! $$ > {pids}; wait')))
    assert job.spec is not None
    assert job.spec.attributes is not None
    job.spec.attributes.duration = timedelta(seconds=0.5)
    local.new_executor(enforce_walltime=True).submit(job)
    processes = read_pids(pids, 2)
    status = final(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 128 + signal.SIGTERM)
    assert status.metadata == {'reason': 'timeout'}
    assert 'walltime' in str(status.message)
    assert [pid for pid in processes if runs(pid)] == []


def test_a_job_within_its_walltime_is_not_affected(local: Local) -> None:
    """Its timer does not keep the thread of the reaper, which ends when there are no jobs."""
    job = Job(local.shell('exit 3'))
    local.new_executor(enforce_walltime=True).submit(job)
    assert final(job).exit_code == 3
    for thread in threading.enumerate():
        if thread.name == 'psij-reaper':
            thread.join(5)
            assert not thread.is_alive()


def test_a_job_that_waits_for_the_reader_of_its_output(local: Local, way: Way) -> None:
    """Opening a FIFO blocks; that is no matter of ``submit``, and no reason not to be canceled."""
    for end in ('read', 'cancel'):
        fifo = local.directory / f'fifo-{end}'
        os.mkfifo(fifo)
        job = local.submit(way(local.shell('echo output', stdout_path=fifo)))
        assert job.wait(timedelta(seconds=0.05)) is None
        if end == 'read':
            assert fifo.read_text() == 'output\n'
            assert final(job).state is JobState.COMPLETED
        else:
            job.cancel()
            assert final(job).state is JobState.CANCELED
    assert local.left_files() == []


def test_what_a_job_leaves_running_does_not_delay_its_end(local: Local, way: Way) -> None:
    pid = local.directory / 'pid'
    job = local.submit(way(local.shell(f'sleep 300 & echo $! > {pid}')))
    assert final(job).state is JobState.COMPLETED
    left = read_pids(pid, 1)[0]
    assert runs(left)
    os.kill(left, signal.SIGKILL)


def test_active_comes_before_the_end(local: Local) -> None:
    """However soon the process ends, every state is passed once and in order."""
    for _ in range(30):
        states: List[str] = []
        job = Job(local.shell('exit 3'))
        job.set_job_status_callback(lambda job, status, states=states: states.append(status.state.name))  # type: ignore[misc]
        local.executor.submit(job)
        reach(job, JobState.ACTIVE)
        final(job)
        assert states == ['QUEUED', 'STAGE_IN', 'ACTIVE', 'STAGE_OUT', 'CLEANUP', 'FAILED']
