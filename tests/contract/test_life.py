"""The life of a job: its states, those who wait for it or are called back, and how it is ended or found again."""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from typing import Callable, List

import pytest

from psij import InvalidJobException, Job, JobState, JobStatus, JobStatusCallback, ResourceSpecV1, SubmitException

from .conftest import Site


class Recorder(JobStatusCallback):
    """A callback that is an object."""

    def __init__(self) -> None:
        self.seen: List[JobStatus] = []
        self.jobs: List[Job] = []

    def job_status_changed(self, job: Job, job_status: JobStatus) -> None:
        self.jobs.append(job)
        self.seen.append(job_status)

    def names(self) -> List[str]:
        return [status.state.name for status in self.seen]


# --- callbacks and waiting ----------------------------------------------------------------------------------------


def test_callbacks_have_run_when_wait_returns(site: Site) -> None:
    recorder = Recorder()
    site.executor.set_job_status_callback(recorder)
    jobs = [Job(site.shell('true')) for _ in range(3)]
    for job in jobs:
        site.executor.submit(job)
    for job in jobs:
        status = site.final(job)
        of_job = [seen for each, seen in zip(recorder.jobs, recorder.seen) if each is job]
        assert of_job[-1] is status


def test_a_callback_can_be_removed(site: Site) -> None:
    recorder = Recorder()
    job = Job(site.shell('true'))
    job.set_job_status_callback(recorder)
    job.set_job_status_callback(None)
    site.executor.set_job_status_callback(recorder)
    site.executor.set_job_status_callback(None)
    site.executor.submit(job)
    site.final(job)
    assert recorder.seen == []


def test_a_slow_callback_delays_no_job(site: Site) -> None:
    """Another one is submitted and ends while it lasts."""
    release = threading.Event()
    first, second = Job(site.shell('true')), Job(site.shell('exit 3'))
    first.set_job_status_callback(lambda job, status: (release.wait(60), None)[1])
    site.executor.submit(first)
    site.executor.submit(second)
    assert site.final(second).exit_code == 3
    release.set()
    site.final(first)


def test_failing_callbacks_change_nothing(site: Site) -> None:
    recorder = Recorder()

    def fail(job: Job, status: JobStatus) -> None:
        raise SystemExit('callbacks may do even this')

    job = Job(site.shell('exit 3'))
    job.set_job_status_callback(fail)
    site.executor.set_job_status_callback(recorder)
    site.executor.submit(job)
    assert site.final(job).exit_code == 3
    assert recorder.names()[-1] == 'FAILED'


def test_wait_for_states(site: Site) -> None:
    """A state that comes after the one that is waited for ends the wait too."""
    gate = site.directory / 'gate'
    os.mkfifo(gate)
    job = site.submit(site.shell(f'read line < "{gate}"'))
    assert site.reach(job, JobState.QUEUED).state in (JobState.QUEUED, JobState.STAGE_IN, JobState.ACTIVE)
    assert site.reach(job, JobState.ACTIVE).state is JobState.ACTIVE
    assert job.wait(timedelta(seconds=0.05), [JobState.COMPLETED, JobState.FAILED]) is None
    gate.write_text('go\n')
    status = job.wait(site.backend.patience, [JobState.FAILED])
    assert status is not None
    assert status.state is JobState.COMPLETED


