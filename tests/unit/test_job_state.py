"""The states, their order, and that they behave as other programs have come to expect."""

from __future__ import annotations

import copy
import pickle
from typing import Optional

import pytest

from psij import JobState
from psij.job_state import JobStateOrder

N, Q, I, A, O, C = list(JobState)[:6]  # noqa: E741 - one letter for each row of the tables below
FINAL = [JobState.COMPLETED, JobState.FAILED, JobState.CANCELED]


def test_values_are_those_of_the_api_page() -> None:
    assert {state.name: state.value for state in JobState} == {
        'NEW': 0,
        'QUEUED': 1,
        'STAGE_IN': 2,
        'ACTIVE': 3,
        'STAGE_OUT': 4,
        'CLEANUP': 5,
        'COMPLETED': 6,
        'FAILED': 7,
        'CANCELED': 8,
    }


def test_three_states_are_final() -> None:
    assert [state for state in JobState if state.final] == FINAL


def _expected(state: JobState, other: JobState) -> Optional[bool]:
    if state is other:
        return False
    if state in FINAL and other in FINAL:
        return None
    return bool(min(state.value, 6) > min(other.value, 6))


@pytest.mark.parametrize('state', JobState)
@pytest.mark.parametrize('other', JobState)
def test_is_greater_than(state: JobState, other: JobState) -> None:
    assert state.is_greater_than(other) is _expected(state, other)


@pytest.mark.parametrize(
    ('state', 'previous'),
    [(N, None), (Q, N), (I, Q), (A, I), (O, A), (C, O), (FINAL[0], C), (FINAL[1], None), (FINAL[2], None)],
)
def test_the_state_before(state: JobState, previous: Optional[JobState]) -> None:
    assert JobStateOrder.prev(state) is previous


@pytest.mark.parametrize('state', JobState)
def test_text_is_the_bare_name(state: JobState) -> None:
    assert str(state) == repr(state) == f'{state}' == state.name
    assert f'{state:>10}' == state.name.rjust(10)
    assert JobState.from_name(str(state)) is state


@pytest.mark.parametrize('name', ['active', 'JobState.ACTIVE', '', 'RUNNING'])
def test_unknown_names_are_key_errors(name: str) -> None:
    with pytest.raises(KeyError):
        JobState.from_name(name)


@pytest.mark.parametrize('state', JobState)
def test_equality_truth_and_hash(state: JobState) -> None:
    assert [other for other in JobState if other == state] == [state]
    assert [other for other in JobState if not other != state] == [state]  # noqa: SIM202 - != is what is tested
    assert state != state.value
    assert hash(state) == state.value
    assert state, 'also NEW is true, although its value is zero'
    assert JobState(state.value) is JobState[state.name] is state  # type: ignore[call-arg]  # an enum's own __call__


@pytest.mark.parametrize('state', JobState)
def test_copies_are_the_same_object(state: JobState) -> None:
    assert copy.copy(state) is copy.deepcopy(state) is state
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(state, protocol)) is state


def test_states_are_bytes_as_they_always_were() -> None:
    assert issubclass(JobState, bytes)
    assert not JobState.ACTIVE > JobState.QUEUED, 'operators do not order states'
