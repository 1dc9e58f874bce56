"""Torque, driven through ``qsub``, ``qstat``, ``qdel`` and ``qselect``, and OpenPBS with directives as Torque has them.

Recorded with Torque 6.1 (``tests/recordings/torque``); see :mod:`._pbs_status` for what ``qstat`` prints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, List, Optional

from psij._runtime.command import CommandResult
from psij.exceptions import InvalidJobException
from psij.executors.batch._pbs_qstat import OpenPBSQstat, TorqueQstat, is_of_openpbs
from psij.executors.batch.pbs_base import GenericPBSJobExecutor, PBSExecutorConfig, option, per_node
from psij.job import Job
from psij.job_executor_config import JobExecutorConfig
from psij.resource_spec import ResourceSpecV1

__all__ = ['PBSClassicJobExecutor', 'PBSExecutorConfig']


class PBSClassicJobExecutor(GenericPBSJobExecutor):
    """A :class:`~psij.JobExecutor` for Torque, and for OpenPBS with Torque's way to ask for resources.

    Which of the two there is shows in the first answer of ``qstat``. Custom attributes that begin with ``pbs.`` become
    directives, as with :class:`.PBSJobExecutor`.

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

    # Torque sets no number of threads
    _of_the_job = GenericPBSJobExecutor._of_the_job - {'OMP_NUM_THREADS'}

    _refused_options = {**GenericPBSJobExecutor._refused_options, 't': GenericPBSJobExecutor._refused_options['J']}

    def __init__(self, url: Optional[str] = None, config: Optional[JobExecutorConfig] = None) -> None:
        super().__init__(None, url, config)
        self._qstat = TorqueQstat()

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

    def _must_ask_differently(self, answer: CommandResult) -> bool:
        if isinstance(self._qstat, TorqueQstat) and is_of_openpbs(answer):
            self._qstat = OpenPBSQstat()
            self._qstat.must_ask_differently(answer)  # it may have said that there is no history
            return True
        return super()._must_ask_differently(answer)

    def _parse_lookup_output(self, job: Job, submit_file_path: Path, out: str) -> Optional[str]:
        is_unclear = isinstance(self._qstat, TorqueQstat) and '<Data>' not in out
        # without history, only the standard error tells that it is OpenPBS
        if is_unclear and self._must_ask_differently(self._execute(self._qstat.command())):
            return None  # the next attempt asks in the other way
        return super()._parse_lookup_output(job, submit_file_path, out)

    def list(self) -> List[str]:  # noqa: D102
        native_ids = super().list()
        # Torque lists jobs for some time after their end. They have to be taken away, since qselect has no letter for
        # those that are suspended. OpenPBS, which does not list them, refuses the letter C.
        ended = self._execute([*self.get_list_command(), '-s', 'C'])
        over = set(self.parse_list_output(ended.stdout)) if ended.exit_code == 0 else set()
        return [native_id for native_id in native_ids if native_id not in over]

    def attach(self, job: Job, native_id: str) -> None:  # noqa: D102
        if '[]' in str(native_id) and isinstance(self._qstat, TorqueQstat):
            raise InvalidJobException(
                f'Invalid native ID: {native_id!r} is an array, about which Torque says nothing as a whole; expected '
                'one of its jobs, such as 12[1].server.'
            )
        super().attach(job, native_id)
