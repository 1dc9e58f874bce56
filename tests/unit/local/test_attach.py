"""Attaching by pid: what is known of a process is said, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import List, Optional, cast

import pytest

from psij import InvalidJobException, Job, JobState, JobStatus, SubmitException
from psij._runtime import process_tree
from psij._runtime.reaper import reaper

from .conftest import Local, final, program, reach, runs

UNUSED_PID = '4194304'  # one more than the largest that Linux gives


def kernel_tells_exit_codes() -> bool:
    """Tell whether the exit code of a process is known to others than its parent (Linux 6.15)."""
    with subprocess.Popen(['sh', '-c', 'exit 5']) as process:
        fd = os.pidfd_open(process.pid)
        process.wait()
        try:
            return process_tree.wait_status(process.pid, fd) == 5 << 8
        finally:
            os.close(fd)


def assert_told_or_assumed(status: JobStatus, code: int) -> None:
    """Check the outcome of a process whose exit code only recent systems tell."""
    if kernel_tells_exit_codes():
        assert (status.state, status.exit_code) == (JobState.FAILED if code else JobState.COMPLETED, code)
    else:
        assert (status.state, status.exit_code) == (JobState.COMPLETED, None)
        assert status.metadata == {'assumed': True}
        assert 'cannot be known' in str(status.message)


def test_states_of_an_attached_job(local: Local) -> None:
    seen: List[JobStatus] = []
    gate = local.directory / 'gate'
    os.mkfifo(gate)
    job = local.submit(local.shell(f'read line < {gate}; exit 6'))
    attached = Job()
    attached.set_job_status_callback(lambda job, status: seen.append(status))
    local.new_executor().attach(attached, str(job.native_id))
    assert attached.status.state is JobState.ACTIVE
    assert attached.native_id == job.native_id
    gate.write_text('go\n')
    assert final(attached).exit_code == 6
    names = [status.state.name for status in seen]
    assert names == ['QUEUED', 'STAGE_IN', 'ACTIVE', 'STAGE_OUT', 'CLEANUP', 'FAILED']
    assert seen[0].metadata == {'native_id': job.native_id, 'nativeId': int(str(job.native_id))}


def test_attach_any_number_of_times_also_after_the_end(local: Local) -> None:
    job = local.submit(local.shell('exit 6'))
    final(job)
    for _ in range(3):
        attached = Job()
        local.new_executor().attach(attached, str(job.native_id))
        assert (attached.status.state, attached.status.exit_code) == (JobState.FAILED, 6)


def test_an_attached_job_is_canceled_for_all(local: Local) -> None:
    job = local.submit(local.shell('exec sleep 300'))
    attached = Job()
    local.new_executor().attach(attached, str(job.native_id))
    attached.cancel()
    assert final(attached).state is JobState.CANCELED
    assert final(job).state is JobState.CANCELED


def test_child_of_the_application(local: Local) -> None:
    """It is watched, and the application takes note of its end as ever."""
    with subprocess.Popen(['sh', '-c', 'read line; exit 7'], stdin=subprocess.PIPE) as own:
        job = Job()
        local.executor.attach(job, str(own.pid))
        assert job.status.state is JobState.ACTIVE
        assert own.stdin is not None
        own.stdin.close()
        assert own.wait() == 7
        assert_told_or_assumed(final(job), 7)


def test_child_of_the_application_that_is_not_reaped_yet(local: Local) -> None:
    with subprocess.Popen(['sh', '-c', 'exit 7']) as own:
        os.waitid(os.P_PID, own.pid, os.WEXITED | os.WNOWAIT)
        job = Job()
        local.executor.attach(job, str(own.pid))
        assert final(job).exit_code == 7
        assert own.wait() == 7


def test_cancel_of_a_process_of_somebody_else(local: Local) -> None:
    with subprocess.Popen(['sleep', '300']) as own:
        job = Job()
        local.executor.attach(job, str(own.pid))
        job.cancel()
        assert own.wait() == -signal.SIGTERM
        assert final(job).state is JobState.CANCELED


def test_job_of_a_program_that_has_ended(local: Local) -> None:
    """The job goes on, can be found by its pid, and its exit code is known if the system tells it."""
    gate = local.directory / 'gate'
    os.mkfifo(gate)
    submit = """
        import sys
        from psij import Job, JobExecutor, JobSpec
        job = Job(JobSpec('/bin/sh', ['-c', f'read line < {sys.argv[1]}; exit 8']))
        JobExecutor.get_instance('local').submit(job)
        print(job.native_id)
    """
    native_id = program(submit, gate, home=local.directory).strip()
    job = Job()
    local.executor.attach(job, native_id)
    assert job.status.state is JobState.ACTIVE
    gate.write_text('go\n')
    assert_told_or_assumed(final(job), 8)


def test_job_of_a_program_that_runs(local: Local) -> None:
    gate = local.directory / 'gate'
    os.mkfifo(gate)
    job = local.submit(local.shell(f'read line < {gate}; exit 9'))
    attach = """
        import sys
        from psij import Job, JobExecutor
        job = Job()
        JobExecutor.get_instance('local').attach(job, sys.argv[1])
        print(job.status.state)
        with open(sys.argv[2], 'w') as gate:
            gate.write('go')
        status = job.wait()
        print(status.state, status.exit_code, (status.metadata or {}).get('assumed'))
    """
    output = program(attach, str(job.native_id), gate, home=local.directory).splitlines()
    assert output[0] == 'ACTIVE'
    assert output[1] in (('FAILED 9 None',) if kernel_tells_exit_codes() else ('FAILED 9 None', 'COMPLETED None True'))
    assert final(job).exit_code == 9


@pytest.mark.parametrize('native_id', [UNUSED_PID, '0', '-1', '99999999999999999999'])
def test_unknown_process(local: Local, native_id: str) -> None:
    job = Job()
    local.executor.attach(job, native_id)
    assert job.status.state is JobState.FAILED
    assert job.status.metadata == {'reason': 'lost'}
    assert f'Process {native_id} does not exist' in str(job.status.message)
    local.executor.cancel(job)  # no harm


@pytest.mark.parametrize('native_id', ['', 'abc', '12.3', '12;rm', None])
def test_what_is_no_pid_is_refused(local: Local, native_id: Optional[str]) -> None:
    job = Job()
    with pytest.raises(InvalidJobException, match='expected the pid of a process'):
        local.executor.attach(job, cast(str, native_id))
    assert (job.status.state, job.executor, job.native_id) == (JobState.NEW, None, None)


def test_process_of_another_user(local: Local, ordinary_user: List[str]) -> None:
    """It is not watched, still less signalled."""
    attach = """
        from psij import Job, JobExecutor
        job = Job()
        JobExecutor.get_instance('local').attach(job, '1')
        print(job.status.state, job.status.message)
        job.cancel()
    """
    output = program(attach, home=local.directory, before=ordinary_user)
    assert output == 'FAILED Process 1 belongs to another user, so it cannot be a job that runs.\n'


def test_pid_that_is_used_again(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pidfds, a process that got the pid of one that has ended is not taken for it."""
    monkeypatch.delattr(os, 'pidfd_open')
    with subprocess.Popen(['sleep', '300']) as own:
        job = Job()
        local.executor.attach(job, str(own.pid))
        (identity,) = process_tree.identify([own.pid])
        process = reaper()._live[own.pid]
        process.identity = {process_tree.ProcessId(own.pid, identity.start - 1)}  # as if another had it before
        status = final(job)
        assert (status.state, status.metadata) == (JobState.COMPLETED, {'assumed': True})
        job.cancel()
        assert runs(own.pid)
        own.kill()


