"""What the executors for OpenPBS and Torque share: the commands, the directives, the environment of jobs.

Both descend from one program, and most of ``qsub`` and ``qdel`` is the same; how they describe resources and the status
of jobs is not.
"""

from __future__ import annotations

import glob
import os
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import Collection, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from psij._runtime.command import CommandResult
from psij._runtime.environment import exports
from psij._runtime.script_context import native_attributes
from psij.exceptions import InvalidJobException, SubmitException
from psij.executors.batch import _pbs_status
from psij.executors.batch._pbs_qstat import JOB_ID, OpenPBSQstat, Qstat
from psij.executors.batch._templated_executor import TemplatedBatchExecutor, job_name, one_line
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutorConfig, InvalidJobStateError
from psij.executors.batch.script_generator import TemplatedScriptGenerator
from psij.job import Job
from psij.job_executor_config import JobExecutorConfig
from psij.job_spec import JobSpec
from psij.job_state import JobState
from psij.job_status import JobStatus
from psij.resource_spec import ResourceSpecV1

_RECENTLY = 600.0  # seconds, within which a job has started that is looked for
_FEW = 10  # jobs that have ended and may be the one that is looked for

_TRANSIENT = re.compile(
    rf'{_pbs_status.NO_ANSWER}|would exceed .* limit|Maximum number of jobs already in queue'
    r'|Resource temporarily unavailable',
    re.IGNORECASE,
)
_UNCLEAR = re.compile(r'timed? ?out|End of File|Premature end of message', re.IGNORECASE)
_NOTHING_TO_CANCEL = re.compile(
    r'Unknown Job Id|nonexistent job id|Job has finished|Request invalid for state of job', re.IGNORECASE
)

_ARRAY = (
    'an array would count as one job, which ends with the first of its elements. Submit one job for each element; '
    'JobExecutor.attach can follow the jobs of an array that was submitted otherwise.'
)


class PBSExecutorConfig(BatchSchedulerExecutorConfig):
    """Settings of the PBS executors; see :class:`.BatchSchedulerExecutorConfig`."""


