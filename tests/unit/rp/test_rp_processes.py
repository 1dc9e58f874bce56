"""How processes of a pilot are found, and what is left of them removed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, List

import pytest

from psij.executors._rp_processes import components, kill_all

Start = Callable[..., 'subprocess.Popen[bytes]']


@pytest.fixture
def start() -> Iterator[Start]:
    """Start processes with a name, in a directory; they are gone at the end."""
    started: List[subprocess.Popen[bytes]] = []

    def start(name: str, directory: Path, **variables: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ['/bin/bash', '-c', f'exec -a {name} sleep 300'],
            cwd=directory,
            env={'PATH': os.environ['PATH'], **variables},
        )
        started.append(process)
        deadline = time.monotonic() + 10
        while not Path(f'/proc/{process.pid}/cmdline').read_bytes().startswith(name.encode()):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_components(tmp_path: Path, start: Start) -> None:
    """By name and directory: neither other programs there, nor RADICAL-Pilot's processes of other sessions."""
    (tmp_path / 'task').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path)
    bridge = start('rp.bridge', tmp_path)
    start('other', tmp_path)
    start('rp.other', tmp_path / 'task')
    assert components(str(tmp_path / 'link')) == [(bridge.pid, 'rp.bridge')]


def test_kill_all(tmp_path: Path, start: Start) -> None:
    """What works in the sandbox, below it, or has the session in its environment."""
    sandbox, elsewhere = tmp_path / 'pilot.0000', tmp_path / 'pilot.0000.other'
    (sandbox / 'task').mkdir(parents=True)
    elsewhere.mkdir()
    doomed = [
        start('rp.agent', sandbox),
        start('task', sandbox / 'task'),
        start('detached', elsewhere, RP_SESSION_ID='mine'),
    ]
    spared = [start('task', elsewhere, RP_SESSION_ID='yours'), start('task', tmp_path)]
    kill_all('mine', str(sandbox))
    assert [process.wait(10) for process in doomed] == [-9, -9, -9]
    assert [process.poll() for process in spared] == [None, None]
