"""Cobalt, the scheduler of Argonne's Blue Gene and Cray systems, driven through ``qsub``, ``qstat`` and ``qdel``.

The facts behind the parsers come from recordings of Cobalt 1.0.33 on a cluster (``tests/recordings/cobalt``), and from
its manual pages. Its queue forgets a job at once when that has ended, however it did; what is left is the log file of
the job, which is kept in the work directory.
"""

from __future__ import annotations

import re
import stat
from datetime import timedelta
from pathlib import Path
from typing import Collection, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from psij._log import lazy_logger
from psij._runtime import job_files
from psij._runtime.command import CommandResult
from psij._runtime.environment import exports
from psij._runtime.script_context import native_attributes
from psij.exceptions import InvalidJobException, SubmitException
from psij.executors.batch._templated_executor import TemplatedBatchExecutor, job_name, one_line
from psij.executors.batch.batch_scheduler_executor import (
    UNKNOWN_ERROR,
    BatchSchedulerExecutorConfig,
    check_status_exit_code,
)
from psij.job import Job
from psij.job_spec import JobSpec
from psij.job_state import JobState
from psij.job_status import JobStatus
from psij.resource_spec import ResourceSpecV1

logger = lazy_logger(__name__)

_STATES = {  # qstat(1), "State"
    'queued': JobState.QUEUED,
    'user_hold': JobState.QUEUED,
    'admin_hold': JobState.QUEUED,
    'dep_hold': JobState.QUEUED,
    'dep_fail': JobState.QUEUED,
    'maxrun_hold': JobState.QUEUED,
    'starting': JobState.QUEUED,  # its nodes are being prepared
    'running': JobState.ACTIVE,
    'killing': JobState.ACTIVE,  # it may live for minutes
    'preempting': JobState.ACTIVE,
    'preempted': JobState.QUEUED,
    'exiting': JobState.ACTIVE,
    'done': JobState.ACTIVE,  # how it ended is decided when it has left the queue
}

_EXPLANATIONS = {
    'user_hold': 'The user holds the job.',
    'admin_hold': 'An administrator holds the job.',
    'dep_hold': 'The job waits for another job that it depends on.',
    'dep_fail': 'The job waits for another job that did not end as required, so it will never run.',
    'maxrun_hold': 'The user has as many running jobs as the queue allows.',
    'killing': 'The job was told to end.',
    'preempting': 'The job is being ended in favour of another job.',
    'preempted': 'The job was ended in favour of another job, and will run again.',
}

# What qsub says when a component of Cobalt cannot be reached; with the second kind it may have got the job.
_UNCLEAR = re.compile(r'timed out|Connection reset|BadStatusLine', re.IGNORECASE)
_TRANSIENT = re.compile(
    r'Connection refused|Failed to connect|Proxy\.py\s*:L#|No route to host|try again|' + _UNCLEAR.pattern,
    re.IGNORECASE,
)

_LEAST_MINUTES = 5  # sites refuse less

_SET_BY_COBALT = frozenset(
    (
        *('HOME', 'USER', 'LOGNAME', 'SHELL'),
        *('CUDA_VISIBLE_DEVICES', 'GPU_DEVICE_ORDINAL', 'ROCR_VISIBLE_DEVICES'),  # by a prologue, on nodes with GPUs
    )
)

_unknown_states: set[str] = set()  # those that were logged


class CobaltExecutorConfig(BatchSchedulerExecutorConfig):
    """Settings of the Cobalt executor; see :class:`.BatchSchedulerExecutorConfig`."""