class GenericPBSJobExecutor(TemplatedBatchExecutor):
    """The base class of executors for schedulers of the PBS family, with the status command of OpenPBS.

    Parameters
    ----------
    generator
        What writes the scripts; None for the template of the class.
    url
        Not used.
    config
        Settings.
    """

    config_class = PBSExecutorConfig

    _scheduler = 'PBS'
    """The name that messages have."""

    # PBS_DPREFIX replaces the marker of directives; PBS_QSTAT_EXECONLY makes Torque's qstat leave out jobs. Others,
    # such as PBS_SERVER and PBS_CONF_FILE, say where the server is.
    _dropped_variables = ('PBS_DPREFIX', 'PBS_QSTAT_')

    _of_the_job = frozenset(
        (
            *('ENVIRONMENT', 'HOSTNAME', 'NCPUS', 'OMP_NUM_THREADS', 'PSIJ_JOB_NAME', 'PSIJ_NODEFILE', 'TMPDIR'),
            *('CUDA_VISIBLE_DEVICES', 'GPU_DEVICE_ORDINAL', 'ROCR_VISIBLE_DEVICES'),
        )
    )
    """Variables that PBS or we set for each job; what the submitting program has there describes another place."""

    _refused_options: Dict[str, str] = {
        'I': 'an interactive job needs a terminal, and runs no script.',
        'J': _ARRAY,
        'z': 'qsub prints no job ID then, without which the job cannot be followed.',
    }
    """The options that custom attributes cannot have, each with the reason."""

    def __init__(
        self,
        generator: Optional[TemplatedScriptGenerator],
        url: Optional[str] = None,
        config: Optional[JobExecutorConfig] = None,
    ) -> None:
        super().__init__(url, config, generator)
        self._qstat: Qstat = OpenPBSQstat()
        self._attached: Dict[str, bool] = {}  # the IDs that somebody else has given, and whether qstat has shown them

    # --- the script ----------------------------------------------------------------------------------------------

    def directives(self, job: Job, spec: JobSpec) -> Iterator[str]:  # noqa: D102
        yield f'-N {acceptable_name(job_name(spec))}'
        if isinstance(spec.resources, ResourceSpecV1):
            yield from self._resource_directives(spec.resources)
        elif spec.resources:
            raise InvalidJobException(f'{self._scheduler} needs a ResourceSpecV1, got {type(spec.resources).__name__}.')
        attributes = spec.attributes
        if attributes is not None:
            if attributes.duration is not None:
                yield f'-l walltime={self._format_duration(attributes.duration)}'
            if attributes.queue_name:
                yield option(self._scheduler, 'q', 'queue_name', attributes.queue_name)
            if attributes.account:
                yield option(self._scheduler, 'A', 'account', attributes.account)
            if attributes.reservation_id:
                yield self._reservation_directive(attributes.reservation_id)
        yield '-o /dev/null'
        yield '-e /dev/null'
        yield from custom_options(self._scheduler, spec, 'pbs', self._refused_options)

    def _resource_directives(self, resources: ResourceSpecV1) -> Iterable[str]:
        """Return the directives for resources; none by default, for templates that have their own."""
        return ()

    def _reservation_directive(self, reservation: str) -> str:
        """Return the directive for a reservation, which is a queue by default."""
        return option(self._scheduler, 'q', 'reservation_id', reservation)

    def _create_script_context(self, job: Job) -> Dict[str, object]:
        context = super()._create_script_context(job)
        psij = context['psij']
        if isinstance(psij, dict) and job.spec is not None:
            psij['inherited'] = exports('PBS_', self._of_the_job) if job.spec.inherit_environment else ''
        return context

    # --- commands ------------------------------------------------------------------------------------------------

    def get_submit_command(self, job: Job, submit_file_path: Path) -> List[str]:  # noqa: D102
        return ['qsub', str(submit_file_path)]

    def job_id_from_submit_output(self, out: str) -> str:  # noqa: D102
        return parse_qsub(out)

    def _is_transient(self, result: CommandResult) -> bool:
        return result.timed_out or _TRANSIENT.search(result.output) is not None

    def _may_have_submitted(self, result: CommandResult) -> bool:
        return result.timed_out or _UNCLEAR.search(result.output) is not None

    def _get_lookup_command(self, job: Job, submit_file_path: Path) -> Optional[List[str]]:
        return self._qstat.command()

    def _parse_lookup_output(self, job: Job, submit_file_path: Path, out: str) -> Optional[str]:
        return self._submitted(submit_file_path, out) or self._look_up_ended(submit_file_path)

    def _submitted(self, submit_file_path: Path, out: str) -> Optional[str]:
        """Return the ID of the job with a script, if it is among those that qstat has listed."""
        for native_id, record in self._qstat.records(0, out).items():
            if str(submit_file_path) in record.get('Submit_arguments', ''):
                return native_id
        return None

    def _look_up_ended(self, submit_file_path: Path) -> Optional[str]:
        """Return the ID of the job with a script, if it is in the history.

        The whole history may be that of weeks and all users, so that only the user's latest jobs are asked about.
        """
        if not self._qstat.has_history:
            return None
        since = time.strftime('%Y%m%d%H%M', time.localtime(time.time() - _RECENTLY))
        answer = self._execute(['qselect', '-x', '-u', self._current_user(), f'-ts.gt.{since}'])
        latest = self.parse_list_output(answer.stdout)[-_FEW:] if answer.exit_code == 0 else []
        for native_id in reversed(latest):
            answer = self._execute(self._qstat.command([native_id]))
            if answer.exit_code == 0 and self._submitted(submit_file_path, answer.stdout):
                return native_id
        return None

    def get_cancel_command(self, native_id: str) -> List[str]:  # noqa: D102
        return ['qdel', native_id]

    def process_cancel_command_output(self, exit_code: int, out: str) -> None:  # noqa: D102
        # the exit codes have different meanings in OpenPBS and Torque, the texts have not
        if _NOTHING_TO_CANCEL.search(out) is not None:
            raise InvalidJobStateError(out)
        raise SubmitException(f'Failed job cancel job: {out}', transient=_TRANSIENT.search(out) is not None)

    def get_list_command(self) -> List[str]:  # noqa: D102
        return ['qselect', '-u', self._current_user()]  # qstat -u cuts IDs short

    def get_status_command(self, native_ids: Collection[str]) -> List[str]:  # noqa: D102
        return self._qstat.status_command(native_ids)

    def _must_ask_differently(self, answer: CommandResult) -> bool:
        return self._qstat.must_ask_differently(answer)

    def parse_status_output(self, exit_code: int, out: str) -> Dict[str, JobStatus]:  # noqa: D102
        statuses = self._statuses(self._qstat.records(exit_code, out))
        if exit_code:
            statuses.update(self._refused(out))
        return statuses

    def _statuses(self, records: Dict[str, _pbs_status.Record]) -> Dict[str, JobStatus]:
        """Return the status of each job, also by its ID as it was spelled by who has attached to it."""
        statuses = _pbs_status.statuses(records, self._current_user())
        if self._attached:
            listed = {native_id.lower(): status for native_id, status in statuses.items()}
            for native_id in list(self._attached):
                status = listed.get(native_id.lower())
                if status is not None:
                    statuses[native_id] = status
                    self._attached[native_id] = True
        return statuses

    def _refused(self, out: str) -> Dict[str, JobStatus]:
        """Return the status of jobs whose IDs cannot be those of jobs of this server.

        Raises
        ------
        RuntimeError
            If they can: the commands may have lost their configuration.
        """
        refused: Dict[str, JobStatus] = {}
        for native_id, complaint in _pbs_status.refused_ids(out).items():
            if self._attached.get(native_id, True):
                raise RuntimeError(f'{complaint} (which was known before)')
            message = f'{complaint} (expected an ID as qsub and qselect print it)'
            refused[native_id] = JobStatus(JobState.FAILED, message=message)
        return refused

    def _get_history_command(self, native_ids: List[str]) -> Optional[List[str]]:
        if not self._qstat.has_history:
            # it can still tell whether an ID that somebody has given is one of this server
            native_ids = [native_id for native_id in native_ids if self._attached.get(native_id) is False]
        return self._qstat.command(native_ids[:1]) if native_ids else None

    def _parse_history_output(self, exit_code: int, out: str) -> Optional[Dict[str, JobStatus]]:
        return self.parse_status_output(exit_code, out)

    def attach(self, job: Job, native_id: str) -> None:  # noqa: D102
        identifier = str(native_id).strip()
        if not JOB_ID.fullmatch(identifier):
            raise InvalidJobException(f'Invalid native ID: got {native_id!r}, expected one such as 12.server or 12.')
        self._attached.setdefault(identifier, False)
        super().attach(job, identifier)

    def _job_file(self, job: Job, suffix: str) -> Path:
        """Return the path of a file of a job, to whose ID somebody may have attached in another spelling."""
        path = super()._job_file(job, suffix)
        if os.path.exists(path):
            return path
        native_id = str(job.native_id)
        if '.' in native_id:
            usual = self._file(f'{native_id.lower()}{suffix}')
            return usual if usual != path and os.path.exists(usual) else path
        return next(self.work_directory.glob(f'{glob.escape(native_id)}.*{suffix}'), path)

    def _format_duration(self, d: timedelta) -> str:
        """Return a walltime with a unit for each field; a single second is the least."""
        return super()._format_duration(max(d, timedelta(seconds=1)))


