"""IBM Spectrum LSF, driven through ``bsub``, ``bjobs``, ``bkill`` and ``bhist``.

The facts behind the parsers come from recordings of volclava 2.2, a free relative of LSF
(``tests/recordings/lsf``), and from IBM's manual of LSF 10.1. What is different in the two is done in the way that
both understand, or tried in the newer way first.
"""

from __future__ import annotations

import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Collection, Dict, Iterator, List, NamedTuple, Optional

from psij._log import lazy_logger
from psij._runtime.command import CommandResult
from psij._runtime.outcome import ExitRecord
from psij._runtime.script_context import native_attributes
from psij.exceptions import InvalidJobException, SubmitException
from psij.executors.batch._queue_poller import NoAnswer
from psij.executors.batch._templated_executor import TemplatedBatchExecutor, job_name, one_line
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutorConfig, InvalidJobStateError
from psij.executors.batch.escape_functions import bash_escape
from psij.executors.batch.script_generator import TemplatedScriptGenerator
from psij.job import Job
from psij.job_spec import JobSpec
from psij.job_state import JobState
from psij.job_status import JobStatus
from psij.resource_spec import ResourceSpecV1

logger = lazy_logger(__name__)

_STATES = {  # bjobs(1), "STAT"
    'PEND': JobState.QUEUED,
    'PROV': JobState.QUEUED,  # its host is being prepared
    'PSUSP': JobState.QUEUED,  # held
    'WAIT': JobState.QUEUED,  # in a chunk with other jobs, which run one after the other
    'RUN': JobState.ACTIVE,
    'USUSP': JobState.ACTIVE,
    'SSUSP': JobState.ACTIVE,
    'UNKWN': JobState.ACTIVE,
    'ZOMBI': JobState.ACTIVE,
    'DONE': JobState.COMPLETED,
    'EXIT': JobState.FAILED,  # or canceled: see _TERMINATIONS
}

_EXPLANATIONS = {
    'PSUSP': 'The job is held.',
    'USUSP': 'The job is suspended by a user.',
    'SSUSP': 'The job is suspended by the system.',
    'UNKWN': 'LSF cannot reach the node of the job.',
    'ZOMBI': 'The job is to be killed, but LSF cannot reach its node.',
}


class _Termination(NamedTuple):
    state: JobState
    reason: Optional[str]  # in the vocabulary of psij.job_status.REASONS


_BY_USER = _Termination(JobState.CANCELED, 'cancelled_by_user')
_BY_SYSTEM = _Termination(JobState.CANCELED, 'cancelled_by_system')
_TIMEOUT = _Termination(JobState.FAILED, 'timeout')
_MEMORY = _Termination(JobState.FAILED, 'out_of_memory')

_TERMINATIONS = {  # bacct(1), "Termination reasons"; others leave it at the exit code
    'TERM_OWNER': _BY_USER,
    'TERM_FORCE_OWNER': _BY_USER,
    'TERM_REQUEUE_OWNER': _BY_USER,
    'TERM_ADMIN': _BY_SYSTEM,
    'TERM_FORCE_ADMIN': _BY_SYSTEM,
    'TERM_REQUEUE_ADMIN': _BY_SYSTEM,
    'TERM_RUNLIMIT': _TIMEOUT,
    'TERM_CPULIMIT': _TIMEOUT,
    'TERM_DEADLINE': _TIMEOUT,
    'TERM_WINDOW': _TIMEOUT,
    'TERM_MEMLIMIT': _MEMORY,
    'TERM_SWAP': _MEMORY,
    'TERM_PREEMPT': _Termination(JobState.FAILED, 'preempted'),
    'TERM_REMOVE_HUNG_JOB': _Termination(JobState.FAILED, 'node_failure'),
    'TERM_ORPHAN_SYSTEM': _Termination(JobState.CANCELED, 'dependency'),
}

# An unknown field costs the whole answer; not all fix packs of LSF 10.1 know all of these, and volclava few.
_FIELDS = (
    'jobid jobindex stat exit_code exit_reason kill_reason suspend_reason pend_reason',
    'jobid jobindex stat exit_code exit_reason',
    'jobid stat start_time job_name',
)