class CobaltJobExecutor(TemplatedBatchExecutor):
    """A :class:`~psij.JobExecutor` for Cobalt.

    Custom attributes that begin with ``cobalt.`` become options in their long form, after all others: ``cobalt.attrs``
    with the value ``mcdram=flat`` becomes ``#COBALT --attrs=mcdram=flat``, and the value True stands for an option
    without a value.

    Walltimes are rounded up to minutes, and to five of them, since sites refuse less.

    Parameters
    ----------
    url
        Not used.
    config
        Settings.
    """

    _NAME_ = 'cobalt'
    _VERSION_ = '0.2.0'

    template = 'cobalt.mustache'
    config_class = CobaltExecutorConfig

    _dropped_variables = ('QSTAT_', 'CQSTAT_')  # they choose the columns

    def __init__(self, url: Optional[str] = None, config: Optional[BatchSchedulerExecutorConfig] = None) -> None:
        super().__init__(config=config)

    # --- submission ----------------------------------------------------------------------------------------------

    def directives(self, job: Job, spec: JobSpec) -> Iterator[str]:  # noqa: D102
        return iter(split_options(_options(spec, self._log_file('$jobid'))).directives)

    def _create_script_context(self, job: Job) -> Dict[str, object]:
        context = super()._create_script_context(job)
        psij, spec = context['psij'], job.spec
        if isinstance(psij, dict) and spec is not None:
            resources = _resources(spec)
            psij['node_count'] = resources.computed_node_count
            psij['processes_per_node'] = resources.computed_processes_per_node
            psij['inherited'] = exports('COBALT_', _SET_BY_COBALT) if spec.inherit_environment else ''
        return context

    def get_submit_command(self, job: Job, submit_file_path: Path) -> List[str]:  # noqa: D102
        if re.search(r'\s', str(submit_file_path)):
            raise SubmitException(
                f'Cobalt cannot submit the script {str(submit_file_path)!r}: its qsub removes blanks from paths. '
                'Choose a work directory without blanks (JobExecutorConfig.work_directory).'
            )
        submit_file_path.chmod(stat.S_IMODE(submit_file_path.stat().st_mode) | stat.S_IRUSR | stat.S_IXUSR)
        options = [] if job.spec is None else _options(job.spec, self._log_file('$jobid'))
        return ['qsub', *split_options(options).arguments, str(submit_file_path)]

    def job_id_from_submit_output(self, out: str) -> str:  # noqa: D102
        return parse_qsub(out)

    def _is_transient(self, result: CommandResult) -> bool:
        return result.timed_out or _TRANSIENT.search(result.output) is not None

    def _may_have_submitted(self, result: CommandResult) -> bool:
        return result.timed_out or _UNCLEAR.search(result.output) is not None

    def _get_lookup_command(self, job: Job, submit_file_path: Path) -> Optional[List[str]]:
        return ['qstat', '-u', self._current_user(), '--header', 'JobID:Command']

    def _parse_lookup_output(self, job: Job, submit_file_path: Path, out: str) -> Optional[str]:
        scripts = {row[-1]: row[0] for row in _rows(out)}
        return scripts.get(str(submit_file_path))

    # --- status --------------------------------------------------------------------------------------------------

    def get_status_command(self, native_ids: Collection[str]) -> List[str]:  # noqa: D102
        # With IDs it would be silent about those that have ended, and fail without a word if all have.
        return ['qstat', '-u', self._current_user(), '--header', 'JobID:State']

    def parse_status_output(self, exit_code: int, out: str) -> Dict[str, JobStatus]:  # noqa: D102
        if exit_code == 1 and out.strip() in ('', UNKNOWN_ERROR):
            return {}  # so says qstat that none of the jobs exists that it was asked about
        check_status_exit_code('qstat', exit_code, out)
        return parse_qstat(out)

    def _history(self, native_ids: List[str]) -> Tuple[Dict[str, JobStatus], Set[str]]:
        verdicts = {native_id: self._logged(native_id) for native_id in native_ids}
        return {native_id: verdict for native_id, verdict in verdicts.items() if verdict is not None}, set()

    def _logged(self, native_id: str) -> Optional[JobStatus]:
        """Return what the log file of a job says about its end."""
        log = job_files.read_end(self._log_file(native_id))
        has_run = self._file(f'{native_id}.out').exists()
        return None if log is None else parse_log(log, self._current_user(), has_run)

    def _conclude(self, job: Job, verdict: Optional[JobStatus]) -> None:
        record = self._exit_record(job)
        if record is None or not record.is_conclusive:
            verdict = verdict or self._logged(str(job.native_id))
        super()._conclude(job, verdict)

    def _log_file(self, native_id: str) -> Path:
        return self._file(f'{native_id}.cobaltlog')

    def _files(self, job: Job) -> List[Path]:
        return [*super()._files(job), self._log_file(str(job.native_id))]

    # --- cancel, attach, list ------------------------------------------------------------------------------------

    def get_cancel_command(self, native_id: str) -> List[str]:  # noqa: D102
        return ['qdel', native_id]

    def attach(self, job: Job, native_id: str) -> None:  # noqa: D102
        number = str(native_id).strip()
        if not re.fullmatch(r'\d+', number, re.ASCII):
            raise InvalidJobException(f'Invalid native ID: got {native_id!r}, expected the number of a job.')
        super().attach(job, number)

    def get_list_command(self) -> List[str]:  # noqa: D102
        return ['qstat', '-u', self._current_user(), '--header', 'JobID']

    def parse_list_output(self, out: str) -> List[str]:  # noqa: D102
        return [row[0] for row in _rows(out)]

    def _format_duration(self, d: timedelta) -> str:
        return minutes(d)


