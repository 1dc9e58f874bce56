"""When to ask a scheduler about jobs, and what to make of the answer.

The poller owns the table of live jobs of one executor. It asks about all of them with one command, a first time soon
after a job is added and then less and less often, on a thread that exists only while there are jobs. What the answers
mean for a job is for the executor to decide.
"""

from __future__ import annotations

import os
import re
import threading
import time
import traceback
import weakref
from typing import TYPE_CHECKING, Collection, Dict, Iterable, Iterator, List, Optional, Set

from psij._log import lazy_logger
from psij._runtime.command import CommandResult
from psij._runtime.event_loop import EventLoop, Timer
from psij.job import Job
from psij.job_status import JobStatus

if TYPE_CHECKING:
    from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutor, BatchSchedulerExecutorConfig

logger = lazy_logger(__name__)

_LONGEST_COMMAND = 100_000  # bytes; Linux takes 128 KiB for one argument and at least that for all
_GROWTH = 2.0
_TOUCH_INTERVAL = 43200.0  # seconds; see job_files.remove_old
_LONGEST_PAUSE = 60.0  # seconds between attempts to reach a scheduler that does not answer


class NoAnswer(Exception):
    """A scheduler could not be asked, or did not answer."""

    is_refusal = False  # whether the command has ended by itself, with an exit code that is not zero


