"""Follows jobs that were started together, from their submission to the end of the last one."""

from __future__ import annotations

import queue
import signal
import sys
from pathlib import Path
from typing import BinaryIO

from psij import Job, JobExecutor, JobState, JobStatus, SubmitException
from psij.cli._display import Lines
from psij.cli._follower import Follower
from psij.cli._output import explain

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals after which nobody wants the jobs any more; a terminal that is closed sends the last one."""

_LOOK_INTERVAL = 0.1  # seconds between two looks at what the jobs have written, and whether somebody wants to stop


class Session:
    """Jobs that were started together.

    Parameters
    ----------
    executor
        The executor, to which nothing was submitted yet.
    jobs
        The jobs.
    shown
        What is shown meanwhile.
    """

    def __init__(self, executor: JobExecutor, jobs: list[Job], shown: Lines) -> None:
        #: A message for when the first job has been submitted.
        self.remark = ''
        self._executor = executor
        self._numbers = {job: number for number, job in enumerate(jobs, 1)}
        self._shown = shown
        self._followers: dict[Job, list[tuple[Follower, BinaryIO]]] = {}
        self._unfinished: set[Job] = set()  # those submitted whose end was not shown
        self._active: set[Job] = set()  # those of them that may write something
        self._explained: dict[Job, str] = {}  # what was shown about jobs that wait
        self._interrupted = False
        self._changes: queue.SimpleQueue[tuple[Job, JobStatus]] = queue.SimpleQueue()
        executor.set_job_status_callback(lambda job, status: self._changes.put((job, status)))

    def pass_on(self, streams: list[str]) -> None:
        """Pass on what the jobs write to the files for these streams, ``stdout`` and ``stderr``."""
        for job in self._numbers:
            self._followers[job] = []
            for stream in streams:
                path = Path(getattr(job.spec, f'{stream}_path'))
                path.touch()
                target = getattr(sys, stream).buffer
                self._followers[job].append((Follower(path, self._shown.whole_lines(target)), target))

    def run(self) -> bool:
        """Submit the jobs and follow them to their end; tell whether the user has left before."""
        handlers = {signum: signal.signal(signum, self._on_interrupt) for signum in _ENDING}
        try:
            self._submit()
            self._watch()
        except KeyboardInterrupt:
            ids = ' '.join(str(job.native_id) for job in self._unfinished)
            self._shown.tell(f'left without waiting for the end of {ids}')
            return True
        except BaseException:  # nobody will follow the jobs that were submitted
            for job in self._cancel():
                job.wait()
            raise
        finally:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
        return False

    def _on_interrupt(self, *_: object) -> None:
        """Take note of the first Ctrl-C; the second one comes as KeyboardInterrupt, whatever is being done."""
        self._interrupted = True
        for signum in _ENDING:
            signal.signal(signum, signal.default_int_handler)

    def _submit(self) -> None:
        for job in self._numbers:
            if self._interrupted:
                return
            self._executor.submit(job)
            self._unfinished.add(job)
            if self.remark:
                self._shown.tell(self.remark)
                self.remark = ''
            self._look(0)

    def _watch(self) -> None:
        while self._unfinished and not self._interrupted:
            self._look(_LOOK_INTERVAL)
        if self._unfinished:
            self._shown.tell('canceling; Ctrl-C once more leaves without waiting for that')
            self._cancel()
        while self._unfinished:
            self._look(_LOOK_INTERVAL)

    def _cancel(self) -> list[Job]:
        """Cancel all jobs that have not ended, and return those for which that was possible."""
        cancelled = []
        for job in self._unfinished:
            try:
                job.cancel()
                cancelled.append(job)
            except SubmitException as ex:
                self._shown.tell(f'job {job.native_id} cannot be canceled: {explain(ex)}')
        return cancelled

    def _look(self, seconds: float) -> None:
        """Show the next change if there is one in this time, and otherwise what the jobs have written."""
        try:
            job, status = self._changes.get(seconds > 0, seconds)
        except queue.Empty:
            for job in self._active:
                self._copy(job)
            for job in self._unfinished - self._active:
                self._explain(job)
            return
        if status.state is JobState.ACTIVE:
            self._active.add(job)
        elif status.final:
            self._copy(job, last=True)
            self._active.discard(job)
            self._unfinished.remove(job)
        self._shown.changed(self._numbers[job], job, status)

    def _explain(self, job: Job) -> None:
        """Show why a job waits; callbacks tell of new states only."""
        message = job.status.message
        if job.status.state is JobState.QUEUED and message and self._explained.get(job) != message:
            self._explained[job] = message
            self._shown.changed(self._numbers[job], job, job.status)

    def _copy(self, job: Job, last: bool = False) -> None:
        for follower, stream in self._followers.get(job, ()):
            for data in follower.read(last):
                self._shown.write(stream, data)