# --- options ---------------------------------------------------------------------------------------------------------


class _Option(NamedTuple):
    name: str
    value: Optional[object] = None

    def __str__(self) -> str:
        return f'--{self.name}' if self.value is None else f'--{self.name}={self.value}'


class SplitOptions(NamedTuple):
    """Options of ``qsub``: those for the script, and those that only the command line can carry."""

    directives: List[str]
    arguments: List[str]


def split_options(options: Iterable[_Option]) -> SplitOptions:
    """Decide where each option goes.

    Directives are split at blanks, and quotes mean nothing in them. The command line has precedence over them; so an
    option that is repeated goes where its first one went.

    >>> split_options([_Option('jobname', 'two words'), _Option('queue', '"q"'), _Option('held')])
    SplitOptions(directives=['--queue="q"', '--held'], arguments=['--jobname=two words'])
    """
    result = SplitOptions([], [])
    on_command_line = set()
    for option in options:
        if option.name in on_command_line or not re.fullmatch('[!-~]+', str(option)):
            on_command_line.add(option.name)
            result.arguments.append(str(option))
        else:
            result.directives.append(str(option))
    return result


def _options(spec: JobSpec, log_file: Path) -> Iterator[_Option]:
    """Return the options for a job; a later one replaces an earlier one of the same name.

    Parameters
    ----------
    spec
        The specification of the job.
    log_file
        Where Cobalt is to log what it does with the job; ``$jobid`` in it stands for the native ID.
    """
    resources = _resources(spec)
    yield _Option('jobname', cobalt_name(job_name(spec)))
    yield _Option('nodecount', resources.computed_node_count)
    yield _Option('proccount', resources.computed_process_count)
    attributes = spec.attributes
    duration = None if attributes is None else attributes.duration
    yield _Option('time', '0' if duration is None else minutes(duration))  # zero is the longest that is allowed
    if attributes is not None:
        queue, reservation = attributes.queue_name, attributes.reservation_id
        if queue and reservation and queue != reservation:
            raise InvalidJobException(
                f'Invalid reservation_id: got {reservation!r} together with the queue_name {queue!r}, but a '
                'reservation of Cobalt is a queue of its own. Give one of the two.'
            )
        for option, field in (('queue', 'queue_name'), ('queue', 'reservation_id'), ('project', 'account')):
            value = getattr(attributes, field)
            if value:
                yield _Option(option, one_line('Cobalt', field, value))
    yield _Option('output', '/dev/null')
    yield _Option('error', '/dev/null')
    yield _Option('debuglog', log_file)
    for key, value in native_attributes(spec, 'cobalt'):
        if not re.fullmatch(r'[A-Za-z][\w-]+', key, re.ASCII):
            raise InvalidJobException(
                f'Invalid custom attribute cobalt.{key}: expected the long name of an option of qsub.'
            )
        yield _Option(key, None if value is None else one_line('Cobalt', f'custom attribute cobalt.{key}', value))


def _resources(spec: JobSpec) -> ResourceSpecV1:
    """Return the resources of a job, which gets whole nodes in any case."""
    resources = spec.resources or ResourceSpecV1()
    if not isinstance(resources, ResourceSpecV1):
        raise InvalidJobException(f'Cobalt needs a ResourceSpecV1, got {type(resources).__name__}.')
    for field in ('memory', 'gpu_cores_per_process'):
        value = getattr(resources, field)
        if value:
            raise InvalidJobException(
                f'Invalid {field}: got {value}, but Cobalt cannot ask for it. A job has all that its nodes have; leave '
                'it out, or choose nodes with the custom attribute cobalt.attrs.'
            )
    return resources


