"""The live job: states, waiting, and callbacks, with threads that wait for each other by events only."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
import random
import re
import subprocess
import sys
import threading
import uuid
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Optional

import pytest

from psij import (
    Job,
    JobExecutor,
    JobExecutorConfig,
    JobSpec,
    JobState,
    JobStatus,
    JobStatusCallback,
    SubmitException,
)
from psij import job as job_module
from psij.job import FunctionJobStatusCallback

LIMIT = 30  # seconds after which a test that hangs fails
SOON = timedelta(seconds=LIMIT)


class FakeExecutor(JobExecutor):
    """Accepts jobs, and cancels them at once; the tests say what else happens to them."""

    def __init__(self) -> None:
        super().__init__(config=JobExecutorConfig())
        self.canceled: list[Job] = []

    def submit(self, job: Job) -> None:
        self._check_job(job)
        job._native_id = 42
        self._set_job_status(job, JobStatus(JobState.QUEUED))

    def cancel(self, job: Job) -> None:
        self.canceled.append(job)
        self._set_job_status(job, JobStatus(JobState.CANCELED))

    def list(self) -> list[str]:
        return []

    def attach(self, job: Job, native_id: str) -> None:
        self._bind(job)


class Recorder(JobStatusCallback):
    """Takes note of what it is told, and on which thread."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.statuses: list[JobStatus] = []
        self.threads: set[threading.Thread] = set()

    def job_status_changed(self, job: Job, job_status: JobStatus) -> None:
        self.jobs.append(job)
        self.statuses.append(job_status)
        self.threads.add(threading.current_thread())

    @property
    def names(self) -> str:
        return ' '.join(status.state.name for status in self.statuses)


ALL_STATES = 'QUEUED STAGE_IN ACTIVE STAGE_OUT CLEANUP COMPLETED'


def _end(job: Job, state: JobState = JobState.COMPLETED) -> None:
    """End a job, and wait until its callbacks have run."""
    job.status = JobStatus(state)
    assert job.wait(SOON) is job.status


# --- the object ------------------------------------------------------------------------------------------------------


def test_a_new_job() -> None:
    spec = JobSpec('/bin/true')
    job = Job(spec)
    assert (job.spec, job.executor, job.native_id, job.status.state) == (spec, None, None, JobState.NEW)
    assert Job().spec is None
    assert str(uuid.UUID(job.id)) == job.id
    assert len({Job().id for _ in range(1000)}) == 1000


@pytest.mark.parametrize('name', ['id', 'native_id'])
def test_ids_cannot_be_set(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Job(), name, 'x')


def test_the_native_id_is_text() -> None:
    job = Job()
    job._native_id = 14679
    assert job.native_id == '14679'


def test_equality_is_identity() -> None:
    job = Job()
    assert job == job
    assert job != Job()
    assert hash(job) == hash(job.id)


def test_text() -> None:
    job = Job(JobSpec('/bin/true'))
    assert str(job) == f'Job[id={job.id}, native_id=None, executor=None, status={job.status}]'
    executor = FakeExecutor()
    executor.submit(job)
    assert str(job) == f'Job[id={job.id}, native_id=42, executor={executor}, status={job.status}]'
    assert re.fullmatch(r'JobExecutor\[fakeexecutor, 0\]', str(executor))


@pytest.mark.parametrize('make', [copy.copy, copy.deepcopy, pickle.dumps])
def test_there_is_no_second_object_for_one_job(make: Callable[[Job], object]) -> None:
    with pytest.raises(TypeError, match='A Job cannot be copied or pickled'):
        make(Job(JobSpec('/bin/true')))


# --- states ----------------------------------------------------------------------------------------------------------


def test_the_status_is_the_object_that_was_set() -> None:
    job, status = Job(), JobStatus(JobState.COMPLETED, exit_code=0)
    job.status = status
    assert job.status is status


@pytest.mark.parametrize('first', [JobState.COMPLETED, JobState.FAILED, JobState.CANCELED])
@pytest.mark.parametrize('second', list(JobState))
def test_the_first_final_state_stays(first: JobState, second: JobState) -> None:
    job, status = Job(), JobStatus(first)
    job.status = status
    job.status = JobStatus(second)
    assert job.status is status


