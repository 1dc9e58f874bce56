"""The thread that waits for descriptors and timers."""

from __future__ import annotations

import logging
import math
import os
import threading
from typing import Callable, Iterator, List, Tuple

import pytest

from psij._runtime import event_loop
from psij._runtime.event_loop import EventLoop

Pipe = Tuple[int, int]
NAME = 'loop of the tests'


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> EventLoop:
    """A loop whose thread ends soon when it has nothing to do."""
    monkeypatch.setattr(event_loop, '_LINGER', 0.02)
    return EventLoop(NAME)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe: what to read from, what to write to."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def threads() -> List[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def call(loop: EventLoop, function: Callable[[], None] = lambda: None, delay: float = 0.0) -> None:
    """Have the loop call a function, and wait until it has."""
    done = threading.Event()

    def both() -> None:
        try:
            function()
        finally:
            done.set()

    loop.call_later(delay, both)
    assert done.wait(10)


def test_a_loop_without_work_has_no_thread_and_no_descriptor(loop: EventLoop, pipe: Pipe) -> None:
    before = set(os.listdir('/proc/self/fd'))
    assert threads() == []
    loop.add_reader(pipe[0], lambda: None)
    (thread,) = threads()
    assert thread.daemon
    loop.remove_reader(pipe[0])
    thread.join(10)
    assert not thread.is_alive()
    assert set(os.listdir('/proc/self/fd')) <= before


def test_an_idle_thread_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs one after the other share one, and do not start one each."""
    monkeypatch.setattr(event_loop, '_LINGER', 10.0)
    loop = EventLoop(NAME)
    call(loop)
    before = threads()
    call(loop)
    assert threads() == before
    monkeypatch.setattr(event_loop, '_LINGER', 0.0)
    call(loop)


def test_readers_are_called_while_there_is_something_to_read(loop: EventLoop, pipe: Pipe) -> None:
    read: List[bytes] = []
    enough = threading.Event()

    def reader() -> None:
        read.append(os.read(pipe[0], 1))
        if len(read) == 3:
            enough.set()

    loop.add_reader(pipe[0], reader)
    os.write(pipe[1], b'abc')
    assert enough.wait(10)
    assert read == [b'a', b'b', b'c']
    loop.remove_reader(pipe[0])
    os.write(pipe[1], b'd')
    call(loop)
    assert len(read) == 3


def test_removing_a_reader_twice_is_no_error(loop: EventLoop, pipe: Pipe) -> None:
    loop.add_reader(pipe[0], lambda: None)
    loop.remove_reader(pipe[0])
    loop.remove_reader(pipe[0])


def test_timers_in_order(loop: EventLoop) -> None:
    called: List[str] = []
    done = threading.Event()
    loop.call_later(0.04, done.set)
    loop.call_later(0.03, lambda: called.append('later'))
    loop.call_later(0.01, lambda: called.append('sooner'))
    never = loop.call_later(0.02, lambda: called.append('never'))
    never.cancel()
    assert done.wait(10)
    assert called == ['sooner', 'later']


def test_a_sooner_timer_does_not_wait_for_a_later_one(loop: EventLoop) -> None:
    late = loop.call_later(60.0, lambda: None)
    call(loop)  # would take a minute
    late.cancel()
    call(loop)


def test_cancelled_timers_do_not_keep_the_thread(loop: EventLoop) -> None:
    timers = [loop.call_later(60.0 + number, lambda: None) for number in range(3)]
    for timer in timers:
        timer.cancel()
    call(loop)
    for thread in threads():
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize('delay', [30 * 86400.0, math.inf])
def test_timers_far_in_the_future(loop: EventLoop, delay: float) -> None:
    """Further than a selector can wait."""
    late = loop.call_later(delay, lambda: None)
    call(loop)
    call(loop)
    late.cancel()
    call(loop)


def test_timers_and_readers_can_be_added_by_what_is_called(loop: EventLoop, pipe: Pipe) -> None:
    done = threading.Event()

    def add() -> None:
        loop.add_reader(pipe[0], lambda: (os.read(pipe[0], 1), loop.call_later(0.0, done.set), None)[2])

    call(loop, add)
    os.write(pipe[1], b'x')
    assert done.wait(10)
    loop.remove_reader(pipe[0])


def test_errors_are_logged_and_change_nothing(loop: EventLoop, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise KeyError('a bug')

    with caplog.at_level(logging.ERROR):
        call(loop, fail)
        call(loop)
    assert 'a bug' in caplog.text
    assert NAME in caplog.text


def test_failing_to_start_changes_nothing(loop: EventLoop, pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread, no descriptor: the error comes through, and the next attempt begins anew."""
    before = set(os.listdir('/proc/self/fd'))

    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, 'start', no_thread)
        with pytest.raises(RuntimeError, match='new thread'):
            loop.add_reader(pipe[0], lambda: None)
        with pytest.raises(RuntimeError, match='new thread'):
            loop.call_later(0.0, lambda: None)
    assert set(os.listdir('/proc/self/fd')) <= before
    call(loop)


def test_an_interrupt_while_the_thread_is_being_started(
    loop: EventLoop, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread, which nobody knows, does not work with descriptors that are closed, and maybe something else's."""
    before = set(os.listdir('/proc/self/fd'))
    start = threading.Thread.start

    def interrupted(self: threading.Thread) -> None:
        start(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, 'start', interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.add_reader(pipe[0], lambda: None)
    for thread in threads():
        thread.join(10)
    assert threads() == []
    assert set(os.listdir('/proc/self/fd')) <= before
    call(loop)


def test_a_forked_child_has_a_loop_without_the_readers_of_its_parent(loop: EventLoop, pipe: Pipe) -> None:
    called: List[bytes] = []
    reading = threading.Event()

    def reader() -> None:
        called.append(os.read(pipe[0], 1))
        reading.set()

    loop.add_reader(pipe[0], reader)
    call(loop)
    pid = os.fork()
    if pid == 0:
        try:
            before = len(os.listdir('/proc/self/fd'))
            assert threads() == []
            call(loop)  # with a thread and descriptors of its own
            assert len(os.listdir('/proc/self/fd')) == before + 3
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.write(pipe[1], b'x')
    assert reading.wait(10)
    loop.remove_reader(pipe[0])
