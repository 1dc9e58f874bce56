"""A stand-in for Flux's Python bindings: the part of them that the Flux executor uses.

Calls, exceptions and their order are those of version 0.88, also where that is odd. A handle complains when a thread
uses it that did not open it: the real one would hang or crash.
"""

from __future__ import annotations

import heapq
import itertools
import json
import os
import select
import socket
import threading
import time

from . import constants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional

pending: set[Future] = set()
"""The futures that wait for their callback; the real bindings keep them, with their handles, in such a set too."""

threads: list[int] = []
"""The threads that have opened a handle."""


class Future:
    """An answer that may not be there yet; a streaming one gets another with `reset`."""

    def __init__(self, handle: Flux, topic: str, payload: object) -> None:
        self._flux = handle
        self._callback: Optional[Callable[..., None]] = None
        self._answers: list[dict[str, Any]] = []
        self._tag = handle._send(self, topic, payload)

    def then(self, callback: Callable[..., None]) -> Future:
        self._flux._check_thread()
        self._callback = callback
        pending.add(self)
        return self

    def get(self) -> Any:
        """Return the answer; wait for it if need be."""
        self._flux._check_thread()
        while not self._answers:
            if not self._flux._receive(None):
                raise BrokenPipeError(32, 'Broken pipe')
        answer = self._answers[0]
        if 'errnum' in answer:
            raise OSError(answer['errnum'], answer['errstr'])
        return answer['payload']

    def reset(self) -> None:
        del self._answers[0]
        if self._callback is not None:
            pending.add(self)

    def get_matchtag(self) -> int:
        return self._tag

    @property
    def pimpl(self) -> Future:
        return self

    def _dispatch(self) -> None:
        pending.discard(self)
        if self._callback is not None:
            self._callback(self)


class Watcher:
    """Something that the reactor waits for."""

    def __init__(self, handle: Flux, callback: Callable[..., None], fd: int = -1, delay: float = 0.0) -> None:
        self._flux = handle
        self.callback = callback
        self.fd = fd
        self.delay = delay
        self.active = False

    def start(self) -> Watcher:
        self._flux._check_thread()
        self.active = True
        if self.fd >= 0:
            self._flux._watchers[self.fd] = self
        else:
            heapq.heappush(self._flux._timers, (time.monotonic() + self.delay, next(self._flux._order), self))
        return self

    def destroy(self) -> None:
        self.active = False
        self._flux._watchers.pop(self.fd, None)


class Flux:
    """A connection to the stand-in's broker."""

    def __init__(self, url: Optional[str] = None, flags: int = 0) -> None:
        url = url or os.environ.get('FLUX_URI') or 'local:///run/flux/local'
        path = url[len('local://') :]
        if not url.startswith('local://'):
            raise FileNotFoundError(
                2, f"Unable to connect to Flux: Unable to find connector name '{url.split(':')[0]}'"
            )
        if not os.path.exists(path):
            raise FileNotFoundError(2, f'Unable to connect to Flux: broker socket {path} was not found')
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(path)
        except ConnectionRefusedError:
            self._socket.close()
            raise ConnectionRefusedError(111, 'Unable to connect to Flux: Connection refused') from None
        self._thread = threading.get_ident()
        threads.append(self._thread)
        self._buffer = b''
        self._tags = itertools.count(1)
        self._order = itertools.count()
        self._futures: dict[int, Future] = {}
        self._watchers: dict[int, Watcher] = {}
        self._timers: list[tuple[float, int, Watcher]] = []
        self._running = False

    def __del__(self) -> None:
        if hasattr(self, '_socket'):
            self._socket.close()

    def rpc(self, topic: str, payload: object = None, nodeid: int = 0, flags: int = 0) -> Future:
        return Future(self, topic, payload)

    def attr_get(self, name: str) -> str:
        return str(self.rpc('attr.get', {'name': name}).get()['value'])

    def fd_watcher_create(self, fd_int: int, callback: Callable[..., None], events: Optional[int] = None) -> Watcher:
        assert events == constants.FLUX_POLLIN
        return Watcher(self, callback, fd=fd_int)

    def timer_watcher_create(self, after: float, callback: Callable[..., None], repeat: float = 0.0) -> Watcher:
        return Watcher(self, callback, delay=after)

    def reactor_run(self) -> int:
        self._check_thread()
        self._running = True
        while self._running:
            for future in [future for future in self._futures.values() if future._answers and future in pending]:
                future._dispatch()
            if not self._running:
                break
            ready = any(future._answers and future in pending for future in self._futures.values())
            if not self._receive(0.0 if ready else self._until_next_timer()):
                return -1
        return 0

    def reactor_stop(self) -> None:
        self._check_thread()
        self._running = False

    def _until_next_timer(self) -> Optional[float]:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _check_thread(self) -> None:
        assert threading.get_ident() == self._thread, 'a handle of Flux is used by a thread that did not open it'

    def _send(self, future: Future, topic: str, payload: object) -> int:
        self._check_thread()
        tag = next(self._tags)
        self._futures[tag] = future
        self._socket.sendall(json.dumps({'tag': tag, 'topic': topic, 'payload': payload}).encode() + b'\n')
        return tag

    def _receive(self, timeout: Optional[float]) -> bool:
        """Wait for something and take note of it; return False if the broker is gone."""
        readable, _, _ = select.select([self._socket.fileno(), *self._watchers], [], [], timeout)
        if self._socket.fileno() in readable:
            data = self._socket.recv(1 << 20)
            if not data:
                return False
            *lines, self._buffer = (self._buffer + data).split(b'\n')
            for line in lines:
                message = json.loads(line)
                self._futures[message['tag']]._answers.append(message)
        while self._timers and self._timers[0][0] <= time.monotonic():
            timer = heapq.heappop(self._timers)[2]
            if timer.active:
                timer.callback(self, timer, 0, None)
        for fd in readable:
            if fd != self._socket.fileno():
                watcher = self._watchers[fd]
                watcher.callback(self, watcher, fd, constants.FLUX_POLLIN, None)
        return True
