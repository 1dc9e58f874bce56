"""The schedulers that the documentation is tried with, by the names that comments in the pages use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Callable

from fakes import flux, rp
from fakes.harness import FakeCluster

EXAMPLES = Path(__file__).resolve().parents[2] / 'docs' / 'examples'

Environment = AbstractContextManager[Mapping[str, str]]


def scheduler(name: str, **knobs: str) -> Callable[[Path], Environment]:
    """Return what brings up a stand-in for a scheduler."""

    @contextlib.contextmanager
    def start(directory: Path) -> Iterator[Mapping[str, str]]:
        cluster = FakeCluster(directory / name, name, **knobs)
        try:
            yield cluster.environment
        finally:
            cluster.close()

    return start


@contextlib.contextmanager
def fake_flux(directory: Path) -> Iterator[Mapping[str, str]]:
    """Bring up the stand-in for Flux."""
    with flux.FakeFlux(nodes=4, cores=16) as instance:
        yield {
            'FLUX_URI': instance.uri,
            'PATH': f'{flux.COMMANDS}:{os.environ["PATH"]}',
            'PYTHONPATH': str(flux.BINDINGS),
        }


@contextlib.contextmanager
def fake_rp(directory: Path) -> Iterator[Mapping[str, str]]:
    """Bring up the stand-in for RADICAL-Pilot."""
    yield {**rp.variables(), 'PYTHONPATH': str(rp.BINDINGS)}


@contextlib.contextmanager
def toy(directory: Path) -> Iterator[Mapping[str, str]]:
    """Bring up the scheduler and the plugins of docs/examples."""
    yield {
        'PATH': f'{EXAMPLES / "toy_scheduler"}:{os.environ["PATH"]}',
        'PYTHONPATH': f'{EXAMPLES / "executor_plugin"}:{EXAMPLES / "launcher_plugin"}',
        'TOY_DIR': str(directory / 'toy'),
        'PYTHONDONTWRITEBYTECODE': '1',  # the examples stay as they are
    }


STAND_INS: Mapping[str, Callable[[Path], Environment]] = {
    'slurm': scheduler('slurm', accounts='*', partitions='*'),
    'pbs': scheduler('pbs', queues='*'),
    'torque': scheduler('torque', queues='*', moab=''),
    'lsf': scheduler('lsf', dialect='lsf', queues='normal *', exclusive=''),
    'cobalt': scheduler('cobalt', queues='*'),
    'flux': fake_flux,
    'rp': fake_rp,
    'toy': toy,
}
"""What brings each of them up in a directory; the context is a set of environment variables."""
