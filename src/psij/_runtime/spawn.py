"""Starts a program as a child of its own, detached from the terminal and the signals of this one."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Mapping, Optional, Sequence

_OUTPUT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_INPUT = os.O_RDONLY | os.O_CLOEXEC
_OF_WHO_OPENS_IT = ('/dev/std', '/dev/fd/', '/proc/')  # files there mean something else to each process


def spawn(
    argv: Sequence[str],
    directory: Optional[Path],
    environment: Optional[Mapping[str, str]],
    streams: tuple[int, int, int],
) -> int:
    """Start a program in a session of its own and return its pid; the caller has to wait for it.

    Raises
    ------
    OSError
        If it cannot be started. The attribute ``filename`` is set if the reason is the program or the directory.
    """
    process = subprocess.Popen(
        argv,
        stdin=streams[0],
        stdout=streams[1],
        stderr=streams[2],
        cwd=directory,
        env=environment,
        start_new_session=True,
    )
    # The reaper waits for the process, so the object must not: it would complain when it is collected.
    process.returncode = 0
    return process.pid


class Streams:
    """The files for the standard streams of a program, opened before it starts.

    Raises
    ------
    OSError
        If one cannot be opened.
    UnusualFileError
        If opening one could block, as it does with a pipe that nobody reads, or if it would not be the file that the
        program itself would open.
    """

    def __init__(
        self, directory: Optional[Path], stdin: Optional[Path], stdout: Optional[Path], stderr: Optional[Path]
    ) -> None:
        self._open: list[int] = []
        try:
            self.fds = (
                self._fd(directory, stdin, _INPUT),
                self._fd(directory, stdout, _OUTPUT),
                self._fd(directory, stderr, _OUTPUT),
            )
            if stdout is not None and stderr is not None and os.path.sameopenfile(self.fds[1], self.fds[2]):
                self.fds = (self.fds[0], self.fds[1], self.fds[1])  # one position in the file for both
        except BaseException:
            self.close()
            raise

    def _fd(self, directory: Optional[Path], path: Optional[Path], flags: int) -> int:
        if path is None:
            return subprocess.DEVNULL
        full = os.path.join(directory or '', path)
        try:
            unusual = full.startswith(_OF_WHO_OPENS_IT) or stat.S_ISFIFO(os.stat(full).st_mode)
        except FileNotFoundError:
            unusual = False
        if unusual:
            raise UnusualFileError(0, 'only the program that is to use it can open it', full)
        fd = os.open(full, flags, 0o666)
        self._open.append(fd)
        return fd

    def close(self) -> None:
        """Close the files here; the program has its own copies."""
        for fd in self._open:
            os.close(fd)
        self._open.clear()

    def __enter__(self) -> tuple[int, int, int]:
        return self.fds

    def __exit__(self, *exception: object) -> None:
        self.close()


class UnusualFileError(OSError):
    """A file that can only be opened by the one who is to use it."""
