"""Watches local processes, tells when they end and how, and ends them when asked.

One thread of the program, ``psij-reaper``, waits for all of them with pidfds. It installs no signal handler, and
waits for no child but those it was told of. Where there are no pidfds, or descriptors are scarce, it looks at the
remaining processes ten times a second.
"""

from __future__ import annotations

import atexit
import os
import resource
import signal
import threading
import time
from collections import OrderedDict
from typing import Callable, Optional

from psij._runtime import process_tree
from psij._runtime.event_loop import EventLoop, Timer

_POLL_INTERVAL = 0.1  # seconds, where there is no pidfd
_SPARE_DESCRIPTORS = 16  # left to the program, which needs some to start a process
_REMEMBERED = 1000  # processes whose end is remembered, so that one can attach to them afterwards
_STATUS_INTERVAL = 0.01  # seconds between two looks for the end status of somebody else's child
_STATUS_PATIENCE = 1.0  # seconds until it is given up
_FIRST_SWEEP = 0.005  # seconds; stops that come together share one look at all processes of the machine
_LONGEST_SWEEP = 0.1  # seconds between two such looks
_EXIT_PATIENCE = 2.0  # seconds of the time of grace that the end of the program waits for
_SWEEP_PATIENCE = 2.0  # seconds to wait until killed processes are gone

Listener = Callable[['Process'], None]