def test_states_are_logged_and_what_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    job = Job()
    job._native_id = 7
    with caplog.at_level(logging.DEBUG, 'psij.job'):
        job.status = JobStatus(JobState.ACTIVE)
        job.status = JobStatus(JobState.NEW)
        job.status = JobStatus(JobState.FAILED, exit_code=3, message='secret')
    info = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert info == [
        f'Job {job.id} (7): {state}'
        for state in ('QUEUED', 'STAGE_IN', 'ACTIVE', 'STAGE_OUT', 'CLEANUP', 'FAILED with exit code 3')
    ]
    assert [record.name for record in caplog.records if record.levelno == logging.DEBUG] == ['psij.job']


def test_an_executor_may_say_more_about_a_state() -> None:
    """Why a job is waiting, for example: no state changes, so nobody is told, and a final status stays."""
    job, recorder = Job(), Recorder()
    job.set_job_status_callback(recorder)
    first = JobStatus(JobState.QUEUED, metadata={'native_id': '7'})
    job.status = first
    job._annotate('low priority', {'reason': 'x'})
    now = job.status
    assert (now.state, now.time, now.message) == (JobState.QUEUED, first.time, 'low priority')
    assert now.metadata == {'native_id': '7', 'reason': 'x'}
    assert first.message is None, 'a status that was published does not change'
    _end(job, JobState.FAILED)
    job._annotate('late', {})
    assert job.status.message is None
    assert recorder.names == 'QUEUED FAILED'


