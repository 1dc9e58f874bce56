"""Torque, driven through ``qsub``, ``qstat``, ``qdel`` and ``qselect``.

Recorded with Torque 6.1 (``tests/recordings/torque``); see :mod:`._pbs_status` for what ``qstat`` prints.
"""

from __future__ import annotations

from typing import Collection, Dict, Iterator, List, Optional

from psij._runtime.command import CommandResult
from psij.exceptions import InvalidJobException
from psij.executors.batch import _pbs_status
from psij.executors.batch.pbs_base import GenericPBSJobExecutor, PBSExecutorConfig, option, per_node
from psij.job import Job
from psij.job_executor_config import JobExecutorConfig
from psij.resource_spec import ResourceSpecV1

__all__ = ['PBSClassicJobExecutor', 'PBSExecutorConfig']


class PBSClassicJobExecutor(GenericPBSJobExecutor):
    """A :class:`~psij.JobExecutor` for Torque.

    Custom attributes that begin with ``pbs.`` become directives, as with :class:`.PBSJobExecutor`.

    Parameters
    ----------
    url
        Not used.
    config
        Settings.
    """

    _NAME_ = 'pbs_classic'
    _VERSION_ = '0.2.0'

    template = 'pbs_classic.mustache'

    _scheduler = 'Torque'

    def __init__(self, url: Optional[str] = None, config: Optional[JobExecutorConfig] = None) -> None:
        super().__init__(None, url, config)

    def _resource_directives(self, resources: ResourceSpecV1) -> Iterator[str]:
        processes, cores = per_node(resources)
        nodes = f'{resources.computed_node_count}:ppn={cores}'
        if resources.gpu_cores_per_process:
            nodes += f':gpus={processes * resources.gpu_cores_per_process}'
        if resources.memory:
            nodes += f',mem={-(-resources.memory // 1024)}kb'  # of the whole job; not a property of the nodes
        yield f'-l nodes={nodes}'
        if resources.exclusive_node_use:
            yield '-n'

    def _reservation_directive(self, reservation: str) -> str:
        # Moab's resource; Torque has no reservations of its own
        return option(self._scheduler, 'l', 'reservation_id', f'advres={reservation}')

    def _create_script_context(self, job: Job) -> Dict[str, object]:
        context = super()._create_script_context(job)
        psij = context['psij']
        resources = None if job.spec is None else job.spec.resources
        if isinstance(psij, dict) and isinstance(resources, ResourceSpecV1):
            psij['cores_per_process'] = resources.cpu_cores_per_process or 1
        return context

    def _status_command(self, native_ids: Collection[str] = ()) -> List[str]:
        return ['qstat', '-x', *native_ids]  # -x stands for XML here

    def _must_ask_differently(self, answer: CommandResult) -> bool:
        return False

    def _records(self, exit_code: int, out: str) -> Dict[str, _pbs_status.Record]:
        return _pbs_status.parse_xml(exit_code, out)

    def _get_history_command(self, native_ids: List[str]) -> Optional[List[str]]:
        return None  # jobs are listed for some time after their end, and are forgotten then

    def attach(self, job: Job, native_id: str) -> None:  # noqa: D102
        if '[]' in str(native_id):
            raise InvalidJobException(
                f'Invalid native ID: {native_id!r} is an array, about which Torque says nothing as a whole; expected '
                'one of its jobs, such as 12[1].server.'
            )
        super().attach(job, native_id)