def cobalt_name(name: str) -> str:
    """Return the name of a job as Cobalt can take it: ASCII text, in which nothing is expanded, and not empty.

    >>> cobalt_name('run $jobid\\n'), cobalt_name(' ')
    ('run _jobid_', 'psij')
    """
    return re.sub(r'[^ -~]|\$', '_', name).strip() or 'psij'


def minutes(duration: timedelta) -> str:
    """Return a walltime in minutes, rounded up to what sites accept.

    >>> minutes(timedelta(hours=1, seconds=1)), minutes(timedelta(0))
    ('61', '5')
    """
    return str(max(_LEAST_MINUTES, -(-duration // timedelta(minutes=1))))


# --- what the commands print -----------------------------------------------------------------------------------------


def parse_qsub(out: str) -> str:
    """Return the job ID that ``qsub`` has printed, maybe with remarks of the site after it.

    >>> parse_qsub('1023 submitted to debug\\n')
    '1023'
    """
    for word in out.split():
        if re.fullmatch(r'\d+', word, re.ASCII):
            return word
    raise ValueError(f'qsub printed no job ID: {out!r}')


def _rows(out: str) -> Iterator[List[str]]:
    """Yield the cells of each job in a table of ``qstat``, whose first column is the job ID.

    Raises
    ------
    ValueError
        If there is no table. One without jobs has a header and a rule, too.
    """
    lines = iter(out.splitlines())
    if not any(re.fullmatch('=+', line.strip()) for line in lines):
        raise ValueError(f'qstat printed something else than a table of jobs: {out[:500]!r}')
    for line in lines:
        cells = line.split()
        if cells and re.fullmatch(r'\d+', cells[0], re.ASCII):
            yield cells


def parse_qstat(out: str) -> Dict[str, JobStatus]:
    """Return the status of each job in the output of ``qstat --header JobID:State``.

    >>> parse_qstat('JobID  State    \\n================\\n 987   running  \\n')['987'].state
    ACTIVE
    """
    return {row[0]: _status(row[1]) for row in _rows(out) if len(row) == 2}


def _status(native_state: str) -> JobStatus:
    state = _STATES.get(native_state)
    if state is None:
        if native_state not in _unknown_states:
            _unknown_states.add(native_state)
            logger.warning('Cobalt reports a state that is not known here: %r. Jobs keep their states.', native_state)
        state = JobState.QUEUED  # which is never ahead of what is known
    return JobStatus(state, message=_EXPLANATIONS.get(native_state), metadata={'native_state': native_state})


# Why Cobalt has ended a job. Of several reasons the first counts, because later ones are of no effect any more.
_CAUSE = re.compile(
    r' \(UTC\) Info: (?:(?P<timeout>maximum execution time exceeded)'
    r"|(?:user|forced) delete requested(?:.* by user '?(?P<by>[^\s';]+))?)"
)
_EXITED = re.compile(r' \(UTC\) Info: task completed normally with an exit code of (\d+)')


def parse_log(log: str, user: str, has_run: bool) -> Optional[JobStatus]:
    """Return the final status of a job that has left the queue, as far as its log file tells it.

    A job that is deleted before it starts leaves no trace but a log that ends where it began. One that Cobalt has ended
    has no exit code in the log, unless it was faster than the signal. Old versions do not log that a walltime was over;
    nothing tells then, and nothing is guessed.

    Parameters
    ----------
    log
        The text.
    user
        The name of the user.
    has_run
        Whether there are other signs that the job has started.
    """
    cause, exited = _CAUSE.search(log), _EXITED.search(log)
    code = None if exited is None else int(exited[1])
    if code == 0:
        return JobStatus(JobState.COMPLETED, exit_code=0)
    if cause is not None and cause['timeout']:
        return JobStatus(JobState.FAILED, exit_code=code, metadata={'reason': 'timeout'})
    if cause is not None:
        by_user = cause['by'] in (None, user)
        reason = 'cancelled_by_user' if by_user else 'cancelled_by_system'
        return JobStatus(JobState.CANCELED, metadata={'reason': reason})
    if code is None:
        if log.startswith('Jobid: ') and ' Command: ' not in log and not has_run:
            message = 'The job has left the queue before it was started, as jobs do that are deleted.'
            return JobStatus(JobState.CANCELED, message=message, metadata={'reason': 'cancelled_by_user'})
        return None
    return JobStatus(JobState.FAILED, exit_code=code)