def test_many_reporters() -> None:
    """Reports of several threads, in any order: each state once, in order, and all callbacks agree."""
    executor, job, recorder, everyone = FakeExecutor(), Job(), Recorder(), Recorder()
    executor.attach(job, '1')
    executor.set_job_status_callback(everyone)
    job.set_job_status_callback(recorder)
    start = threading.Barrier(4)

    def report(seed: int) -> None:
        states = [state for state in JobState if state is not JobState.CANCELED] * 20
        random.Random(seed).shuffle(states)
        start.wait(LIMIT)
        for state in states:
            job.status = JobStatus(state)

    threads = [threading.Thread(target=report, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    final = job.wait(SOON)
    assert final is not None
    assert recorder.statuses == everyone.statuses
    assert recorder.statuses[-1] is job.status is final
    for before, after in zip(recorder.statuses, recorder.statuses[1:]):
        assert after.state.is_greater_than(before.state)
        assert after.time >= before.time


# --- cancel ----------------------------------------------------------------------------------------------------------


def test_cancel_before_submission() -> None:
    with pytest.raises(SubmitException, match=r'^Cannot cancel job: not bound to an executor\.$'):
        Job().cancel()


def test_cancel_is_passed_to_the_executor() -> None:
    executor, job = FakeExecutor(), Job(JobSpec('/bin/true'))
    executor.submit(job)
    job.cancel()
    assert executor.canceled == [job]
    assert job.status.state is JobState.CANCELED
    job.cancel()
    assert executor.canceled == [job], 'a job that has ended is not canceled again'


# --- wait ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('state', 'targets', 'reached'),
    [
        (JobState.ACTIVE, None, False),
        (JobState.ACTIVE, [], False),
        (JobState.ACTIVE, JobState.ACTIVE, True),
        (JobState.ACTIVE, JobState.QUEUED, True),
        (JobState.ACTIVE, [JobState.STAGE_OUT], False),
        (JobState.ACTIVE, (JobState.COMPLETED, JobState.STAGE_IN), True),
        (JobState.ACTIVE, {JobState.ACTIVE}, True),
        (JobState.NEW, JobState.NEW, True),
        (JobState.NEW, JobState.QUEUED, False),
        (JobState.COMPLETED, JobState.CANCELED, True),
        (JobState.FAILED, JobState.ACTIVE, True),
        (JobState.CANCELED, None, True),
    ],
)
@pytest.mark.parametrize('timeout', [timedelta(0), timedelta(seconds=-5), timedelta.min])
def test_poll(state: JobState, targets: Any, reached: bool, timeout: timedelta) -> None:
    job = Job()
    job.status = JobStatus(state)
    assert job.wait(timeout, targets) is (job.status if reached else None)


def test_timeout() -> None:
    assert Job().wait(timedelta(milliseconds=1)) is None


@pytest.mark.parametrize('timeout', [5, 0.5, '5'])
def test_a_timeout_of_another_type(timeout: Any) -> None:
    with pytest.raises(TypeError, match=f'^timeout must be a timedelta or None, not {timeout!r}$'):
        Job().wait(timeout)


@pytest.mark.parametrize('targets', ['ACTIVE', ['ACTIVE'], [JobState.ACTIVE, 3]])
def test_targets_of_another_type(targets: Any) -> None:
    with pytest.raises(TypeError, match=r'^target_states must be a JobState or several, not '):
        Job().wait(timedelta(0), targets)


@pytest.mark.parametrize('timeout', [None, SOON, timedelta.max])
def test_everybody_who_waits_is_told(timeout: Optional[timedelta]) -> None:
    job, waiting = Job(), threading.Barrier(4)
    results: list[tuple[Optional[JobState], Optional[JobStatus]]] = []

    def wait(target: Optional[JobState]) -> None:
        waiting.wait(LIMIT)
        results.append((target, job.wait(timeout, target)))

    threads = [threading.Thread(target=wait, args=(t,)) for t in (None, JobState.QUEUED, JobState.CANCELED)]
    for thread in threads:
        thread.start()
    waiting.wait(LIMIT)
    job.status = JobStatus(JobState.FAILED)
    for thread in threads:
        thread.join(LIMIT)
    assert dict(results) == dict.fromkeys((None, JobState.QUEUED, JobState.CANCELED), job.status)


# --- callbacks -------------------------------------------------------------------------------------------------------


def test_a_callback_sees_every_state_once_in_order_on_a_thread_of_its_own() -> None:
    job, recorder = Job(), Recorder()
    job.set_job_status_callback(recorder)
    _end(job)
    assert recorder.names == ALL_STATES
    assert recorder.statuses[-1] is job.status
    assert set(recorder.jobs) == {job}
    (thread,) = recorder.threads
    assert (thread.name, thread.daemon) == ('psij-callbacks', True)


def test_first_the_job_then_the_executor_and_jobs_in_the_order_of_their_changes() -> None:
    executor, calls = FakeExecutor(), []
    executor.set_job_status_callback(lambda job, status: calls.append(('executor', job, status.state)))
    jobs = [Job(JobSpec('/bin/true')) for _ in range(2)]
    for job in jobs:
        job.set_job_status_callback(lambda job, status: calls.append(('job', job, status.state)))
        executor.submit(job)
    for job in jobs:
        job.cancel()
    for job in jobs:
        job.wait(SOON)
    expected = [(job, state) for state in (JobState.QUEUED, JobState.CANCELED) for job in jobs]
    assert calls == [(who, job, state) for job, state in expected for who in ('job', 'executor')]


def test_at_the_time_of_a_callback_the_job_is_at_least_that_far() -> None:
    job, behind = Job(), []

    def check(job: Job, status: JobStatus) -> None:
        if status.state.is_greater_than(job.status.state):
            behind.append(status)

    job.set_job_status_callback(check)
    for state in (JobState.QUEUED, JobState.ACTIVE, JobState.COMPLETED):
        job.status = JobStatus(state)
    job.wait(SOON)
    assert not behind


def test_none_removes_a_callback(caplog: pytest.LogCaptureFixture) -> None:
    executor, job, recorder = FakeExecutor(), Job(JobSpec('/bin/true')), Recorder()
    for owner in (job, executor):
        owner.set_job_status_callback(recorder)
    executor.submit(job)
    job.wait(SOON, JobState.QUEUED)
    assert recorder.names == 'QUEUED QUEUED'
    for owner in (job, executor):
        owner.set_job_status_callback(None)
    _end(job)
    assert recorder.names == 'QUEUED QUEUED'
    assert not caplog.records


def test_the_last_callback_counts() -> None:
    job, first, second = Job(), Recorder(), Recorder()
    job.set_job_status_callback(first)
    job.set_job_status_callback(second)
    _end(job, JobState.FAILED)
    assert (first.names, second.names) == ('', 'FAILED')


@pytest.mark.parametrize('owner', [Job(), FakeExecutor()], ids=['job', 'executor'])
def test_a_callback_must_be_callable(owner: Any) -> None:
    with pytest.raises(TypeError, match=r'^a callback must be a JobStatusCallback, a function or None, not 5$'):
        owner.set_job_status_callback(5)


def test_classes_of_callbacks() -> None:
    with pytest.raises(TypeError):
        JobStatusCallback()  # type: ignore[abstract]
    recorder = Recorder()
    callback = FunctionJobStatusCallback(recorder.job_status_changed)
    assert callback.fn == recorder.job_status_changed
    callback.job_status_changed(Job(), JobStatus(JobState.NEW))
    assert recorder.names == 'NEW'


@pytest.mark.parametrize('error', [ValueError('no'), SystemExit(3), KeyboardInterrupt('no')], ids=repr)
def test_what_a_callback_raises_is_logged_and_has_no_other_effect(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    executor, job, recorder = FakeExecutor(), Job(JobSpec('/bin/true')), Recorder()
    executor.set_job_status_callback(recorder)

    def fail(job: Job, status: JobStatus) -> None:
        raise error

    job.set_job_status_callback(fail)
    executor.submit(job)
    _end(job, JobState.FAILED)
    assert recorder.names == 'QUEUED FAILED'
    message = f'Job status callback for {job.id} threw an exception: {error}'
    assert [record.getMessage() for record in caplog.records] == [message] * 2
    assert {(record.name, record.levelname) for record in caplog.records} == {('psij.job', 'WARNING')}


def test_an_executor_whose_own_notification_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeExecutor):
        def _notify_callback(self, job: Job, status: JobStatus) -> None:
            raise ValueError('no')

    job, recorder = Job(), Recorder()
    Broken().attach(job, '1')
    job.set_job_status_callback(recorder)
    _end(job)
    assert recorder.names == ALL_STATES
    assert caplog.records


def test_a_callback_may_use_the_library() -> None:
    executor, seen = FakeExecutor(), []
    first, second = Job(JobSpec('/bin/true')), Job(JobSpec('/bin/true'))

    def chain(job: Job, status: JobStatus) -> None:
        if status.state is JobState.QUEUED:
            seen.append(job.wait(target_states=JobState.QUEUED))
            executor.submit(second)
            seen.append(second.wait(SOON, JobState.QUEUED))
            second.cancel()
            seen.append(second.wait(SOON))
            job.cancel()

    first.set_job_status_callback(chain)
    executor.submit(first)
    canceled = first.wait(SOON)
    assert canceled is not None
    assert canceled.state is JobState.CANCELED
    states = [status.state for status in seen if status is not None]
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.CANCELED]


