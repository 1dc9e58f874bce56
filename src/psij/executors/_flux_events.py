"""What the events of a Flux job say about it. Everything here is pure.

The events are those of RFC 21 of the Flux project. A job that can run has ``submit``, ``alloc``, ``start``,
``finish`` and ``clean``, with others between; one that cannot has an ``exception`` of severity 0, and ``clean``. An
exception that ends a running job comes before ``finish``, which has the exit status.
"""

from __future__ import annotations

import base64
from typing import Any, Dict, Mapping, NamedTuple, Optional

from psij._runtime.outcome import describe_exit, signal_name
from psij._runtime.reaper import shell_code
from psij.job_state import JobState
from psij.job_status import JobStatus

Event = Mapping[str, Any]

_BASE58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
_ERROR = 3  # the least severe level of log messages of the job shell that are shown


def native_id(job_id: int) -> str:
    """Return a job ID in the form in which a job finds its own in ``FLUX_JOB_ID``, which is plain ASCII.

    >>> native_id(14608878272512), native_id(0)
    ('f7ckXYjk3', 'f1')
    """
    digits = ''
    while job_id:
        job_id, digit = divmod(job_id, len(_BASE58))
        digits = _BASE58[digit] + digits
    return 'f' + (digits or _BASE58[0])


class FatalException(NamedTuple):
    """An exception that ends a job."""

    type: str
    note: str
    userid: Optional[int]


_REASONS = {
    'cancel': 'cancelled_by_user',
    'timeout': 'timeout',
    'alloc': 'submit_rejected',  # the request can never be satisfied
    'dependency': 'dependency',
    'exec': 'exit_code',
}
"""What the types of exceptions mean; others are raised by operators and plugins."""


class History:
    """What the events of one job have said so far."""

    def __init__(self) -> None:
        self._userid: Optional[int] = None
        self._exception: Optional[FatalException] = None
        self._started: Optional[float] = None
        self._wait_status: Optional[int] = None
        self._ended: Optional[float] = None

    def add(self, event: Event) -> Optional[JobStatus]:
        """Take note of an event, and return the status that the job has reached with it, if it is not final.

        >>> History().add({'timestamp': 1.5, 'name': 'start'}).state
        ACTIVE
        """
        name, time = event['name'], event['timestamp']
        context = event.get('context') or {}
        if name == 'submit':
            self._userid = context.get('userid')
        elif name == 'start':
            self._started = time
            return JobStatus(JobState.ACTIVE, time)
        elif name == 'exception' and context.get('severity') == 0 and self._exception is None:
            self._exception = FatalException(
                context.get('type', ''), context.get('note', '') or '', context.get('userid')
            )
        elif name == 'finish' and self._ended is None:
            self._wait_status = context['status']
            self._ended = time
        elif name == 'clean' and self._ended is None:
            self._ended = time
        return None

    @property
    def ended(self) -> bool:
        """True if the job has ended."""
        return self._ended is not None

    @property
    def exit_code(self) -> Optional[int]:
        """The exit code, 128+n for a signal; None if the job never ran.

        Flux reports the signal that has ended a process in this way already. A wait status that is a signal means the
        shell that Flux runs for a job.
        """
        return None if self._wait_status is None else shell_code(self._wait_status)

    @property
    def is_unexplained(self) -> bool:
        """True if the job has failed, and Flux does not say why."""
        return self._exception is None and self.exit_code not in (None, 0)

    def final_status(self, printed: str) -> JobStatus:
        """Return the final status.

        Parameters
        ----------
        printed
            The end of what the job has printed, if that was kept by Flux.
        """
        state, metadata = self._verdict()
        if self._started is not None and self._ended is not None:
            metadata['elapsed'] = round(self._ended - self._started, 3)
        code = None if state is JobState.CANCELED else self.exit_code
        return JobStatus(state, self._ended, self._message(state, printed), code, metadata)

    def _verdict(self) -> tuple[JobState, Dict[str, object]]:
        exception, code = self._exception, self.exit_code
        if exception is None:
            if code == 0:
                return JobState.COMPLETED, {'native_state': 'COMPLETED'}
            if code is None:
                return JobState.FAILED, {'native_state': 'FAILED', 'reason': 'lost'}
            return JobState.FAILED, {'native_state': 'FAILED', 'reason': 'signal' if signal_name(code) else 'exit_code'}
        reason = _REASONS.get(exception.type, 'cancelled_by_system')
        if exception.type == 'exec' and not code:
            reason = 'cancelled_by_system'  # what ran did not fail, but was ended by the rules of the job shell
        if exception.type == 'cancel':
            if exception.userid not in (None, self._userid):
                reason = 'cancelled_by_system'
            return JobState.CANCELED, {'native_state': 'CANCELED', 'reason': reason}
        native_state = 'TIMEOUT' if exception.type == 'timeout' else 'FAILED'
        return JobState.FAILED, {'native_state': native_state, 'reason': reason}

    def _message(self, state: JobState, printed: str) -> Optional[str]:
        exception, code = self._exception, self.exit_code
        if exception is None:
            if state is JobState.COMPLETED:
                return None
            if code is None:
                return 'Flux reports that the job has ended, but neither that it ran nor why it did not.'
            return printed.strip() or describe_exit(code)
        if exception.type == 'cancel':
            return exception.note or None
        if exception.type == 'timeout':
            return f'The job was ended because its walltime was over ({exception.note or "timeout"}).'
        if exception.type in _REASONS:
            return exception.note or f'Flux reports an exception of the type {exception.type}.'
        return f'Flux reports an exception of the type {exception.type}: {exception.note or "no reason was given"}'


def printed_text(event: Event) -> str:
    """Return the text in an event of the output of a job (RFC 24), or of its shell if it is an error.

    >>> printed_text({'name': 'data', 'context': {'stream': 'stderr', 'rank': '0', 'data': 'oops'}})
    'oops'
    """
    context = event.get('context') or {}
    if event['name'] == 'log' and context.get('level', _ERROR + 1) <= _ERROR:
        return str(context.get('message', '')) + '\n'
    if event['name'] != 'data' or 'data' not in context:
        return ''
    text = str(context['data'])
    if context.get('encoding') == 'base64':
        text = base64.b64decode(text).decode('utf-8', errors='replace')
    return text * int(context.get('repeat', 1))
