"""The connection to RADICAL-Pilot: one session with one pilot for all executors with equal settings.

A session is expensive, about forty processes with a pilot on this machine, so it is started with the first job and
shared. It stays until the program ends, until its pilot does, or until one of its processes is gone; then all jobs in
it have failed, and whatever is left of it is removed. RADICAL-Pilot reports changes on threads of its own; each task
is a :class:`Task` here, which passes the changes on to those who listen.
"""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import os
import shutil
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from psij._log import lazy_logger
from psij._runtime import job_files
from psij._runtime.event_loop import Timer
from psij._runtime.reaper import Process, reaper
from psij.exceptions import InvalidJobException, SubmitException
from psij.executors import _rp_processes
from psij.executors._rp_description import TIMEOUT, Ending, Pilot
from psij.executors._rp_task import Task, loop
from psij.job_state import JobState
from psij.job_status import JobStatus
from psij.staging import URI

logger = lazy_logger(__name__)

_CANCEL_INTERVAL = 5.0  # seconds; RADICAL-Pilot loses some cancellations, so they are repeated
_STAGING_GRACE = 60.0  # seconds for a job that is ended to stage out and to clean up
_END_GRACE = 5.0  # seconds for tasks and the pilot to end when the session does
_RUNTIME_MARGIN = 15.0  # seconds before the end of the pilot, which would leave the processes of tasks behind


def radical_pilot() -> Any:
    """Import RADICAL-Pilot.

    Raises
    ------
    ImportError
        If that is not possible, with what to do.
    """
    import warnings

    try:
        with warnings.catch_warnings():
            # It warns if logging was imported before, whose locks at a fork Python itself takes care of since 3.9.
            warnings.simplefilter('ignore')
            return importlib.import_module('radical.pilot')
    except ImportError as ex:
        raise ImportError(
            f"RADICAL-Pilot cannot be imported: {ex}. Install it with pip install '.[rp]' in a checkout of psij.",
            name=ex.name,
        ) from ex


class _Started(NamedTuple):
    """The objects of RADICAL-Pilot."""

    session: Any
    pilots: Any
    pilot: Any
    tasks: Any


