"""Jobs that a command is about: from files, or by native ID."""

from __future__ import annotations

import sys
import time
from datetime import timedelta

from psij.cli import _options

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Optional

    from psij import Job, JobSpec, JobState


def read(path: str) -> str:
    """Return the text of a file; ``-`` is the standard input."""
    if path == '-':
        return sys.stdin.read()
    with open(path, encoding='utf-8') as file:
        return file.read()


def load(path: str) -> JobSpec:
    """Return the specification in a file.

    Raises
    ------
    ValueError
        If there is none, with the name of the file.
    """
    from psij.serialize import JSONSerializer

    try:
        return JSONSerializer().loads(read(path))
    except ValueError as ex:
        raise ValueError(f'{path}: {ex}') from ex


def attach(args: argparse.Namespace) -> list[Job]:
    """Return jobs that stand for those whose native IDs were given."""
    from psij import Job

    executor = _options.lasting_executor(args)
    jobs = []
    for native_id in args.native_ids:
        job = Job()
        executor.attach(job, native_id)
        jobs.append(job)
    return jobs


def wait(jobs: list[Job], timeout: Optional[timedelta], target: Optional[JobState] = None) -> bool:
    """Wait until all jobs have reached a state, or have ended; tell whether they have."""
    begin = time.monotonic()
    reached = True
    for job in jobs:
        left = None if timeout is None else max(timeout - timedelta(seconds=time.monotonic() - begin), timedelta(0))
        reached = job.wait(left, target) is not None and reached
    return reached
