"""NEC NQSV, driven through its ``qsub``, ``qstat`` and ``qdel``.

This executor was written from a description of another one, and **has never been run with the real NQSV**. What the
description leaves open is taken in the cautious way: only the exit code file tells that a job has succeeded.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Collection, Dict, Iterator, List, Optional

from psij._log import lazy_logger
from psij.exceptions import InvalidJobException
from psij.executors.batch._templated_executor import TemplatedBatchExecutor, job_name
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutorConfig, check_status_exit_code
from psij.executors.batch.pbs_base import acceptable_name, custom_options, option, per_node
from psij.job import Job
from psij.job_executor_config import JobExecutorConfig
from psij.job_spec import JobSpec
from psij.job_state import JobState
from psij.job_status import JobStatus
from psij.resource_spec import ResourceSpecV1

logger = lazy_logger(__name__)

_STATES = {  # qstat(1) of NQSV, "STT"
    'QUE': JobState.QUEUED,
    'WAT': JobState.QUEUED,
    'HLD': JobState.QUEUED,
    'SUS': JobState.QUEUED,
    'ARI': JobState.QUEUED,  # arriving
    'TRS': JobState.QUEUED,  # in transit
    'PRR': JobState.QUEUED,  # before its run
    'MIG': JobState.QUEUED,
    'STG': JobState.QUEUED,  # staging
    'RUN': JobState.ACTIVE,
    'EXT': JobState.ACTIVE,  # exiting: it will vanish, and the exit code file tells how it ended
    'POR': JobState.ACTIVE,  # after its run
}

_LONGEST_NAME = 63

_unknown_states: set[str] = set()  # those that were logged


class NQSVExecutorConfig(BatchSchedulerExecutorConfig):
    """Settings of the NQSV executor; see :class:`.BatchSchedulerExecutorConfig`."""


class NQSVJobExecutor(TemplatedBatchExecutor):
    """A :class:`~psij.JobExecutor` for NEC NQSV, which has never been run with the real one.

    Custom attributes that begin with ``nqsv.`` become directives after all others: ``nqsv.T`` with the value
    ``openmpi`` becomes ``#PBS -T openmpi``, and the value True stands for an option without a value.

    Parameters
    ----------
    url
        Not used.
    config
        Settings.
    """

    _NAME_ = 'nqsv'
    _VERSION_ = '0.0.1'

    template = 'nqsv.mustache'
    config_class = NQSVExecutorConfig

    def __init__(self, url: Optional[str] = None, config: Optional[JobExecutorConfig] = None) -> None:
        super().__init__(url, config)

    def directives(self, job: Job, spec: JobSpec) -> Iterator[str]:  # noqa: D102
        yield f'-N {acceptable_name(job_name(spec), _LONGEST_NAME)}'
        if isinstance(spec.resources, ResourceSpecV1):
            yield from _resource_directives(spec.resources)
        elif spec.resources:
            raise InvalidJobException(f'NQSV needs a ResourceSpecV1, got {type(spec.resources).__name__}.')
        attributes = spec.attributes
        if attributes is not None:
            if attributes.duration is not None:
                yield f'-l elapstim_req={self._format_duration(attributes.duration)}'
            for letter, field in (('q', 'queue_name'), ('A', 'account'), ('y', 'reservation_id')):
                value = getattr(attributes, field)
                if value:
                    yield option('NQSV', letter, field, value)
        if spec.inherit_environment:
            yield '-V'
        yield '-o /dev/null'
        yield '-e /dev/null'
        yield from custom_options('NQSV', spec, 'nqsv')

    def _create_script_context(self, job: Job) -> Dict[str, object]:
        context = super()._create_script_context(job)
        psij = context['psij']
        resources = None if job.spec is None else job.spec.resources
        if isinstance(psij, dict) and isinstance(resources, ResourceSpecV1):
            psij['processes_per_node'] = resources.computed_processes_per_node
        return context

    def get_submit_command(self, job: Job, submit_file_path: Path) -> List[str]:  # noqa: D102
        return [f'{_COMMANDS}/qsub', str(submit_file_path)]

    def job_id_from_submit_output(self, out: str) -> str:  # noqa: D102
        return parse_qsub(out)

    def get_cancel_command(self, native_id: str) -> List[str]:  # noqa: D102
        return [f'{_COMMANDS}/qdel', native_id]

    def get_status_command(self, native_ids: Collection[str]) -> List[str]:  # noqa: D102
        return [f'{_COMMANDS}/qstat', '-F', 'rid,stt', '-n', '-l', *native_ids]

    def parse_status_output(self, exit_code: int, out: str) -> Dict[str, JobStatus]:  # noqa: D102
        statuses = parse_qstat(out)
        if not statuses and _DOES_NOT_EXIST.search(out) is None:
            check_status_exit_code('qstat', exit_code, out)
        return statuses

    def get_list_command(self) -> List[str]:  # noqa: D102
        return [f'{_COMMANDS}/qstat', '-F', 'rid', '-n', '-l']

    def parse_list_output(self, out: str) -> List[str]:  # noqa: D102
        return [line.strip().partition('.')[0] for line in out.splitlines() if re.match(r'\s*\d+(\.|\s*$)', line)]

    def attach(self, job: Job, native_id: str) -> None:  # noqa: D102
        number = str(native_id).strip().partition('.')[0]  # 98.host is as good as 98
        if not re.fullmatch(r'\d+', number, re.ASCII):
            raise InvalidJobException(f'Invalid native ID: got {native_id!r}, expected the number of a request.')
        super().attach(job, number)

    def _format_duration(self, d: timedelta) -> str:
        """Return a walltime with a unit for each field; a single second is the least."""
        return super()._format_duration(max(d, timedelta(seconds=1)))


_COMMANDS = '/opt/nec/nqsv/bin'
_DOES_NOT_EXIST = re.compile(r'does not exist', re.IGNORECASE)


def _resource_directives(resources: ResourceSpecV1) -> Iterator[str]:
    processes, cores = per_node(resources)
    yield f'--cpunum-lhost={cores}'
    yield f'-b {resources.computed_node_count}'
    if resources.gpu_cores_per_process:
        yield f'--gpunum-lhost={processes * resources.gpu_cores_per_process}'
    if resources.exclusive_node_use:
        yield '--exclusive'
    if resources.memory:
        raise InvalidJobException(
            'Invalid resources.memory: this executor knows no option of NQSV for the memory of a job. Use a custom '
            'attribute of your site, such as nqsv.-memsz-lhost.'
        )


def parse_qsub(out: str) -> str:
    """Return the number of the request that ``qsub`` has made.

    >>> parse_qsub('Request 98.host submitted to queue: q.\\n')
    '98'
    """
    found = re.search(r'^Request (\d+)\.', out, re.MULTILINE)
    if found is None:
        raise ValueError(f'qsub printed no request ID: {out!r}')
    return found[1]


def parse_qstat(out: str) -> Dict[str, JobStatus]:
    """Return the status of each request in the output of ``qstat -F rid,stt -n -l``.

    Messages about requests that do not exist are left out: what became of these has to be found out otherwise.

    >>> parse_qstat('98.host RUN\\nBatch Request: 97.host does not exist on host.\\n')['98'].state
    ACTIVE
    """
    statuses: Dict[str, JobStatus] = {}
    for line in out.splitlines():
        found = re.fullmatch(r'\s*(\d+)\.\S+\s+([A-Z]+)\s*', line)
        if found is None:
            continue
        state = _STATES.get(found[2])
        if state is None and found[2] not in _unknown_states:
            _unknown_states.add(found[2])
            logger.warning(
                'NQSV reports a state that is not known here: %r. It is taken as a job that waits.', found[2]
            )
        statuses[found[1]] = JobStatus(state or JobState.QUEUED, metadata={'native_state': found[2]})
    return statuses