_INTERRUPTED, _TERMINATED, _RUN_LIMIT = 130, 143, 140  # the exit codes for SIGINT, SIGTERM and SIGUSR2

_NAME_LENGTH = 254  # bytes, in volclava; LSF takes 4094

_SYSTEM_CONFIGURATION = '/etc'  # the directory of lsf.conf if LSF_ENVDIR does not tell
_MEMORY_UNITS = 'KMGTPE'  # powers of 1024 bytes, beginning with the first

# What bsub says when LSF cannot be reached or is busy, or a limit is reached for the moment; in the first case it is
# not clear whether there is a job.
_UNCLEAR = re.compile(r'Communication time ?out', re.IGNORECASE)
_TRANSIENT = re.compile(
    r'not responding|try (again )?later|Cannot connect to LSF|Communication time ?out|Connection refused|is down'
    r'|Pending job threshold|job limit|Too many jobs',
    re.IGNORECASE,
)

_unknown_states: set[str] = set()  # those that were logged


class LsfExecutorConfig(BatchSchedulerExecutorConfig):
    """Settings of the LSF executor; see :class:`.BatchSchedulerExecutorConfig`."""


class LsfJobExecutor(TemplatedBatchExecutor):
    """A :class:`~psij.JobExecutor` for IBM Spectrum LSF.

    Custom attributes that begin with ``lsf.`` become options, after all others: ``lsf.app`` with the value ``mpi``
    becomes ``#BSUB -app mpi``, and the value True stands for an option without a value.

    Parameters
    ----------
    url
        Not used.
    config
        Settings.
    """

    _NAME_ = 'lsf'
    _VERSION_ = '0.2.0'

    template = 'lsf.mustache'
    config_class = LsfExecutorConfig

    # BSUB_QUIET hides the job ID, BSUB_STDERR moves it, BSUB_CHK_RESREQ keeps bsub from submitting at all.
    _dropped_variables = ('BSUB_', 'LSB_BJOBS_')

    _command_timeout = 60.0  # without its daemons, every command of LSF waits for ever

    def __init__(self, url: Optional[str] = None, config: Optional[BatchSchedulerExecutorConfig] = None) -> None:
        super().__init__(config=config)
        self.generator = TemplatedScriptGenerator(self.config, self._template_path(), lsf_escape)
        self._fields = _FIELDS[0]

    # --- submission ----------------------------------------------------------------------------------------------

    def directives(self, job: Job, spec: JobSpec) -> Iterator[str]:  # noqa: D102
        return iter(split_options(_options(spec)).directives)

    def _create_script_context(self, job: Job) -> Dict[str, object]:
        context = super()._create_script_context(job)
        psij, spec = context['psij'], job.spec
        if isinstance(psij, dict) and spec is not None:
            psij['end_signals'] = ['INT', 'USR2']  # how bkill begins, and what comes when the run limit is reached
            psij['submission'] = Path(str(psij['revoked_file'])).stem
            psij['clean_environment'] = not spec.inherit_environment
            psij['nodefile_filter'] = _nodefile_filter(spec)
        return context

    def get_submit_command(self, job: Job, submit_file_path: Path) -> List[str]:  # noqa: D102
        return ['bsub', *(split_options(_options(job.spec)).arguments if job.spec is not None else ())]

    def _get_submit_input(self, job: Job, submit_file_path: Path) -> Optional[Path]:
        return submit_file_path  # bsub takes a file among its arguments for a command, unless the site says otherwise

    def job_id_from_submit_output(self, out: str) -> str:  # noqa: D102
        return parse_bsub(out)

    def _is_transient(self, result: CommandResult) -> bool:
        return result.timed_out or _TRANSIENT.search(result.output) is not None

    def _may_have_submitted(self, result: CommandResult) -> bool:
        return result.timed_out or _UNCLEAR.search(result.output) is not None

    def _get_lookup_command(self, job: Job, submit_file_path: Path) -> Optional[List[str]]:
        return None if job.spec is None else ['bjobs', '-a', '-UF', '-J', lsf_name(job_name(job.spec))]

    def _parse_lookup_output(self, job: Job, submit_file_path: Path, out: str) -> Optional[str]:
        return find_submission(out, f'# Submission {job.id}-{self._progress(job).attempt}')

    # --- status --------------------------------------------------------------------------------------------------

    def get_status_command(self, native_ids: Collection[str]) -> List[str]:  # noqa: D102
        return ['bjobs', '-a', '-json', '-o', self._fields, *native_ids]

    def _must_ask_differently(self, answer: CommandResult) -> bool:
        if not answer.exit_code or 'valid field' not in answer.stderr:
            return False
        field = re.search(r'<(\w+)', answer.stderr)
        unknown = field[1].lower() if field is not None else None
        rest = _FIELDS[_FIELDS.index(self._fields) + 1 :]
        self._fields = next((fields for fields in rest if unknown not in fields.split()), _FIELDS[-1])
        return bool(rest)

    def parse_status_output(self, exit_code: int, out: str) -> Dict[str, JobStatus]:  # noqa: D102
        # The exit code is not zero if no job was found, and in older versions if one was not.
        return parse_bjobs(out)

    def _get_history_command(self, native_ids: List[str]) -> Optional[List[str]]:
        ids = [native_id for native_id in native_ids if _is_job_id(native_id)]
        return ['bhist', '-l', *ids] if ids else None

    def _parse_history_output(self, exit_code: int, out: str) -> Optional[Dict[str, JobStatus]]:
        return parse_bhist(out)

    def _conclude(self, job: Job, verdict: Optional[JobStatus]) -> None:
        record = self._exit_record(job)
        verdict = with_cause(verdict, record, self._was_cancelled(job))
        if record is None and verdict is not None and _is_unexplained(verdict):
            verdict = self._remembered(job) or verdict
        super()._conclude(job, verdict)

    def _remembered(self, job: Job) -> Optional[JobStatus]:
        """Return what the history says about the end of a job of which bjobs cannot tell the exit code."""
        native_id = str(job.native_id)
        try:
            history, _ = self._history([native_id])
        except NoAnswer:
            return None
        status = history.get(native_id)
        return status if status is not None and status.final else None

    # --- cancel, attach, list ------------------------------------------------------------------------------------

    def get_cancel_command(self, native_id: str) -> List[str]:  # noqa: D102
        if not _is_job_id(native_id):  # `bkill 0` kills all jobs of the user
            raise SubmitException(f'Cannot cancel the job: {native_id!r} is not the ID of a job.')
        return ['bkill', native_id]

    def process_cancel_command_output(self, exit_code: int, out: str) -> None:  # noqa: D102
        if re.search('already finished|No matching job found', out, re.IGNORECASE):
            raise InvalidJobStateError(out.strip())
        if 'Operation is in progress' not in out:  # that says nothing: the job may have ended by it
            raise SubmitException(out.strip())

    def attach(self, job: Job, native_id: str) -> None:  # noqa: D102
        number = str(native_id).strip()
        if not _is_job_id(number):
            raise InvalidJobException(
                f'Invalid native ID: got {native_id!r}, expected the number of a job, or of an element of an array '
                'such as 86[2].'
            )
        super().attach(job, number)

    def get_list_command(self) -> List[str]:  # noqa: D102
        return ['bjobs', '-a', '-json', '-o', 'jobid', '-u', self._current_user()]

    def _has_no_jobs(self, result: CommandResult) -> bool:
        if not result.stdout.strip():
            return re.search(r'^No (unfinished )?job found', result.stderr, re.MULTILINE) is not None
        try:
            return not _records(result.stdout)
        except ValueError:
            return False

    def parse_list_output(self, out: str) -> List[str]:  # noqa: D102
        records = _records(out) if out.strip() else []
        return list(dict.fromkeys(str(record['JOBID']) for record in records if 'JOBID' in record))

    def _format_duration(self, d: timedelta) -> str:
        return run_limit(d)


