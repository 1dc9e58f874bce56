"""Jobs that a command is about: from files, or by native ID."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from datetime import timedelta

from psij.cli import _options, _output

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any, Optional

    from psij import Job, JobExecutor, JobSpec, JobState


def read(path: str) -> dict[str, Any]:
    """Return the JSON object in a file; ``-`` is the standard input.

    Raises
    ------
    ValueError
        If there is none, without the name of the file.
    """
    try:
        tree = json.loads(_read_bytes(path).decode('utf-8'), object_pairs_hook=_object)
    except OSError as ex:
        raise ValueError(ex.strerror) from ex
    except UnicodeDecodeError as ex:
        raise ValueError(f'Not valid UTF-8, in which JSON is written: {ex.reason} at byte {ex.start}') from ex
    except (json.JSONDecodeError, RecursionError) as ex:
        raise ValueError(f'Not valid JSON: {ex}') from ex
    if not isinstance(tree, dict):
        raise ValueError(f'expected a JSON object that describes a job, got {type(tree).__name__}')
    return tree


def _read_bytes(path: str) -> bytes:
    if path == '-':
        return sys.stdin.buffer.read()
    with open(path, 'rb') as file:
        return file.read()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the dictionary for a JSON object; of values with the same key all but one would be lost."""
    tree: dict[str, Any] = {}
    for key, value in pairs:
        if key in tree:
            raise ValueError(f'the key "{key}" is there twice')
        tree[key] = value
    return tree


def specification(tree: dict[str, Any]) -> JobSpec:
    """Return the specification that a JSON object describes.

    Raises
    ------
    ValueError
        If it describes none.
    """
    from psij.serialize import JSONSerializer

    return JSONSerializer().loads(json.dumps(tree))


def load(path: str) -> JobSpec:
    """Return the specification in a file.

    Raises
    ------
    ValueError
        If there is none, with the name of the file.
    """
    try:
        return specification(read(path))
    except ValueError as ex:
        raise ValueError(f'{path}: {ex}') from ex


def attach(args: argparse.Namespace) -> list[Job]:
    """Return jobs that stand for those whose native IDs were given."""
    from psij import Job

    executor = _options.lasting_executor(args)
    _look_for_commands(executor, args.native_ids)
    jobs = []
    for native_id in args.native_ids:
        job = Job()
        executor.attach(job, native_id)
        jobs.append(job)
    return jobs


def print_statuses(args: argparse.Namespace, jobs: list[Job]) -> None:
    """Print the states of jobs, and tell of which of them nothing was heard."""
    from psij import JobState

    known = [job for job in jobs if job.status.state is not JobState.NEW]
    _output.print_statuses(known, args.json)
    for job in jobs:
        if job not in known:
            text = f'{args.executor} has not told the state of job {job.native_id} in time'
            _output.say(args.command, text)


def _look_for_commands(executor: JobExecutor, native_ids: list[str]) -> None:
    """Make sure that somebody can be asked about jobs, which an executor itself tries again and again.

    Raises
    ------
    ValueError
        If the command of the scheduler is not there.
    """
    from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutor

    if isinstance(executor, BatchSchedulerExecutor) and not executor._runs_commands_elsewhere:
        command = executor.get_status_command(native_ids)[0]
        if shutil.which(command) is None:
            raise ValueError(f'the command "{command}" was not found; PATH is {os.environ.get("PATH")!r}')


def wait(jobs: list[Job], timeout: Optional[timedelta], target: Optional[JobState] = None) -> bool:
    """Wait until all jobs have reached a state, or have ended; tell whether they have."""
    begin = time.monotonic()
    reached = True
    for job in jobs:
        left = None if timeout is None else max(timeout - timedelta(seconds=time.monotonic() - begin), timedelta(0))
        reached = job.wait(left, target) is not None and reached
    return reached
