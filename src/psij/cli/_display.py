"""What ``psij run`` shows while jobs wait and run: lines, JSON, or a progress bar."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import BinaryIO

from psij import Job, JobState, JobStatus
from psij.cli import _output


class Lines:
    """Shows a line for each change that matters to a person.

    Parameters
    ----------
    count
        The number of jobs.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def changed(self, number: int, job: Job, status: JobStatus) -> None:
        """Show the new status of a job, the one with this number."""
        if status.final or status.state in (JobState.QUEUED, JobState.ACTIVE):  # nothing is staged
            copy = f' ({number} of {self._count})' if self._count > 1 else ''
            self.tell(f'job {job.native_id}{copy} {_output.describe(status)}')

    def tell(self, text: str) -> None:
        """Show a message."""
        _output.say('run', text)

    def whole_lines(self, stream: BinaryIO) -> bool:
        """Tell whether only whole lines may be written to a stream: several jobs write to it."""
        return self._count > 1

    def write(self, stream: BinaryIO, data: bytes) -> None:
        """Pass on what a job has written."""
        stream.write(data)
        stream.flush()


class JSONLines(Lines):
    """Shows all changes as JSON objects, one on each line, on the standard output."""

    def changed(self, number: int, job: Job, status: JobStatus) -> None:
        assert job.spec is not None
        files = {'stdout_path': str(job.spec.stdout_path), 'stderr_path': str(job.spec.stderr_path)}
        print(json.dumps({'copy': number, **_output.status_tree(job, status), **files}), flush=True)


class Bar(Lines):
    """Shows a progress bar at the bottom of a terminal, and lines about what goes wrong above it."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = [SpinnerColumn(), TextColumn('{task.description}', markup=False), TimeElapsedColumn()]
        if count > 1:
            columns.insert(1, BarColumn())
        # what jobs write is passed on by `write`, and not as text
        self._progress = Progress(
            *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._task = self._progress.add_task('submitting', total=count)
        self._states: dict[int, str] = {}

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def changed(self, number: int, job: Job, status: JobStatus) -> None:
        self._states[number] = status.state.name
        states = Counter(self._states.values())
        text = f'job {job.native_id} {status.state}' if self._count == 1 else _counts(states)
        ended = sum(count for state, count in states.items() if JobState.from_name(state).final)
        self._progress.update(self._task, description=text, completed=ended)
        if status.final and (self._count == 1 or status.state is not JobState.COMPLETED):
            super().changed(number, job, status)

    def tell(self, text: str) -> None:
        self._progress.console.print(f'psij run: {text}', markup=False, highlight=False, soft_wrap=True)

    def whole_lines(self, stream: BinaryIO) -> bool:
        return super().whole_lines(stream) or stream.isatty()  # the bar would wipe out the beginning of a line

    def write(self, stream: BinaryIO, data: bytes) -> None:
        self._progress.stop()
        super().write(stream, data)
        self._progress.start()


def display(count: int, as_json: bool, verbose: bool) -> Lines:
    """Return what is right for where the standard error goes, and what else goes there."""
    if as_json:
        return JSONLines(count)
    if sys.stderr.isatty() and not verbose:
        try:
            return Bar(count)
        except ImportError:  # rich comes with the extra "cli"
            pass
    return Lines(count)


def _counts(states: Counter[str]) -> str:
    """Return how many jobs are in each state, in the order of the states.

    >>> _counts(Counter(['ACTIVE', 'QUEUED', 'ACTIVE']))
    '1 QUEUED, 2 ACTIVE'
    """
    return ', '.join(f'{states[state.name]} {state}' for state in JobState if states[state.name])
