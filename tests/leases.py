"""Stops whoever opens a file, at just that moment: the kernel lets him wait until a lease on it is given up."""

from __future__ import annotations

import contextlib
import fcntl
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


class Lease:
    """A lease on a file that is open."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # by default SIGIO would come, and end this program
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as ex:
            pytest.skip(f'this file system has no leases: {ex}')

    def is_wanted(self) -> bool:
        """Tell whether somebody waits to open the file."""
        return fcntl.fcntl(self._fd, fcntl.F_GETLEASE) != fcntl.F_WRLCK

    def give_up(self) -> None:
        """Let him go on."""
        fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


@contextlib.contextmanager
def leased(path: Path) -> Iterator[Lease]:
    """Take a lease on a file; it is given up at the end of the context, or before."""
    with path.open('r+') as file:
        yield Lease(file.fileno())
