"""The connection to a Flux instance: one handle, and the one thread that uses it.

A handle of Flux must not be used by two threads. So each session has a thread, ``psij-flux``, that opens the handle,
runs its reactor, and does what others ask for. It learns of all jobs from one stream, the journal of Flux. The journal
is for the owner of an instance, and older versions have none: then each job is watched by itself, as are jobs that were
attached, whose past the journal does not tell.

The thread ends when there has been nothing to do for a moment, or when the connection is lost.
"""

from __future__ import annotations

import errno
import importlib
import os
import threading
from collections import deque
from concurrent.futures import Future
from typing import Any, Callable, Deque, Dict, List, NamedTuple, Optional, Set

from psij._log import lazy_logger
from psij._runtime.job_files import MESSAGE_LIMIT
from psij.executors._flux_events import Event, printed_text

logger = lazy_logger(__name__)

_LINGER = 1.0  # seconds for which an idle session stays, so that jobs one after the other share one


class Bindings(NamedTuple):
    """The modules of Flux's Python bindings."""

    flux: Any
    constants: Any
    job: Any
    uri: Any


def bindings() -> Bindings:
    """Import Flux's Python bindings.

    Raises
    ------
    ImportError
        If that is not possible, with what to do.
    """
    try:
        modules = [importlib.import_module(name) for name in ('flux', 'flux.constants', 'flux.job', 'flux.uri')]
    except ImportError as ex:
        raise ImportError(
            f"Flux's Python bindings cannot be imported: {ex}. They are part of Flux: where a site provides Flux as a "
            'module, load it (module load flux). Where Flux itself is installed (libflux-core), '
            "pip install '.[flux]' in a checkout of psij installs bindings for this Python.",
            name=ex.name,
        ) from ex
    return Bindings(*modules)


class SessionClosed(Exception):
    """The session has ended because nobody needed it; a new one does what this one was asked for."""


class SessionLost(Exception):
    """There is no connection to Flux, or there is none any more."""


class Listener:
    """Is told about one job, on the thread of the session; methods must be quick and must not raise."""

    def on_accepted(self, job_id: int) -> None:
        """Take note of the ID of the job; this comes before any event."""

    def on_event(self, event: Event, session: Session) -> bool:
        """Take note of an event; return True if no more are needed."""
        raise NotImplementedError

    def on_unknown(self, reason: str) -> None:
        """Take note that Flux does not let this job be watched."""

    def on_lost(self, reason: str) -> None:
        """Take note that there will be no more events."""


