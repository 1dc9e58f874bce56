"""A thread that waits for descriptors and timers, and exists only while there are any."""

from __future__ import annotations

import heapq
import itertools
import os
import select
import selectors
import threading
import time
import weakref
from typing import Callable, Optional

from psij._log import lazy_logger

logger = lazy_logger(__name__)

_LINGER = 1.0  # seconds for which an idle thread stays, so that jobs one after the other share one
_LONGEST_WAIT = 86400.0  # seconds; selectors take no more than some weeks


class Timer:
    """A call that is to be made later, unless it is cancelled."""

    __slots__ = ('callback', 'when')

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Optional[Callable[[], None]] = callback

    def cancel(self) -> None:
        """Forget the call."""
        self.callback = None


_loops: weakref.WeakSet[EventLoop] = weakref.WeakSet()


class EventLoop:
    """Calls functions on a thread of its own, when descriptors are readable or time has passed.

    The functions must be quick and must not raise; what they raise is logged.

    Parameters
    ----------
    name
        The name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._reset()
        _loops.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._readers: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._thread: Optional[threading.Thread] = None
        self._selector: Optional[selectors.BaseSelector] = None
        self._wake: tuple[int, ...] = ()

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        """Call a function whenever a descriptor is readable, until it is removed."""
        with self._lock:
            self._start().register(fd, selectors.EVENT_READ)
            self._readers[fd] = callback
            if not hasattr(select, 'epoll'):
                self._wake_up()  # epoll takes note of it while it waits, others do not

    def remove_reader(self, fd: int) -> None:
        """Stop watching a descriptor; do this before closing it.

        Closing alone is not enough: as long as a child that is being started holds a copy of the descriptor, epoll
        goes on reporting it.
        """
        with self._lock:
            if self._readers.pop(fd, None) is not None and self._selector is not None:
                self._selector.unregister(fd)
                if not self._readers:
                    self._wake_up()  # there may be nothing left to wait for

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call a function once, `delay` seconds from now."""
        timer = Timer(time.monotonic() + delay, callback)
        with self._lock:
            self._start()
            heapq.heappush(self._timers, (timer.when, next(self._order), timer))
            if self._timers[0][2] is timer:
                self._wake_up()
        return timer

    def _abandon(self) -> None:
        """Forget everything in a forked child; the thread exists in the parent only."""
        for fd in self._wake:
            os.close(fd)
        if self._selector is not None:
            self._selector.close()
        self._reset()

    def _start(self) -> selectors.BaseSelector:
        """Start the thread if there is none; call with the lock held."""
        if self._selector is not None:
            return self._selector
        selector = selectors.DefaultSelector()
        wake: tuple[int, ...] = ()
        try:
            wake = os.pipe()
            for fd in wake:
                os.set_blocking(fd, False)
            selector.register(wake[0], selectors.EVENT_READ)
            thread = threading.Thread(target=self._run, args=(selector, wake[0]), name=self._name, daemon=True)
            thread.start()
            self._selector, self._thread, self._wake = selector, thread, wake
        except BaseException:  # no more descriptors or threads, or an interrupt
            selector.close()
            for fd in wake:
                os.close(fd)
            raise
        return selector

    def _wake_up(self) -> None:
        if threading.current_thread() is not self._thread:
            try:
                os.write(self._wake[1], b'.')
            except BlockingIOError:
                pass  # it is full of wake-ups already

    def _run(self, selector: selectors.BaseSelector, wake: int) -> None:
        idle_until: Optional[float] = None
        while True:
            with self._lock:
                if self._selector is not selector:
                    return  # an interrupt came when the thread had been started, so nobody knows of it
                due, timeout = self._due_timers()
                if due or self._readers or self._timers:
                    idle_until = None
                else:
                    now = time.monotonic()
                    idle_until = idle_until or now + _LINGER
                    if now >= idle_until:
                        self._end(selector)
                        return
                    timeout = idle_until - now
            for timer in due:
                if timer.callback is not None:
                    self._call(timer.callback)
            for key, _ in selector.select(0 if due else timeout):
                callback = self._readers.get(key.fd)
                if callback is not None:
                    self._call(callback)
                elif key.fd == wake:
                    os.read(key.fd, 4096)

    def _due_timers(self) -> tuple[list[Timer], Optional[float]]:
        """Return the timers to call now and the time until the next one; call with the lock held."""
        due: list[Timer] = []
        now = time.monotonic()
        while self._timers and (self._timers[0][0] <= now or self._timers[0][2].callback is None):
            due.append(heapq.heappop(self._timers)[2])
        return due, (min(self._timers[0][0] - now, _LONGEST_WAIT) if self._timers else None)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:  # one bad event must not end the thread that all jobs depend on
            logger.exception('Error in %s', self._name)

    def _end(self, selector: selectors.BaseSelector) -> None:
        """Give back what the thread used; call with the lock held."""
        wake, self._wake = self._wake, ()
        self._thread = self._selector = None
        selector.close()
        for fd in wake:
            os.close(fd)


def _after_fork_in_child() -> None:
    for loop in list(_loops):
        loop._abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)