# --- scripts ---------------------------------------------------------------------------------------------------------

_MARK = re.compile(r'BS(?=UB)|_USER_(?=SCRIPT_)|\\(?=\n)')


def lsf_escape(o: object) -> str:
    """Return a value as one word of bash, which is also nothing but that for LSF.

    A line ``#BSUB ...`` is a directive wherever it stands, and one that ends with a backslash may go on in the next.
    volclava puts a script into a here document, which ends at a line ``_USER_SCRIPT_``; it would run what follows. So
    these marks are broken by a pair of quotes, which bash drops. Outside of quotes that is an empty text; inside, where
    a mark always is between single ones, it ends the text and begins it anew.

    >>> lsf_escape('BSUB'), lsf_escape('x\\n#BSUB -q y'), lsf_escape(5)
    ("BS''UB", "'x\\n#BS''UB -q y'", '5')
    """
    return _MARK.sub(r"\g<0>''", bash_escape(o))


# --- options ---------------------------------------------------------------------------------------------------------


class _Option(NamedTuple):
    name: str
    value: Optional[str] = None


class SplitOptions(NamedTuple):
    """Options of ``bsub``: those for the script, as text, and those that only the command line can carry."""

    directives: List[str]
    arguments: List[str]


def split_options(options: Iterator[_Option]) -> SplitOptions:
    """Decide where each option goes.

    The command line has precedence over the script. So an option that is repeated goes where its first one went.

    >>> split_options(iter([_Option('-J', '#1'), _Option('-q', 'a b'), _Option('-x')]))
    SplitOptions(directives=['-q "a b"', '-x'], arguments=['-J', '#1'])
    """
    result = SplitOptions([], [])
    for name, value in options:
        directive = name if value is None else _directive(name, value)
        if directive is None or name in result.arguments:
            result.arguments.extend([name] if value is None else [name, value])
        else:
            result.directives.append(directive)
    return result