def test_a_slow_callback_delays_no_other_job() -> None:
    slow, other, quiet, recorder = Job(), Job(), Job(), Recorder()
    started, go_on = threading.Event(), threading.Event()

    def block(job: Job, status: JobStatus) -> None:
        started.set()
        assert go_on.wait(LIMIT)

    slow.set_job_status_callback(block)
    other.set_job_status_callback(recorder)
    slow.status = JobStatus(JobState.FAILED)
    assert started.wait(LIMIT)
    quiet.status = JobStatus(JobState.COMPLETED)
    other.status = JobStatus(JobState.COMPLETED)
    assert quiet.wait(SOON) is quiet.status
    assert other.wait(timedelta(0)) is other.status, 'the state is there, and nobody has to wait for the callback'
    assert recorder.names == ''
    go_on.set()
    other.wait(SOON)
    assert recorder.names == ALL_STATES


def test_wait_returns_after_the_callbacks() -> None:
    job, returned, overtaken = Job(), threading.Event(), []
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        job.wait(SOON)
        returned.set()

    # an event that must not come takes a little time to wait for
    job.set_job_status_callback(lambda job, status: overtaken.append(returned.wait(0.05)))
    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(LIMIT)
    job.status = JobStatus(JobState.FAILED)
    thread.join(LIMIT)
    assert returned.is_set()
    assert overtaken == [False]


