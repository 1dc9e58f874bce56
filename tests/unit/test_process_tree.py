"""Facts about processes, and signals to trees of them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Callable, Iterator, List

import psutil
import pytest

from psij._runtime import process_tree
from psij._runtime.process_tree import ProcessId

NOBODY = 4194304  # one more than the largest pid of Linux


@pytest.fixture
def tree() -> Iterator[List[int]]:
    """The pids of a shell, its child, and a grandchild in a session of its own."""
    script = 'sh -c \'setsid sleep 300 > /dev/null & echo "$$ $!"; wait\' & wait'
    with subprocess.Popen(['sh', '-c', script], stdout=subprocess.PIPE, start_new_session=True, text=True) as root:
        assert root.stdout is not None
        pids = [root.pid, *map(int, root.stdout.readline().split())]
        eventually(lambda: os.getsid(pids[2]) == pids[2])
        yield pids
        for pid in reversed(pids):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def eventually(condition: Callable[[], object]) -> None:
    """Wait for something that no event tells of."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def state(pid: int) -> str:
    return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]


def wait_for_end(pid: int) -> None:
    """Wait until a child has ended, without reaping it."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.fixture(params=['proc', 'psutil'])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the facts come from: /proc, or psutil on systems without."""
    monkeypatch.setattr(process_tree, '_HAS_PROC', request.param == 'proc')
    return str(request.param)


def test_start_time_tells_processes_with_the_same_pid(source: str, tree: List[int]) -> None:
    assert process_tree.start_time(tree[0]) == process_tree.start_time(tree[0])
    own = process_tree.start_time(os.getpid())
    assert own is not None
    assert own < (process_tree.start_time(tree[0]) or 0)
    assert process_tree.start_time(NOBODY) is None


def test_names_of_processes_may_contain_anything(tmp_path: Path) -> None:
    """The name stands in the middle of the line that is parsed."""
    program = tmp_path / 'a) S (b\n1'
    program.symlink_to('/bin/sleep')
    with subprocess.Popen([program, '300']) as process:
        eventually(lambda: 'a) S' in Path(f'/proc/{process.pid}/stat').read_text())
        assert process_tree.alive(process_tree.identify([process.pid]))
        assert not process_tree.is_zombie(process.pid)
        process.kill()


def test_alive(tree: List[int]) -> None:
    identities = process_tree.identify([*tree, NOBODY])
    assert {identity.pid for identity in identities} == set(tree)
    assert set(process_tree.alive(identities)) == identities
    child = next(identity for identity in identities if identity.pid == tree[1])
    reused = ProcessId(child.pid, child.start - 1)
    assert process_tree.alive([reused, ProcessId(NOBODY, 1.0)]) == []


def test_zombies_are_not_alive(source: str) -> None:
    process = subprocess.Popen(['true'])
    identities = process_tree.identify([process.pid])
    wait_for_end(process.pid)
    assert process_tree.is_zombie(process.pid)
    assert process_tree.alive(identities) == []
    process.wait()
    assert not process_tree.is_zombie(process.pid)


def test_descendants(source: str, tree: List[int]) -> None:
    assert sorted(process_tree.descendants([tree[0]])) == sorted(tree[1:])
    assert process_tree.descendants([tree[1], NOBODY]) == [tree[2]]
    assert process_tree.descendants([]) == []


def test_descendants_where_the_kernel_does_not_list_children(tree: List[int], monkeypatch: pytest.MonkeyPatch) -> None:
    exists = os.path.exists
    monkeypatch.setattr(os.path, 'exists', lambda path: not str(path).endswith('/children') and exists(path))
    monkeypatch.setattr(process_tree, 'open', _no_children, raising=False)
    assert sorted(process_tree.descendants([tree[0]])) == sorted(tree[1:])


def _no_children(path: str, mode: str) -> object:
    if path.endswith('/children'):
        raise FileNotFoundError(path)
    return open(path, mode)


def test_session_members(source: str, tree: List[int]) -> None:
    """A session is known by its first process, and may outlive it."""
    assert process_tree.session_members({tree[0], NOBODY}) == {NOBODY: []}  # its first process still runs
    os.kill(tree[0], signal.SIGKILL)
    wait_for_end(tree[0])
    assert process_tree.session_members({tree[0]}) == {tree[0]: [tree[1]]}


def test_suspend_leaves_nothing_running(tree: List[int]) -> None:
    descendants = process_tree.suspend([tree[0]])
    assert {identity.pid for identity in descendants} == set(tree[1:])
    for pid in tree:
        eventually(lambda pid=pid: state(pid) == 'T')  # type: ignore[misc]


def test_suspend_leaves_out_this_process(tree: List[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would be left to let it go on."""
    suspended = set()
    with monkeypatch.context() as patch:
        patch.setattr(os, 'kill', lambda pid, signum: suspended.add(pid))
        process_tree.suspend([os.getpid()])
    assert set(tree) <= suspended
    assert os.getpid() not in suspended


def test_command_line(source: str) -> None:
    with subprocess.Popen(['sh', '-c', 'read line', 'a b', '', '\n'], stdin=subprocess.PIPE) as process:
        assert process_tree.command_line(process.pid) == ['sh', '-c', 'read line', 'a b', '', '\n']
    assert process_tree.command_line(NOBODY) == []


@pytest.mark.parametrize(('trap', 'ignores'), [("''", True), (':', False), ('-', False)])
def test_ignored_signals(trap: str, ignores: bool) -> None:
    with subprocess.Popen(
        ['bash', '-c', f'trap {trap} TERM; echo; read line'], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process_tree.ignores(process.pid, signal.SIGTERM) is ignores
        assert not process_tree.ignores(process.pid, signal.SIGHUP)
    assert not process_tree.ignores(NOBODY, signal.SIGTERM)


def test_signals_to_processes_that_are_gone_are_no_error(tree: List[int]) -> None:
    process_tree.send(signal.SIGKILL, [NOBODY, tree[2]])
    eventually(lambda: not psutil.pid_exists(tree[2]) or process_tree.is_zombie(tree[2]))
    process_tree.send_to_group(signal.SIGKILL, NOBODY)


def test_wait_status_of_a_zombie() -> None:
    """Of a process that its parent has not reaped, the system tells how it ended."""
    with subprocess.Popen(['sh', '-c', 'exit 7']) as process:
        fd = os.pidfd_open(process.pid)
        try:
            assert select.select([fd], [], [], 10)[0]
            assert process_tree.wait_status(process.pid, fd) == 7 << 8
        finally:
            os.close(fd)


def test_wait_status_of_a_process_that_runs_is_not_known(tree: List[int]) -> None:
    fd = os.pidfd_open(tree[0])
    try:
        assert process_tree.wait_status(tree[0], fd) is None
    finally:
        os.close(fd)


def test_wait_status_of_a_process_that_is_gone() -> None:
    """It is known to recent systems only, and never wrong."""
    process = subprocess.Popen(['sh', '-c', 'kill -9 $$'])
    fd = os.pidfd_open(process.pid)
    try:
        process.wait()
        assert process_tree.wait_status(process.pid, fd) in (9, None)
    finally:
        os.close(fd)
