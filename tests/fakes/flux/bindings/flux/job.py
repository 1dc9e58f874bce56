"""The stand-in for ``flux.job``."""

from __future__ import annotations

import errno
import os
import re

from . import Future

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Union

    from . import Flux

_BASE58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'


class JobID(int):
    """A job ID, made from any of the usual forms."""

    def __new__(cls, value: Union[int, str]) -> JobID:
        return super().__new__(cls, value if isinstance(value, int) else _parse(value))

    def __str__(self) -> str:
        number, digits = int(self), ''
        while number:
            number, digit = divmod(number, 58)
            digits = _BASE58[digit] + digits
        return '\u0192' + (digits or '1')


def _parse(text: str) -> int:
    if re.fullmatch(r'\d+', text):
        return int(text)
    if re.fullmatch(r'0x[0-9a-f]+', text):
        return int(text, 16)
    if re.fullmatch(r'([0-9a-f]{4}\.){3}[0-9a-f]{4}', text):
        return int(text.replace('.', ''), 16)
    if text[:1] in ('f', '\u0192') and len(text) > 1 and all(digit in _BASE58 for digit in text[1:]):
        number = 0
        for digit in text[1:]:
            number = number * 58 + _BASE58.index(digit)
        return number
    raise ValueError(f'{text} is not a valid Flux jobid')


class SubmitFuture(Future):
    def get_id(self) -> JobID:
        return JobID(int(self.get()['id']))


def submit_async(handle: Flux, jobspec: str, urgency: int = 16) -> SubmitFuture:
    jobspec.encode('utf-8')  # the real one would send what it gets, and the broker refuses what is not UTF-8
    return SubmitFuture(handle, 'job-ingest.submit', {'jobspec': jobspec, 'urgency': urgency})


def cancel_async(handle: Flux, jobid: int, reason: Optional[str] = None) -> Future:
    payload = {'id': int(jobid), 'type': 'cancel', 'severity': 0, 'note': reason or ''}
    return Future(handle, 'job-manager.raise', payload)


class JobEventWatchFuture(Future):
    needs_cancel = True

    def get_event(self) -> Optional[dict[str, Any]]:
        try:
            event: dict[str, Any] = self.get()['event']
        except BrokenPipeError:
            raise RuntimeError("cannot use string() on <cdata 'char *' NULL>") from None
        except OSError as ex:
            if ex.errno == errno.ENODATA:
                return None
            raise
        self.reset()
        return {'context': {}, **event}


def event_watch_async(handle: Flux, jobid: int, eventlog: str = 'eventlog') -> JobEventWatchFuture:
    return JobEventWatchFuture(handle, 'job-info.eventlog-watch', {'id': int(jobid), 'path': eventlog})


class JobListRPC(Future):
    def get_jobs(self) -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = []
        while True:
            try:
                jobs += self.get()['jobs']
            except OSError as ex:
                if ex.errno == errno.ENODATA:
                    return jobs
                raise
            self.reset()


def job_list(
    handle: Flux,
    max_entries: int = 1000,
    attrs: Optional[list[str]] = None,
    userid: int = -1,
    states: int = 0,
) -> JobListRPC:
    assert (max_entries, userid, states) == (0, os.getuid(), 62), 'the stand-in only lists active jobs of its user'
    assert attrs, 'EPROTO: malformed or empty attrs array'
    return JobListRPC(handle, 'job-list.list', {})


class JournalConsumer:
    def __init__(self, handle: Flux, full: bool = True) -> None:
        self.handle = handle
        self.full = full
        self.rpc: Any = None

    def start(self) -> JournalConsumer:
        self.rpc = self.handle.rpc('job-manager.events-journal', {'full': self.full})
        return self

    def stop(self) -> None:
        self.handle.rpc('job-manager.events-journal-cancel', {'matchtag': self.rpc.pimpl.get_matchtag()})
