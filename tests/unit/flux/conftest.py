"""A pretended Flux instance, and an executor for it."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest
from fakes.flux import BINDINGS, COMMANDS, FakeFlux

from psij import JobExecutorConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from psij.executors.flux import FluxJobExecutor


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the stand-in's bindings imported as ``flux``, and its command found."""
    for name in [name for name in sys.modules if name.split('.')[0] == 'flux']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(BINDINGS))
    monkeypatch.setenv('PATH', f'{COMMANDS}:{os.environ["PATH"]}')
    monkeypatch.delenv('FLUX_URI', raising=False)
    monkeypatch.setattr('psij.executors._flux_session._LINGER', 0.05)  # tests wait for sessions to end
    yield
    for name in [name for name in sys.modules if name.split('.')[0] == 'flux']:
        del sys.modules[name]


@pytest.fixture
def instance(stand_in: None) -> Iterator[FakeFlux]:
    """Return an instance of two nodes with four cores each."""
    with FakeFlux() as instance:
        yield instance


@pytest.fixture
def executor(instance: FakeFlux, tmp_path: Path) -> FluxJobExecutor:
    """Return an executor for the instance."""
    from psij.executors.flux import FluxJobExecutor

    return FluxJobExecutor(url=instance.uri, config=JobExecutorConfig(work_directory=tmp_path / 'work'))


@pytest.fixture(autouse=True)
def no_threads_stay() -> Iterator[None]:
    """Check that sessions end when their jobs have."""
    yield
    deadline = time.monotonic() + 10
    for thread in threading.enumerate():
        if thread.name == 'psij-flux':
            thread.join(deadline - time.monotonic())
            assert not thread.is_alive()
