"""Runs launcher scripts the way executors do: bash, the script, and the arguments of the launcher protocol."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Sequence, Union

import pytest

import psij.launchers

SCRIPTS = Path(psij.launchers.__file__).parent / 'scripts'
JOB_ID = 'the-job-id'


@dataclass
class Outcome:
    """How a launcher script ended."""

    code: int
    stdout: str
    """What the script itself printed: the job's output is in its files."""
    stderr: str
    pid: int


class Launch:
    """Runs launcher scripts in a job directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment: Dict[str, str] = {'PATH': os.environ['PATH'], 'LC_ALL': 'C.UTF-8', 'HOME': str(directory)}
        self.bash: List[str] = ['/bin/bash']
        self.scripts = SCRIPTS

    def __call__(
        self,
        script: str,
        *command: Union[str, bytes],
        log: str = '',
        pre: str = '',
        post: str = '',
        stdin: str = '',
        stdout: str = 'out',
        stderr: str = 'err',
        check: bool = False,
    ) -> Outcome:
        arguments = [JOB_ID, log, pre, post, stdin, stdout, stderr, *command]
        outcome = self.run([*self.bash, str(self.scripts / script), *arguments])
        if check:
            output = self.directory / stderr
            errors = output.read_text(errors='replace') if output.is_file() else ''
            assert (outcome.code, outcome.stderr, errors[:2000] if outcome.code else '') == (0, '', '')
        return outcome

    def run(self, command: Sequence[Union[str, bytes]]) -> Outcome:
        with subprocess.Popen(
            command,
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                stdout, stderr = process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Outcome(process.returncode, stdout.decode(), stderr.decode(), process.pid)

    def write(self, name: str, text: str, mode: int = 0o644) -> str:
        """Write a file to the job directory and return its name."""
        (self.directory / name).write_text(text)
        (self.directory / name).chmod(mode)
        return name

    def read(self, name: str) -> str:
        return (self.directory / name).read_text()

    def program(self, name: str, text: str) -> None:
        """Put a program on the PATH of the scripts."""
        programs = self.directory / 'bin'
        if not programs.exists():
            programs.mkdir()
            self.environment['PATH'] = f'{programs}:{self.environment["PATH"]}'
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    directory = tmp_path / 'job directory'
    directory.mkdir()
    return Launch(directory)


@pytest.fixture
def as_user() -> List[str]:
    """Return a prefix of commands that runs them as an ordinary user; the tests may be run by root."""
    if os.geteuid() != 0:
        return []
    if shutil.which('setpriv') is None:
        pytest.skip('needs setpriv to become an ordinary user')
    return ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']
