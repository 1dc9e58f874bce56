"""A shell in which commands of psij are run for real, with the local executor or a stand-in for Slurm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from fakes.harness import FakeCluster

PATIENCE = 60  # seconds for anything that does not depend on luck


class Shell:
    """A directory, a home and an environment."""

    def __init__(self, path: Path) -> None:
        self.directory = path / 'here'
        self.directory.mkdir()
        self.environment = {**os.environ, 'HOME': str(path), 'COLUMNS': '80'}
        for name in ('PSIJ_EXECUTOR', 'PYTHONUNBUFFERED'):  # the latter changes when output that fails does so
            self.environment.pop(name, None)

    def psij(self, *words: str, stdin: str = '') -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, '-m', 'psij', *words],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=self.environment,
            timeout=PATIENCE,
        )

    def psij_redirected(self, redirection: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, with standard streams that a shell redirects, by ``>&-`` for example."""
        return subprocess.run(
            ['/bin/sh', '-c', f'exec "$0" -m psij "$@" {redirection}', sys.executable, *words],
            capture_output=True,
            text=True,
            cwd=self.directory,
            env=self.environment,
            timeout=PATIENCE,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, '-m', 'psij', *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.directory,
            env=self.environment,
        )

    def write(self, file: str, /, **fields: object) -> str:
        """Write a job file, and return its name."""
        (self.directory / file).write_text(json.dumps(fields))
        return file

    def read(self, name: str) -> str:
        """Return the text of a file."""
        return (self.directory / name).read_text()


def read_until(text: str, stream: IO[str]) -> None:
    """Read lines until one contains a text."""
    for line in stream:
        if text in line:
            return
    raise AssertionError(f'{text!r} was not written')


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Return a shell without any scheduler."""
    return Shell(tmp_path)


@pytest.fixture
def cluster(tmp_path: Path, shell: Shell) -> Iterator[FakeCluster]:
    """Yield a stand-in for Slurm, which is the default executor of the shell."""
    cluster = FakeCluster(tmp_path / 'cluster', 'slurm', slots=4)
    shell.environment.update(cluster.environment, PSIJ_EXECUTOR='slurm')
    yield cluster
    cluster.close()
