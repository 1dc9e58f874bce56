"""Helpers for plugins."""

from __future__ import annotations

import subprocess
import sys
import threading

from psij.utils import SingletonThread


class One(SingletonThread):
    def __init__(self) -> None:
        super().__init__(name='one', daemon=True)
        self.stop = threading.Event()

    def run(self) -> None:
        self.stop.wait(30)


class Two(One):
    pass


def test_one_started_thread_for_each_class() -> None:
    start, threads = threading.Barrier(4), []

    def get() -> None:
        start.wait(30)
        threads.append(One.get_instance())

    askers = [threading.Thread(target=get) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(30)
    one, two = One.get_instance(), Two.get_instance()
    assert set(threads) == {one}
    assert type(two) is Two
    assert one is not two
    for thread in (one, two):
        assert (thread.name, thread.daemon, thread.is_alive()) == ('one', True, True)
        thread.stop.set()
        thread.join(30)


def test_defaults() -> None:
    thread = SingletonThread()
    assert thread.name
    assert not thread.daemon


def test_a_child_process_has_its_own() -> None:
    script = """
import os
from psij.utils import SingletonThread

class Worker(SingletonThread):
    def __init__(self):
        super().__init__(daemon=True)
        self.pid = os.getpid()

first = Worker.get_instance()
child = os.fork()
if child == 0:
    os._exit(0 if Worker.get_instance().pid == os.getpid() else 1)
assert os.waitpid(child, 0)[1] == 0
assert Worker.get_instance() is first
"""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', script], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, '')
