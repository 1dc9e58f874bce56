"""What a status holds, and the rule by which one follows another."""

from __future__ import annotations

import copy
import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psij import JobState, JobStatus
from psij.job_status import path

STATES = st.sampled_from(list(JobState))
TIMES = st.floats(0, 4e9)
STATUSES = st.builds(JobStatus, STATES, TIMES, st.none() | st.text(), st.none() | st.integers(0, 255))


def test_attributes() -> None:
    status = JobStatus(JobState.FAILED, 1.5, 'm', 3, {'a': 1})
    assert (status.state, status.time, status.message, status.exit_code) == (JobState.FAILED, 1.5, 'm', 3)
    assert status.metadata == {'a': 1}
    assert status.final


def test_defaults() -> None:
    before = time.time()
    status = JobStatus(JobState.NEW)
    assert before <= status.time <= time.time()
    assert (status.message, status.exit_code, status.metadata, status.final) == (None, None, None, False)


def test_time_zero_is_kept() -> None:
    assert JobStatus(JobState.NEW, time=0).time == 0


@pytest.mark.parametrize(
    ('status', 'text'),
    [
        (JobStatus(JobState.NEW, 0.25), 'JobStatus[NEW, time=0.25]'),
        (JobStatus(JobState.FAILED, 1.5, message=''), 'JobStatus[FAILED, time=1.5, message=]'),
        (JobStatus(JobState.COMPLETED, 1.5, exit_code=0), 'JobStatus[COMPLETED, time=1.5, exit_code=0]'),
        (
            JobStatus(JobState.FAILED, 1.5, 'm', 3, {'a': 1}),
            "JobStatus[FAILED, time=1.5, message=m, exit_code=3, meta={'a': 1}]",
        ),
    ],
)
def test_text(status: JobStatus, text: str) -> None:
    assert str(status) == repr(status) == text


def test_equality_is_identity() -> None:
    one, other = JobStatus(JobState.NEW, 1), JobStatus(JobState.NEW, 1)
    assert one != other
    assert len({one, other}) == 2


def test_copies_have_the_same_contents() -> None:
    status = JobStatus(JobState.FAILED, 1.5, 'm', 3, {'a': [1]})
    for twin in (copy.copy(status), copy.deepcopy(status), pickle.loads(pickle.dumps(status))):
        assert str(twin) == str(status)
        assert twin.state is JobState.FAILED


def _names(current: JobState, new: JobState) -> str:
    return ' '.join(status.state.name for status in path(JobStatus(current), JobStatus(new)))


@pytest.mark.parametrize(
    ('current', 'new', 'names'),
    [
        (JobState.NEW, JobState.ACTIVE, 'QUEUED STAGE_IN ACTIVE'),
        (JobState.NEW, JobState.COMPLETED, 'QUEUED STAGE_IN ACTIVE STAGE_OUT CLEANUP COMPLETED'),
        (JobState.QUEUED, JobState.STAGE_IN, 'STAGE_IN'),
        (JobState.ACTIVE, JobState.FAILED, 'STAGE_OUT CLEANUP FAILED'),
        (JobState.STAGE_OUT, JobState.FAILED, 'CLEANUP FAILED'),
        (JobState.STAGE_IN, JobState.FAILED, 'FAILED'),
        (JobState.NEW, JobState.FAILED, 'FAILED'),
        (JobState.ACTIVE, JobState.CANCELED, 'CANCELED'),
        (JobState.ACTIVE, JobState.ACTIVE, ''),
        (JobState.ACTIVE, JobState.QUEUED, ''),
        (JobState.CANCELED, JobState.COMPLETED, ''),
        (JobState.COMPLETED, JobState.FAILED, ''),
        (JobState.COMPLETED, JobState.ACTIVE, ''),
    ],
)
def test_states_on_the_way(current: JobState, new: JobState, names: str) -> None:
    assert _names(current, new) == names


def test_the_status_itself_is_what_is_reached() -> None:
    new = JobStatus(JobState.COMPLETED, 7, 'm', 0, {'a': 1})
    steps = path(JobStatus(JobState.ACTIVE, 5), new)
    assert steps[-1] is new
    assert all((step.time, step.message, step.exit_code, step.metadata) == (7, None, None, None) for step in steps[:-1])


def test_a_clock_that_is_behind_loses_nothing_else() -> None:
    new = JobStatus(JobState.FAILED, 3, 'm', 9, {'a': 1})
    (step,) = path(JobStatus(JobState.QUEUED, 5), new)
    assert (step.state, step.time, step.message, step.exit_code, step.metadata) == (
        JobState.FAILED,
        5,
        'm',
        9,
        {'a': 1},
    )
    assert new.time == 3, 'the status of the caller is not changed'


@given(st.lists(STATUSES, max_size=12))
def test_history(reports: list[JobStatus]) -> None:
    """Whatever is reported: states never go back, each comes once, in order, and times never decrease."""
    history = [JobStatus(JobState.NEW, 0)]
    for report in reports:
        steps = path(history[-1], report)
        assert not steps or steps[-1].state is report.state
        history += steps
    for before, after in zip(history, history[1:]):
        assert after.state.is_greater_than(before.state)
        assert after.time >= before.time
    states = [status.state for status in history]
    assert len(set(states)) == len(states)
    assert not any(state.final for state in states[:-1])
    if JobState.COMPLETED in states:
        assert states == list(JobState)[:7], 'a job that completed passed every state'
    if states[-1] is JobState.FAILED and JobState.ACTIVE in states:
        assert states[:-1] == list(JobState)[:6], 'so did a job that failed after it had run'
