"""The stand-in for RADICAL-Pilot, and an executor that uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.rp import installed, variables

from psij.executors.rp import RPJobExecutorConfig


@pytest.fixture
def rp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Have the stand-in installed; what it logs as errors of callbacks fails the test."""
    for name, value in variables().items():
        monkeypatch.setenv(name, value)
    with installed() as module:
        yield module
        assert module.KNOBS.get('errors', []) == []


@pytest.fixture
def config(tmp_path: Path) -> RPJobExecutorConfig:
    """Return a configuration with a work directory of the test's own."""
    return RPJobExecutorConfig(work_directory=tmp_path / 'work')


@pytest.fixture
def executor(rp: Any, config: RPJobExecutorConfig) -> Any:
    """Return an executor."""
    from psij.executors.rp import RPJobExecutor

    return RPJobExecutor(config=config)
