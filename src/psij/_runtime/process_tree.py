"""Facts about processes from ``/proc``, and signals to whole trees of them.

On systems without ``/proc``, psutil gives the same facts more slowly.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
from typing import Iterable, NamedTuple, Optional

_HAS_PROC = os.path.exists('/proc/self/stat')

# linux/pidfd.h: PIDFD_GET_INFO fills a struct of (at least) 64 bytes that begins with a mask of what is wanted and
# ends with the wait status. The exit status can be had since Linux 6.15, once the process has been reaped.
_PIDFD_GET_INFO = (3 << 30) | (64 << 16) | (0xFF << 8) | 11
_PIDFD_INFO_EXIT = 1 << 3


class ProcessId(NamedTuple):
    """A process, told from a later one with the same pid by the time at which it started."""

    pid: int
    start: float


def start_time(pid: int) -> Optional[float]:
    """Return when a process started, in a unit of the system's, or None if there is no such process."""
    if not _HAS_PROC:
        import psutil

        try:
            return float(psutil.Process(pid).create_time())
        except psutil.Error:
            return None
    fields = _stat(pid)
    return None if fields is None else float(fields[19])


def _stat(pid: int) -> Optional[list[bytes]]:
    """Return the fields of ``/proc/PID/stat`` from the third one on (the second may contain anything)."""
    try:
        with open(f'/proc/{pid}/stat', 'rb') as file:
            return file.read().rpartition(b')')[2].split()
    except OSError:
        return None


def is_zombie(pid: int) -> bool:
    """Tell whether a process has ended and only waits for its parent to take note."""
    if not _HAS_PROC:
        import psutil

        try:
            return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False
    fields = _stat(pid)
    return fields is not None and fields[0] in (b'Z', b'X')


def command_line(pid: int) -> list[str]:
    """Return the arguments with which a process was started, its program first; empty if there is no such process."""
    if not _HAS_PROC:
        import psutil

        try:
            return list(psutil.Process(pid).cmdline())
        except psutil.Error:
            return []
    try:
        with open(f'/proc/{pid}/cmdline', 'rb') as file:
            return [os.fsdecode(argument) for argument in file.read().split(b'\0')[:-1]]
    except OSError:
        return []


def ignores(pid: int, signum: signal.Signals) -> bool:
    """Tell whether a process ignores a signal; False if that cannot be known."""
    try:
        with open(f'/proc/{pid}/status', 'rb') as file:
            ignored = int(file.read().partition(b'\nSigIgn:')[2].split(None, 1)[0], 16)
    except (OSError, IndexError):
        return False
    return bool(ignored >> (signum - 1) & 1)


def wait_status(pid: int, pidfd: int) -> Optional[int]:
    """Return the wait status of a process that has ended and is not a child of this one, or None if it is not known.

    There are two sources: the descriptor of the process, on recent Linux, and ``/proc`` as long as its parent has
    not reaped the process.
    """
    info = bytearray(64)
    struct.pack_into('Q', info, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
        if struct.unpack_from('Q', info, 0)[0] & _PIDFD_INFO_EXIT:
            return int(struct.unpack_from('i', info, 60)[0])
    except OSError:
        pass  # an older kernel, or not yet reaped
    fields = _stat(pid) if _HAS_PROC else None
    if fields is not None and fields[0] in (b'Z', b'X') and len(fields) >= 50:
        return int(fields[49])
    return None


def descendants(pids: Iterable[int]) -> list[int]:
    """Return the children of processes, their children, and so on."""
    found: list[int] = []
    pending = list(pids)
    while pending:
        children = _children(pending.pop())
        found += children
        pending += children
    return found


def suspend(pids: Iterable[int]) -> set[ProcessId]:
    """Send SIGSTOP to processes and their descendants, parents first, and return the descendants.

    A process that is suspended starts no other, so none is missed. This process itself is not suspended, should it be
    one of them: it would be for ever.
    """
    own = os.getpid()
    found: list[int] = []
    pending = list(pids)
    send(signal.SIGSTOP, (pid for pid in pending if pid != own))
    while pending:
        children = _children(pending.pop())
        send(signal.SIGSTOP, (pid for pid in children if pid != own))
        found += children
        pending += children
    return identify(found)


def _children(pid: int) -> list[int]:
    if not _HAS_PROC:
        return _children_by_scan(pid)
    children: list[int] = []
    try:
        for thread in os.listdir(f'/proc/{pid}/task'):
            with open(f'/proc/{pid}/task/{thread}/children', 'rb') as file:
                children += map(int, file.read().split())
    except FileNotFoundError:
        if os.path.exists(f'/proc/{pid}') and not os.path.exists(f'/proc/{pid}/task/{pid}/children'):
            return _children_by_scan(pid)  # a kernel that does not list children
    except OSError:
        pass
    return children


def _children_by_scan(pid: int) -> list[int]:
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []


def identify(pids: Iterable[int]) -> set[ProcessId]:
    """Return what processes can be recognised by later; those that are gone are left out."""
    return {ProcessId(pid, start) for pid in pids for start in (start_time(pid),) if start is not None}


def alive(processes: Iterable[ProcessId]) -> list[ProcessId]:
    """Return those processes that still run."""
    return [process for process in processes if start_time(process.pid) == process.start and not is_zombie(process.pid)]


def session_members(sessions: set[int]) -> dict[int, list[int]]:
    """Return the running processes of some sessions, each session without its leader.

    A session whose leader runs is left out: the leaders have ended, so it is a later one that got the same number.
    """
    members: dict[int, list[int]] = {session: [] for session in sessions}
    for pid in _all_pids():
        try:
            session = os.getsid(pid)
        except OSError:
            continue
        if session in members and not is_zombie(pid):
            members[session].append(pid)
    return {session: found for session, found in members.items() if session not in found}


def _all_pids() -> list[int]:
    if not _HAS_PROC:
        import psutil

        return psutil.pids()
    return [int(name) for name in os.listdir('/proc') if name.isdigit()]


def send(signum: signal.Signals, pids: Iterable[int]) -> None:
    """Send a signal to processes; those that are gone or not ours are passed over.

    If this process is one of them it comes last, since that may be its end.
    """
    for pid in sorted(pids, key=os.getpid().__eq__):
        try:
            os.kill(pid, signum)
        except (ProcessLookupError, PermissionError):
            pass


def send_to_group(signum: signal.Signals, group: int) -> None:
    """Send a signal to a process group; nothing happens if it is gone or not ours."""
    try:
        os.killpg(group, signum)
    except (ProcessLookupError, PermissionError):
        pass
