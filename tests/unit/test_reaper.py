"""Watching processes: with pidfds and without, one's own and those of others."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
from typing import Iterator, List

import pytest

from psij._runtime import event_loop
from psij._runtime import reaper as reaper_module
from psij._runtime.process_tree import ProcessId
from psij._runtime.reaper import Process, Reaper

NOBODY = 4194304  # one more than the largest pid of Linux


class Watch:
    """A reaper, and what it has told."""

    def __init__(self) -> None:
        self.reaper = Reaper()
        self.ended: List[Process] = []
        self._event = threading.Condition()

    def listen(self, process: Process) -> None:
        with self._event:
            self.ended.append(process)
            self._event.notify_all()

    def wait(self, count: int = 1) -> List[Process]:
        """Wait until as many ends were told."""
        with self._event:
            assert self._event.wait_for(lambda: len(self.ended) >= count, 10), f'{len(self.ended)} of {count}'
        return self.ended


@pytest.fixture(params=['pidfd', 'poll'])
def watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """A reaper with pidfds, and one on a system without."""
    for thread in threading.enumerate():
        if thread.name == 'psij-reaper':
            thread.join(10)  # of an earlier test
    if request.param == 'poll':
        monkeypatch.delattr(os, 'pidfd_open')
        monkeypatch.setattr(reaper_module, '_POLL_INTERVAL', 0.01)
    monkeypatch.setattr(event_loop, '_LINGER', 0.01)
    watched = Watch()
    yield watched
    assert watched.reaper._live == {}
    assert watched.reaper._without_fd == []


def start(script: str) -> int:
    """Start a shell in a session of its own, which somebody else has to wait for."""
    process = subprocess.Popen(['sh', '-c', script], start_new_session=True)
    process.returncode = 0
    return process.pid


@pytest.mark.parametrize(('script', 'code'), [('exit 0', 0), ('exit 3', 3), ('kill -9 $$', 137), ('kill $$', 143)])
def test_exit_codes_are_as_a_shell_reports_them(watch: Watch, script: str, code: int) -> None:
    pid = start(script)
    process = watch.reaper.watch_child(pid, watch.listen)
    assert watch.wait() == [process]
    assert (process.ended, process.exit_code, process.stop_reason) == (True, code, None)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)  # it is reaped


def test_many_processes(watch: Watch) -> None:
    pids = {start(f'exit {number % 7}'): number % 7 for number in range(30)}
    for pid in pids:
        watch.reaper.watch_child(pid, watch.listen)
    assert {process.pid: process.exit_code for process in watch.wait(30)} == pids


def test_only_one_reaper_thread(watch: Watch) -> None:
    processes = [watch.reaper.watch_child(start('exec sleep 300'), watch.listen) for _ in range(5)]
    assert [thread.name for thread in threading.enumerate()].count('psij-reaper') == 1
    for process in processes:
        assert watch.reaper.stop(process, 'enough', 5.0)
    watch.wait(5)


def test_stop(watch: Watch) -> None:
    process = watch.reaper.watch_child(start('exec sleep 300'), watch.listen)
    assert watch.reaper.stop(process, 'first', 5.0)
    watch.reaper.stop(process, 'second', 5.0)
    watch.wait()
    assert (process.exit_code, process.stop_reason) == (143, 'first')
    assert not watch.reaper.stop(process, 'third', 5.0)


def test_stop_after_the_end_is_not_what_ended_it(watch: Watch) -> None:
    pid = start('exit 4')
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    process = Process(pid, True, watch.listen)
    assert not watch.reaper.stop(process, 'late', 5.0)
    assert process.stop_reason is None
    os.waitpid(pid, 0)


def test_two_graces(watch: Watch) -> None:
    """What a process has started can be killed before the process itself, which then goes on."""
    ready_read, ready = os.pipe()
    script = f'trap : TERM; bash -c "trap \\"\\" TERM; echo >&{ready}; while :; do sleep 300; done"; exit 5'
    process = subprocess.Popen(['/bin/bash', '-c', script], start_new_session=True, pass_fds=[ready])
    process.returncode = 0
    os.close(ready)
    watched = watch.reaper.watch_child(process.pid, watch.listen)
    os.read(ready_read, 1)
    os.close(ready_read)
    assert watch.reaper.stop(watched, 'test', 0.1, own_grace=60.0)
    watch.reaper.kill_descendants(watched)
    watch.wait()
    assert watched.exit_code == 5


def test_attach_to_a_process_that_is_watched(watch: Watch) -> None:
    process = watch.reaper.watch_child(start('exec sleep 300'), watch.listen)
    assert watch.reaper.attach(process.pid, watch.listen) is process
    os.kill(process.pid, signal.SIGKILL)
    assert watch.wait(2) == [process, process]
    assert watch.reaper.attach(process.pid, watch.listen) is process  # it is remembered
    assert len(watch.ended) == 3


def test_the_memory_of_ended_processes_is_bounded(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaper_module, '_REMEMBERED', 3)
    for count in range(1, 6):
        watch.reaper.watch_child(start('exit 0'), watch.listen)
        watch.wait(count)
    assert len(watch.reaper._ended) == 3


def test_attach_to_a_child_of_the_application(watch: Watch) -> None:
    """It is not reaped here."""
    with subprocess.Popen(['sh', '-c', 'exec sleep 300']) as own:
        process = watch.reaper.attach(own.pid, watch.listen)
        own.kill()
        own.wait()
        watch.wait()
        assert process.exit_code in (137, None)
        assert own.returncode == -9


def test_attach_to_a_process_that_is_gone(watch: Watch) -> None:
    with pytest.raises(ProcessLookupError):
        watch.reaper.attach(NOBODY, watch.listen)


def test_a_wake_up_without_a_reason_ends_nothing(watch: Watch) -> None:
    """As it comes when the number of a descriptor was used for something else before."""
    with subprocess.Popen(['sh', '-c', 'exec sleep 300']) as own:
        attached = watch.reaper.attach(own.pid, watch.listen)
        child = watch.reaper.watch_child(start('exec sleep 300'), watch.listen)
        watch.reaper._on_end(attached)
        watch.reaper._on_end(child)
        assert watch.ended == []
        own.kill()
        own.wait()
        watch.reaper.stop(child, 'enough', 5.0)
        watch.wait(2)


def test_a_later_process_with_the_pid_of_a_foreign_one_is_not_signalled(watch: Watch) -> None:
    with subprocess.Popen(['sh', '-c', 'exec sleep 300']) as own:
        process = watch.reaper.attach(own.pid, watch.listen)
        process.identity = {ProcessId(own.pid, 1.0)}  # as if another process had had the pid
        assert not watch.reaper.stop(process, 'mistake', 0.0)
        assert own.poll() is None
        own.kill()
        own.wait()
        watch.wait()


def test_descriptors_are_left_for_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Near the limit, processes are watched without."""
    fd = reaper_module._open_pidfd(os.getpid())
    os.close(fd)
    monkeypatch.setattr(resource, 'getrlimit', lambda kind: (fd + reaper_module._SPARE_DESCRIPTORS, 10_000))
    assert reaper_module._open_pidfd(os.getpid()) == -1
    monkeypatch.setattr(resource, 'getrlimit', lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    again = reaper_module._open_pidfd(os.getpid())
    os.close(again)
    assert again == fd