def test_pid_of_an_earlier_job_means_the_present_one(local: Local) -> None:
    """What is remembered of a process does not hide a later one with the same pid."""
    job = local.submit(local.shell('exec sleep 300'))
    process = reaper()._live[int(str(job.native_id))]
    reaper()._ended[process.pid] = process  # as if there had been one before
    attached = Job()
    local.executor.attach(attached, str(job.native_id))
    assert attached.status.state is JobState.ACTIVE
    attached.cancel()
    assert final(attached).state is JobState.CANCELED


def test_attach_needs_a_new_job_that_is_not_bound(local: Local) -> None:
    job = local.submit(local.shell('exec sleep 300'))
    reach(job, JobState.ACTIVE)
    with pytest.raises(InvalidJobException, match='NEW state'):
        local.executor.attach(job, str(job.native_id))
    job.cancel()
    final(job)


def test_cancel_of_a_job_that_is_not_here(local: Local) -> None:
    with pytest.raises(SubmitException, match='not submitted to, or attached by'):
        local.executor.cancel(Job(local.shell('true')))


def test_list_has_all_processes_of_the_user(local: Local) -> None:
    job = local.submit(local.shell('exec sleep 300'))
    listed = local.executor.list()
    assert job.native_id in listed
    assert str(os.getpid()) in listed
    assert all(isinstance(native_id, str) for native_id in listed)
    job.cancel()
    final(job)
