"""The states a job can be in, and their order."""

from __future__ import annotations

from enum import Enum

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional


class JobState(bytes, Enum):
    """The states a job can be in.

    A job moves through ``NEW``, ``QUEUED``, ``STAGE_IN``, ``ACTIVE``, ``STAGE_OUT`` and ``CLEANUP`` to one of the
    final states ``COMPLETED``, ``FAILED`` and ``CANCELED``. Use :meth:`is_greater_than` to compare states:
    the operators ``<`` and ``>`` mean nothing here.
    """

    NEW = (0, 0, False)
    """The state of a job before it is submitted."""

    QUEUED = (1, 1, False)
    """The backend has accepted the job, but it does not run yet."""

    STAGE_IN = (2, 2, False)
    """Files are being staged in."""

    ACTIVE = (3, 3, False)
    """The job runs."""

    STAGE_OUT = (4, 4, False)
    """The executable is done, and files are being staged out."""

    CLEANUP = (5, 5, False)
    """Files are being removed, as asked for in :attr:`.JobSpec.cleanup`."""

    COMPLETED = (6, 6, True)
    """The job ran, and its exit code is zero."""

    FAILED = (7, 6, True)
    """The job ended with a non-zero exit code, or could not be run."""

    CANCELED = (8, 6, True)
    """The job was canceled, by :meth:`.Job.cancel` or by somebody using the backend's own commands."""

    _order: int
    _final: bool

    def __new__(cls, index: int, order: int, final: bool) -> JobState:
        """Create a member; ``index`` is its value."""
        state = bytes.__new__(cls)
        state._value_ = index
        state._order = order
        state._final = final
        return state

    @property
    def final(self) -> bool:
        """True if no other state can follow this one."""
        return self._final

    def is_greater_than(self, other: JobState) -> Optional[bool]:
        """Tell whether this state can come after another one.

        Returns
        -------
        Optional[bool]
            True or False if the two states are comparable, None if they are two different final states.

        Examples
        --------
        >>> JobState.ACTIVE.is_greater_than(JobState.QUEUED)
        True
        >>> JobState.FAILED.is_greater_than(JobState.COMPLETED) is None
        True
        """
        if self is other:
            return False
        if self._order == other._order:
            return None
        return self._order > other._order

    @staticmethod
    def from_name(name: str) -> JobState:
        """Return the state with a certain name, such that ``state == JobState.from_name(str(state))``.

        Raises
        ------
        KeyError
            If there is no such state. Names are upper case.
        """
        return JobState[name]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return int(self._value_)

    def __bool__(self) -> bool:
        return True

    def __str__(self) -> str:
        return self._name_

    def __repr__(self) -> str:
        return self._name_

    def __format__(self, spec: str) -> str:
        return format(self._name_, spec)


class JobStateOrder:
    """The order in which a job passes the states."""

    _PREVIOUS = {
        state: list(JobState)[state.value - 1]
        for state in JobState
        if state not in (JobState.NEW, JobState.FAILED, JobState.CANCELED)
    }

    @staticmethod
    def prev(state: JobState) -> Optional[JobState]:
        """Return the state that always comes just before another one.

        ``NEW`` has none; ``FAILED`` and ``CANCELED`` have none either, since they can follow any state that is
        not final.
        """
        return JobStateOrder._PREVIOUS.get(state)
