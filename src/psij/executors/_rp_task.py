"""One task of RADICAL-Pilot: what is known about it, and who is told."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Callable, Dict, List, Optional

from psij._runtime import job_files
from psij._runtime.event_loop import EventLoop, Timer
from psij._runtime.script_context import own_addresses
from psij._runtime.status_channel import Report, Secret, StatusChannel, shared_channel
from psij.executors._rp_description import Ending, final_status
from psij.job_state import JobState
from psij.job_status import JobStatus

loop = EventLoop('psij-rp')
"""Where timers run, and reports of scripts arrive."""

_STAGING_FAILED = 121  # the exit code of the staging functions

Listener = Callable[[JobStatus], None]


class Task:
    """A task, from before its submission to its end.

    Parameters
    ----------
    uid
        Its ID.
    script
        The file that it runs, and removes first of all.
    limit
        The seconds after which it is to be ended; None for no limit.
    is_staged
        Whether the script stages files or cleans up.
    """

    def __init__(self, uid: str, script: Path, limit: Optional[float], is_staged: bool) -> None:
        self.uid = uid
        self.script = script
        self.stop_file = script.with_suffix('.stop')
        self.limit = limit
        self.is_staged = is_staged
        self.timer: Optional[Timer] = None  # for the limit
        self._lock = threading.Lock()
        self._status = JobStatus(JobState.NEW)
        self._listeners: List[Listener] = []
        self._stop: Optional[str] = None
        self._channel: Optional[StatusChannel] = None

    @property
    def has_ended(self) -> bool:
        """True if it has its final status."""
        return self._status.final

    def listen(self, listener: Listener) -> None:
        """Tell somebody about the present status and all that follow; each gets objects of its own."""
        with self._lock:
            status = self._status
            if not status.final:
                self._listeners.append(listener)
        if status.state is not JobState.NEW:
            listener(_copy(status))

    def advance(self, status: JobStatus) -> None:
        """Take note of a status, if it is ahead of the present one."""
        status.metadata = {'native_id': self.uid, **(status.metadata or {})}
        with self._lock:
            if status.state.is_greater_than(self._status.state) is not True:
                return
            self._status = status
            listeners = list(self._listeners)
            if status.final:
                self._listeners.clear()
        if status.final:
            self.discard()
        for listener in listeners:
            listener(_copy(status))

    def conclude(self, ending: Ending) -> None:
        """Take note of how it has ended."""
        if self._channel is not None:
            self._channel.drain()  # what the script has sent is here before RADICAL-Pilot tells of its end
        if ending.exit_code is not None and not self._has_failed_to_stage_in(ending):
            self.advance(JobStatus(JobState.ACTIVE))
        self.advance(final_status(ending, self._stop))

    def _has_failed_to_stage_in(self, ending: Ending) -> bool:
        """Tell whether the executable was never started, although the script has run."""
        reached = self._status.state.is_greater_than(JobState.STAGE_IN)
        return self.is_staged and ending.exit_code == _STAGING_FAILED and not reached

    def begin_to_stop(self, reason: str) -> bool:
        """Take note of why it is ended by this program; return False if that was done, or it has ended."""
        with self._lock:
            if self._status.final or self._stop is not None:
                return False
            self._stop = reason
            return True

    def withdraw(self) -> bool:
        """Make sure that it does not run; return False if it has begun to."""
        try:
            os.unlink(self.script)
        except FileNotFoundError:
            return False
        return True

    def open_channel(self) -> Dict[str, object]:
        """Accept reports of the script, and return what it needs to send them."""
        secret = Secret()
        channel = shared_channel()
        port = channel.register(self.uid, secret, self._on_report)
        if port is not None:
            self._channel = channel
        return {'us_port': port, 'us_addr_list': own_addresses(), 'us_tokens': secret.tokens()}

    def _on_report(self, report: Report) -> None:
        if report.state is not None:
            self.advance(JobStatus(report.state))

    def discard(self) -> None:
        """Remove the files, expect no more reports, and watch the clock no longer."""
        job_files.remove([self.script, self.stop_file])
        if self._channel is not None:
            self._channel.unregister(self.uid)
        if self.timer is not None:
            self.timer.cancel()


def _copy(status: JobStatus) -> JobStatus:
    return JobStatus(status.state, status.time, status.message, status.exit_code, dict(status.metadata or {}))
