"""The executors that the suite can run over, and how each is brought up.

A new executor is one more entry in :data:`BACKENDS`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Callable, ContextManager, Optional, cast

from fakes.flux import instance_for_all as fake_flux
from fakes.harness import FakeCluster
from fakes.rp import pilot_for_all as fake_rp
from schedulers.flux import instance as real_flux
from schedulers.rp import pilot as real_rp

from psij import JobExecutorConfig
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutorConfig
from psij.executors.local import LocalJobExecutorConfig

Environment = ContextManager[Mapping[str, str]]


@contextlib.contextmanager
def nothing() -> Iterator[Mapping[str, str]]:
    """Bring up what needs no bringing up."""
    yield {}


@dataclass(frozen=True)
class Backend:
    """An executor with what it needs.

    Attributes
    ----------
    executor
        The name by which it is asked for.
    launchers
        The launchers with which it is tested.
    missing
        Returns why it cannot be used here, or None if it can.
    start
        Brings it up for the session; the context is a set of environment variables.
    config
        Makes a configuration for a work directory.
    patience
        How long anything may take.
    script
        Whether every job gets a pre-launch script that does nothing, so that a script is needed.
    on_demand
        Whether it is used only if it is asked for, because it is a real scheduler and takes minutes.
    native_lookup
        Whether a native ID that nobody knows ends FAILED, and not as the documented assumption.
    shares_jobs
        Whether programs can attach to the jobs of others.
    """

    executor: str
    launchers: tuple[str, ...]
    missing: Callable[[], Optional[str]] = lambda: None
    start: Callable[[], Environment] = nothing
    config: Callable[[Path], JobExecutorConfig] = lambda path: LocalJobExecutorConfig(work_directory=path)
    patience: timedelta = timedelta(seconds=60)
    script: bool = False
    on_demand: bool = False
    native_lookup: bool = True
    shares_jobs: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


def fast_polling(path: Path) -> JobExecutorConfig:
    """Return a configuration for a batch executor that does not let tests wait."""
    config = BatchSchedulerExecutorConfig(work_directory=path, queue_polling_interval=1)
    config.initial_queue_polling_delay = cast(int, 0.2)  # fractions are accepted, although the API page has int
    return config


def without_blanks(path: Path) -> JobExecutorConfig:
    """Return a configuration for an executor that refuses work directories with blanks in their paths."""
    return fast_polling(next(parent for parent in path.parents if ' ' not in str(parent)) / 'work')


def fake(scheduler: str, **knobs: object) -> Callable[[], Environment]:
    """Return what brings up a stand-in for a scheduler."""

    @contextlib.contextmanager
    def start() -> Iterator[Mapping[str, str]]:
        with tempfile.TemporaryDirectory(prefix=f'fake-{scheduler}-') as directory:
            cluster = FakeCluster(Path(directory) / 'c', scheduler, slots=64, kill_grace=2)
            for name, value in knobs.items():
                cluster.set(name, value)
            try:
                yield cluster.environment
            finally:
                cluster.close()

    return start


def no_slurm() -> Optional[str]:
    """Return why there is no real Slurm here, if there is none."""
    if shutil.which('sbatch') is None:
        return 'there is no sbatch'
    answer = subprocess.run(['sinfo', '-h'], capture_output=True, text=True, timeout=120, check=False)
    return None if answer.returncode == 0 and answer.stdout else f'Slurm does not answer: {answer.stderr}'


def no_qstat(version: str) -> Callable[[], Optional[str]]:
    """Return what tells why there is no real OpenPBS or Torque here, whose ``qstat`` says this about its version."""

    def missing() -> Optional[str]:
        if shutil.which('qstat') is None:
            return 'there is no qstat'
        answer = subprocess.run(['qstat', '--version'], capture_output=True, text=True, timeout=120, check=False)
        said = answer.stdout + answer.stderr
        return None if said.startswith(version) else f'its qstat is another one: {said[:100]!r}'

    return missing


def no_command(name: str) -> Callable[[], Optional[str]]:
    """Return what tells why a scheduler is not here that has this command."""
    return lambda: None if shutil.which(name) else f'there is no {name}'


AS_ROOT = {'OMPI_ALLOW_RUN_AS_ROOT': '1', 'OMPI_ALLOW_RUN_AS_ROOT_CONFIRM': '1'} if os.geteuid() == 0 else {}
MPI = ('mpirun',) if shutil.which('mpirun') else ()


def of_the_site(executor: str, missing: Callable[[], Optional[str]]) -> Backend:
    """Return a real scheduler that is here already, with a network between its nodes."""
    return Backend(
        executor,
        ('single', 'multiple', *MPI),
        missing=missing,
        config=fast_polling,
        patience=timedelta(seconds=120),
        native_lookup=False,
        environment=AS_ROOT,
    )


BACKENDS = {
    'local': Backend('local', ('single', 'multiple', *MPI), environment=AS_ROOT),
    'local+script': Backend('local', ('single',), script=True),
    'local+log': Backend(  # with a log, the script of the launcher is run
        'local', ('single',), config=lambda path: LocalJobExecutorConfig(path.parent / 'launcher.log', path)
    ),
    'fake-slurm': Backend(
        'slurm',
        ('single', 'multiple', 'srun'),
        start=fake('slurm', accounts='*', partitions='*'),
        config=fast_polling,
        native_lookup=False,
    ),
    'fake-lsf': Backend(
        'lsf',
        ('single', 'multiple', 'jsrun'),
        start=fake('lsf', dialect='lsf', queues='normal *', exclusive=''),
        config=fast_polling,
        native_lookup=False,
    ),
    'fake-volclava': Backend(
        'lsf',
        ('single',),
        start=fake('lsf', dialect='volclava', queues='normal *', exclusive=''),
        config=fast_polling,
        native_lookup=False,
    ),
    'fake-pbs': Backend(
        'pbs',
        ('single', 'multiple'),
        start=fake('pbs', queues='*'),
        config=fast_polling,
        native_lookup=False,
    ),
    'fake-pbs-forgets': Backend(  # job_history_enable is off unless an administrator turns it on
        'pbs',
        ('single',),
        start=fake('pbs', queues='*', history='off'),
        config=fast_polling,
        native_lookup=False,
    ),
    'fake-pbs-master': Backend(
        'pbs',
        ('single', 'multiple'),
        start=fake('pbs', queues='*', variant='master'),
        config=fast_polling,
        native_lookup=False,
    ),
    'fake-torque': Backend(
        'pbs_classic',
        ('single', 'multiple'),
        start=fake('torque', queues='*', moab=''),
        config=fast_polling,
        native_lookup=False,
    ),
    # where most users of pbs_classic are, since the existing package's works there
    'fake-openpbs-classic': Backend(
        'pbs_classic',
        ('single', 'multiple'),
        start=fake('pbs', queues='*'),
        config=fast_polling,
        native_lookup=False,
    ),
    'fake-cobalt': Backend(
        'cobalt',
        ('single', 'multiple'),
        start=fake('cobalt', queues='*'),
        config=without_blanks,
        native_lookup=False,
    ),
    'slurm': Backend(
        'slurm',
        ('single', 'multiple', 'srun', *MPI),
        missing=no_slurm,
        on_demand=True,
        config=fast_polling,
        patience=timedelta(seconds=120),
        native_lookup=False,
        environment={**AS_ROOT, 'OMPI_MCA_btl': 'self,tcp'},
    ),
    'pbs': of_the_site('pbs', no_qstat('pbs_version')),
    'torque': of_the_site('pbs_classic', no_qstat('Version: ')),
    'lsf': of_the_site('lsf', no_command('bsub')),
    'cobalt': Backend(
        'cobalt',
        ('single', 'multiple'),
        missing=no_command('cqstat'),
        config=without_blanks,
        patience=timedelta(seconds=120),
        native_lookup=False,
    ),
    'fake-flux': Backend(
        'flux',
        ('single', 'multiple', *MPI),
        missing=lambda: 'there is a real one, whose bindings have the same name' if shutil.which('flux') else None,
        start=fake_flux,
        config=lambda path: JobExecutorConfig(work_directory=path),
        environment=AS_ROOT,
    ),
    'flux': Backend(
        'flux',
        ('single', 'multiple', *MPI),
        missing=real_flux.missing,
        on_demand=shutil.which('flux') is None,
        start=real_flux.instance,
        config=lambda path: JobExecutorConfig(work_directory=path),
        environment=AS_ROOT,
    ),
    'fake-rp': Backend(
        'rp',
        ('single', 'multiple'),
        missing=lambda: 'there is a real one, whose package has the same name' if find_spec('radical') else None,
        start=fake_rp,
        config=lambda path: JobExecutorConfig(work_directory=path),
        shares_jobs=False,
    ),
    'rp': Backend(
        'rp',
        ('single', 'multiple', *MPI),
        missing=real_rp.missing,
        on_demand=True,
        start=real_rp.pilot,
        config=real_rp.config,
        shares_jobs=False,
        environment=AS_ROOT,
    ),
}
"""The backends, by the names that ``--executors`` takes."""
