"""OpenPBS and PBS Professional, driven through ``qsub``, ``qstat``, ``qdel`` and ``qselect``.

Recorded with OpenPBS 23.06.06 and its development branch (``tests/recordings/pbs``); see :mod:`._pbs_status` for what
``qstat`` prints.
"""

from __future__ import annotations

import re
from typing import Iterator, Optional

from psij.executors.batch.pbs_base import GenericPBSJobExecutor, PBSExecutorConfig, per_node
from psij.job_executor_config import JobExecutorConfig
from psij.resource_spec import ResourceSpecV1

__all__ = ['PBSExecutorConfig', 'PBSJobExecutor']


class PBSJobExecutor(GenericPBSJobExecutor):
    """A :class:`~psij.JobExecutor` for OpenPBS and PBS Professional.

    Custom attributes that begin with ``pbs.`` become directives after all others: ``pbs.p`` with the value 5 becomes
    ``#PBS -p 5``, and the value True stands for an option without a value.

    Parameters
    ----------
    url
        Not used.
    config
        Settings.
    """

    _NAME_ = 'pbs'
    _VERSION_ = '0.2.0'

    template = 'pbs.mustache'

    def __init__(self, url: Optional[str] = None, config: Optional[JobExecutorConfig] = None) -> None:
        super().__init__(None, url, config)

    def _resource_directives(self, resources: ResourceSpecV1) -> Iterator[str]:
        processes, cores = per_node(resources)
        chunk = f'{resources.computed_node_count}:ncpus={cores}:mpiprocs={processes}'
        if processes > 1 or resources.cpu_cores_per_process:
            # else PBS sets OMP_NUM_THREADS to the cores of all processes
            chunk += f':ompthreads={resources.cpu_cores_per_process or 1}'
        if resources.gpu_cores_per_process:
            chunk += f':ngpus={processes * resources.gpu_cores_per_process}'
        if resources.memory:
            chunk += f':mem={-(-resources.memory // (1024 * resources.computed_node_count))}kb'
        yield f'-l select={chunk}'
        yield f'-l place=scatter:{"exclhost" if resources.exclusive_node_use else "shared"}'

    def _reservation_directive(self, reservation: str) -> str:
        # A reservation is a queue, the name of which is the ID without the server; the last -q counts.
        queue = re.sub(r'^([RSM]\d+)\..*', r'\1', reservation)
        return super()._reservation_directive(queue)
