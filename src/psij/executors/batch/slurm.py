"""The Slurm workload manager, driven through ``sbatch``, ``squeue``, ``scancel`` and ``sacct``.

The facts behind the parsers come from recordings of Slurm 22.05 (``tests/recordings/slurm``) and from its manual
pages.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Collection, Dict, Iterator, List, Optional

from psij._log import lazy_logger
from psij._runtime.command import CommandResult
from psij._runtime.script_context import native_attributes
from psij.exceptions import InvalidJobException
from psij.executors.batch._templated_executor import TemplatedBatchExecutor, job_name, one_line
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutorConfig, check_status_exit_code
from psij.job import Job
from psij.job_spec import JobSpec
from psij.job_state import JobState
from psij.job_status import JobStatus
from psij.resource_spec import ResourceSpecV1

logger = lazy_logger(__name__)

_STATES = {  # squeue(1), "JOB STATE CODES"
    'PD': JobState.QUEUED,
    'CF': JobState.QUEUED,  # has nodes, which are not ready yet
    'RQ': JobState.QUEUED,
    'RH': JobState.QUEUED,  # requeued and held
    'RF': JobState.QUEUED,  # requeued in a federation
    'RV': JobState.QUEUED,  # runs on another cluster of the federation
    'RD': JobState.QUEUED,  # held, since its reservation is gone
    'SE': JobState.QUEUED,  # held, since it ended with a special exit code
    'R': JobState.ACTIVE,
    'CG': JobState.ACTIVE,  # on its way to any final state, or back into the queue
    'S': JobState.ACTIVE,
    'ST': JobState.ACTIVE,
    'SI': JobState.ACTIVE,
    'RS': JobState.ACTIVE,
    'SO': JobState.ACTIVE,
    'CD': JobState.COMPLETED,
    'CA': JobState.CANCELED,
    'F': JobState.FAILED,
    'TO': JobState.FAILED,
    'OOM': JobState.FAILED,
    'NF': JobState.FAILED,
    'PR': JobState.FAILED,
    'DL': JobState.FAILED,
    'BF': JobState.FAILED,
    'LF': JobState.FAILED,  # newer versions: the launch failed
}

_LONG_STATES = {  # the same in sacct(1)
    'PENDING': 'PD',
    'CONFIGURING': 'CF',
    'REQUEUED': 'RQ',
    'REQUEUE_HOLD': 'RH',
    'REQUEUE_FED': 'RF',
    'REVOKED': 'RV',
    'RESV_DEL_HOLD': 'RD',
    'SPECIAL_EXIT': 'SE',
    'RUNNING': 'R',
    'COMPLETING': 'CG',
    'SUSPENDED': 'S',
    'STOPPED': 'ST',
    'SIGNALING': 'SI',
    'RESIZING': 'RS',
    'STAGE_OUT': 'SO',
    'COMPLETED': 'CD',
    'CANCELLED': 'CA',
    'FAILED': 'F',
    'TIMEOUT': 'TO',
    'OUT_OF_MEMORY': 'OOM',
    'NODE_FAIL': 'NF',
    'PREEMPTED': 'PR',
    'DEADLINE': 'DL',
    'BOOT_FAIL': 'BF',
    'LAUNCH_FAILED': 'LF',
}

_REASONS = {  # of the state, in the vocabulary of psij.job_status.REASONS
    'TO': 'timeout',
    'DL': 'timeout',
    'OOM': 'out_of_memory',
    'NF': 'node_failure',
    'BF': 'node_failure',
    'LF': 'node_failure',
    'PR': 'preempted',
}

_EXPLANATIONS = {  # squeue(1), "JOB REASON CODES"; what they mean to the owner of a job
    'AssocGrpCpuLimit': 'The association of the job has reached its limit of CPUs.',
    'AssociationJobLimit': 'The association of the job has reached its limit of jobs.',
    'AssociationResourceLimit': 'The association of the job has reached a limit of resources.',
    'AssociationTimeLimit': 'The association of the job has reached its limit of time.',
    'BadConstraints': 'No node can satisfy the constraints of the job.',
    'BeginTime': 'The earliest time at which the job may start has not come.',
    'Cleaning': 'The job is being requeued, and an earlier run of it is still being cleaned up.',
    'DeadLine': 'The job cannot end before its deadline.',
    'Dependency': 'The job waits for another job that it depends on.',
    'DependencyNeverSatisfied': 'The job waits for another job that did not end as required, so it will never run.',
    'FrontEndDown': 'No front end node can run the job.',
    'InactiveLimit': 'The job has reached the limit of inactivity.',
    'InvalidAccount': 'The account of the job is not valid.',
    'InvalidQOS': 'The quality of service of the job is not valid.',
    'JobHeldAdmin': 'An administrator holds the job.',
    'JobHeldUser': 'The user holds the job.',
    'JobLaunchFailure': 'The job could not be launched, or its script was ended by a signal.',
    'Licenses': 'The job waits for a license.',
    'NodeDown': 'A node that the job needs is down.',
    'NonZeroExitCode': 'The job ended with a non-zero exit code.',
    'OutOfMemory': 'The job used more memory than it had.',
    'PartitionConfig': 'The job asks for more than its partition allows, so it will not run.',
    'PartitionDown': 'The partition of the job is down.',
    'PartitionInactive': 'The partition of the job does not start jobs at present.',
    'PartitionNodeLimit': 'The job asks for more nodes than its partition allows, so it will not run.',
    'PartitionTimeLimit': 'The job asks for more time than its partition allows, so it will not run.',
    'Priority': 'Jobs with a higher priority come first.',
    'Prolog': 'The nodes of the job are being prepared.',
    'QOSJobLimit': 'The quality of service of the job has reached its limit of jobs.',
    'QOSResourceLimit': 'The quality of service of the job has reached a limit of resources.',
    'QOSTimeLimit': 'The quality of service of the job has reached its limit of time.',
    'QOSUsageThreshold': 'The quality of service of the job has reached its threshold of usage.',
    'ReqNodeNotAvail': 'A node that the job asks for is not available.',
    'Reservation': 'The job waits for its reservation to begin.',
    'Resources': 'The job waits for resources.',
    'SystemFailure': 'Slurm, a file system or the network failed.',
    'TimeLimit': 'The job exhausted its time limit.',
    'WaitingForScheduling': 'The scheduler has not looked at the job yet.',
}

_UNKNOWN_STATES: set[str] = set()  # those that were logged


class SlurmExecutorConfig(BatchSchedulerExecutorConfig):
    """Settings of the Slurm executor; see :class:`.BatchSchedulerExecutorConfig`."""


class SlurmJobExecutor(TemplatedBatchExecutor):
    """A :class:`~psij.JobExecutor` for the Slurm workload manager.

    Custom attributes that begin with ``slurm.`` become directives in their long form, after all others: ``slurm.qos``
    with the value ``debug`` becomes ``#SBATCH --qos=debug``, and the value True stands for an option without a value.

    Parameters
    ----------
    url
        Not used.
    config
        Settings.
    """

    _NAME_ = 'slurm'
    _VERSION_ = '0.2.0'

    template = 'slurm.mustache'
    config_class = SlurmExecutorConfig

    # SBATCH_PARTITION and the like override directives, SQUEUE_FORMAT and the like filter, and the SLURM_ variables of
    # a job that we run in would describe that job to the new one.
    _dropped_variables = ('SLURM_', 'SBATCH_', 'SQUEUE_', 'SCANCEL_', 'SACCT_')
    _kept_variables = ('SLURM_CONF', 'SLURM_CLUSTERS', 'SLURM_CONF_SERVER')

    def __init__(self, url: Optional[str] = None, config: Optional[BatchSchedulerExecutorConfig] = None) -> None:
        super().__init__(config=config)
        self._fields = _FIELDS

    def directives(self, job: Job, spec: JobSpec) -> Iterator[str]:  # noqa: D102
        yield _option('job-name', one_line('Slurm', 'name', job_name(spec)))
        if spec.directory is not None:
            yield _option('chdir', one_line('Slurm', 'directory', Path.cwd() / spec.directory))
        yield from _resource_directives(spec)
        attributes = spec.attributes
        if attributes is not None:
            if attributes.duration is not None:
                yield _option('time', self._format_duration(attributes.duration))
            for option, field in (
                ('partition', 'queue_name'),
                ('account', 'account'),
                ('reservation', 'reservation_id'),
            ):
                value = getattr(attributes, field)
                if value:
                    yield _option(option, one_line('Slurm', field, value))
        yield _option('export', 'ALL' if spec.inherit_environment else 'NONE')
        yield '--output=/dev/null'
        yield '--error=/dev/null'
        for key, value in native_attributes(spec, 'slurm'):
            yield _custom_option(key, value)

    def get_submit_command(self, job: Job, submit_file_path: Path) -> List[str]:  # noqa: D102
        return ['sbatch', '--parsable', str(submit_file_path)]

    def job_id_from_submit_output(self, out: str) -> str:  # noqa: D102
        return parse_sbatch(out)

    def _is_transient(self, result: CommandResult) -> bool:
        return result.timed_out or _TRANSIENT.search(result.output) is not None

    def _may_have_submitted(self, result: CommandResult) -> bool:
        return result.timed_out or _UNCLEAR.search(result.output) is not None

    def _get_lookup_command(self, job: Job, submit_file_path: Path) -> Optional[List[str]]:
        return ['squeue', '--me', '-h', '-t', 'all', '-o', '%A|%o']

    def _parse_lookup_output(self, job: Job, submit_file_path: Path, out: str) -> Optional[str]:
        for line in out.splitlines():
            native_id, _, command = line.partition('|')
            if command.strip() == str(submit_file_path):
                return native_id.strip()
        return None

    def get_cancel_command(self, native_id: str) -> List[str]:  # noqa: D102
        return ['scancel', '-Q', native_id]

    def _note_cancellation(self, job: Job) -> List[Path]:
        progress = self._progress(job)
        if progress.attached and not (progress.listed or self._is_ours(job)):
            return []  # scancel says nothing if there is no such job, and squeue and sacct know those that there are
        return super()._note_cancellation(job)

    def get_status_command(self, native_ids: Collection[str]) -> List[str]:  # noqa: D102
        # a list of IDs would make squeue fetch all jobs as well, and take longer
        return ['squeue', '--me', '-h', '-r', '-t', 'all', *self._fields]

    def _must_ask_differently(self, answer: CommandResult) -> bool:
        # A version of squeue that does not know a field says so on stderr, prints blank lines, and exits with 0.
        unknown = not answer.stdout.strip() and _UNKNOWN_FIELD.search(answer.stderr) is not None
        if self._fields is _FIELDS and not answer.exit_code and unknown:
            self._fields = _OLD_FIELDS
            return True
        return False

    def _status_lines(self, exit_code: int, out: str) -> Optional[List[str]]:
        return out.splitlines() if exit_code == 0 else None

    def parse_status_output(self, exit_code: int, out: str) -> Dict[str, JobStatus]:  # noqa: D102
        check_status_exit_code('squeue', exit_code, out)
        return parse_squeue(out)

    def _get_history_command(self, native_ids: List[str]) -> Optional[List[str]]:
        ids = ','.join(native_id for native_id in native_ids if _is_job_id(native_id))
        fields = 'JobID,JobIDRaw,State%60,ExitCode,ElapsedRaw,NNodes'
        return ['sacct', '-X', '-n', '-P', '-j', ids, '-o', fields] if ids else None

    def _parse_history_output(self, exit_code: int, out: str) -> Optional[Dict[str, JobStatus]]:
        if exit_code and 'accounting storage is disabled' in out:
            return None
        check_status_exit_code('sacct', exit_code, out)
        return parse_sacct(out)

    def attach(self, job: Job, native_id: str) -> None:  # noqa: D102
        number = str(native_id).strip().partition(';')[0]  # sbatch --parsable adds the name of the cluster
        if not _is_job_id(number):
            raise InvalidJobException(
                f'Invalid native ID: got {native_id!r}, expected the number of a job, or of a task of an array such as '
                '86_2.'
            )
        super().attach(job, number)

    def get_list_command(self) -> List[str]:  # noqa: D102
        return ['squeue', '--me', '-o', '%i', '-h', '-r', '-t', 'all']

    def _format_duration(self, d: timedelta) -> str:
        seconds = -(-d // timedelta(seconds=1))
        days, seconds = divmod(seconds, 86400)
        clock = f'{seconds // 3600}:{seconds // 60 % 60}:{seconds % 60}'
        return f'{days}-{clock}' if days else clock


# Without a width a field is neither padded nor cut. Not all versions can print the exit code.
_FIELDS = ('-O', 'JobArrayID:|,JobID:|,StateCompact:|,exit_code:|,Reason:|')
_UNKNOWN_FIELD = re.compile(r'Invalid job format|[Uu]nrecognized|[Uu]nknown field')
_OLD_FIELDS = ('-o', '%i|%A|%t||%r|')

# What sbatch says when the controller cannot be reached or is busy, or a limit is reached for the moment; the second
# kind leaves open whether there is a job.
_UNCLEAR = re.compile(r'Socket timed out|Transport endpoint|Zero Bytes were transmitted|timed out', re.IGNORECASE)
_TRANSIENT = re.compile(
    r'Socket timed out|Unable to contact slurm controller|Connection refused|Transport endpoint|timed out'
    r'|Zero Bytes were transmitted|Job violates accounting/QOS policy \(job submit limit'
    r'|Slurm temporarily unable to accept job|Resource temporarily unavailable|Protocol authentication error'
    r'|munge|Maximum number of jobs|QOSMaxSubmitJob|AssocMaxSubmitJob|slurmctld.* not|try again',
    re.IGNORECASE,
)


def _option(name: str, value: str) -> str:
    """Return an option as it is written in a directive.

    Inside double quotes a backslash takes the next character as it is, and nothing else is special (recording
    ``sbatch_directive_quoting``).

    >>> print(_option('comment', 'say "hi"'))
    --comment="say \\"hi\\""
    """
    if re.fullmatch(r'[\w.:/@%+=,-]+', value, re.ASCII):
        return f'--{name}={value}'
    return '--{}="{}"'.format(name, value.replace('\\', '\\\\').replace('"', '\\"'))


def _custom_option(key: str, value: Optional[object]) -> str:
    if not re.fullmatch(r'[A-Za-z0-9][\w.-]*', key, re.ASCII):
        raise InvalidJobException(
            f'Invalid custom attribute slurm.{key}: expected the long name of an option of sbatch.'
        )
    if value is None:
        return f'--{key}'
    return _option(key, one_line('Slurm', f'custom attribute slurm.{key}', value))


def _resource_directives(spec: JobSpec) -> Iterator[str]:
    resources = spec.resources
    if not resources:
        return
    if not isinstance(resources, ResourceSpecV1):
        raise InvalidJobException(f'Slurm needs a ResourceSpecV1, got {type(resources).__name__}.')
    if resources.exclusive_node_use:
        yield '--exclusive'
    yield _option('nodes', str(resources.computed_node_count))
    yield _option('ntasks', str(resources.computed_process_count))
    yield _option('ntasks-per-node', str(resources.computed_processes_per_node))
    if resources.cpu_cores_per_process is not None:
        yield _option('cpus-per-task', str(resources.cpu_cores_per_process))
    if resources.gpu_cores_per_process is not None:
        yield _option('gpus-per-task', str(resources.gpu_cores_per_process))
    if resources.memory:
        # --mem is for each node, and in units of 1024 bytes; rounded up, so that the job has what it asked for
        per_node = -(-resources.memory // (1024 * resources.computed_node_count))
        yield _option('mem', f'{per_node}K')


def _is_job_id(text: str) -> bool:
    """Tell whether a text is the ID of a job, of a task of an array, or of a part of a heterogeneous job.

    >>> _is_job_id('86_2'), _is_job_id('12+1'), _is_job_id('86_[3-5]')
    (True, True, False)
    """
    return re.fullmatch(r'\d+(_\d+|\+\d+)?', text, re.ASCII) is not None


def parse_sbatch(out: str) -> str:
    """Return the job ID that ``sbatch --parsable`` has printed.

    In a federation or with ``--clusters`` the name of the cluster follows, after a semicolon. Wrappers of ``sbatch``
    that sites install print other lines as well, and may print the message that comes without ``--parsable``.

    >>> parse_sbatch('12;cluster'), parse_sbatch('quota: 80 percent used\\nSubmitted batch job 13\\n')
    ('12', '13')
    """
    for line in reversed(out.splitlines()):
        match = re.fullmatch(r'(?:Submitted batch job )?(\d+)(?:;\S+| on cluster \S+)?', line.strip(), re.ASCII)
        if match is not None:
            return match[1]
    raise ValueError(f'sbatch printed no job ID: {out!r}')


def parse_squeue(out: str) -> Dict[str, JobStatus]:
    """Return the status of each job in the output of ``squeue`` with the fields that the executor asks for.

    A task of an array has two IDs, ``86_2`` and a number of its own; both are in the result.

    >>> parse_squeue('12|12|PD|0|Resources|\\n86_2|88|R|0|None|\\n')['88'].state
    ACTIVE

    Raises
    ------
    ValueError
        If there are lines, and none of them is understood.
    """
    statuses: Dict[str, JobStatus] = {}
    lines = 0
    for line in out.splitlines():
        if not line.strip():
            continue
        lines += 1
        parts = line.split('|')
        if len(parts) < 6 or not parts[1].isdigit():
            logger.debug('Not a line of squeue: %r', line)
            continue
        shown, number, code, wait_status = parts[:4]
        reason = '|'.join(parts[4:-1])
        statuses[shown] = statuses[number] = _status(code, reason, _exit_code(code, wait_status))
    if lines and not statuses:
        raise ValueError(f'squeue printed something else than a list of jobs: {out[:500]!r}')
    return statuses


def _exit_code(code: str, wait_status: str) -> Optional[int]:
    """Return the exit code for what squeue and scontrol call one, which is a wait status.

    It means something only if the job has ended by itself.

    >>> _exit_code('F', '768'), _exit_code('F', '9'), _exit_code('F', '53'), _exit_code('TO', '15')
    (3, 137, None, None)
    """
    if code not in ('CD', 'F') or not wait_status.isdigit():
        return None
    return _shell_code(*divmod(int(wait_status), 256))


def _shell_code(exit_code: int, signum: int) -> Optional[int]:
    """Return what a shell would report; None if the job never ran, because its files could not be opened."""
    if signum == _COULD_NOT_OPEN:
        return None
    return 128 + signum if signum else exit_code


_COULD_NOT_OPEN = 53  # not a signal, although it is in that place


def _status(code: str, reason: str, exit_code: Optional[int] = None) -> JobStatus:
    state = _STATES.get(code)
    metadata: Dict[str, object] = {'native_state': code}
    if state is None:
        if code not in _UNKNOWN_STATES:
            _UNKNOWN_STATES.add(code)
            logger.warning('Slurm reports a state that is not known here: %r. It is taken as a job that waits.', code)
        return JobStatus(JobState.QUEUED, metadata=metadata)
    if code in _REASONS:
        metadata['reason'] = _REASONS[code]
    elif state is JobState.CANCELED:
        metadata['reason'] = 'dependency' if reason == 'DependencyNeverSatisfied' else 'cancelled_by_user'
    elif state is JobState.FAILED and reason == 'BadConstraints':
        metadata['reason'] = 'submit_rejected'
    message = None
    if reason not in ('None', '', '(null)') and state in (JobState.QUEUED, JobState.FAILED):
        message = _explain(reason)
    elif code == 'CG' or state is not JobState.ACTIVE:
        pass
    elif code in ('S', 'ST'):
        message = 'The job is suspended.'
    if state is JobState.COMPLETED and exit_code is None:
        exit_code = 0  # not all versions tell, but that is what the state means
    return JobStatus(state, message=message, exit_code=exit_code, metadata=metadata)


def _explain(reason: str) -> str:
    """Return a sentence for a reason; details that follow its first word are kept.

    >>> _explain('ReqNodeNotAvail, UnavailableNodes:node02')
    'A node that the job asks for is not available. (ReqNodeNotAvail, UnavailableNodes:node02)'
    """
    word = re.split(r'[,:\s]', reason, maxsplit=1)[0]
    if word in _EXPLANATIONS:
        return _EXPLANATIONS[word] if reason == word else f'{_EXPLANATIONS[word]} ({reason})'
    return f'{reason} - no description available'


def parse_sacct(out: str) -> Dict[str, JobStatus]:
    """Return the status of each job in the output of ``sacct -X -n -P`` with the fields that the executor asks for.

    A job that was requeued may be listed more than once; the last line counts.

    >>> parse_sacct('12|12|CANCELLED by 1001|0:0|5|1\\n')['12'].state
    CANCELED
    """
    statuses: Dict[str, JobStatus] = {}
    for line in out.splitlines():
        parts = line.split('|')
        if len(parts) != 6 or not parts[2]:
            continue
        shown, number, state, exit_code, elapsed, nodes = parts
        word, _, by = state.partition(' ')
        code = _LONG_STATES.get(word.rstrip('+'))
        if code is None:
            logger.warning('sacct reports a state that is not known here: %r', state)
            continue
        status = _status(code, 'None', _accounted_exit_code(code, exit_code))
        metadata = dict(status.metadata or {})
        if by.startswith('by '):
            metadata['reason'] = 'cancelled_by_user' if _is_own_uid(by[3:]) else 'cancelled_by_system'
        if elapsed.isdigit():
            metadata['elapsed'] = int(elapsed)
        if nodes.isdigit():
            metadata['nodes'] = int(nodes)
        status.metadata = metadata
        statuses[shown] = statuses[number] = status
    return statuses


def _is_own_uid(text: str) -> bool:
    return text.strip() == str(os.geteuid())


def _accounted_exit_code(code: str, text: str) -> Optional[int]:
    """Return the exit code for a field ``code:signal`` of sacct.

    From every exit code above 128 sacct subtracts 128, so that 9 may have been 137; the exit code file of the script
    and squeue are more exact, and are used first.

    >>> _accounted_exit_code('F', '3:0'), _accounted_exit_code('F', '9:0'), _accounted_exit_code('F', '0:9')
    (3, 9, 137)
    """
    match = re.fullmatch(r'(\d+):(\d+)', text)
    if match is None or code not in ('CD', 'F'):
        return None
    return _shell_code(int(match[1]), int(match[2]))
