"""How scripts report what they do: datagrams with a secret.

A job script sends ``<job id> <STATE> <token>`` when a state begins, and ``<job id> DONE <exit code> <token>`` at its
end, or ``SIGNAL`` instead of ``DONE`` if a signal has ended what it ran. The tokens are derived from a secret that
only the submitting process has; the script, which only the user can read, contains those for its own states. Each
token is good for one state of one job. So somebody who reads the network learns a token only when the job is in that
state already: repeating it changes nothing, and there is no other that could be made from it. ``SIGNAL`` has a token of
its own, because a job of which it was reported may be run again: whoever has seen it cannot report an exit code.

A channel is optional: where no socket can be opened or nothing gets through, states are learned in other ways.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import threading
from typing import Callable, NamedTuple, Optional

from psij._log import lazy_logger
from psij._runtime.event_loop import EventLoop
from psij.job_state import JobState

logger = lazy_logger(__name__)

REPORTED = (JobState.STAGE_IN, JobState.ACTIVE, JobState.STAGE_OUT, JobState.CLEANUP)
"""The states that scripts report."""

DONE = 'DONE'
"""What scripts report at their end, with the exit code."""

SIGNAL = 'SIGNAL'
"""What they report if the exit code stands for a signal."""

_LAST_SIGNAL_CODE = 128 + 64

_KNOWN = {state.name: state for state in REPORTED}
_LONGEST = 256  # bytes; a report is shorter


class Report(NamedTuple):
    """What a script says: the beginning of a state, or its end with an exit code."""

    job_id: str
    state: Optional[JobState]
    exit_code: Optional[int]
    token: str

    @property
    def word(self) -> str:
        """What it is a report of: the name of a state, or of a kind of end."""
        if self.state is not None:
            return self.state.name
        return SIGNAL if 128 < (self.exit_code or 0) <= _LAST_SIGNAL_CODE else DONE


def parse_report(datagram: bytes) -> Optional[Report]:
    """Return the report that a datagram contains, or None if it contains something else.

    >>> parse_report(b'4d6f ACTIVE 00ff')
    Report(job_id='4d6f', state=ACTIVE, exit_code=None, token='00ff')
    >>> parse_report(b'4d6f SIGNAL 137 00ff').exit_code
    137
    >>> parse_report(b'4d6f SIGNAL 0 00ff') is None
    True
    >>> parse_report(b'garbage') is None
    True
    """
    try:
        words = datagram.decode('ascii').split()
    except UnicodeDecodeError:
        return None
    if len(words) == 3 and words[1] in _KNOWN:
        return Report(words[0], _KNOWN[words[1]], None, words[2])
    if len(words) == 4 and words[1] in (DONE, SIGNAL) and words[2].isdigit() and len(words[2]) <= 3:
        report = Report(words[0], None, int(words[2]), words[3])
        return report if report.word == words[1] else None
    return None


class Secret:
    """The secret of one job, from which its tokens are made."""

    __slots__ = ('_key',)

    def __init__(self) -> None:
        self._key = os.urandom(16)

    def token(self, word: str) -> str:
        """Return the token for a state, or for a kind of end."""
        return hashlib.blake2b(word.encode(), key=self._key, digest_size=16).hexdigest()

    def tokens(self) -> dict[str, str]:
        """Return all tokens, as scripts need them."""
        return {word: self.token(word) for word in (*_KNOWN, DONE, SIGNAL)}

    def fits(self, report: Report) -> bool:
        """Tell whether a report comes from the script of this job."""
        return hmac.compare_digest(self.token(report.word), report.token)


Receiver = Callable[[Report], None]


class StatusChannel:
    """Receives reports, on the thread of an event loop, as long as there are jobs that may send some.

    Parameters
    ----------
    loop
        The event loop.
    host
        The address to listen at; an empty string for all.
    """

    def __init__(self, loop: EventLoop, host: str) -> None:
        self._loop = loop
        self._host = host
        self._lock = threading.Lock()
        self._jobs: dict[str, tuple[Secret, Receiver]] = {}
        self._socket: Optional[socket.socket] = None
        self._has_warned = False

    def register(self, job_id: str, secret: Secret, receiver: Receiver) -> Optional[int]:
        """Accept reports of a job from now on, and return the port to send them to, or None if there is none.

        `receiver` is called on the loop's thread, with reports that are genuine.
        """
        with self._lock:
            if self._socket is None:
                self._socket = self._open()
            if self._socket is None:
                return None
            self._jobs[job_id] = (secret, receiver)
            return int(self._socket.getsockname()[1])

    def unregister(self, job_id: str) -> None:
        """Accept no more reports of a job."""
        with self._lock:
            self._jobs.pop(job_id, None)
            if not self._jobs and self._socket is not None:
                self._loop.remove_reader(self._socket.fileno())
                self._socket.close()
                self._socket = None

    def _open(self) -> Optional[socket.socket]:
        try:
            opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            opened.bind((self._host, 0))
            opened.setblocking(False)
        except OSError as ex:
            log = logger.debug if self._has_warned else logger.warning
            log('Scripts cannot report their states, since no port can be opened: %s', ex)
            self._has_warned = True
            return None
        try:
            self._loop.add_reader(opened.fileno(), self.drain)
        except (OSError, RuntimeError) as ex:  # no more threads or descriptors
            opened.close()
            log = logger.debug if self._has_warned else logger.warning
            log('Scripts cannot report their states, since nobody can listen: %s', ex)
            self._has_warned = True
            return None
        self._has_warned = False
        return opened

    def drain(self) -> None:
        """Take in all reports that have arrived."""
        while True:
            with self._lock:
                if self._socket is None:
                    return
                try:
                    datagram = self._socket.recv(_LONGEST)
                except BlockingIOError:
                    return
                except OSError as ex:
                    logger.debug('Cannot receive reports: %s', ex)
                    return
                report = parse_report(datagram)
                secret, receiver = self._jobs.get(report.job_id, _NOBODY) if report is not None else _NOBODY
            # a wrong sender learns nothing: garbage and forgeries are dropped without a word
            if report is not None and receiver is not None and secret is not None and secret.fits(report):
                receiver(report)


_NOBODY: tuple[Optional[Secret], Optional[Receiver]] = (None, None)


_shared: Optional[StatusChannel] = None
_shared_lock = threading.Lock()


def shared_channel() -> StatusChannel:
    """Return the channel for scripts that run on other machines, one for all executors of this program."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = StatusChannel(EventLoop('psij-status'), '')
        return _shared


def _after_fork_in_child() -> None:
    global _shared, _shared_lock
    _shared, _shared_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
