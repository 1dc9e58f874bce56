"""What is known about a job at one moment, and the rule by which one status may follow another."""

from __future__ import annotations

import time as _time

from psij.job_state import JobState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional


class JobStatus:
    """A state that a job is or was in, with its circumstances.

    A status that was given to a job must not be changed any more: callbacks and other threads may hold it.

    Parameters
    ----------
    state
        The state.
    time
        When the job entered the state, in seconds as by :func:`time.time`. The present time by default.
    message
        Text for a person, such as the reason of a failure.
    exit_code
        The exit code of the job, once it is known.
    metadata
        Further facts from the executor. Where known: ``native_id``, ``native_state``, ``reason`` (see
        :data:`REASONS`), ``assumed`` (the outcome could not be determined and is the documented assumption),
        and accounting figures.
    """

    __slots__ = ('__dict__', '__weakref__', 'exit_code', 'message', 'metadata', 'state', 'time')

    def __init__(
        self,
        state: JobState,
        time: Optional[float] = None,
        message: Optional[str] = None,
        exit_code: Optional[int] = None,
        metadata: Optional[dict[str, object]] = None,
    ) -> None:
        self.state = state
        self.time = _time.time() if time is None else time
        self.message = message
        self.exit_code = exit_code
        self.metadata = metadata

    @property
    def final(self) -> bool:
        """True if the state is final."""
        return self.state.final

    def __str__(self) -> str:
        text = f'JobStatus[{self.state}, time={self.time}'
        if self.message is not None:
            text += f', message={self.message}'
        if self.exit_code is not None:
            text += f', exit_code={self.exit_code}'
        if self.metadata is not None:
            text += f', meta={self.metadata}'
        return text + ']'

    __repr__ = __str__


REASONS = (
    'exit_code',  # the executable, or a script around it, ended with a non-zero exit code
    'signal',  # a signal that nobody asked the executor to send
    'timeout',  # the walltime was over
    'out_of_memory',
    'node_failure',
    'preempted',  # stopped in favour of another job
    'cancelled_by_user',
    'cancelled_by_system',  # by an operator or a policy of the scheduler
    'submit_rejected',
    'dependency',  # a dependency that can never be fulfilled
    'lost',  # gone without any evidence of how it ended
)
"""The values of ``metadata['reason']`` of a status, the same for all executors."""

_PASSED = tuple(sorted((s for s in JobState if not s.final), key=lambda s: s._order))


def path(current: JobStatus, new: JobStatus) -> list[JobStatus]:
    """Return the statuses to go through to reach `new`; none if it is not ahead of `current`.

    States that were not reported are filled in, so that a job passes every state. A job that ends ``FAILED``
    before it was ``ACTIVE`` goes there straight, and so does one that is ``CANCELED``. Times never decrease.

    Examples
    --------
    >>> [s.state.name for s in path(JobStatus(JobState.QUEUED), JobStatus(JobState.ACTIVE))]
    ['STAGE_IN', 'ACTIVE']
    >>> [s.state.name for s in path(JobStatus(JobState.ACTIVE), JobStatus(JobState.FAILED))]
    ['STAGE_OUT', 'CLEANUP', 'FAILED']
    >>> path(JobStatus(JobState.COMPLETED), JobStatus(JobState.FAILED))
    []
    """
    before, after = current.state, new.state
    if before._order >= after._order:
        return []
    if new.time < current.time:
        new = JobStatus(after, current.time, new.message, new.exit_code, new.metadata)
    straight = after is JobState.CANCELED or (after is JobState.FAILED and before._order < JobState.ACTIVE._order)
    if straight or after._order == before._order + 1:
        return [new]
    steps = [JobStatus(state, new.time) for state in _PASSED[before._order + 1 : after._order]]
    steps.append(new)
    return steps
