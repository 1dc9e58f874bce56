"""The launcher of jobs with several processes on one node, and what launchers of several processes share."""

from __future__ import annotations

from pathlib import Path

from psij.launchers.script_based_launcher import SCRIPTS, ScriptBasedLauncher
from psij.resource_spec import ResourceSpecV1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional

    from psij.job import Job
    from psij.job_executor_config import JobExecutorConfig

_ONE_PROCESS = ResourceSpecV1()


class MultipleLauncher(ScriptBasedLauncher):
    """Launches as many copies of the executable as the job has processes, on the node where the launcher runs.

    The copies find their number, from 1, in the environment variable ``_PSI_J_PROCESS_INDEX_`` and how many there are
    in ``_PSI_J_PROCESS_COUNT``. They share the output files. The exit code is that of the first copy that fails.

    Parameters
    ----------
    script_path
        The script that launches the copies. Its additional argument (see :class:`.ScriptBasedLauncher`) is the number
        of processes.
    config
        Settings.
    """

    _NAME_ = 'multiple'
    _VERSION_ = '0.2.0'

    def __init__(
        self, script_path: Path = SCRIPTS / 'multi_launch.sh', config: Optional[JobExecutorConfig] = None
    ) -> None:
        super().__init__(script_path, config)

    def get_additional_args(self, job: Job) -> List[str]:
        """Return the arguments for the script that come before the executable: the number of processes."""
        return [str(_resources(job).computed_process_count)]


def placement_args(job: Job) -> List[str]:
    """Return what launchers are told that decide where processes run: all counts of the resource specification.

    They are the number of processes, nodes, processes per node, cores per process and GPUs per process. What the
    specification leaves open is empty; the nodes and the processes per node say the same and come together.
    """
    resources = _resources(job)
    nodes, per_node = '', ''
    if resources.node_count is not None or resources.processes_per_node is not None:
        nodes, per_node = str(resources.computed_node_count), str(resources.computed_processes_per_node)
    return [
        str(resources.computed_process_count),
        nodes,
        per_node,
        str(resources.cpu_cores_per_process or ''),
        str(resources.gpu_cores_per_process or ''),
    ]


def _resources(job: Job) -> ResourceSpecV1:
    """Return the resource specification of a job, which must be of version 1."""
    resources = None if job.spec is None else job.spec.resources
    if resources is None:
        return _ONE_PROCESS
    if not isinstance(resources, ResourceSpecV1):
        raise ValueError(
            f'The launcher needs a resource specification of version 1, a ResourceSpecV1; '
            f'the job has a {type(resources).__name__}, of version {getattr(resources, "version", "unknown")}.'
        )
    return resources