def _directive(name: str, value: str) -> Optional[str]:
    """Return an option as it is written in a script, or None if that is not possible.

    The first quote in a line is the only kind that counts in it, and nothing is special between two of them, but
    blanks at both ends are lost, and a value that begins with ``#`` is lost with its quotes (recording ``directives``).

    >>> print(_directive('-P', 'a b'), _directive('-P', "it's"), _directive('-P', '"a" or \\'b\\''))
    -P "a b" -P "it's" None
    """
    if re.fullmatch(r'[\w.:/@%+=,-]+', value, re.ASCII):
        return f'{name} {value}'
    quotes = [quote for quote in '"\'' if quote not in value]
    if not quotes or not value.strip() or value != value.strip() or value.startswith('#'):
        return None
    return f'{name} {quotes[0]}{value}{quotes[0]}'


def _options(spec: JobSpec) -> Iterator[_Option]:
    """Return the options for a job; a later one replaces an earlier one of the same name."""
    yield _Option('-J', lsf_name(job_name(spec)))
    custom = native_attributes(spec, 'lsf')
    yield from _resource_options(spec, [key for key, _ in custom])
    attributes = spec.attributes
    if attributes is not None:
        if attributes.duration is not None:
            yield _Option('-W', run_limit(attributes.duration))
        for name, field in (('-q', 'queue_name'), ('-P', 'account'), ('-U', 'reservation_id')):
            value = getattr(attributes, field)
            if value:
                yield _Option(name, one_line('LSF', field, value))
    yield _Option('-o', '/dev/null')  # otherwise LSF sends what the job prints by mail
    yield _Option('-e', '/dev/null')
    for key, value in custom:
        if not re.fullmatch(r'[A-Za-z]\w*', key, re.ASCII):
            raise InvalidJobException(f'Invalid custom attribute lsf.{key}: expected the name of an option of bsub.')
        text = None if value is None else one_line('LSF', f'custom attribute lsf.{key}', value)
        yield _Option(f'-{key}', text)


