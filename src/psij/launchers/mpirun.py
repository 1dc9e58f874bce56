"""The launcher of MPI programs."""

from __future__ import annotations

from psij.launchers.multiple import MultipleLauncher
from psij.launchers.script_based_launcher import SCRIPTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

    from psij.job_executor_config import JobExecutorConfig


class MPILauncher(MultipleLauncher):
    """Launches jobs with ``mpirun``, which is a general way to start MPI programs.

    Open MPI, MPICH, Intel MPI and others that are like MPICH are known.
    """

    _NAME_ = 'mpirun'
    _VERSION_ = '0.2.0'

    def __init__(self, config: Optional[JobExecutorConfig] = None) -> None:
        super().__init__(SCRIPTS / 'mpirun_launch.sh', config)
