"""The log file of a job, ``ID.cobaltlog`` or the one of ``--debuglog``: qsub makes it, cqm writes on if it is there."""

from __future__ import annotations

import os
import time

from fakes.core import Job


def date() -> str:
    return time.strftime('%a %b %d %H:%M:%S %Y +0000 (UTC)', time.gmtime())


def create(path: str, job: Job, command_line: str) -> None:
    _write(path, f'Jobid: {job.id}\n{command_line}\n{date()} submitted with cwd set to: {job.cwd}\n', os.O_CREAT)


def add(job: Job, *lines: str) -> None:
    _write(job.extra['log'], ''.join(f'{date()} {line}\n' for line in lines))


def _write(path: str, text: str, flags: int = 0) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | flags, 0o644)
    except OSError:
        return
    os.write(fd, os.fsencode(text))
    os.close(fd)
