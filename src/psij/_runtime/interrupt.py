"""Ctrl-C at a moment at which it would do harm: it has to wait."""

from __future__ import annotations

import signal
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Optional


class DeferredInterrupt:
    """A context in which SIGINT is noted; the handler of the application is called at its end.

    A second SIGINT gets through at once, for the case that something takes too long. Nothing is done on other threads
    than the main one, which have no signals, and where no Python function handles SIGINT.
    """

    __slots__ = ('_frame', '_handler', '_is_noted')

    def __enter__(self) -> None:
        self._handler: Any = None
        self._is_noted = False
        self._frame: Optional[FrameType] = None
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self._handler = handler
                signal.signal(signal.SIGINT, self._note)

    def _note(self, signum: int, frame: Optional[FrameType]) -> None:
        if self._is_noted:
            self._handler(signum, frame)
        self._is_noted, self._frame = True, frame

    def __exit__(self, *exception: object) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            if self._is_noted:
                self._handler(signal.SIGINT, self._frame)
