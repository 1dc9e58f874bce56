"""The names that the executor for PBS Professional had in early versions."""

from __future__ import annotations

from psij.executors.batch.pbs import PBSJobExecutor as PBSProJobExecutor
from psij.executors.batch.pbs_base import PBSExecutorConfig as PBSProExecutorConfig

__all__ = ['PBSProExecutorConfig', 'PBSProJobExecutor']
