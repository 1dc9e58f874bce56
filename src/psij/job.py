"""The live job: its status, those who wait for it, and the thread that tells callbacks.

State and order are guarded by one lock for all jobs, held for a few assignments only; a lock for each job would
cost more memory than the job. Callbacks never run under it: each change is put on a queue, and one thread of
the process (``psij-callbacks``, started with the first change that has a callback) runs them in order.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from datetime import timedelta

from psij._log import lazy_logger
from psij.exceptions import SubmitException
from psij.job_state import JobState
from psij.job_status import JobStatus, path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from queue import SimpleQueue
    from typing import Callable, NoReturn, Optional, Sequence, Union

    from psij.job_executor import JobExecutor
    from psij.job_spec import JobSpec

logger = lazy_logger(__name__)

LARGE_TIMEOUT = timedelta(days=3650)
"""What programs pass to :meth:`Job.wait` when they mean no limit."""

_lock = threading.Lock()


class JobStatusCallback(ABC):
    """An object that is told about changes of the status of jobs."""

    @abstractmethod
    def job_status_changed(self, job: Job, job_status: JobStatus) -> None:
        """Take note of a new status.

        Calls come one after the other, in order, on a thread of the library's own. They may call any method of
        jobs and executors; while one call lasts, other callbacks wait, but no job does. An exception is logged
        and has no other effect.

        Parameters
        ----------
        job
            The job whose status changed.
        job_status
            The new status.
        """


class FunctionJobStatusCallback(JobStatusCallback):
    """Makes a :class:`JobStatusCallback` of a function.

    Parameters
    ----------
    fn
        The function to call with the job and the new status.
    """

    def __init__(self, fn: Callable[[Job, JobStatus], None]) -> None:
        self.fn = fn

    def job_status_changed(self, job: Job, job_status: JobStatus) -> None:  # noqa: D102
        self.fn(job, job_status)


def as_callback(
    cb: Union[JobStatusCallback, Callable[[Job, JobStatus], None], None],
) -> Optional[JobStatusCallback]:
    """Return what users may set as a callback in the form in which it is kept."""
    if cb is None or isinstance(cb, JobStatusCallback):
        return cb
    if not callable(cb):
        raise TypeError(f'a callback must be a JobStatusCallback, a function or None, not {cb!r}')
    return FunctionJobStatusCallback(cb)


class Job:
    """A job, from its construction to its end.

    Parameters
    ----------
    spec
        What the job runs; it can be set later.
    """

    __slots__ = (
        '__dict__',
        '__weakref__',
        '_cb',
        '_cv',
        '_executor_state',
        '_id',
        '_native_id',
        '_status',
        '_ticket',
        'executor',
        'spec',
    )

    def __init__(self, spec: Optional[JobSpec] = None) -> None:
        #: What the job runs.
        self.spec = spec
        #: The executor to which the job was submitted or attached.
        self.executor: Optional[JobExecutor] = None
        self._id = _new_id()
        self._native_id: Optional[object] = None
        self._status = JobStatus(JobState.NEW)
        self._cb: Optional[JobStatusCallback] = None
        self._cv: Optional[threading.Condition] = None  # made when somebody waits
        self._executor_state: object = None  # whatever the executor needs to know about the job
        self._ticket = 0  # of the last change that was put on the queue of callbacks

    @property
    def id(self) -> str:
        """The ID of this object, a random UUID, which has nothing to do with the backend's :attr:`native_id`."""
        return self._id

    @property
    def native_id(self) -> Optional[str]:
        """The ID that the backend gave the job, or None as long as it has none."""
        return None if self._native_id is None else str(self._native_id)

    @property
    def status(self) -> JobStatus:
        """The present status.

        It never goes backwards, and passes all states that precede the present one. The first final state stays.
        Executors set it; a status that is not ahead of the present one is ignored.
        """
        return self._status

    @status.setter
    def status(self, status: JobStatus) -> None:
        told = logger.isEnabledFor(_INFO)
        with _lock:
            steps = path(self._status, status)
            if steps:
                if told:
                    _transitions.add(self, steps)
                self._status = steps[-1]
                if self._cv is not None:
                    self._cv.notify_all()
                executor = self.executor
                if self._cb is not None or (executor is not None and executor._cb is not None):
                    for step in steps:
                        self._ticket = _callbacks.put(self, step)
        if told:
            _transitions.write()
        if not steps:
            logger.debug('Job %s is not behind %s: ignored', self._id, status)

    def _annotate(self, message: Optional[str], metadata: Optional[dict[str, object]]) -> None:
        """Replace what the present status says besides the state, such as why a job is waiting; nobody is told."""
        with _lock:
            now = self._status
            if not now.final:
                known = {**(now.metadata or {}), **(metadata or {})}
                self._status = JobStatus(now.state, now.time, message, now.exit_code, known or None)

    def set_job_status_callback(self, cb: Union[JobStatusCallback, Callable[[Job, JobStatus], None], None]) -> None:
        """Set the callback to be told about changes of the status of this job.

        Parameters
        ----------
        cb
            A :class:`JobStatusCallback`, or a function with the parameters `job` and `job_status`, or None to
            remove the present callback.
        """
        self._cb = as_callback(cb)

    def cancel(self) -> None:
        """Cancel the job.

        Returns at once; the job is canceled when its status says so. Nothing happens if the job has ended.

        Raises
        ------
        SubmitException
            If the job was not submitted, or the backend refused.
        """
        if self._status.final:
            return
        if self.executor is None:
            raise SubmitException('Cannot cancel job: not bound to an executor.')
        self.executor.cancel(self)

    def wait(
        self,
        timeout: Optional[timedelta] = None,
        target_states: Union[JobState, Sequence[JobState], None] = None,
    ) -> Optional[JobStatus]:
        """Wait until the job reaches a state.

        Callbacks for the status that is returned have run by then, unless the time is over before, or this is
        called by a callback, which cannot wait for itself.

        Parameters
        ----------
        timeout
            How long to wait; None means without limit, zero means not at all.
        target_states
            A state or several; any final state by default. A state that can only come after one of them ends the
            wait too, and so does every final state.

        Returns
        -------
        Optional[JobStatus]
            The status that ended the wait, or None if the time was over before.
        """
        targets = _targets(target_states)
        deadline = _deadline(timeout)
        with _lock:
            while not _reached(self._status.state, targets):
                remaining = _remaining(deadline)
                if remaining is not None and remaining <= 0:
                    return None
                self._status_cv.wait(remaining)
            status, ticket = self._status, self._ticket
        _callbacks.wait(ticket, deadline)
        return status

    @property
    def _status_cv(self) -> threading.Condition:
        """Is notified about each change of the status; call it with its lock held."""
        if self._cv is None:
            self._cv = threading.Condition(_lock)
        return self._cv

    def __reduce__(self) -> NoReturn:
        raise TypeError('A Job cannot be copied or pickled, since it stands for one that runs; its spec can.')

    def __hash__(self) -> int:
        return hash(self._id)

    def __str__(self) -> str:
        return f'Job[id={self._id}, native_id={self._native_id}, executor={self.executor}, status={self._status}]'


