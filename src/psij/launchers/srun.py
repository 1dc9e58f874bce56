"""The launcher of Slurm."""

from __future__ import annotations

from psij.launchers.multiple import MultipleLauncher, placement_args
from psij.launchers.script_based_launcher import SCRIPTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional

    from psij.job import Job
    from psij.job_executor_config import JobExecutorConfig


class SrunLauncher(MultipleLauncher):
    """Launches jobs with ``srun``, the launcher of Slurm.

    What the resource specification says is passed on; what it leaves open is as in the allocation, but for the number
    of processes, which is 1 then.
    """

    _NAME_ = 'srun'
    _VERSION_ = '0.0.1'

    def __init__(self, config: Optional[JobExecutorConfig] = None) -> None:
        super().__init__(SCRIPTS / 'srun_launch.sh', config)

    def get_additional_args(self, job: Job) -> List[str]:
        """Return the arguments for the script: all counts of the resource specification."""
        return placement_args(job)