class Session:
    """A session of RADICAL-Pilot with one pilot.

    Parameters
    ----------
    pilot
        What the pilot is like.
    directory
        Where RADICAL-Pilot makes the directory of the session.
    given
        A session of RADICAL-Pilot that somebody else has opened, and will close.
    """

    def __init__(self, pilot: Pilot, directory: Path, given: Optional[Any] = None) -> None:
        self.pilot = pilot
        self.lost: Optional[str] = None  # why there is nothing to be had from it any more
        self._directory = directory
        self._given = given
        self._lock = threading.Lock()  # for data only
        self._start_lock = threading.Lock()
        self._end_lock = threading.Lock()
        self._rp: Any = None
        self._started: Optional[_Started] = None
        self._tasks: Dict[str, Task] = {}
        self._timer: Optional[Timer] = None
        self._pilot_ended = threading.Event()
        self._progress = threading.Condition(threading.Lock())  # notified when a task has ended for RADICAL-Pilot
        self._has_shut_down = False
        self._pid = os.getpid()

    # --- the beginning -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the session, unless that was done; others who want it wait meanwhile.

        Raises
        ------
        SubmitException
            If that is not possible.
        """
        with self._start_lock:
            if self._started is not None or self.lost is not None:
                return
            self._rp = radical_pilot()
            check_installation()
            before = set(multiprocessing.active_children())
            opened: List[Any] = []
            try:
                self._start(opened)
            except BaseException as ex:
                self.lost = f'The session could not be started: {ex}'
                _quietly(lambda: [part.close() for part in opened])
                for child in set(multiprocessing.active_children()) - before:
                    child.kill()  # the program would wait for it at its end
                if not isinstance(ex, Exception) or isinstance(ex, SubmitException):
                    raise
                raise SubmitException(
                    f'RADICAL-Pilot cannot start a pilot on {self.pilot.resource}: {ex}', ex, transient=False
                ) from ex
            # Registered last, it is called first: multiprocessing would wait for ever for what was started.
            atexit.register(self.close)
            if self.lost is not None:
                self._shut_down()

    def _start(self, opened: List[Any]) -> None:
        rp = self._rp
        job_files.private_directory(self._directory)
        session = self._given
        if session is None:
            session = rp.Session(cfg={'base': str(self._directory)})
            opened.append(session)
        pilots = rp.PilotManager(session=session)
        tasks = rp.TaskManager(session=session)
        if self._given is not None:
            opened.extend((tasks, pilots))
        pilots.register_callback(self._on_pilot)
        tasks.register_callback(self._on_task)
        self._watch(str(session.path))
        pilot = pilots.submit_pilots(rp.PilotDescription(self.pilot.description()))
        self._started = _Started(session, pilots, pilot, tasks)
        tasks.add_pilots(pilot)

    def _watch(self, directory: str) -> None:
        """Watch the processes of RADICAL-Pilot in a directory: if one is gone, tasks may wait for ever."""
        for pid, name in _rp_processes.components(directory):
            try:
                reaper().attach(pid, partial(self._on_component_end, name))
            except OSError:
                self._on_component_end(name)

    # --- what executors ask for ----------------------------------------------------------------------------------

    def submit(self, task: Task, description: Dict[str, object]) -> None:
        """Submit a task.

        Raises
        ------
        InvalidJobException
            If RADICAL-Pilot does not accept the description.
        SubmitException
            If it could not be submitted.
        """
        request = self._rp.TaskDescription(description)
        try:
            request.verify()
        except Exception as ex:  # of several kinds, which RADICAL-Pilot does not document
            raise InvalidJobException(f'RADICAL-Pilot does not accept the job: {ex}', ex) from ex
        with self._lock:
            started = self._started
            if started is None or self.lost is not None:
                raise SubmitException(f'RADICAL-Pilot takes no jobs: {self.lost}', transient=True)
            self._tasks[task.uid] = task
        try:
            started.tasks.submit_tasks(request)
        except BaseException as ex:
            with self._lock:
                del self._tasks[task.uid]
            if not isinstance(ex, Exception):
                raise
            raise SubmitException(f'Failed to submit job: {ex}', ex) from ex

    def find(self, uid: str) -> Optional[Task]:
        """Return a task, which may have ended, or None if it is not one of this session."""
        with self._lock:
            return self._tasks.get(uid)

    def uids(self) -> List[str]:
        """Return the IDs of all tasks, also of those that have ended."""
        with self._lock:
            return list(self._tasks)

    def end(self, task: Task, reason: str) -> None:
        """End a task."""
        if not task.begin_to_stop(reason):
            return
        if task.withdraw():
            task.conclude(Ending('CANCELED'))
            self._cancel(task.uid)  # so that it does not wait for cores; if this gets lost it ends at once
        elif task.is_staged:
            try:
                job_files.write_private(task.stop_file, f'{reason}\n')
            except OSError as ex:
                logger.warning('Job %s cannot be told to end, so it will not stage out: %s', task.uid, ex)
                self._cancel_until_ended(task)
            else:
                loop.call_later(_STAGING_GRACE, lambda: self._cancel_until_ended(task))
        else:
            self._cancel_until_ended(task)

    def _cancel_until_ended(self, task: Task) -> None:
        if not task.has_ended and self.lost is None:
            self._cancel(task.uid)
            loop.call_later(_CANCEL_INTERVAL, lambda: self._cancel_until_ended(task))

    def _cancel(self, *uids: str) -> None:
        if self._started is not None and uids:  # without any, RADICAL-Pilot would cancel all
            self._started.tasks.cancel_tasks(list(uids))

    # --- what RADICAL-Pilot says, on threads of its own ----------------------------------------------------------

    def _on_task(self, said: Any, state: str) -> None:
        task = self.find(said.uid)
        if task is None:
            return
        if state in self._rp.FINAL:
            self._conclude(task, _ending(said, state))
        elif state == self._rp.AGENT_EXECUTING:
            task.advance(JobStatus(JobState.STAGE_IN if task.is_staged else JobState.ACTIVE))
            if task.limit is not None and not task.has_ended:
                task.timer = loop.call_later(task.limit, lambda: self.end(task, TIMEOUT))
        else:
            task.advance(JobStatus(JobState.QUEUED))

    def _conclude(self, task: Task, ending: Ending) -> None:
        task.conclude(ending)
        with self._progress:
            self._progress.notify_all()

    def _on_pilot(self, pilot: Any, state: str) -> None:
        if state == self._rp.PMGR_ACTIVE:
            logger.info('Pilot %s runs', pilot.uid)
            if self.pilot.is_local:
                self._watch(_path(pilot.pilot_sandbox))
            delay = max(60 * self.pilot.runtime - _RUNTIME_MARGIN, 0)
            self._timer = loop.call_later(delay, self._on_runtime_over)
        elif state in self._rp.FINAL:
            self._pilot_ended.set()
            self._lose(
                f'The pilot {pilot.uid} on {self.pilot.resource} has ended in the state {state}; its log files are in '
                f'{_path(pilot.pilot_sandbox)}.'
            )

    def _on_runtime_over(self) -> None:
        self._lose(f'The runtime of the pilot, {self.pilot.runtime} minutes, is over (RPJobExecutorConfig.runtime).')

    def _on_component_end(self, name: str, _: Optional[Process] = None) -> None:
        self._lose(f'The process {name} of RADICAL-Pilot is gone.')

    # --- the end -------------------------------------------------------------------------------------------------

    def _lose(self, reason: str) -> None:
        """Take note that there is nothing to be had any more, fail all jobs, and have the rest removed."""
        if self._mark_lost(reason):
            logger.info('%s', reason)
            threading.Thread(target=self._shut_down, name='psij-rp-end', daemon=True).start()

    def _mark_lost(self, reason: str) -> bool:
        with self._lock:
            if self.lost is not None:
                return False
            self.lost = reason
            tasks = list(self._tasks.values())
        self._fail(tasks)
        return True

    def _fail(self, tasks: List[Task]) -> None:
        for task in tasks:
            if not task.has_ended:
                task.withdraw()
                task.advance(JobStatus(JobState.FAILED, message=self.lost, metadata={'reason': 'lost'}))

    def close(self) -> None:
        """End all tasks, the pilot and the session."""
        if os.getpid() != self._pid:
            return  # a forked child is at its end
        self._mark_lost('The session of RADICAL-Pilot was closed.')
        with self._start_lock:  # it may be starting
            self._shut_down()

    def _shut_down(self) -> None:
        """Remove everything. RADICAL-Pilot itself would leave the processes of tasks behind."""
        with self._end_lock:
            if self._has_shut_down or self._started is None:
                return
            self._has_shut_down = True
            if self._timer is not None:
                self._timer.cancel()
            started = self._started
            if not self._pilot_ended.is_set():
                _quietly(lambda: self._end_tasks(started))
                _quietly(lambda: self._end_pilot(started))
            if self._given is None:
                _quietly(started.session.close)
            else:
                _quietly(started.tasks.close)
                _quietly(started.pilots.close)
            if self.pilot.is_local:
                _rp_processes.kill_all(started.session.uid, _path(started.pilot.pilot_sandbox))
            atexit.unregister(self.close)

    def _end_tasks(self, started: _Started) -> None:
        if started.pilot.state != self._rp.PMGR_ACTIVE:
            return  # there is nobody yet who could do it
        live = [said for said in started.tasks.get_tasks() if said.state not in self._rp.FINAL]
        self._cancel(*(said.uid for said in live))
        with self._progress:
            self._progress.wait_for(lambda: all(said.state in self._rp.FINAL for said in live), _END_GRACE)

    def _end_pilot(self, started: _Started) -> None:
        for _ in range(int(_END_GRACE)):
            started.pilots.kill_pilots(started.pilot.uid, _timeout=1)  # is lost while a pilot is being launched
            if started.pilot.state in self._rp.FINAL:
                return


def _ending(said: Any, state: str) -> Ending:
    return Ending(
        state,
        said.exit_code,
        said.stdout or '',
        said.stderr or '',
        said.exception or '',
        said.exception_detail or '',
    )


def _path(url: Any) -> str:
    """Return the path of a location, which RADICAL-Pilot gives as a URL, or a string of that form.

    >>> _path('file://localhost/home/alice//pilot.0000/')
    '/home/alice/pilot.0000'
    """
    return os.path.normpath(URI(str(url)).path)


def _quietly(call: Callable[[], object]) -> None:
    """Call a function of RADICAL-Pilot when everything ends, and anything may be gone already."""
    try:
        call()
    except Exception as ex:  # whatever comes, what is left has to be removed all the same
        logger.debug('RADICAL-Pilot cannot end in order: %s', ex, exc_info=True)


def check_installation() -> None:
    """Check that RADICAL-Pilot can start its processes: it finds their programs on the PATH.

    Raises
    ------
    SubmitException
        With what to do.
    """
    if shutil.which('radical-pilot-bridge') is None:
        problem = f'the programs of RADICAL-Pilot are not on the PATH, which is {os.environ.get("PATH")!r}'
    elif sys.prefix != sys.base_prefix and not os.environ.get('VIRTUAL_ENV'):
        problem = 'the environment variable VIRTUAL_ENV is not set'
    else:
        return
    raise SubmitException(
        f'RADICAL-Pilot cannot start, because {problem}. Activate its virtual environment before you start Python: '
        f'source {sys.prefix}/bin/activate'
    )


_sessions: Dict[object, Session] = {}
_sessions_lock = threading.Lock()


def open_session(pilot: Pilot, directory: Path, given: Optional[Any] = None) -> Session:
    """Return the session for a pilot; start it if there is none.

    Raises
    ------
    SubmitException
        If the session could not be started, or there was one that is gone. The next call starts a new one.
    """
    key = (pilot, id(given))
    with _sessions_lock:
        session = _sessions.get(key)
        if session is None:
            session = _sessions[key] = Session(pilot, directory, given)
    try:
        session.start()
    finally:
        if session.lost is not None:
            _forget(key, session)
    if session.lost is not None:  # once: who tries again gets a new one
        raise SubmitException(f'{session.lost} The next submission starts a new pilot.', transient=True)
    return session


def existing_session(pilot: Pilot, given: Optional[Any] = None) -> Optional[Session]:
    """Return the session for a pilot, or None if there is none."""
    with _sessions_lock:
        return _sessions.get((pilot, id(given)))


def close_session(pilot: Pilot, given: Optional[Any] = None) -> None:
    """Close the session for a pilot, if there is one; the next call of :func:`open_session` starts a new one."""
    session = existing_session(pilot, given)
    if session is not None:
        _forget((pilot, id(given)), session)
        session.close()


def _forget(key: object, session: Session) -> None:
    with _sessions_lock:
        if _sessions.get(key) is session:
            del _sessions[key]


def _after_fork_in_child() -> None:
    global _sessions_lock
    _sessions_lock = threading.Lock()
    _sessions.clear()  # they are the parent's


os.register_at_fork(after_in_child=_after_fork_in_child)