def _new_id() -> str:
    """Return a random UUID (version 4), which takes a quarter of the time that the ``uuid`` module takes.

    >>> import uuid
    >>> uuid.UUID(_new_id()).version
    4
    """
    h = os.urandom(16).hex()
    return f'{h[:8]}-{h[8:12]}-4{h[13:16]}-{"89ab"[int(h[16], 16) & 3]}{h[17:20]}-{h[20:]}'


def _targets(states: Union[JobState, Sequence[JobState], None]) -> frozenset[JobState]:
    targets = frozenset((states,) if isinstance(states, JobState) else states or ())
    for target in targets:
        if not isinstance(target, JobState):
            raise TypeError(f'target_states must be a JobState or several, not {states!r}')
    return targets


def _deadline(timeout: Optional[timedelta]) -> Optional[float]:
    if timeout is None:
        return None
    from datetime import timedelta

    if not isinstance(timeout, timedelta):
        raise TypeError(f'timeout must be a timedelta or None, not {timeout!r}')
    return time.monotonic() + timeout.total_seconds()


def _reached(state: JobState, targets: frozenset[JobState]) -> bool:
    return state.final or state in targets or any(state.is_greater_than(target) for target in targets)


def _remaining(deadline: Optional[float]) -> Optional[float]:
    """Return the seconds left; as much as a lock can wait for if that is more."""
    return None if deadline is None else min(deadline - time.monotonic(), threading.TIMEOUT_MAX)


