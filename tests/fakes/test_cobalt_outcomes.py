"""How jobs end on the stand-in for Cobalt, whose queue never tells."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Optional, cast

import pytest

from fakes.harness import FakeCluster
from psij import Job, JobSpec, JobState, JobStatus, SubmitException
from psij.executors.batch.cobalt import CobaltExecutorConfig, CobaltJobExecutor

SOON = timedelta(seconds=30)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    cluster = FakeCluster(tmp_path / 'cluster', 'cobalt')
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    yield cluster
    cluster.close()


@pytest.fixture
def executor(cluster: FakeCluster, tmp_path: Path) -> CobaltJobExecutor:
    config = CobaltExecutorConfig(work_directory=tmp_path / 'work', queue_polling_interval=1)
    config.initial_queue_polling_delay = cast(int, 0.2)
    return CobaltJobExecutor(config=config)


def submit(executor: CobaltJobExecutor, script: str, reach: Optional[JobState] = JobState.ACTIVE) -> Job:
    job = Job(JobSpec('/bin/sh', ['-c', script]))
    executor.submit(job)
    if reach is not None:
        job.wait(SOON, [reach])
        assert job.status.state is reach
    return job


def wait_until_listed(executor: CobaltJobExecutor, job: Job) -> None:
    """Wait for the first answer about a job: without one, an absent job is given ten seconds to appear."""
    deadline = time.monotonic() + 20
    while not executor._progress(job).listed:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def final(job: Job) -> JobStatus:
    status = job.wait(timedelta(seconds=40))
    assert status is not None
    return status


def reason(status: JobStatus) -> object:
    return (status.metadata or {}).get('reason')


def left_files(executor: CobaltJobExecutor) -> list[str]:
    return sorted(path.name for path in executor.work_directory.iterdir() if not path.name.startswith('.'))


def test_deleted_from_outside_while_it_runs(executor: CobaltJobExecutor, cluster: FakeCluster) -> None:
    job = submit(executor, 'exec sleep 600')
    wait_until_listed(executor, job)
    cluster.run('qdel', str(job.native_id))
    status = final(job)
    assert (status.state, reason(status)) == (JobState.CANCELED, 'cancelled_by_user')
    assert left_files(executor) == []


def test_deleted_from_outside_while_it_waits(executor: CobaltJobExecutor, cluster: FakeCluster) -> None:
    cluster.set('hold_queue')
    job = submit(executor, ':', None)
    wait_until_listed(executor, job)
    cluster.run('qdel', str(job.native_id))
    status = final(job)
    assert (status.state, reason(status)) == (JobState.CANCELED, 'cancelled_by_user')
    assert left_files(executor) == []


def test_walltime(executor: CobaltJobExecutor, cluster: FakeCluster) -> None:
    cluster.set('time_scale', 0.002)  # ten minutes are 1.2 seconds
    status = final(submit(executor, 'exec sleep 600'))
    assert (status.state, reason(status)) == (JobState.FAILED, 'timeout')
    assert 'walltime' in str(status.message)


def test_script_that_is_killed_leaves_no_exit_code_but_in_the_log(
    executor: CobaltJobExecutor, cluster: FakeCluster
) -> None:
    job = submit(executor, 'exec sleep 600')
    wait_until_listed(executor, job)
    os.kill(cluster.job(int(str(job.native_id))).pid, signal.SIGKILL)
    status = final(job)
    assert (status.state, status.exit_code, reason(status)) == (JobState.FAILED, 137, 'signal')


def test_vanished_without_a_trace(executor: CobaltJobExecutor, cluster: FakeCluster) -> None:
    job = submit(executor, 'exec sleep 600')
    wait_until_listed(executor, job)
    (executor.work_directory / f'{job.native_id}.cobaltlog').unlink()
    os.kill(cluster.job(int(str(job.native_id))).pid, signal.SIGKILL)
    status = final(job)
    assert (status.state, reason(status)) == (JobState.FAILED, 'lost')


def test_ids_of_few_digits_are_followed(executor: CobaltJobExecutor) -> None:
    job = submit(executor, 'exit 3', None)
    assert job.native_id == '1'
    assert final(job).exit_code == 3


@pytest.mark.parametrize('kind', ['cqm', 'slp'])
def test_components_that_are_away(executor: CobaltJobExecutor, cluster: FakeCluster, tmp_path: Path, kind: str) -> None:
    """Jobs keep their states, and a submission may be tried again."""
    gate = tmp_path / 'gate'
    os.mkfifo(gate)
    job = submit(executor, f'read line < {gate}; exit 4')
    cluster.set('down', kind)
    rejected = Job(JobSpec('/bin/true'))
    with pytest.raises(SubmitException) as refusal:
        executor.submit(rejected)
    assert refusal.value.transient
    with pytest.raises(SubmitException):
        job.cancel()
    cluster.unset('down')
    gate.write_text('go\n')
    status = final(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 4)
    executor.submit(rejected)
    assert final(rejected).state is JobState.COMPLETED


def test_attached_while_it_waits_and_removed_by_others(
    executor: CobaltJobExecutor, cluster: FakeCluster, tmp_path: Path
) -> None:
    """Who sees the end first removes the files of the job; the others must not miss them."""
    cluster.set('hold_queue')
    job = submit(executor, 'exit 5', None)
    other = CobaltJobExecutor(config=executor.config)
    attached = Job()
    other.attach(attached, str(job.native_id))
    cluster.unset('hold_queue')
    assert final(job).exit_code == 5
    assert (final(attached).state, final(attached).exit_code) == (JobState.FAILED, 5)
    assert left_files(executor) == []


def test_lost_reply(executor: CobaltJobExecutor, cluster: FakeCluster) -> None:
    """The job is found by its script."""
    cluster.set('hold_queue')
    cluster.set('lost_reply')
    job = submit(executor, ':', None)
    assert job.native_id == '1'
    cluster.unset('lost_reply', 'hold_queue')
    assert final(job).state is JobState.COMPLETED
