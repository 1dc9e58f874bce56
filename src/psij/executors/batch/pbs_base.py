"""What the executors for OpenPBS and Torque share: the commands, the directives, the environment of jobs.

Both descend from one program, and most of ``qsub`` and ``qdel`` is the same; how they describe resources and the status
of jobs is not.
"""

from __future__ import annotations

import glob
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Collection, Dict, Iterable, Iterator, List, Optional, Tuple

from psij._runtime.command import CommandResult
from psij._runtime.environment import exports
from psij._runtime.script_context import native_attributes
from psij.exceptions import InvalidJobException, SubmitException
from psij.executors.batch import _pbs_status
from psij.executors.batch._templated_executor import TemplatedBatchExecutor, job_name, one_line
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutorConfig, InvalidJobStateError
from psij.executors.batch.script_generator import TemplatedScriptGenerator
from psij.job import Job
from psij.job_executor_config import JobExecutorConfig
from psij.job_spec import JobSpec
from psij.job_status import JobStatus
from psij.resource_spec import ResourceSpecV1

_FEW = 10  # IDs in one command; each costs a login and, with OpenPBS, one of 512 ports that then rests for a minute

_TRANSIENT = re.compile(
    r'cannot connect to server|Couldn\'t connect to cluster|Connection refused|Unable to communicate with'
    r'|could not connect to trqauthd|pbs_iff|timed? ?out|No Free Connections|End of File|Premature end of message'
    r'|would exceed .* limit|Maximum number of jobs already in queue|Resource temporarily unavailable',
    re.IGNORECASE,
)
_UNCLEAR = re.compile(r'timed? ?out|End of File|Premature end of message', re.IGNORECASE)
_NOTHING_TO_CANCEL = re.compile(
    r'Unknown Job Id|nonexistent job id|Job has finished|Request invalid for state of job', re.IGNORECASE
)

_OF_THE_JOB = frozenset(
    ('ENVIRONMENT', 'HOSTNAME', 'NCPUS', 'OMP_NUM_THREADS', 'PSIJ_JOB_NAME', 'PSIJ_NODEFILE', 'TMPDIR')
)
"""Variables that PBS or we set for each job; what the submitting program has there describes another place."""


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

    def __init__(
        self,
        generator: Optional[TemplatedScriptGenerator],
        url: Optional[str] = None,
        config: Optional[JobExecutorConfig] = None,
    ) -> None:
        super().__init__(url, config, generator)
        self._has_history = True
        self._ids_at_once = _FEW

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
        yield from custom_options(self._scheduler, spec, 'pbs')

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
            psij['inherited'] = exports('PBS_', _OF_THE_JOB) if job.spec.inherit_environment else ''
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
        return self._status_command()

    def _parse_lookup_output(self, job: Job, submit_file_path: Path, out: str) -> Optional[str]:
        for native_id, record in self._records(0, out).items():
            if str(submit_file_path) in record.get('Submit_arguments', ''):
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
        return self._status_command(native_ids if len(native_ids) <= self._ids_at_once else ())

    def _status_command(self, native_ids: Collection[str] = ()) -> List[str]:
        """Return the command that asks about some jobs, or about all that have not ended."""
        history = ['-x'] if native_ids and self._has_history else []
        return ['qstat', '-f', '-F', 'json', *history, *native_ids]

    def _must_ask_differently(self, answer: CommandResult) -> bool:
        if self._has_history and 'PBS is not configured to maintain job history' in answer.stderr:
            self._has_history = False  # -x lists nothing, not even running jobs, and ends with exit code 0
            return True
        if not self._has_history and 'Job has finished, use -x' in answer.stderr:
            self._has_history = True
            return True
        if self._ids_at_once > 1 and self._is_cut_short(answer):
            self._ids_at_once = 1
            return True
        return False

    def _is_cut_short(self, answer: CommandResult) -> bool:
        """Tell whether an answer does not have all jobs that were asked about, and does not say why.

        Versions since December 2023 print only the first of several jobs.
        """
        native_ids = [argument for argument in answer.argv if _JOB_ID.fullmatch(argument)]
        if len(native_ids) < 2 or answer.exit_code is None:
            return False
        try:
            records = self._records(answer.exit_code, answer.stdout if answer.exit_code == 0 else answer.output)
        except Exception:  # noqa: BLE001 - the poller will find the same, and say so
            return False
        listed = self._statuses(records).keys()
        return any(native_id not in listed and native_id not in answer.stderr for native_id in native_ids)

    def parse_status_output(self, exit_code: int, out: str) -> Dict[str, JobStatus]:  # noqa: D102
        return self._statuses(self._records(exit_code, out))

    def _records(self, exit_code: int, out: str) -> Dict[str, _pbs_status.Record]:
        """Cut the output of the status command into the attributes of each job."""
        return _pbs_status.parse_json(exit_code, out)

    def _statuses(self, records: Dict[str, _pbs_status.Record]) -> Dict[str, JobStatus]:
        return _pbs_status.statuses(records, self._current_user())

    def _get_history_command(self, native_ids: List[str]) -> Optional[List[str]]:
        return self._status_command(native_ids[:1]) if self._has_history else None

    def _parse_history_output(self, exit_code: int, out: str) -> Optional[Dict[str, JobStatus]]:
        return self.parse_status_output(exit_code, out)

    def attach(self, job: Job, native_id: str) -> None:  # noqa: D102
        identifier = str(native_id).strip()
        if not _JOB_ID.fullmatch(identifier):
            raise InvalidJobException(f'Invalid native ID: got {native_id!r}, expected one such as 12.server or 12.')
        super().attach(job, identifier)

    def _job_file(self, job: Job, suffix: str) -> Path:
        """Return the path of a file of a job, to which somebody may have attached by its number alone."""
        path = super()._job_file(job, suffix)
        if '.' in str(job.native_id) or os.path.exists(path):
            return path
        return next(self.work_directory.glob(f'{glob.escape(str(job.native_id))}.*{suffix}'), path)

    def _format_duration(self, d: timedelta) -> str:
        """Return a walltime with a unit for each field; a single second is the least."""
        return super()._format_duration(max(d, timedelta(seconds=1)))


_JOB_ID = re.compile(r'\d+(\[\d*\])?(\.[\w.-]+)?', re.ASCII)


def parse_qsub(out: str) -> str:
    """Return the job ID that ``qsub`` has printed; what sites install around it may print other lines.

    >>> parse_qsub('Your quota: 80\\n123.pbs01\\n'), parse_qsub('7[].pbs01\\n')
    ('123.pbs01', '7[].pbs01')
    """
    for line in reversed(out.split('\n')):
        if _JOB_ID.fullmatch(line.strip()):
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


def custom_options(scheduler: str, spec: JobSpec, prefix: str) -> Iterator[str]:
    """Return the directives for the custom attributes with a prefix, in order.

    Raises
    ------
    InvalidJobException
        If the name of one is not that of an option, or its value cannot stand in a directive.
    """
    for key, value in native_attributes(spec, prefix):
        field = f'custom attribute {prefix}.{key}'
        if not re.fullmatch(r'[A-Za-z-][\w.-]*', key, re.ASCII):
            raise InvalidJobException(f'Invalid {field}: expected an option of qsub of {scheduler} after the dot.')
        yield f'-{key}' if value is None else option(scheduler, key, field, value)


def per_node(resources: ResourceSpecV1) -> Tuple[int, int]:
    """Return the numbers of processes and of cores that a job has on each node."""
    processes = resources.computed_processes_per_node
    return processes, processes * (resources.cpu_cores_per_process or 1)