class Process:
    """A process that is watched.

    Attributes
    ----------
    pid
        The process.
    child
        Whether it was started here.
    ended
        True once it has ended.
    exit_code
        How it ended, as a shell reports it: 128+n if signal n ended it. None if that cannot be known.
    stop_reason
        The reason that was given to :meth:`Reaper.stop`, if that ended it, or None.
    """

    __slots__ = (
        'child',
        'ended',
        'exit_code',
        'family',
        'fd',
        'has_own_grace',
        'identity',
        'kill_at',
        'leader',
        'listeners',
        'patient_until',
        'pid',
        'stop_reason',
        'timer',
    )

    def __init__(self, pid: int, child: bool, listener: Listener) -> None:
        self.pid = pid
        self.child = child
        self.fd = -1
        self.leader = child  # of a session, so that there may be more processes in it
        self.identity: set[process_tree.ProcessId] = set()  # for processes of others, whose pids may be reused
        self.listeners = [listener]
        self.ended = False
        self.exit_code: Optional[int] = None
        self.patient_until: Optional[float] = None  # the time at which looking for the exit status is given up
        self.stop_reason: Optional[str] = None
        self.family: set[process_tree.ProcessId] = set()
        self.has_own_grace = False  # more time than what it started, to come to an end
        self.kill_at = 0.0  # the time from which on nothing of a stopped process's family may be left
        self.timer: Optional[Timer] = None


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
        self._polling = False
        self._sweeping: list[Process] = []
        self._sweep_delay = _FIRST_SWEEP
        self._kills_at_exit = False

    def watch_child(self, pid: int, listener: Listener) -> Process:
        """Watch a child that nobody else waits for; `listener` is called on the reaper's thread when it has ended.

        Raises
        ------
        RuntimeError
            If there is no thread and none can be started.
        """
        return self._watch(Process(pid, True, listener))

    def attach(self, pid: int, listener: Listener) -> Process:
        """Watch any process of this user.

        If it is one that has ended already, and was watched before, `listener` is called at once.

        Raises
        ------
        ProcessLookupError
            If there is no such process.
        PermissionError
            If it belongs to another user.
        RuntimeError
            If there is no thread and none can be started.
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
        process = Process(pid, False, listener)
        process.leader = os.getsid(pid) == pid
        process.identity = process_tree.identify([pid])
        return self._watch(process)

    def _watch(self, process: Process) -> Process:
        process.fd = _open_pidfd(process.pid)
        start_polling = False
        with self._lock:
            self._live[process.pid] = process
            self._ended.pop(process.pid, None)  # an earlier process with this pid
            if process.fd < 0:
                self._without_fd.append(process)
                start_polling, self._polling = not self._polling, True
        try:
            if process.fd >= 0:
                self.loop.add_reader(process.fd, lambda: self._on_end(process))
            elif start_polling:
                self.loop.call_later(_POLL_INTERVAL, self._poll)
        except BaseException:
            with self._lock:
                del self._live[process.pid]
                self._polling = False
            self._release(process)
            raise
        return process

    def _poll(self) -> None:
        for process in list(self._without_fd):
            self._on_end(process)
        with self._lock:
            self._polling = bool(self._without_fd)
        if self._polling:
            self.loop.call_later(_POLL_INTERVAL, self._poll)

    def _on_end(self, process: Process) -> None:
        """Take note of the end of a process, or find that it is not yet time."""
        with self._lock:
            status: Optional[int] = None
            if process.ended:
                return
            if process.child:
                try:
                    pid, status = os.waitpid(process.pid, os.WNOHANG)
                    if pid == 0:
                        return
                except ChildProcessError:
                    status = None  # the application waits for any child, or ignores SIGCHLD
            elif process_tree.alive(process.identity):
                return
            if status is None and process.fd >= 0:
                status = process_tree.wait_status(process.pid, process.fd)
                if status is None and self._is_patient(process):
                    return
            process.ended = True
            process.exit_code = None if status is None else shell_code(status)
        self._release(process)
        if process.stop_reason is not None:
            self._sweep_later(process)
        else:
            self._finish(process)

    def _is_patient(self, process: Process) -> bool:
        """Tell whether to look for the exit status again later: it may be there once the parent has reaped."""
        now = time.monotonic()
        if process.patient_until is None:
            process.patient_until = now + _STATUS_PATIENCE
            self.loop.remove_reader(process.fd)  # it stays readable
        if now >= process.patient_until:
            return False
        self.loop.call_later(_STATUS_INTERVAL, lambda: self._on_end(process))
        return True

    def _release(self, process: Process) -> None:
        """Give back what watching a process took."""
        if process.fd < 0:
            with self._lock:
                self._without_fd.remove(process)
        else:
            fd, process.fd = process.fd, -1  # in this order for the sake of a fork just now, see abandon()
            self.loop.remove_reader(fd)
            os.close(fd)

    def _finish(self, process: Process) -> None:
        if process.timer is not None:
            process.timer.cancel()
        with self._lock:
            listeners, process.listeners = process.listeners, []
            if self._live.get(process.pid) is process:
                del self._live[process.pid]
                self._ended[process.pid] = process
            if len(self._ended) > _REMEMBERED:
                self._ended.popitem(last=False)
        for listener in listeners:
            listener(process)

    def stop(self, process: Process, reason: str, grace: float, own_grace: Optional[float] = None) -> bool:
        """End a process and all that it started.

        They get SIGTERM, and what is left after the time of grace gets SIGKILL. Listeners are called when all are
        gone.

        Parameters
        ----------
        process
            The process.
        reason
            Why; what is given first stays.
        grace
            The time in seconds between the two signals.
        own_grace
            The same for the process itself, if that has more time than what outlives it.

        Returns
        -------
        bool
            False if the process had ended before.
        """
        with self._lock:
            if self._has_ended(process):
                return False
            if process.stop_reason is not None:
                return True
            if not self._kills_at_exit:
                self._kills_at_exit = True
                atexit.register(self._kill_the_stopped)
            process.stop_reason = reason
            process.has_own_grace = own_grace is not None
            process.kill_at = time.monotonic() + grace
            self._signal(process, signal.SIGTERM)
        process.timer = self.loop.call_later(own_grace or grace, lambda: self._kill(process))
        return True

    def _kill(self, process: Process) -> None:
        with self._lock:
            if not self._has_ended(process):
                self._signal(process, signal.SIGKILL)

    def _kill_the_stopped(self) -> None:
        """Do at the end of the program what nobody will do later: kill what was told to end and has not.

        What has time to come to an end of its own, scripts that stage files, is left to itself.
        """
        patience = time.monotonic() + _EXIT_PATIENCE
        stopped = self._stopped()
        while stopped and time.monotonic() < min(patience, max(process.kill_at for process in stopped)):
            time.sleep(_STATUS_INTERVAL)
            stopped = self._stopped()
        for process in stopped:
            self._kill(process)
            process_tree.send(signal.SIGKILL, (member.pid for member in process_tree.alive(process.family)))

    def _stopped(self) -> list[Process]:
        return [
            process
            for process in list(self._live.values())
            if process.stop_reason is not None and not process.has_own_grace
        ]

    def kill_descendants(self, process: Process) -> None:
        """End all that a process has started, at once, but not the process itself."""
        with self._lock:
            if not self._has_ended(process):
                self._signal(process, signal.SIGKILL, itself=False)

    @staticmethod
    def _has_ended(process: Process) -> bool:
        """Tell whether a process has ended, although it may not yet be reaped."""
        if process.ended:
            return True
        if not process.child:
            return not process_tree.alive(process.identity)
        try:
            return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    @staticmethod
    def _signal(process: Process, signum: signal.Signals, itself: bool = True) -> None:
        """Signal a process and all that it started; call with the lock held, so that it is not reaped meanwhile.

        They are suspended first, so that none can start another that is not seen. A signal that some of them get
        twice, by the group and by the pid, is one signal to them as long as they are suspended. If this program is one
        of them, it is not suspended, and gets the signal last, because that may be its end.
        """
        pid, own = process.pid, os.getpid()
        has_group = process.leader and os.getpgrp() != pid
        if has_group:
            process_tree.send_to_group(signal.SIGSTOP, pid)
        known = process_tree.alive(process.family)
        process.family = process_tree.suspend([pid, *(member.pid for member in known)]).union(known)
        family = [member.pid for member in process.family]
        targets = [pid, *family] if itself else family
        if itself and has_group:
            process_tree.send_to_group(signum, pid)
        process_tree.send(signum, (target for target in targets if target != own))
        if has_group:
            process_tree.send_to_group(signal.SIGCONT, pid)
        process_tree.send(signal.SIGCONT, [pid, *family])
        if own in targets:
            process_tree.send(signum, [own])

    def _sweep_later(self, process: Process) -> None:
        self._sweeping.append(process)
        self._sweep_delay = _FIRST_SWEEP
        if len(self._sweeping) == 1:
            self.loop.call_later(_FIRST_SWEEP, self._sweep)

    def _sweep(self) -> None:
        """Look for what is left of stopped processes that have ended themselves; finish those with nothing left."""
        sessions = process_tree.session_members({process.pid for process in self._sweeping if process.leader})
        now = time.monotonic()
        waiting = []
        for process in self._sweeping:
            left = {member.pid for member in process_tree.alive(process.family)}
            left.update(process_tree.descendants(left), sessions.get(process.pid, ()))
            if not left or now > process.kill_at + _SWEEP_PATIENCE:
                self._finish(process)
                continue
            waiting.append(process)
            members = process_tree.identify(left)
            if now >= process.kill_at:
                process_tree.send(signal.SIGKILL, left)
            else:  # some were not found before, because their parents had ended already
                process_tree.send(signal.SIGTERM, (member.pid for member in members - process.family))
            process.family |= members
        self._sweeping = waiting
        if waiting:
            self._sweep_delay = min(2 * self._sweep_delay, _LONGEST_SWEEP)
            self.loop.call_later(self._sweep_delay, self._sweep)

    def abandon(self) -> None:
        """Close what a forked child has inherited; the parent goes on watching its processes."""
        atexit.unregister(self._kill_the_stopped)
        for process in self._live.values():
            if process.fd >= 0:
                os.close(process.fd)


def _open_pidfd(pid: int) -> int:
    """Return a descriptor of a process, or -1 if there are none on this system or only few left for this program."""
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and fd >= limit - _SPARE_DESCRIPTORS:
        os.close(fd)
        return -1
    return fd


_reaper = Reaper()


def reaper() -> Reaper:
    """Return the reaper of this program."""
    return _reaper


def _after_fork_in_child() -> None:
    global _reaper
    inherited, _reaper = _reaper, Reaper()
    inherited.abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)
