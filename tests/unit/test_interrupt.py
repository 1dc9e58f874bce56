"""Ctrl-C at a moment at which it would do harm."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import List, Optional

import pytest

from psij._runtime.interrupt import DeferredInterrupt


@pytest.fixture
def seen() -> Iterator[List[int]]:
    """Return the signals that the handler of the application has seen."""
    signals: List[int] = []

    def handler(signum: int, frame: Optional[FrameType]) -> None:
        signals.append(signum)

    before = signal.signal(signal.SIGINT, handler)
    yield signals
    assert signal.signal(signal.SIGINT, before) is handler


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_it_comes_at_the_end(seen: List[int]) -> None:
    with DeferredInterrupt():
        interrupt()
        assert seen == []
    assert seen == [signal.SIGINT]


def test_a_second_one_comes_at_once(seen: List[int]) -> None:
    with DeferredInterrupt():
        interrupt()
        interrupt()
        assert seen == [signal.SIGINT]
    assert seen == [signal.SIGINT, signal.SIGINT]


def test_none(seen: List[int]) -> None:
    with DeferredInterrupt():
        pass
    assert seen == []


def test_errors_come_through(seen: List[int]) -> None:
    def fail() -> None:
        with DeferredInterrupt():
            interrupt()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [signal.SIGINT]


def test_by_default_it_is_raised() -> None:
    with pytest.raises(KeyboardInterrupt), DeferredInterrupt():
        interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_on_another_thread_nothing_happens(seen: List[int]) -> None:
    handlers = []

    def work() -> None:
        with DeferredInterrupt():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


@pytest.mark.parametrize('handler', [signal.SIG_IGN, signal.SIG_DFL])
def test_where_the_application_handles_nothing_nothing_happens(handler: signal.Handlers) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        with DeferredInterrupt():
            assert signal.getsignal(signal.SIGINT) is handler
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