_INFO = 20  # logging.INFO, without the import


class _Transitions:
    """Logs changes in their order, but not under the lock under which they are made: handlers of logs may be slow."""

    def __init__(self) -> None:
        self._lines: deque[tuple[str, Optional[object], JobStatus]] = deque()
        self._writing = threading.Lock()
        self._is_registered = False

    def add(self, job: Job, steps: Sequence[JobStatus]) -> None:
        """Take note of changes; call this with the lock of the module held."""
        self._lines.extend((job.id, job._native_id, step) for step in steps)
        if not self._is_registered:
            import atexit

            self._is_registered = True
            atexit.register(self._finish)

    def write(self) -> None:
        """Write what was noted, unless another thread does it already, which then goes on until nothing is left."""
        while self._lines and self._writing.acquire(blocking=False):
            try:
                self._write_all()
            finally:
                self._writing.release()

    def _finish(self) -> None:
        """Write what is left when the program ends, after another thread that may be writing just now."""
        if self._writing.acquire(timeout=1):
            self._write_all()

    def _write_all(self) -> None:
        while self._lines:
            job_id, native_id, step = self._lines.popleft()
            # not the message, which may repeat what the job has printed
            ending = f' with exit code {step.exit_code}' if step.exit_code else ''
            logger.info('Job %s (%s): %s%s', job_id, native_id, step.state, ending)


_transitions = _Transitions()


class _Callbacks:
    """Runs the callbacks, one after the other, on a thread of its own.

    Each change gets a ticket, a number that only grows, so that :meth:`wait` can tell when it is done.
    """

    def __init__(self) -> None:
        self._queue: Optional[SimpleQueue[tuple[int, Job, JobStatus]]] = None
        self._last = 0  # guarded by the lock of the module, like the queue and the thread
        self._done = 0
        self._done_cv = threading.Condition(threading.Lock())
        self._thread: Optional[threading.Thread] = None

    def put(self, job: Job, status: JobStatus) -> int:
        """Take note of a change and return its ticket; call it with the lock of the module held."""
        if self._queue is None:
            from queue import SimpleQueue

            self._queue = SimpleQueue()
        if self._thread is None:
            thread = threading.Thread(target=self._run, args=(self._queue,), name='psij-callbacks', daemon=True)
            try:
                thread.start()
                self._thread = thread
            except RuntimeError as ex:  # the change is there all the same, and the next one tries again
                logger.warning('Callbacks have to wait: %s', ex)
        self._last += 1
        self._queue.put((self._last, job, status))
        return self._last

    def wait(self, ticket: int, deadline: Optional[float]) -> None:
        """Wait until a change and those before it are done, except on the thread that is to do them."""
        if self._done >= ticket or self._thread in (None, threading.current_thread()):
            return
        with self._done_cv:
            self._done_cv.wait_for(lambda: self._done >= ticket, _remaining(deadline))

    def _run(self, queue: SimpleQueue[tuple[int, Job, JobStatus]]) -> None:
        while True:
            ticket, job, status = queue.get()
            cb, executor = job._cb, job.executor
            if cb is not None:
                _call(cb.job_status_changed, job, status)
            if executor is not None:
                _call(executor._notify_callback, job, status)
            del job, status, cb, executor  # keep nothing alive while there is nothing to do
            with self._done_cv:
                self._done = ticket
                self._done_cv.notify_all()


def _call(callback: Callable[[Job, JobStatus], None], job: Job, status: JobStatus) -> None:
    """Call a callback; what it raises is logged, since nobody else can take it."""
    try:
        callback(job, status)
    except BaseException as ex:  # SystemExit too: it would end the thread, and with it all other callbacks
        logger.warning('Job status callback for %s threw an exception: %s', job.id, ex, exc_info=True)


_callbacks = _Callbacks()


def _after_fork_in_child() -> None:
    """Let the child begin with callbacks of its own: the parent runs those that are on the queue."""
    global _callbacks, _transitions
    _transitions._lines.clear()  # the parent writes them
    _transitions = _Transitions()
    tickets = _callbacks._last
    _callbacks = _Callbacks()
    _callbacks._last = _callbacks._done = tickets  # nobody in the child waits for what the parent does
    _lock.release()


# The lock is taken before a fork, so that the child does not get it locked by a thread that it does not have.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork_in_child)