def test_many_threads_wait_for_one_job(site: Site) -> None:
    job = site.submit(site.shell('exit 4'))
    codes: List[object] = []
    threads = [threading.Thread(target=lambda: codes.append(site.final(job).exit_code)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [4] * 5


# --- cancel -------------------------------------------------------------------------------------------------------


def test_states_of_a_canceled_job(site: Site) -> None:
    recorder = Recorder()
    job = Job(site.shell('sleep 300'))
    job.set_job_status_callback(recorder)
    site.executor.submit(job)
    site.reach(job, JobState.ACTIVE)
    job.cancel()
    status = site.final(job)
    assert (status.state, status.exit_code) == (JobState.CANCELED, None)
    assert recorder.names() == ['QUEUED', 'STAGE_IN', 'ACTIVE', 'CANCELED']


def test_cancel_ends_what_ignores_it(site: Site) -> None:
    ready = site.directory / 'ready'
    job = site.submit(site.shell(f'trap "" TERM; echo > "{ready}"; exec sleep 300'))
    site.eventually(ready.exists, 'the job runs')
    job.cancel()
    assert site.final(job).state is JobState.CANCELED


def test_cancel_ends_all_processes(site: Site) -> None:
    if site.launcher == 'single':
        pytest.skip('about several processes')
    job = site.submit(site.shell('sleep 300', resources=ResourceSpecV1(process_count=3)))
    site.reach(job, JobState.ACTIVE)
    job.cancel()
    assert site.final(job).state is JobState.CANCELED


def test_cancel_from_a_callback(site: Site) -> None:
    job = Job(site.shell('sleep 300'))
    job.set_job_status_callback(lambda job, status: job.cancel())
    site.executor.submit(job)
    assert site.final(job).state is JobState.CANCELED


def test_cancel_by_another_executor(site: Site) -> None:
    job = site.submit(site.shell('sleep 300'))
    site.reach(job, JobState.ACTIVE)
    attached = Job()
    site.new_executor().attach(attached, str(job.native_id))
    attached.cancel()
    assert site.final(attached).state is JobState.CANCELED
    assert site.final(job).state is JobState.CANCELED


def test_cancel_of_a_job_that_was_never_submitted(site: Site) -> None:
    with pytest.raises(SubmitException):
        site.executor.cancel(Job(site.shell('true')))


# --- attach -------------------------------------------------------------------------------------------------------


def test_states_of_an_attached_job(site: Site) -> None:
    gate = site.directory / 'gate'
    os.mkfifo(gate)
    job = site.submit(site.shell(f'read line < "{gate}"'))
    site.reach(job, JobState.ACTIVE)
    recorder = Recorder()
    executor = site.new_executor()
    executor.set_job_status_callback(recorder)
    attached = Job()
    executor.attach(attached, str(job.native_id))
    site.reach(attached, JobState.ACTIVE)
    gate.write_text('go\n')
    assert site.final(attached).state is JobState.COMPLETED
    assert recorder.names() == ['QUEUED', 'STAGE_IN', 'ACTIVE', 'STAGE_OUT', 'CLEANUP', 'COMPLETED']
    site.final(job)


def test_attach_to_a_job_that_has_ended(site: Site) -> None:
    """What is known of it depends on the backend; it is final, and not a success that never was."""
    if site.launcher != 'single':
        pytest.skip('the launcher takes no part, and it takes some time')
    job = site.submit(site.shell('exit 3'))
    site.final(job)
    attached = Job()
    site.executor.attach(attached, str(job.native_id))
    status = site.final(attached)
    if status.state is JobState.COMPLETED:
        assert status.metadata is not None
        assert status.metadata['assumed'] is True
    else:
        assert status.state is JobState.FAILED


def test_a_job_is_bound_once(site: Site) -> None:
    job = site.submit(site.shell('sleep 300'))
    for other in (site.executor, site.new_executor()):
        with pytest.raises(InvalidJobException):
            other.submit(job)
        with pytest.raises(InvalidJobException):
            other.attach(job, str(job.native_id))
    job.cancel()
    assert site.final(job).state is JobState.CANCELED


def test_ended_jobs_are_forgotten_by_the_executor(site: Site) -> None:
    """Nothing of the library keeps a job, or an executor, that nobody else has."""
    import gc
    import weakref

    executor = site.new_executor()
    job = site.submit(site.shell('true'), executor)
    site.final(job)
    references: List[Callable[[], object]] = [weakref.ref(job), weakref.ref(executor)]
    del job, executor

    def gone() -> bool:
        gc.collect()
        return all(reference() is None for reference in references)

    site.eventually(gone, 'they are collected')