class QueuePoller:
    """Asks a scheduler about the jobs of an executor.

    Parameters
    ----------
    name
        The name of the executor.
    config
        The configuration, with the polling intervals.
    executor
        The executor.
    """

    def __init__(self, name: str, config: BatchSchedulerExecutorConfig, executor: BatchSchedulerExecutor) -> None:
        self.name = name
        self.config = config
        self._executor = executor
        self._lock = threading.Lock()
        self._jobs: Dict[str, Set[Job]] = {}  # by native ID
        self._uneasy: Set[Job] = set()  # to be looked at in each round, whether or not something has changed
        self._lines: Set[str] = set()
        self._listed: Dict[str, JobStatus] = {}  # what the last answer says, also about jobs that are not ours
        self._poll_error_count = 0
        self._refusals = 0
        self._warned: Set[str] = set()
        self._troubled: weakref.WeakSet[Job] = weakref.WeakSet()  # jobs about which there was a warning
        self._loop = EventLoop(f'psij-poll-{name}')
        self._timer: Optional[Timer] = None
        self._interval = 0.0
        self._not_before = 0.0  # when the scheduler may be asked again, if it did not answer
        self._enabled = False
        _pollers.add(self)
        self._touched = time.monotonic()

    def start(self) -> QueuePoller:
        """Let the poller ask by itself from now on, whenever there are jobs."""
        self._enabled = True
        return self

    def register_job(self, job: Job) -> None:
        """Add a job, whose native ID is known."""
        with self._lock:
            self._jobs.setdefault(str(job.native_id), set()).add(job)
            self._uneasy.add(job)
            self._interval = max(float(self.config.initial_queue_polling_delay), 0.01)
        self.poll_within(self._interval)

    def unregister_job(self, job: Job) -> None:
        """Remove a job; nothing happens if it is not there."""
        with self._lock:
            self._uneasy.discard(job)
            jobs = self._jobs.get(str(job.native_id))
            if jobs is not None:
                jobs.discard(job)
                if not jobs:
                    del self._jobs[str(job.native_id)]
            if not self._jobs:
                self._forget_trouble()
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None

    def _forget_trouble(self) -> None:
        self._poll_error_count = self._refusals = 0
        self._warned.clear()
        self._not_before = 0.0

    def watch(self, job: Job) -> None:
        """Look at a job in each round, until it is unregistered or :meth:`relax` is called."""
        with self._lock:
            if str(job.native_id) in self._jobs:
                self._uneasy.add(job)

    def relax(self, job: Job) -> None:
        """Look at a job only when something has changed."""
        with self._lock:
            self._uneasy.discard(job)

    def poll_within(self, delay: float) -> None:
        """Ask `delay` seconds from now, or earlier; later only if the scheduler does not answer at present."""
        with self._lock:
            if not self._enabled or not self._jobs:
                return
            delay = max(delay, self._not_before - time.monotonic())
            if self._timer is not None and self._timer.callback is not None:
                if self._timer.when <= time.monotonic() + delay:
                    return
                self._timer.cancel()
            self._timer = self._loop.call_later(delay, self._round)

    def _round(self) -> None:
        with self._lock:
            self._timer = None
        try:
            self._poll()
        finally:
            with self._lock:
                pause = self._interval
                self._interval = min(max(pause * _GROWTH, 0.01), max(float(self.config.queue_polling_interval), 0.01))
                if self._warned:
                    pause = min(pause * _GROWTH ** min(len(self._warned) + 1, 6), _LONGEST_PAUSE)
                    self._not_before = time.monotonic() + pause
            self.poll_within(pause)

    def _poll(self) -> None:
        """Ask once about all jobs, and tell the executor what has changed."""
        with self._lock:
            native_ids = set(self._jobs)
        if not native_ids:
            return
        if time.monotonic() - self._touched > _TOUCH_INTERVAL:
            self._touched = time.monotonic()
            self._executor._touch_files(self._jobs_of(native_ids))
        is_refusal = False
        try:
            changed = self._ask(native_ids)
        except NoAnswer as ex:
            self._warn(str(ex))
            is_refusal = ex.is_refusal
            self._refusals += is_refusal
            changed = None
        except Exception as ex:  # noqa: BLE001 - parsers, also of plugins, meet text that nobody has seen before
            self._warn(str(ex))
            self._poll_error_count += 1
            if self._poll_error_count > self.config.queue_polling_error_threshold:
                message = f'Failed to poll for job status: {traceback.format_exc()}'
                self._executor._on_incomprehensible(self._jobs_of(native_ids), message)
            changed = None
        if changed is None:
            self._executor._on_silence(self._jobs_of(native_ids))
            if is_refusal and self._refusals > self.config.queue_polling_error_threshold:
                self._executor._on_refusal(self._jobs_of(native_ids))
            return
        if self._warned:
            logger.info('The scheduler of %s answers again.', self.name)
        self._forget_trouble()
        self._distribute(native_ids, changed)

    def _distribute(self, native_ids: Set[str], changed: Collection[str]) -> None:
        """Tell the executor about jobs with news, jobs that it is uneasy about, and jobs that are not listed."""
        absent = native_ids.difference(self._listed)
        uneasy = {str(job.native_id) for job in self._pick_uneasy()}
        for native_id in (uneasy | native_ids.intersection(changed)) - absent:
            status = self._listed.get(native_id)
            for job in self._jobs_of([native_id]) if status is not None else ():
                try:
                    self._executor._on_listed(job, status)  # type: ignore[arg-type]
                except Exception as ex:  # noqa: BLE001 - one job, maybe of a plugin, must not affect the others
                    log = logger.debug if job in self._troubled else logger.warning
                    log('Job %s: what the scheduler says about it cannot be taken note of: %r', job.id, ex)
                    self._troubled.add(job)
                    self.watch(job)
        if absent:
            self._executor._on_absent(self._jobs_of(absent))

    def _ask(self, native_ids: Set[str]) -> Collection[str]:
        """Ask about jobs, update what is listed, and return the IDs of those about which something has changed.

        Raises
        ------
        NoAnswer
            If there is no answer.
        Exception
            What the parser raises if it does not understand the answer.
        """
        answers = list(self._answers(native_ids))
        if len(answers) == 1:
            lines = self._executor._status_lines(answers[0].exit_code or 0, answers[0].stdout)
            if lines is not None:
                return self._update_by_lines(answers[0], lines)
        listed: Dict[str, JobStatus] = {}
        for answer in answers:
            listed.update(self._parse(answer, answer.stdout))
        return self._update(listed)

    def _update_by_lines(self, answer: CommandResult, lines: List[str]) -> Collection[str]:
        """Parse only what is not the same as in the last answer, which is nearly everything."""
        now = set(lines)
        fresh, gone = now - self._lines, self._lines - now
        try:
            news = self._parse(answer, '\n'.join(fresh)) if fresh else {}
            vanished = self._parse(answer, '\n'.join(gone)) if gone else {}
        except NoAnswer:
            raise
        except Exception:  # noqa: BLE001 - a line that is not about jobs makes no sense alone; is there sense in the whole?
            changed = self._update(self._parse(answer, answer.stdout))
        else:
            left = vanished.keys() - news.keys()
            if not self._jobs.keys().isdisjoint(left) and now - fresh:
                # an array has several lines, of which one may be gone while another is the same as before
                left -= self._parse(answer, '\n'.join(now - fresh)).keys()
            for native_id in left:
                self._listed.pop(native_id, None)
            self._listed.update(news)
            changed = news.keys()
        self._lines = now
        return changed

    def _update(self, listed: Dict[str, JobStatus]) -> Collection[str]:
        """Take a whole answer, and return the IDs of the jobs about which something has changed."""
        changed = [i for i, status in listed.items() if _facts(status) != _facts(self._listed.get(i))]
        self._listed = listed
        return changed

    def _parse(self, answer: CommandResult, out: str) -> Dict[str, JobStatus]:
        exit_code = answer.exit_code or 0
        try:
            return self._executor.parse_status_output(exit_code, out if exit_code == 0 else answer.output)
        except Exception as ex:
            if exit_code:
                refusal = NoAnswer(str(ex))
                refusal.is_refusal = True
                raise refusal from ex
            raise

    def _answers(self, native_ids: Set[str]) -> Iterator[CommandResult]:
        """Run the command, or several where all IDs would make one too long."""
        for ids in chunks(sorted(native_ids)):
            argv = self._executor.get_status_command(ids)
            answer = self._executor._execute(argv)
            if self._executor._must_ask_differently(answer):
                argv = self._executor.get_status_command(ids)
                answer = self._executor._execute(argv)
            if answer.exit_code is None:
                raise NoAnswer(answer.error)
            yield answer
            if not asked_about(ids, argv):
                return

    def _pick_uneasy(self) -> List[Job]:
        with self._lock:
            return list(self._uneasy)

    def _jobs_of(self, native_ids: Collection[str]) -> List[Job]:
        with self._lock:
            return [job for native_id in native_ids for job in self._jobs.get(native_id, ())]

    def _warn(self, message: str) -> None:
        """Log trouble, once for each kind until the scheduler answers again."""
        kind = re.sub(r'\d+', '', message.partition('\n')[0])[:80]  # some answers have the time in them
        log = logger.debug if kind in self._warned else logger.warning
        self._warned.add(kind)
        log('Polling error: %s', message)


