"""The launcher of Cray ALPS."""

from __future__ import annotations

from psij.exceptions import InvalidJobException
from psij.launchers.multiple import MultipleLauncher, placement_args
from psij.launchers.script_based_launcher import SCRIPTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional

    from psij.job import Job
    from psij.job_executor_config import JobExecutorConfig


class AprunLauncher(MultipleLauncher):
    """Launches jobs with ``aprun``, the launcher of Cray ALPS that is used with Cobalt.

    It cannot assign GPUs to processes: jobs with ``gpu_cores_per_process`` are refused.
    """

    _NAME_ = 'aprun'
    _VERSION_ = '0.0.1'

    def __init__(self, config: Optional[JobExecutorConfig] = None) -> None:
        super().__init__(SCRIPTS / 'aprun_launch.sh', config)

    def get_additional_args(self, job: Job) -> List[str]:
        """Return the arguments for the script: all counts of the resource specification."""
        arguments = placement_args(job)
        gpus = arguments[-1]
        if gpus:
            raise InvalidJobException(
                f'The launcher aprun cannot assign GPUs to processes, but the job has gpu_cores_per_process={gpus}. '
                f'Leave it out: processes see all GPUs of their node.'
            )
        return arguments
