"""Files that belong to jobs: private to the user, written once, read back in part, removed."""

from __future__ import annotations

import atexit
import os
import stat
import time
from pathlib import Path
from typing import Iterable, Optional, Set, Tuple, Union

from psij._log import lazy_logger
from psij.exceptions import SubmitException

logger = lazy_logger(__name__)

MESSAGE_LIMIT = 4096
"""The number of bytes of a job's own output that may go into a status message."""


def private_directory(path: Path) -> Path:
    """Make sure that a directory exists, that it is ours, and that nobody else can look into it.

    Raises
    ------
    SubmitException
        If that is not possible.
    """
    try:
        _make_private(path)
        around = os.stat(path.parent)
        if around.st_mode & stat.S_IWOTH and not around.st_mode & stat.S_ISVTX:
            raise PermissionError(1, f'Everybody can replace it, since everybody can write to {path.parent}', str(path))
        link = os.lstat(path)
        if stat.S_ISLNK(link.st_mode) and link.st_uid not in (0, os.geteuid()):
            raise PermissionError(1, f'It is a link of another user (uid {link.st_uid})', str(path))
        facts = os.stat(path)
        if not stat.S_ISDIR(facts.st_mode):
            raise NotADirectoryError(20, 'Not a directory', str(path))
        if facts.st_uid != os.geteuid():
            raise PermissionError(1, f'It belongs to another user (uid {facts.st_uid})', str(path))
        if stat.S_IMODE(facts.st_mode) & 0o077:
            os.chmod(path, 0o700)
    except OSError as ex:
        raise SubmitException(
            f'Cannot use the work directory {path}: {ex.strerror or ex}. Another one can be chosen with '
            'JobExecutorConfig(work_directory=...).',
            ex,
        ) from ex
    return path


def _make_private(path: Path) -> None:
    """Make a directory and those above it; `os.makedirs` would leave the latter to the umask."""
    if not path.parent.exists():
        _make_private(path.parent)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass  # another thread, or another program, may be doing the same


def create_private(path: Union[str, Path]) -> int:
    """Create a file that only the user can read, and return a descriptor to append to it."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def write_private(path: Path, text: str) -> Path:
    """Write a new file that only the user can read.

    The encoding is that of file names and arguments, so that a path in a script is the path that Python means. Text
    that came from file names which are not valid in it is written as it was.
    """
    fd = create_private(path)
    try:
        write_text(fd, text)
    finally:
        os.close(fd)
    return path


def write_text(fd: int, text: str) -> None:
    """Write all of a text, as :func:`write_private` does."""
    data = memoryview(os.fsencode(text))
    while data:
        data = data[os.write(fd, data) :]


def rewrite(path: Path, text: str) -> bool:
    """Replace the text of a file that exists, and tell whether that was possible."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        write_text(fd, text)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def read_end(path: Union[str, Path], limit: int = MESSAGE_LIMIT) -> Optional[str]:
    """Return the text of a file, or its end if it is long; None if there is no such file."""
    try:
        with open(path, 'rb') as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                file.seek(size - limit)
            text = file.read(limit).decode('utf-8', errors='replace')
    except OSError:
        return None
    return f'[...] {text}' if size > limit else text


def remove(paths: Iterable[Union[str, Path]]) -> None:
    """Remove files; those that do not exist are passed over, and those that cannot be removed are logged."""
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as ex:
            logger.warning('Cannot remove %s: %s', path, ex)


def remove_older(paths: Iterable[Path], than: Path) -> None:
    """Remove files that are older than another one, by the clock of their file system."""
    try:
        limit = os.stat(than).st_mtime
    except OSError:
        return
    for path in paths:
        try:
            if os.stat(path).st_mtime < limit:
                remove([path])
        except OSError:
            pass


def follow(followed: Path, follower: Path) -> None:
    """Mark the files of a job as needed: `follower` becomes another name of the file `followed`.

    The number of names tells how many follow the job, without looking through a directory with the files of thousands.
    Where that is not possible, the first who sees the end of the job removes its files.
    """
    try:
        os.close(os.open(followed, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        os.link(followed, follower)
        _following.add((os.getpid(), followed, follower))
    except OSError as ex:
        logger.debug('Cannot mark a job as followed: %s', ex)


def unfollow(followed: Path, follower: Path) -> bool:
    """Take the mark back; tell whether nobody else follows the job."""
    _following.discard((os.getpid(), followed, follower))
    remove([follower])
    try:
        return os.stat(followed).st_nlink == 1
    except OSError:
        return True


_following: Set[Tuple[int, Path, Path]] = set()  # with the process: a forked child leaves alone what its parent follows


def _end_following() -> None:
    """Take all marks back when a program ends before its jobs, so that others can be the last."""
    for pid, followed, follower in list(_following):
        if pid == os.getpid() and unfollow(followed, follower):
            remove([followed])


atexit.register(_end_following)


_LEFT_OVER_AGE = 30 * 86400.0  # seconds
_CLEANING_INTERVAL = 86400.0  # seconds


def remove_old(directory: Path) -> None:
    """Remove files that nobody has touched for 30 days; programs touch the files of their live jobs every day.

    This is done at most once a day, by one program at a time.
    """
    stamp = directory / '.cleaned'
    now = time.time()
    try:
        if now - os.stat(stamp).st_mtime < _CLEANING_INTERVAL:
            return
    except FileNotFoundError:
        pass
    import filelock

    try:
        with filelock.FileLock(str(directory / '.lock'), timeout=0, mode=0o600):
            with os.scandir(directory) as entries:
                remove(entry.path for entry in list(entries) if _is_left_over(entry, now))
            stamp.touch(0o600)
            os.utime(stamp)
    except filelock.Timeout:
        pass  # another program does it
    except OSError as ex:
        logger.warning('Cannot remove old files from %s: %s', directory, ex)


def _is_left_over(entry: os.DirEntry[str], now: float) -> bool:
    try:
        facts = entry.stat(follow_symlinks=False)
    except OSError:  # removed meanwhile
        return False
    return not stat.S_ISDIR(facts.st_mode) and now - facts.st_mtime > _LEFT_OVER_AGE


def touch(paths: Iterable[Path]) -> None:
    """Mark files as used."""
    for path in paths:
        try:
            os.utime(path)
        except OSError:
            pass
