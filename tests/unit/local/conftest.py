"""The fixture ``local``: an executor with a directory, and what tests need to look at processes."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import textwrap
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Callable, List, Mapping, Optional, Sequence, Union

import pytest

from psij import Job, JobExecutor, JobSpec, JobState, JobStatus
from psij._runtime import event_loop
from psij.executors.local import LocalJobExecutor, LocalJobExecutorConfig

PATIENCE = 30.0  # seconds for anything that does not depend on luck


class Local:
    """A local executor, and a directory for what its jobs read and write."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.work = directory / 'work'
        self.executor = self.new_executor()

    def new_executor(self, **settings: object) -> LocalJobExecutor:
        """Return one more executor."""
        config = LocalJobExecutorConfig(work_directory=self.work)
        for name, value in settings.items():
            setattr(config, name, value)
        executor = JobExecutor.get_instance('local', config=config)
        assert isinstance(executor, LocalJobExecutor)
        return executor

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """Write a file and return its path."""
        path = self.directory / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def shell(self, script: str, **fields: object) -> JobSpec:
        """Return a specification of a shell script; the shell is replaced by its last command."""
        spec = JobSpec('/bin/sh', ['-c', script])
        for field, value in fields.items():
            setattr(spec, field, value)
        return spec

    def through_script(self, spec: JobSpec) -> JobSpec:
        """Have a job run through a generated script, which does nothing else."""
        spec.pre_launch = self.write('nothing.sh', ':\n')
        return spec

    def submit(self, spec: JobSpec, executor: Optional[JobExecutor] = None) -> Job:
        """Submit a job."""
        job = Job(spec)
        (executor or self.executor).submit(job)
        return job

    def run(self, spec: JobSpec, executor: Optional[JobExecutor] = None) -> JobStatus:
        """Submit a job and wait for its end."""
        return final(self.submit(spec, executor))

    def left_files(self) -> List[str]:
        """Return the names of files of jobs that are left in the work directory."""
        directory = self.work / 'local'
        names = os.listdir(directory) if directory.exists() else []
        return sorted(name for name in names if not name.startswith('.'))


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Local:
    """Return a local executor with a directory; tests do not wait long for its threads to end."""
    monkeypatch.setattr(event_loop, '_LINGER', 0.05)
    return Local(tmp_path)


@pytest.fixture(params=['direct', 'script'])
def way(request: pytest.FixtureRequest, local: Local) -> Callable[[JobSpec], JobSpec]:
    """Return what makes a job start directly, or through a script."""
    return local.through_script if request.param == 'script' else lambda spec: spec


def final(job: Job) -> JobStatus:
    """Wait for the end of a job."""
    status = job.wait(timedelta(seconds=PATIENCE))
    assert status is not None, f'{job} has not ended'
    return status


def reach(job: Job, state: JobState) -> JobStatus:
    """Wait until a job is in a state."""
    status = job.wait(timedelta(seconds=PATIENCE), state)
    assert status is not None, f'{job} is not {state}'
    return status


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait for something that no event tells of."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f'not within {PATIENCE} s: {what}'
        time.sleep(0.002)


def read_pids(path: Path, count: int) -> List[int]:
    """Wait until a file contains as many lines with pids, and return them."""

    def lines() -> List[str]:
        text = path.read_text() if path.exists() else ''
        return text.split() if text.endswith('\n') else []

    eventually(lambda: len(lines()) >= count, f'{count} pids in {path}')
    return [int(line) for line in lines()]


def runs(pid: int) -> bool:
    """Tell whether a process runs, and is not just a zombie (of a container's init, say)."""
    try:
        state = Path(f'/proc/{pid}/stat').read_bytes().rpartition(b')')[2].split()[0]
    except OSError:
        return False
    return state not in (b'Z', b'X')


def wait_for_end(pid: int) -> None:
    """Wait until a process has ended, reaped or not."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], PATIENCE)[0], f'process {pid} has not ended'
    finally:
        os.close(fd)


def descriptors() -> List[str]:
    """Return the open descriptors of this program, with what they are open for."""
    found = []
    for fd in os.listdir('/proc/self/fd'):
        try:
            found.append(f'{fd} {os.readlink(f"/proc/self/fd/{fd}")}')
        except FileNotFoundError:
            pass  # the one of listdir
    return sorted(found)


def wait_for_idle_threads() -> None:
    """Wait until no thread of the library is there that exists only as long as there are jobs."""
    for thread in threading.enumerate():
        if thread.name == 'psij-reaper':
            thread.join(PATIENCE)
            assert not thread.is_alive(), 'the reaper goes on although there are no jobs'


def program(
    code: str,
    *arguments: Union[str, Path],
    home: Path,
    options: Sequence[str] = ('-X', 'dev', '-W', 'error'),
    environment: Optional[Mapping[str, str]] = None,
    before: Sequence[str] = (),
) -> str:
    """Run a Python program of its own, which must end well and print nothing to stderr, and return its output.

    Parameters
    ----------
    code, arguments
        The program and its arguments.
    home
        Its home directory.
    options
        Options of Python; by default any warning is an error.
    before
        A command to run the program with.
    """
    done = subprocess.run(
        [*before, sys.executable, *options, '-c', textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, 'HOME': str(home), **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ''), f'exit code {done.returncode}: {done.stdout}{done.stderr}'
    return done.stdout


@pytest.fixture
def ordinary_user(tmp_path: Path) -> List[str]:
    """Return what to put before a command so that permissions mean something to it; tests may be run by root."""
    if os.geteuid() != 0:
        return []
    if subprocess.run(['setpriv', '--version'], capture_output=True, check=False).returncode != 0:
        pytest.skip('needs setpriv to become an ordinary user')
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_mode & 0o005 != 0o005:
            directory.chmod(directory.stat().st_mode | 0o005)
    become = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']
    if subprocess.run([*become, sys.executable, '-c', 'import psij'], capture_output=True, check=False).returncode != 0:
        pytest.skip('an ordinary user cannot run this interpreter')
    return become