class Session:
    """A connection to a Flux instance.

    All methods may be called by any thread. Those that return a future raise :class:`SessionClosed` if the session has
    ended. The exception of the future, and theirs too, is :class:`SessionLost` if there is no connection. It is an
    :class:`OSError` if Flux refuses.

    Parameters
    ----------
    url
        The instance, see :func:`open_handle`.
    """

    def __init__(self, url: Optional[str]) -> None:
        self.pid = os.getpid()
        self._url = url
        self._lock = threading.Lock()
        self._open = True
        self._lost: Optional[SessionLost] = None  # why it is not open any more, unless nobody needed it
        self._requests: Deque[Callable[[], None]] = deque()
        self._answers: Set[Future[Any]] = set()  # that somebody waits for
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        # what follows belongs to the thread
        self._flux: Bindings
        self._handle: Any = None
        self._waker: Any = None
        self._timer: Any = None
        self._journal: Any = None
        self._followed: Dict[int, Listener] = {}  # by the journal
        self._watched: Dict[Any, Listener] = {}  # one by one
        self._readings: Set[Callable[[], None]] = set()  # what ends the reading of the output of a job
        self._submissions = 0  # without an answer as yet
        self._early: Dict[int, List[Event]] = {}  # of jobs that may be those that are being submitted
        self._lingers = False
        threading.Thread(target=self._run, name='psij-flux', daemon=True).start()

    @property
    def is_open(self) -> bool:
        """True as long as the session takes requests."""
        return self._open

    def submit(self, jobspec: str, urgency: int, listener: Listener) -> Future[int]:
        """Submit a job. The result is its ID, which the listener gets before.

        If the future is cancelled before there is an answer, the job is cancelled when there is one.
        """
        return self._request(lambda answer: self._submit(jobspec, urgency, listener, answer))

    def watch(self, job_id: int, listener: Listener) -> Future[None]:
        """Have a listener told of all events of a job, also those in the past."""

        def watch(answer: Future[None]) -> None:
            self._watch(job_id, listener)
            _guard(listener.on_accepted, job_id)
            self._set_result(answer, None)

        return self._request(watch)

    def cancel(self, job_id: int) -> Future[None]:
        """Cancel a job."""

        def cancel(answer: Future[None]) -> None:
            self._flux.job.cancel_async(self._handle, job_id).then(lambda future: self._finish(answer, future.get))

        return self._request(cancel)

    def list(self) -> Future[List[int]]:
        """Return the IDs of the active jobs of this user."""

        def get_ids() -> List[int]:
            listing = self._flux.job.job_list(
                self._handle,
                max_entries=0,  # all
                attrs=['state'],
                userid=os.getuid(),
                states=self._flux.constants.FLUX_JOB_STATE_ACTIVE,
            )
            return [int(job['id']) for job in listing.get_jobs()]

        return self._request(lambda answer: self._finish(answer, get_ids))

    def read_output(self, job_id: int, receiver: Callable[[str], None]) -> None:
        """Get the end of the output of a job, as far as Flux has kept it; for listeners, on the thread of the session.

        `receiver` is called on the same thread, now or later.
        """
        text = ''

        def end() -> None:
            self._readings.discard(end)
            _guard(receiver, text)

        def on_event(future: Any) -> None:
            nonlocal text
            try:
                event = future.get_event()
            except OSError as ex:  # there is no output
                logger.debug('The output of job %s cannot be read: %s', job_id, ex)
                event = None
            if event is None:
                end()
                self._linger_if_idle()
            else:
                text = (text + printed_text(event))[-MESSAGE_LIMIT:]

        self._readings.add(end)
        try:
            self._flux.job.event_watch_async(self._handle, job_id, 'guest.output').then(on_event)
        except OSError:
            end()

    # --- other threads -------------------------------------------------------------------------------------------

    def _request(self, operation: Callable[[Future[Any]], None]) -> Future[Any]:
        answer: Future[Any] = Future()

        def request() -> None:
            if answer.cancelled():
                self._answers.discard(answer)
                return
            try:
                operation(answer)
            except OSError as ex:
                self._set_exception(answer, ex)

        with self._lock:
            if not self._open:
                raise self._lost or SessionClosed()
            self._answers.add(answer)
            self._requests.append(request)
            try:
                os.write(self._wake_write, b'.')
            except BlockingIOError:
                pass  # it is full of wake-ups already
        return answer

    # --- the thread of the session -------------------------------------------------------------------------------

    def _run(self) -> None:
        lost: Optional[str] = None
        try:
            self._flux = bindings()
            self._handle = open_handle(self._flux, self._url)
            self._waker = self._handle.fd_watcher_create(
                self._wake_read, self._on_wake_up, events=self._flux.constants.FLUX_POLLIN
            )
            self._waker.start()
            self._start_journal()
            if self._handle.reactor_run() < 0:
                lost = 'the instance does not answer any more'
        except Exception as ex:  # whatever ends the reactor, those who wait have to know
            logger.debug('The session with %s ends', self._name, exc_info=True)
            lost = str(ex) or type(ex).__name__
        self._end(lost)

    @property
    def _name(self) -> str:
        return f'Flux ({self._url})' if self._url else 'Flux'

    def _end(self, lost: Optional[str]) -> None:
        """Close the session, and tell all who wait that it is lost if it is."""
        for watcher in (self._waker, self._timer):
            if watcher is not None:
                watcher.destroy()
        reason = f'There is no connection to {self._name}: {lost}.'
        with self._lock:
            self._open = False
            self._lost = None if lost is None else SessionLost(reason)
            answers, self._answers = self._answers, set()
            os.close(self._wake_read)
            os.close(self._wake_write)
        for answer in answers:
            _try_to_set(answer, lambda answer: answer.set_exception(SessionLost(reason)))
        for end_reading in tuple(self._readings):
            end_reading()
        for future in self._watched:
            future.needs_cancel = False  # it would complain that it cannot be, when it is collected
        for listener in (*self._followed.values(), *self._watched.values()):
            _guard(listener.on_lost, reason)
        self._requests.clear()
        self._followed.clear()
        self._watched.clear()
        # the handle is closed by the thread that has used it
        self._waker = self._timer = self._journal = self._handle = None

    def _on_wake_up(self, *_: object) -> None:
        os.read(self._wake_read, 4096)
        while self._requests:
            self._requests.popleft()()
        self._linger_if_idle()

    def _linger_if_idle(self) -> None:
        if self._lingers or not self._is_idle():
            return
        self._lingers = True
        if self._timer is not None:
            self._timer.destroy()
        self._timer = self._handle.timer_watcher_create(_LINGER, self._on_linger)
        self._timer.start()

    def _on_linger(self, *_: object) -> None:
        self._lingers = False
        with self._lock:
            if not self._is_idle():
                return
            self._open = False
        if self._journal is None:
            self._handle.reactor_stop()
        else:
            self._journal.stop()  # its answer to that is the last event; until then Flux would keep the handle

    def _is_idle(self) -> bool:
        return not (self._answers or self._followed or self._watched or self._readings)

    def _set_result(self, answer: Future[Any], result: object) -> None:
        self._answers.discard(answer)
        _try_to_set(answer, lambda answer: answer.set_result(result))

    def _set_exception(self, answer: Future[Any], ex: Exception) -> None:
        self._answers.discard(answer)
        _try_to_set(answer, lambda answer: answer.set_exception(ex))

    def _finish(self, answer: Future[Any], get: Callable[[], object]) -> None:
        try:
            result = get()
        except OSError as ex:
            self._set_exception(answer, ex)
        else:
            self._set_result(answer, result)
        self._linger_if_idle()

    def _submit(self, jobspec: str, urgency: int, listener: Listener, answer: Future[int]) -> None:
        def on_answer(future: Any) -> None:
            self._submissions -= 1
            self._finish(answer, lambda: self._accept(int(future.get_id()), listener, answer))
            if not self._submissions:
                self._early.clear()

        self._flux.job.submit_async(self._handle, jobspec, urgency=urgency).then(on_answer)
        self._submissions += 1

    def _accept(self, job_id: int, listener: Listener, answer: Future[int]) -> int:
        """Follow a job that was submitted, unless whoever submitted it has given up."""
        if not answer.set_running_or_notify_cancel():
            self._flux.job.cancel_async(self._handle, job_id).then(lambda future: None)
            return job_id
        if self._journal is None:
            self._watch(job_id, listener)
        else:
            self._followed[job_id] = listener
        _guard(listener.on_accepted, job_id)
        for event in self._early.pop(job_id, ()):
            self._deliver(job_id, event)
        return job_id

    # --- events --------------------------------------------------------------------------------------------------

    def _start_journal(self) -> None:
        consumer = getattr(self._flux.job, 'JournalConsumer', None)
        if consumer is not None:
            self._journal = consumer(self._handle, full=False).start()
            # The callback of its own would pass over errors, among them that the journal is not for this user.
            self._journal.rpc.then(self._on_journal)

    def _on_journal(self, future: Any) -> None:
        try:
            response = future.get()
        except OSError as ex:
            self._journal = None
            if not self._open:
                self._handle.reactor_stop()
                return
            logger.debug('%s gives no journal (%s): watching jobs one by one', self._name, ex)
            followed, self._followed = self._followed, {}
            for job_id, listener in followed.items():
                self._watch(job_id, listener)
            return
        for event in response['events']:
            self._deliver(int(response['id']), event)
        future.reset()
        self._linger_if_idle()

    def _deliver(self, job_id: int, event: Event) -> None:
        listener = self._followed.get(job_id)
        if listener is not None:
            if _guard(listener.on_event, event, self):
                self._followed.pop(job_id, None)
        elif self._submissions:
            self._early.setdefault(job_id, []).append(event)

    def _watch(self, job_id: int, listener: Listener) -> None:
        future = self._flux.job.event_watch_async(self._handle, job_id)
        self._watched[future] = listener
        future.then(lambda future: self._on_watched(future, listener))

    def _on_watched(self, future: Any, listener: Listener) -> None:
        try:
            event = future.get_event()
        except OSError as ex:
            event = None
            reason = f'Flux: {ex.strerror or ex}' if ex.errno != errno.ENOENT else 'Flux knows no such job'
            _guard(listener.on_unknown, reason)
        if event is not None:
            _guard(listener.on_event, event, self)
            return
        self._watched.pop(future, None)
        self._linger_if_idle()


