"""The launcher of LSF on systems with CSM."""

from __future__ import annotations

from psij.launchers.multiple import MultipleLauncher, placement_args
from psij.launchers.script_based_launcher import SCRIPTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional

    from psij.job import Job
    from psij.job_executor_config import JobExecutorConfig


class JsrunLauncher(MultipleLauncher):
    """Launches jobs with ``jsrun``, the launcher of LSF.

    There is one resource set for each process.
    """

    _NAME_ = 'jsrun'
    _VERSION_ = '0.0.1'

    def __init__(self, config: Optional[JobExecutorConfig] = None) -> None:
        super().__init__(SCRIPTS / 'jsrun_launch.sh', config)

    def get_additional_args(self, job: Job) -> List[str]:
        """Return the arguments for the script: all counts of the resource specification."""
        return placement_args(job)