def _resource_options(spec: JobSpec, custom: List[str]) -> Iterator[_Option]:
    resources = spec.resources
    if not resources:
        return
    if not isinstance(resources, ResourceSpecV1):
        raise InvalidJobException(f'LSF needs a ResourceSpecV1, got {type(resources).__name__}.')
    cores = resources.cpu_cores_per_process or 1
    per_node = resources.computed_processes_per_node
    if 'nnodes' not in custom:  # with CSM, jobs get whole nodes, and nothing is said about slots
        yield _Option('-n', str(resources.computed_process_count * cores))
        yield _Option('-R', f'span[ptile={per_node * cores}]')
    if resources.gpu_cores_per_process:
        yield _Option('-gpu', f'num={resources.gpu_cores_per_process * per_node}/host')
    if resources.exclusive_node_use:
        yield _Option('-x')
    if resources.memory:
        yield _Option('-M', str(-(-resources.memory // _memory_unit())))


def _memory_unit() -> int:
    """Return how many bytes a number without a suffix stands for, which is for the site to choose.

    Suffixes are no way around it, because volclava refuses them.
    """
    directory = os.environ.get('LSF_ENVDIR') or _SYSTEM_CONFIGURATION
    try:
        text = Path(directory, 'lsf.conf').read_text(errors='replace')
    except OSError:
        text = ''
    chosen = re.search(rf'^\s*LSF_UNIT_FOR_LIMITS\s*=\s*["\']?([{_MEMORY_UNITS}])', text, re.MULTILINE | re.IGNORECASE)
    letter = 'K' if chosen is None else chosen[1].upper()
    return 1 << 10 * (_MEMORY_UNITS.index(letter) + 1)


def _nodefile_filter(spec: JobSpec) -> str:
    """Return what turns a list of hosts, one line for each slot, into one with a line for each process; for awk.

    With CSM the first line is the node that launches, and the others are for cores.
    """
    resources = spec.resources
    if not isinstance(resources, ResourceSpecV1):
        return '1'
    if 'nnodes' in dict(native_attributes(spec, 'lsf')):
        return f'NR > 1 && ++n[$1] <= {resources.computed_processes_per_node}'
    return f'++n[$1] % {resources.cpu_cores_per_process or 1} == 0'


def run_limit(duration: timedelta) -> str:
    """Return a duration for ``-W``, rounded up to minutes. Zero would be no mistake for LSF, but the end of the job.

    >>> run_limit(timedelta(seconds=30)), run_limit(timedelta(hours=26, minutes=5, seconds=1))
    ('0:01', '26:06')
    """
    minutes = max(-(-duration // timedelta(minutes=1)), 1)
    return f'{minutes // 60}:{minutes % 60:02d}'


def lsf_name(name: str) -> str:
    """Return the name of a job as LSF can take it.

    Brackets would make an array, so they and characters that cannot be printed become underscores. The length is
    limited, blanks at both ends are cut, and there must be something.

    >>> lsf_name('run[1-2] of 3'), lsf_name(' ')
    ('run_1-2_ of 3', 'psij')
    """
    text = ''.join('_' if c in '[]' or not c.isprintable() else c for c in name).strip()
    return text.encode(errors='replace')[:_NAME_LENGTH].decode(errors='ignore').strip() or 'psij'


# --- parsers ---------------------------------------------------------------------------------------------------------


def _is_job_id(text: str) -> bool:
    """Tell whether a text is the ID of a job, or of an element of an array.

    >>> _is_job_id('86[2]'), _is_job_id('0'), _is_job_id('x')
    (True, False, False)
    """
    return re.fullmatch(r'[1-9]\d*(\[\d+\])?', text, re.ASCII) is not None


def parse_bsub(out: str) -> str:
    """Return the job ID that ``bsub`` has printed, possibly among other lines.

    >>> parse_bsub('Hello\\nJob <123> is submitted to default queue <normal>.\\n')
    '123'
    """
    match = re.search(r'^\s*Job <(\d+)>', out, re.MULTILINE | re.ASCII)
    if match is None:
        raise ValueError(f'bsub printed no job ID: {out!r}')
    return match[1]


def find_submission(out: str, marker: str) -> Optional[str]:
    """Return the ID of the job with a certain line in its script, from the output of ``bjobs -UF``.

    >>> find_submission('\\nJob <7>, Job Name <a>, Command <#!/bin/bash;# Submission x;true>\\n', '# Submission x')
    '7'
    """
    for block in re.split(r'^(?=Job <)', out, flags=re.MULTILINE):
        match = re.match(r'Job <(\d+)', block)
        if match is not None and f';{marker};' in block:
            return match[1]
    return None


def _records(out: str) -> List[Dict[str, Any]]:
    """Return the records in the output of ``bjobs -json``; other text before and after it does no harm.

    Raises
    ------
    ValueError
        If there is no such output.
    """
    for brace in re.finditer('{', out):
        try:
            answer, _ = json.JSONDecoder(strict=False).raw_decode(out, brace.start())
        except ValueError:
            continue
        if isinstance(answer, dict) and isinstance(answer.get('RECORDS'), list):
            return [record for record in answer['RECORDS'] if isinstance(record, dict)]
        break
    # a text that somebody chose, such as the name of a job, may have quotes that are not escaped
    parts = re.split(r'(?="JOBID"\s*:)', out)[1:]
    if '"RECORDS"' not in out or not parts:
        raise ValueError(f'bjobs printed something else than records of jobs: {out[:500]!r}')
    return [dict(re.findall(r'^[\s{]*"(\w+)"\s*:\s*"(.*)",?\s*$', part, re.MULTILINE)) for part in parts]


def parse_bjobs(out: str) -> Dict[str, JobStatus]:
    """Return the status of each job in the output of ``bjobs -json``.

    Elements of an array have an ID of their own, such as ``86[2]``; the one of the array stands for all of them.

    >>> parse_bjobs('{"COMMAND":"bjobs","JOBS":1,"RECORDS":[{"JOBID":"9","STAT":"PEND"}]}')['9'].state
    QUEUED

    Raises
    ------
    ValueError
        If it is something else.
    """
    statuses: Dict[str, JobStatus] = {}
    for record in _records(out):
        fields = {str(key).upper(): _text(value) for key, value in record.items()}
        native_id = fields.get('JOBID', '')
        if not native_id or 'is not found' in fields.get('ERROR', ''):
            continue
        status = _status(fields)
        index = fields.get('JOBINDEX') or _array_index(fields.get('JOB_NAME', ''))
        if index not in ('', '0'):
            statuses[f'{native_id}[{index}]'] = status
        statuses[native_id] = _of_array(statuses[native_id], status) if native_id in statuses else status
    return statuses


def _text(value: object) -> str:
    """Return a value as text; unset ones are empty or a dash."""
    text = str(value).strip()
    return '' if text == '-' else text


def _array_index(name: str) -> str:
    match = re.search(r'\[(\d+)\]$', name)
    return '' if match is None else match[1]


def _of_array(one: JobStatus, other: JobStatus) -> JobStatus:
    """Return the status that stands for both: an array has ended when all have, and well if all have done well."""
    order = (JobState.ACTIVE, JobState.QUEUED, JobState.FAILED, JobState.CANCELED, JobState.COMPLETED)
    return min(one, other, key=lambda status: order.index(status.state))


def _status(fields: Dict[str, str]) -> JobStatus:
    native_state = fields.get('STAT') or fields.get('ERROR', '')
    metadata: Dict[str, object] = {'native_state': native_state}
    state = _STATES.get(native_state)
    if state is None:
        if native_state not in _unknown_states:
            _unknown_states.add(native_state)
            logger.warning('LSF reports a state that is not known here: %r. Jobs keep their states.', native_state)
        return JobStatus(JobState.QUEUED, metadata=metadata)  # which is never ahead of what is known
    if native_state == 'EXIT':
        return _ended(fields, metadata)
    if state is JobState.COMPLETED:
        return JobStatus(state, exit_code=0, metadata=metadata)
    message = fields.get('SUSPEND_REASON') or _EXPLANATIONS.get(native_state)
    if state is JobState.QUEUED:
        message = fields.get('PEND_REASON') or message
    return JobStatus(state, message=message, metadata=metadata)


def _ended(fields: Dict[str, str], metadata: Dict[str, object]) -> JobStatus:
    """Return the status for EXIT, which is all that was not successful."""
    cause = fields.get('EXIT_REASON', '')
    code = int(fields['EXIT_CODE']) if fields.get('EXIT_CODE', '').isdigit() else None
    if cause:
        metadata['native_reason'] = cause
        known = _TERMINATIONS.get(re.split(r'\W', cause, maxsplit=1)[0])
        if known is not None:
            metadata['reason'] = known.reason
            message = fields.get('KILL_REASON') or (cause if known.state is JobState.CANCELED else None)
            return JobStatus(known.state, message=message, exit_code=code, metadata=metadata)
    elif code is None and fields.get('START_TIME') == '':  # it never ran
        return JobStatus(JobState.CANCELED, metadata={**metadata, 'reason': 'cancelled_by_user'})
    return JobStatus(JobState.FAILED, message=fields.get('KILL_REASON') or None, exit_code=code, metadata=metadata)


def _is_unexplained(verdict: JobStatus) -> bool:
    """Tell whether LSF has said that a job failed, but nothing else."""
    known = 'reason' in (verdict.metadata or {}) or verdict.exit_code is not None
    return verdict.state is JobState.FAILED and not known


def with_cause(verdict: Optional[JobStatus], record: Optional[ExitRecord], cancelled: bool) -> Optional[JobStatus]:
    """Complete what LSF says, which may be nothing yet, or not why it has ended a job.

    Our cancelling is a cause. Otherwise the signal that the script got tells: USR2 comes when the run limit is
    reached, and ``bkill`` begins with INT and goes on with TERM. A script that ends well in spite of them is DONE.
    """
    if verdict is None and record is not None and record.told_to_end and record.code == 0:
        return JobStatus(JobState.COMPLETED, exit_code=0, metadata={'native_state': 'DONE'})
    if verdict is None or verdict.state is not JobState.FAILED or (verdict.metadata or {}).get('reason'):
        return verdict
    metadata = dict(verdict.metadata or {})
    told = record is not None and record.told_to_end and _is_unexplained(verdict)
    if told and record is not None and record.code == _RUN_LIMIT:
        return JobStatus(JobState.FAILED, metadata={**metadata, 'reason': 'timeout'})
    by_signal = told and record is not None and record.code in (_INTERRUPTED, _TERMINATED)
    if by_signal or (cancelled and (record is None or not record.is_conclusive)):
        return JobStatus(JobState.CANCELED, metadata={**metadata, 'reason': 'cancelled_by_user'})
    return verdict


# Events of bhist -l; lines may be broken anywhere.
_EVENT = re.compile(
    r'^\w{3}\s+\w{3}\s+\d+\s[\d: ]+:\s(?:(?P<done>Done\s*successfully)|(?P<started>Dispatched|Starting)'
    r'|(?P<exited>Exited)(?:\s*with\s*exit\s*code\s*(?P<code>\d+)|\s*by\s*signal\s*(?P<signal>\d+))?)',
    re.MULTILINE,
)


def parse_bhist(out: str) -> Dict[str, JobStatus]:
    """Return the status of each job in the output of ``bhist -l``, where every event begins with a date.

    What the last event says counts, because a job may have run more than once.

    >>> parse_bhist('Job <7>, User <a>\\nSun Nov 22 13:22:16: Exited with exit code 4. The CPU time...')['7'].exit_code
    4
    """
    statuses: Dict[str, JobStatus] = {}
    for block in re.split(r'^(?=Job <)', out, flags=re.MULTILINE):
        native_id = re.match(r'Job <(\d+(?:\[\d+\])?)>', block)
        events = list(_EVENT.finditer(block))
        if native_id is not None and events:
            statuses[native_id[1]] = _status(_fields_of_history(events, block))
    return statuses


def _fields_of_history(events: List[re.Match[str]], block: str) -> Dict[str, str]:
    """Return what bjobs would say about a job."""
    last = events[-1]
    if not last['exited']:
        return {'STAT': 'DONE' if last['done'] else 'RUN'}
    code = last['code'] or (str(128 + int(last['signal'])) if last['signal'] else '')
    cause = re.search(r'TERM_\w+', block[last.start() :])
    started = any(event['started'] for event in events)
    return {
        'STAT': 'EXIT',
        'EXIT_CODE': code,
        'EXIT_REASON': '' if cause is None else cause[0],
        'START_TIME': 'known' if started else '',
    }