_pollers: weakref.WeakSet[QueuePoller] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for poller in list(_pollers):
        poller._lock = threading.Lock()  # another thread of the parent may have held it
        poller._jobs, poller._uneasy, poller._timer = {}, set(), None  # the parent takes care of them


os.register_at_fork(after_in_child=_after_fork_in_child)


def _facts(status: Optional[JobStatus]) -> Optional[tuple[object, ...]]:
    return None if status is None else (status.state, status.message, status.exit_code, status.metadata)


def asked_about(native_ids: Iterable[str], argv: Iterable[str]) -> Set[str]:
    """Return the jobs that a command asks about; it asks about all of the user if there is none among its arguments.

    >>> asked_about(['1', '2'], ['squeue', '--me']), asked_about(['1', '2'], ['qstat', '-j', '2,3'])
    (set(), {'2'})
    """
    words = {word for argument in argv for word in (argument, *argument.split(','))}
    return words.intersection(native_ids)


def chunks(native_ids: List[str], limit: int = _LONGEST_COMMAND) -> Iterator[List[str]]:
    """Split a list of IDs so that each part fits into one command.

    >>> list(chunks(['10', '11', '12'], limit=6))
    [['10', '11'], ['12']]
    """
    chunk: List[str] = []
    length = 0
    for native_id in native_ids:
        length += len(native_id) + 1
        if length > limit and chunk:
            yield chunk
            chunk, length = [], len(native_id) + 1
        chunk.append(native_id)
    if chunk:
        yield chunk