def parse_qsub(out: str) -> str:
    """Return the job ID that ``qsub`` has printed; what sites install around it may print other lines.

    >>> parse_qsub('Your quota: 80\\n123.pbs01\\n'), parse_qsub('7[].pbs01\\n')
    ('123.pbs01', '7[].pbs01')
    """
    for line in reversed(out.split('\n')):
        if JOB_ID.fullmatch(line.strip()):
            return line.strip()
    raise ValueError(f'qsub printed no job ID: {out!r}')


def acceptable_name(name: str, longest: int = 230) -> str:
    """Return a name that ``qsub`` accepts: other characters than letters, digits and ``. _ - +`` become ``_``.

    >>> acceptable_name('my job: #1'), acceptable_name(''), acceptable_name('long', 2)
    ('my_job___1', '_', 'lo')
    """
    return re.sub(r'[^A-Za-z0-9._+-]', '_', name)[:longest] or '_'


def word(scheduler: str, field: str, value: object) -> str:
    """Return a value as one word of a directive.

    >>> print(word('PBS', 'account', 'a-1'), word('PBS', 'account', "it's mine"))
    a-1 "it's mine"

    Raises
    ------
    InvalidJobException
        If that is not possible.
    """
    text = one_line(scheduler, field, value)
    if re.fullmatch(r'[\w.:/@%+=,^()\[\]~!&|<>?*-]+', text, re.ASCII):
        return text
    if '"' in text or '\\' in text:
        raise InvalidJobException(
            f'Invalid {field}: {text!r} has a double quote or a backslash, for which directives of {scheduler} have no '
            'form.'
        )
    return f'"{text}"'


def option(scheduler: str, letter: str, field: str, value: object) -> str:
    """Return a directive with an option and its value."""
    return f'-{letter} {word(scheduler, field, value)}'


def custom_options(
    scheduler: str, spec: JobSpec, prefix: str, refused: Optional[Mapping[str, str]] = None
) -> Iterator[str]:
    """Return the directives for the custom attributes with a prefix, in order.

    Parameters
    ----------
    scheduler
        The name that messages have.
    spec
        The specification.
    prefix
        The prefix.
    refused
        The letters of options that cannot be used, each with the reason.

    Raises
    ------
    InvalidJobException
        If the name of one is not that of an option that can be used, or its value cannot stand in a directive.
    """
    for key, value in native_attributes(spec, prefix):
        field = f'custom attribute {prefix}.{key}'
        if not re.fullmatch(r'[A-Za-z-][\w.-]*', key, re.ASCII):
            raise InvalidJobException(f'Invalid {field}: expected an option of qsub of {scheduler} after the dot.')
        if refused and key[0] in refused:
            raise InvalidJobException(f'Invalid {field}: {refused[key[0]]}')
        yield f'-{key}' if value is None else option(scheduler, key, field, value)


def per_node(resources: ResourceSpecV1) -> Tuple[int, int]:
    """Return the numbers of processes and of cores that a job has on each node."""
    processes = resources.computed_processes_per_node
    return processes, processes * (resources.cpu_cores_per_process or 1)