def open_handle(flux: Bindings, url: Optional[str]) -> Any:
    """Connect to a Flux instance.

    Parameters
    ----------
    flux
        The bindings.
    url
        None or an empty string for the instance that ``FLUX_URI`` names, or else that of the system; ``local://...``
        or ``ssh://...``; ``/`` or ``..`` for an enclosing instance; or what ``flux uri`` resolves, such as
        ``jobid:f123`` and ``pid:456``.

    Raises
    ------
    Exception
        If that is not possible; bindings raise OSError, and resolvers whatever they like.
    """
    if not url:
        return flux.flux.Flux()
    if url.startswith(('local://', 'ssh://')) or not url.strip('./'):
        return flux.flux.Flux(url)
    import platform
    from urllib.parse import urlsplit

    uri = flux.uri.FluxURIResolver().resolve(url)
    is_here = urlsplit(uri.remote).hostname == platform.node()
    return flux.flux.Flux(uri.local if is_here else str(uri))


def _try_to_set(answer: Future[Any], setter: Callable[[Future[Any]], None]) -> None:
    """Answer, unless nobody waits any more."""
    if answer.running() or (not answer.cancelled() and answer.set_running_or_notify_cancel()):
        setter(answer)


def _guard(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function; an error of one job must not end the session of all."""
    try:
        return function(*arguments)
    except Exception:
        logger.exception('Error in %s', function)
        return None
