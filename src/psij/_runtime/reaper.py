"""Watches local processes, tells when they end and how, and ends them when asked.

One thread of the program, ``psij-reaper``, waits for all of them with pidfds. It installs no signal handler, and
waits for no child but those it was told of. Where there are no pidfds, or no more descriptors, it looks at the
remaining processes ten times a second.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import OrderedDict
from typing import Callable, Optional

from psij._runtime import process_tree
from psij._runtime.event_loop import EventLoop, Timer

_POLL_INTERVAL = 0.1  # seconds, where there is no pidfd
_REMEMBERED = 1000  # processes whose end is remembered, so that one can attach to them afterwards
_STATUS_PATIENCE = 1.0  # seconds to wait until the end status of somebody else's child can be read
_SWEEP_DELAY = 0.005  # seconds; stops that come together share one look at all processes of the machine
_SWEEP_PATIENCE = 2.0  # seconds to wait until killed processes are gone

Listener = Callable[['Process'], None]


class Process:
    """A process that is watched.

    Attributes
    ----------
    pid
        The process.
    ended
        True once it has ended.
    exit_code
        How it ended, as a shell reports it: 128+n if signal n ended it. None if that cannot be known.
    stopped
        True if it was ended by :meth:`Reaper.stop`.
    """

    __slots__ = (
        'child',
        'ended',
        'exit_code',
        'family',
        'fd',
        'kill_timer',
        'leader',
        'listeners',
        'pid',
        'since',
        'stopped',
    )

    def __init__(self, pid: int, child: bool, fd: int, listener: Listener) -> None:
        self.pid = pid
        self.child = child
        self.fd = fd
        self.leader = child or _leads_session(pid)
        self.listeners = [listener]
        self.ended = False
        self.exit_code: Optional[int] = None
        self.stopped = False
        self.family: set[process_tree.ProcessId] = set()
        self.kill_timer: Optional[Timer] = None
        self.since = 0.0  # when it was found to have ended, while its exit status or its family is waited for


def _leads_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except OSError:
        return False


def shell_code(wait_status: int) -> int:
    """Return the exit code that a shell reports for a wait status.

    >>> shell_code(0x0700), shell_code(9)
    (7, 137)
    """
    if os.WIFSIGNALED(wait_status):
        return 128 + os.WTERMSIG(wait_status)
    return os.WEXITSTATUS(wait_status)


class Reaper:
    """Watches the processes of all local executors of this program."""

    def __init__(self) -> None:
        self.loop = EventLoop('psij-reaper')
        self._lock = threading.Lock()  # guards the tables, and keeps a pid from being reused while it is signalled
        self._live: dict[int, Process] = {}
        self._ended: OrderedDict[int, Process] = OrderedDict()
        self._without_fd: list[Process] = []
        self._sweeping: list[Process] = []

    def watch_child(self, pid: int, listener: Listener) -> Process:
        """Watch a child that nobody else waits for; `listener` is called on the reaper's thread when it has ended."""
        return self._watch(Process(pid, True, _open_pidfd(pid), listener))

    def attach(self, pid: int, listener: Listener) -> Process:
        """Watch any process of this user.

        If it is one that has ended already, and was watched before, `listener` is called at once.

        Raises
        ------
        ProcessLookupError
            If there is no such process.
        PermissionError
            If it belongs to another user.
        """
        with self._lock:
            process = self._live.get(pid)
            if process is not None:
                process.listeners.append(listener)
                return process
            process = self._ended.get(pid)
        if process is not None:
            listener(process)
            return process
        os.kill(pid, 0)
        return self._watch(Process(pid, False, _open_pidfd(pid), listener))

    def _watch(self, process: Process) -> Process:
        with self._lock:
            self._live[process.pid] = process
            self._ended.pop(process.pid, None)  # an earlier process with this pid
            if process.fd < 0:
                self._without_fd.append(process)
                first = len(self._without_fd) == 1
        if process.fd >= 0:
            self.loop.add_reader(process.fd, lambda: self._on_end(process))
        elif first:
            self.loop.call_later(_POLL_INTERVAL, self._poll)
        return process

    def _poll(self) -> None:
        for process in list(self._without_fd):
            if process.child or not process_tree.alive(process_tree.identify([process.pid])):
                self._on_end(process)
        if self._without_fd:
            self.loop.call_later(_POLL_INTERVAL, self._poll)

    def _on_end(self, process: Process) -> None:
        """Take note of the end of a process, or find that it is not yet time."""
        if process.ended:
            return
        status: Optional[int] = None
        with self._lock:
            if process.child:
                try:
                    pid, status = os.waitpid(process.pid, os.WNOHANG)
                    if pid == 0:
                        return  # it has not ended
                except ChildProcessError:
                    pass  # the application waits for any child, or ignores SIGCHLD; see below
            if status is None and process.fd >= 0:
                status = process_tree.wait_status(process.pid, process.fd)
            if status is None and self._patient(process):
                return
            process.ended = True
            process.exit_code = None if status is None else shell_code(status)
            if process.fd < 0:
                self._without_fd.remove(process)
        if process.fd >= 0:
            self.loop.remove_reader(process.fd)
            os.close(process.fd)
            process.fd = -1
        if process.stopped:
            self._sweep_later(process)
        else:
            self._finish(process)

    def _patient(self, process: Process) -> bool:
        """Tell whether to look for the exit status again later: it may be there once the parent has reaped."""
        if process.fd < 0:
            return False
        now = time.monotonic()
        if not process.since:
            process.since = now
            self.loop.remove_reader(process.fd)  # it stays readable
        if now - process.since > _STATUS_PATIENCE:
            return False
        self.loop.call_later(0.01, lambda: self._on_end(process))
        return True

    def _finish(self, process: Process) -> None:
        if process.kill_timer is not None:
            process.kill_timer.cancel()
        with self._lock:
            listeners, process.listeners = process.listeners, []
            if self._live.get(process.pid) is process:
                del self._live[process.pid]
                self._ended[process.pid] = process
            if len(self._ended) > _REMEMBERED:
                self._ended.popitem(last=False)
        for listener in listeners:
            listener(process)

    def stop(self, process: Process, grace: float) -> bool:
        """End a process and all that it started.

        They get SIGTERM, and SIGKILL after `grace` seconds; what outlives the process itself gets SIGKILL when it has
        ended. Listeners are called when all are gone.

        Returns
        -------
        bool
            False if the process had ended before.
        """
        family = process_tree.identify(process_tree.descendants([process.pid]))
        with self._lock:
            if process.ended or self._has_ended(process):
                return False
            if process.stopped:
                return True
            process.stopped = True
            process.family = family
            self._signal(process, signal.SIGTERM)
            self._signal(process, signal.SIGCONT)  # a suspended process would not see it
        process.kill_timer = self.loop.call_later(grace, lambda: self._kill(process))
        return True

    @staticmethod
    def _has_ended(process: Process) -> bool:
        """Tell whether a process has ended, although it is not yet reaped."""
        if process.child:
            try:
                return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
            except ChildProcessError:
                return True
        return not process_tree.alive(process_tree.identify([process.pid]))

    @staticmethod
    def _signal(process: Process, signum: signal.Signals) -> None:
        """Signal a process and its family; call with the lock held, so that the process is not reaped meanwhile."""
        if process.leader:
            process_tree.send_to_group(signum, process.pid)
        process_tree.send(signum, [process.pid])
        process_tree.send(signum, (member.pid for member in process_tree.alive(process.family)))

    def _kill(self, process: Process) -> None:
        family = process_tree.identify(
            process_tree.descendants([process.pid, *(member.pid for member in process.family)])
        )
        with self._lock:
            process.family |= family
            if not process.ended:
                self._signal(process, signal.SIGKILL)

    def _sweep_later(self, process: Process) -> None:
        process.since = time.monotonic()
        self._sweeping.append(process)
        if len(self._sweeping) == 1:
            self.loop.call_later(_SWEEP_DELAY, self._sweep)

    def _sweep(self) -> None:
        """Kill what is left of processes that were stopped and have ended; finish those of which nothing is left."""
        sessions = process_tree.session_members({process.pid for process in self._sweeping if process.leader})
        waiting = []
        for process in self._sweeping:
            left = [member.pid for member in process_tree.alive(process.family)]
            left += process_tree.descendants(left)
            left += sessions.get(process.pid, ())
            if left and time.monotonic() - process.since < _SWEEP_PATIENCE:
                process.family |= process_tree.identify(left)
                process_tree.send(signal.SIGKILL, left)
                waiting.append(process)
            else:
                self._finish(process)
        self._sweeping = waiting
        if waiting:
            self.loop.call_later(2 * _SWEEP_DELAY, self._sweep)

    def abandon(self) -> None:
        """Close what a forked child has inherited; the parent goes on watching its processes."""
        for process in self._live.values():
            if process.fd >= 0:
                os.close(process.fd)


def _open_pidfd(pid: int) -> int:
    """Return a descriptor of a process, or -1 if there are none on this system or no more for this program."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


_reaper = Reaper()


def reaper() -> Reaper:
    """Return the reaper of this program."""
    return _reaper


def _after_fork_in_child() -> None:
    global _reaper
    inherited, _reaper = _reaper, Reaper()
    inherited.abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)
