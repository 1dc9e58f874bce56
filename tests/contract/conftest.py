"""The fixture ``site``: an executor with a launcher, and a directory that its jobs can see."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Optional

import pytest

from psij import Job, JobExecutor, JobSpec, JobState, JobStatus

from .backends import BACKENDS, Backend


class Site:
    """Where jobs of one test run."""

    def __init__(self, name: str, launcher: str, url: Optional[str], directory: Path) -> None:
        self.name = name
        self.url = url
        self.backend: Backend = BACKENDS[name]
        self.launcher = launcher
        self.directory = directory
        self.work = directory / 'psij work'
        self.executor = self.new_executor()
        self._pre_launch = directory / 'nothing.sh'
        self._pre_launch.write_text(':\n')
        self.attributes: dict[str, Optional[str]] = {}

    def new_executor(self) -> JobExecutor:
        """Return one more executor for the same backend."""
        return JobExecutor.get_instance(self.backend.executor, url=self.url, config=self.backend.config(self.work))

    def spec(self, executable: Optional[str] = None, *arguments: str, **fields: object) -> JobSpec:
        """Return a specification with the launcher of this site."""
        spec = JobSpec(executable, list(arguments), launcher=self.launcher)
        if self.backend.environment:
            spec.environment = dict(self.backend.environment)
        if self.backend.script:
            spec.pre_launch = self._pre_launch
        for field, value in fields.items():
            if field == 'environment' and isinstance(value, dict):
                spec.environment = {**self.backend.environment, **value}
            else:
                setattr(spec, field, value)
        for field, text in self.attributes.items():
            if spec.attributes is not None and text is not None:
                setattr(spec.attributes, field, text)
        return spec

    def shell(self, script: str, **fields: object) -> JobSpec:
        """Return a specification of a shell script."""
        return self.spec('/bin/sh', '-c', script, **fields)

    def submit(self, spec: JobSpec, executor: Optional[JobExecutor] = None) -> Job:
        """Submit a job."""
        job = Job(spec)
        (executor or self.executor).submit(job)
        return job

    def final(self, job: Job) -> JobStatus:
        """Wait for the end of a job."""
        status = job.wait(self.backend.patience)
        assert status is not None, f'{job} has not ended'
        return status

    def reach(self, job: Job, state: JobState) -> JobStatus:
        """Wait until a job is in a state."""
        status = job.wait(self.backend.patience, state)
        assert status is not None, f'{job} is not {state}'
        return status

    def run(self, spec: JobSpec) -> JobStatus:
        """Submit a job and wait for its end."""
        return self.final(self.submit(spec))

    def output(self, spec: JobSpec) -> str:
        """Run a job that must succeed, and return what it wrote to its standard output."""
        spec.stdout_path = spec.stdout_path or self.directory / 'output'
        status = self.run(spec)
        assert status.state is JobState.COMPLETED, status
        return (self.directory / spec.stdout_path).read_text()

    def read(self, name: str) -> str:
        """Return what a job has written to a file in the directory."""
        return (self.directory / name).read_text()

    def script(self, name: str, text: str) -> Path:
        """Write a file for a job, and return its path."""
        path = self.directory / name
        path.write_text(text)
        return path

    def eventually(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something that no status tells of."""
        deadline = time.monotonic() + self.backend.patience.total_seconds()
        while not condition():
            assert time.monotonic() < deadline, f'not in time: {what}'
            time.sleep(0.005)

    def left_files(self) -> list[str]:
        """Return the files that are left in the work directory of the executor."""
        directory = self.executor.config.work_directory / self.backend.executor
        if not directory.exists():
            return []
        return sorted(path.name for path in directory.iterdir() if not path.name.startswith('.'))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test over all sites that were asked for."""
    if 'site' in metafunc.fixturenames:
        metafunc.parametrize('site', _names(metafunc.config.getoption('--executors')), indirect=True, scope='function')


def _names(asked: str) -> list[str]:
    names = []
    for word in asked.split(','):
        if word == 'auto':
            names += [
                f'{name}:{launcher}'
                for name, backend in BACKENDS.items()
                for launcher in backend.launchers
                if not backend.on_demand
            ]
        elif ':' in word:
            names.append(word)
        else:
            names += [f'{word}:{launcher}' for launcher in BACKENDS[word].launchers]
    return names


@pytest.fixture(scope='session')
def started() -> Iterator[dict[str, dict[str, str]]]:
    """Bring up each backend once; the dictionary is filled by the first test that needs one."""
    with contextlib.ExitStack() as stack:
        environments: dict[str, dict[str, str]] = {}

        class Started(dict[str, dict[str, str]]):
            def __missing__(self, name: str) -> dict[str, str]:
                self[name] = dict(stack.enter_context(BACKENDS[name].start()))
                return self[name]

        yield Started(environments)


@pytest.fixture(scope='session', autouse=True)
def open_mpi_directory() -> Iterator[None]:
    """Keep a directory of Open MPI 4 that all its programs on a host use, and that the last one removes.

    A program that begins just then fails now and then ("orte_session_dir failed"), and many of the tests' are short.
    """
    directory = Path(tempfile.gettempdir(), f'ompi.{platform.node().partition(".")[0]}.{os.geteuid()}')
    directory.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix='psij-tests-'):
        yield
    with contextlib.suppress(OSError):  # others still use it
        directory.rmdir()


@pytest.fixture(scope='session')
def missing() -> dict[str, Optional[str]]:
    """Say why backends cannot be used here."""
    return {name: backend.missing() for name, backend in BACKENDS.items()}


_ATTRIBUTES = {'queue_name': '--queue', 'account': '--account'}


@pytest.fixture
def site(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    started: dict[str, dict[str, str]],
    missing: dict[str, Optional[str]],
) -> Iterator[Site]:
    """Return where the jobs of a test run; when it is over, no file of them may be left."""
    name, launcher, url = [*request.param.split(':', 2), None][:3]
    reason = missing[name]
    if reason is not None:
        pytest.skip(f'{name}: {reason}')
    for variable, value in started[name].items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.delenv('PSIJ_NODEFILE', raising=False)
    directory = tmp_path / "it's a directory"
    directory.mkdir()
    monkeypatch.chdir(directory)
    os.chmod(tmp_path, 0o755)
    site = Site(name, launcher, url, directory)
    if name in ('slurm', 'pbs', 'torque', 'lsf', 'cobalt', 'flux'):
        site.attributes = {field: request.config.getoption(option) for field, option in _ATTRIBUTES.items()}
    yield site
    site.eventually(lambda: site.left_files() == [], f'no files are left: {site.left_files()}')
