"""Exceptions: attributes, text, and that they survive copying."""

from __future__ import annotations

import copy
import pickle

import pytest

from psij import InvalidJobException, JobState, JobStatus, SubmitException, UnreachableStateException
from psij.exceptions import InvalidEnvironmentError

CAUSE = OSError(2, 'no such file')


def test_invalid_job() -> None:
    ex = InvalidJobException('m', CAUSE)
    assert (ex.message, ex.exception) == ('m', CAUSE)
    assert InvalidJobException('m').exception is None


def test_submit() -> None:
    ex = SubmitException('m', CAUSE, True)
    assert (ex.message, ex.exception, ex.transient) == ('m', CAUSE, True)
    assert (SubmitException('m').exception, SubmitException('m').transient) == (None, False)


def test_unreachable_state() -> None:
    status = JobStatus(JobState.FAILED)
    assert UnreachableStateException(status).status is status


def test_a_wrong_environment_is_a_type_error_too() -> None:
    assert issubclass(InvalidEnvironmentError, InvalidJobException)
    assert issubclass(InvalidEnvironmentError, TypeError)


EXAMPLES = [
    InvalidJobException('m'),
    InvalidJobException('m', CAUSE),
    InvalidJobException(message='m', exception=CAUSE),
    InvalidEnvironmentError('m'),
    SubmitException('m'),
    SubmitException('m', CAUSE, True),
    SubmitException('m', transient=True),
    SubmitException(message='m', exception=CAUSE, transient=True),
]


@pytest.mark.parametrize('ex', EXAMPLES, ids=repr)
def test_text_is_the_message(ex: Exception) -> None:
    assert str(ex) == 'm'
    assert 'm' in ex.args


@pytest.mark.parametrize('ex', EXAMPLES, ids=repr)
def test_copies_have_the_same_contents(ex: Exception) -> None:
    for twin in (copy.copy(ex), copy.deepcopy(ex), pickle.loads(pickle.dumps(ex))):
        assert type(twin) is type(ex)
        assert str(twin) == 'm'
        assert {key: str(value) for key, value in vars(twin).items()} == {k: str(v) for k, v in vars(ex).items()}


def test_an_unreachable_state_can_be_pickled() -> None:
    twin = pickle.loads(pickle.dumps(UnreachableStateException(JobStatus(JobState.FAILED, exit_code=3))))
    assert twin.status.exit_code == 3


def test_a_message_that_is_no_text_is_shown_as_text() -> None:
    assert str(SubmitException(OSError('m'))) == 'm'  # type: ignore[arg-type]  # seen in clients
