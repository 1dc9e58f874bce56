"""The launcher of jobs with one process."""

from __future__ import annotations

from psij.launchers.script_based_launcher import SCRIPTS, ScriptBasedLauncher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from psij.job_executor_config import JobExecutorConfig


class SingleLauncher(ScriptBasedLauncher):
    """Launches a single copy of the executable, whatever the resource specification says. This is the default."""

    _NAME_ = 'single'
    _VERSION_ = '0.2.0'

    def __init__(self, config: Optional[JobExecutorConfig] = None) -> None:
        super().__init__(SCRIPTS / 'single_launch.sh', config)