def test_jobs_do_not_live_longer_than_their_callbacks() -> None:
    job = Job()
    job.set_job_status_callback(lambda job, status: None)
    _end(job)
    reference = weakref.ref(job)
    del job
    gc.collect()
    assert reference() is None


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is there all the same, and callbacks work again when threads do."""
    monkeypatch.setattr(job_module, '_callbacks', job_module._Callbacks())
    job, recorder = Job(), Recorder()
    job.set_job_status_callback(recorder)
    with monkeypatch.context() as patch:

        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, 'start', start)
        job.status = JobStatus(JobState.QUEUED)
        assert job.wait(timedelta(seconds=LIMIT), JobState.QUEUED) is job.status
    _end(job, JobState.FAILED)
    assert recorder.names == 'QUEUED FAILED'


# --- processes -------------------------------------------------------------------------------------------------------


def _run(script: str) -> str:
    """Run a script in an interpreter of its own; return what it printed."""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', script], capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, '')
    return done.stdout


def test_no_thread_before_the_first_callback() -> None:
    assert (
        _run(
            """
import threading, psij
job = psij.Job(psij.JobSpec('/bin/true'))
job.status = psij.JobStatus(psij.JobState.ACTIVE)
print(threading.active_count())
job.set_job_status_callback(lambda job, status: print(status.state, threading.active_count()))
job.status = psij.JobStatus(psij.JobState.CANCELED)
job.wait()
"""
        )
        == '1\nCANCELED 2\n'
    )


def test_a_callback_that_never_returns_does_not_keep_the_process() -> None:
    assert (
        _run(
            """
import threading, psij
job, started = psij.Job(), threading.Event()
job.set_job_status_callback(lambda job, status: (started.set(), threading.Event().wait()))
job.status = psij.JobStatus(psij.JobState.CANCELED)
started.wait()
"""
        )
        == ''
    )


def test_fork_while_threads_wait() -> None:
    """In the child everything works for jobs old and new; what the parent waits for is not disturbed."""
    assert (
        _run(
            """
import os, threading, psij

FAILED, QUEUED = psij.JobState.FAILED, psij.JobState.QUEUED
states, told, busy, go_on = [], [], threading.Event(), threading.Event()

def block(job, status):
    busy.set()
    go_on.wait()

old, blocked = psij.Job(), psij.Job()
old.set_job_status_callback(lambda job, status: told.append(status.state))
blocked.set_job_status_callback(block)
blocked.status = psij.JobStatus(QUEUED)
busy.wait()
waiter = threading.Thread(target=lambda: states.append(old.wait().state))
waiter.start()
while old._cv is None:  # until the other thread waits
    pass

child = os.fork()
if child == 0:
    for job in (old, psij.Job()):
        job.set_job_status_callback(lambda job, status: told.append(status.state))
        job.status = psij.JobStatus(FAILED)
        assert job.wait() is job.status
    assert blocked.wait(target_states=QUEUED) is blocked.status, 'its callback runs in the parent'
    os._exit(0 if told == [FAILED, FAILED] else 3)

assert os.waitpid(child, 0)[1] == 0, told
assert told == [] and states == []
old.status = psij.JobStatus(FAILED)
go_on.set()
waiter.join()
print(states, told)
"""
        )
        == '[FAILED] [FAILED]\n'
    )


def test_fork_while_another_thread_changes_states() -> None:
    """The child never gets a lock that a thread of the parent held."""
    assert (
        _run(
            """
import os, threading, psij

stop = threading.Event()

def change():
    while not stop.is_set():
        job = psij.Job()
        job.set_job_status_callback(lambda job, status: None)
        job.status = psij.JobStatus(psij.JobState.COMPLETED)
        job.wait()

thread = threading.Thread(target=change)
thread.start()
codes = []
for _ in range(20):
    child = os.fork()
    if child == 0:
        job = psij.Job()
        job.set_job_status_callback(lambda job, status: None)
        job.status = psij.JobStatus(psij.JobState.COMPLETED)
        job.wait()
        os._exit(7)
    codes.append(os.waitpid(child, 0)[1] >> 8)
stop.set()
thread.join()
print(set(codes))
"""
        )
        == '{7}\n'
    )
