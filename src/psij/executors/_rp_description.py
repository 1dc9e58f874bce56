"""What RADICAL-Pilot is asked to run, and what it means how a task ends. Everything here is pure.

A job is a task with one rank, and runs a script of ours: RADICAL-Pilot writes arguments and variables into scripts of
its own, with quotes that ``$`` and backticks get through; it has no standard input, does not miss files that it should
stage, and knows no launcher but its own.
"""

from __future__ import annotations

import os
from typing import Dict, NamedTuple, NoReturn, Optional

from psij._runtime.outcome import describe_exit, signal_name
from psij._runtime.script_context import native_attributes
from psij.exceptions import InvalidJobException
from psij.job_attributes import JobAttributes
from psij.job_spec import JobSpec
from psij.job_state import JobState
from psij.job_status import JobStatus
from psij.resource_spec import ResourceSpecV1

_EXECUTOR = 'the RADICAL-Pilot executor'

CUSTOM_ATTRIBUTES = ('gpu_type', 'lfs_per_rank', 'metadata', 'named_env', 'partition', 'priority', 'tags')
"""The custom attributes, after ``rp.``: attributes of a TaskDescription that nothing else stands for."""

_MEBIBYTE = 1024 * 1024

_SHORTENED = '[... CONTENT SHORTENED ...]\n'  # what RADICAL-Pilot puts before the last 1024 characters


class Pilot(NamedTuple):
    """What a pilot is started with.

    Attributes
    ----------
    resource
        The resource label.
    cores, gpus
        The size; no cores stand for one node.
    runtime
        In minutes.
    queue, project, access_schema, sandbox
        See :class:`.RPJobExecutorConfig`.
    """

    resource: str
    cores: Optional[int] = None
    gpus: Optional[int] = None
    runtime: int = 60
    queue: Optional[str] = None
    project: Optional[str] = None
    access_schema: Optional[str] = None
    sandbox: Optional[str] = None

    @property
    def is_local(self) -> bool:
        """True if the pilot runs on this machine."""
        return self.resource.startswith('local.') and self.access_schema in (None, 'local')

    def description(self) -> Dict[str, object]:
        """Return the attributes of the PilotDescription.

        >>> Pilot('local.localhost', cores=4)._replace(queue='debug').description()['queue']
        'debug'
        """
        values = self._asdict()
        if self.cores is None:
            values['nodes'] = 1
        # without the last one, RADICAL-Pilot ends this program if the pilot fails
        return {**{name: value for name, value in values.items() if value is not None}, 'exit_on_error': False}


def check(spec: JobSpec, pilot: Pilot, cores_per_node: int) -> None:
    """Refuse what RADICAL-Pilot cannot do, or this pilot.

    Parameters
    ----------
    spec
        The specification.
    pilot
        The pilot.
    cores_per_node
        The size of its nodes; zero if that is not known.

    Raises
    ------
    InvalidJobException
        With the name of the field.
    """
    resources = _resources_of(spec)
    if resources.computed_node_count > 1:
        _refuse(
            'resources.node_count',
            resources.computed_node_count,
            'at most 1, because RADICAL-Pilot starts processes on several nodes only by a launcher of its own',
        )
    if resources.exclusive_node_use and not cores_per_node:
        _refuse(
            'resources.exclusive_node_use',
            True,
            f'False, because the number of cores of the nodes of {pilot.resource}, all of which would have to be '
            'asked for, is not known',
        )
    attributes = spec.attributes or JobAttributes()
    queue = (pilot.queue or '').partition(':')[0]
    account, _, reservation = (pilot.project or '').partition(':')
    _check_of_pilot('queue_name', attributes.queue_name, queue, 'queue')
    _check_of_pilot('account', attributes.account, account, 'project')
    _check_of_pilot('reservation_id', attributes.reservation_id, reservation, 'project')
    if attributes.duration is not None and attributes.duration.total_seconds() > 60 * pilot.runtime:
        _refuse(
            'attributes.duration',
            attributes.duration,
            f'at most the {pilot.runtime} minutes after which the pilot ends (RPJobExecutorConfig.runtime)',
        )
    if not _is_text(spec.name or ''):
        _refuse('name', spec.name, 'text in UTF-8')
    for name, _ in native_attributes(spec, 'rp'):
        if name not in CUSTOM_ATTRIBUTES:
            raise InvalidJobException(
                f'Invalid custom attribute rp.{name}: {_EXECUTOR} has no such attribute. There are '
                f'{", ".join(f"rp.{known}" for known in CUSTOM_ATTRIBUTES)}.'
            )


def description(spec: JobSpec, uid: str, script: str, cores_per_node: int) -> Dict[str, object]:
    """Return the attributes of the TaskDescription for a job that was checked.

    Parameters
    ----------
    spec
        The specification.
    uid
        The ID for the task.
    script
        The path of the script of the job.
    cores_per_node
        The size of the nodes of the pilot.
    """
    resources = _resources_of(spec)
    cores = resources.computed_process_count * (resources.cpu_cores_per_process or 1)
    gpus = resources.computed_process_count * (resources.gpu_cores_per_process or 0)
    values: Dict[str, object] = {
        'uid': uid,
        'name': in_quotes(_name(spec)),
        'executable': '/bin/bash',
        'arguments': ['$_PSIJ_SCRIPT'],
        'environment': {'_PSIJ_SCRIPT': in_quotes(script)},
        'ranks': 1,
        'cores_per_rank': max(cores, cores_per_node) if resources.exclusive_node_use else cores,
    }
    if gpus:
        values.update(gpus_per_rank=float(gpus), gpu_type='CUDA')  # sets CUDA_VISIBLE_DEVICES
    if resources.memory:
        values['mem_per_rank'] = -(-resources.memory // _MEBIBYTE)
    values.update(native_attributes(spec, 'rp'))
    # There is no timeout: as long as there are tasks with one, and until it is over, an agent of RADICAL-Pilot 1.103
    # looks at the clock without a break, which takes a core.
    return values


def in_quotes(text: str) -> str:
    r"""Return text as it must be where RADICAL-Pilot puts it between double quotes in a script.

    >>> print(in_quotes('a "$HOME" `date` \\'))
    a \"\$HOME\" \`date\` \\
    """
    return ''.join(f'\\{character}' if character in '\\"$`' else character for character in text)


class Ending(NamedTuple):
    """What RADICAL-Pilot says about a task that has ended.

    Attributes
    ----------
    state
        ``DONE``, ``FAILED`` or ``CANCELED``.
    exit_code
        The exit code; None if there is none.
    stdout, stderr
        The end of what the script has printed, and of what RADICAL-Pilot's own scripts have.
    exception, exception_detail
        Why there is no exit code.
    """

    state: str
    exit_code: Optional[int] = None
    stdout: str = ''
    stderr: str = ''
    exception: str = ''
    exception_detail: str = ''


CANCELLED = 'cancelled_by_user'
"""Why a task is ended by this program: because somebody asked for it."""

TIMEOUT = 'timeout'
"""Why a task is ended by this program: because its time is over."""


def final_status(ending: Ending, stop: Optional[str]) -> JobStatus:
    """Return how a job has ended.

    Parameters
    ----------
    ending
        What RADICAL-Pilot says.
    stop
        Why this program has ended the task, :data:`CANCELLED` or :data:`TIMEOUT`; None if it has not.
    """
    code = ending.exit_code
    if code is not None and code < 0:
        code = 128 - code  # a signal has ended the scripts of RADICAL-Pilot with the job
    metadata: Dict[str, object] = {'native_state': ending.state}
    if ending.state == 'DONE':
        return JobStatus(JobState.COMPLETED, exit_code=0, metadata=metadata)
    if stop == CANCELLED:
        return JobStatus(JobState.CANCELED, metadata={**metadata, 'reason': CANCELLED})
    if stop == TIMEOUT:
        message = 'The job was ended because its walltime was over.'
        return JobStatus(JobState.FAILED, message=message, exit_code=code, metadata={**metadata, 'reason': TIMEOUT})
    if ending.state == 'CANCELED':
        message = 'RADICAL-Pilot has cancelled the task.'
        return JobStatus(JobState.CANCELED, message=message, metadata={**metadata, 'reason': 'cancelled_by_system'})
    if code is None:
        said = ': '.join(text.strip() for text in (ending.exception, ending.exception_detail) if text.strip())
        message = f'RADICAL-Pilot cannot run the job: {said or "it does not say why"}'
        return JobStatus(JobState.FAILED, message=message, metadata={**metadata, 'reason': 'submit_rejected'})
    reason = 'signal' if signal_name(code) else 'exit_code'
    return JobStatus(
        JobState.FAILED,
        message=_printed(ending, code) or describe_exit(code),
        exit_code=code,
        metadata={**metadata, 'reason': reason},
    )


def _printed(ending: Ending, code: int) -> str:
    """Return what helps to understand an exit code."""
    # when a signal ends a job, a shell of RADICAL-Pilot says so on its stderr
    text = ending.stdout if ending.stdout.strip() or signal_name(code) else ending.stderr
    return text.replace(_SHORTENED, '[...] ', 1).strip()


def _name(spec: JobSpec) -> str:
    name = spec.name or ''
    return os.path.basename(name) if name == spec.executable else name


def _resources_of(spec: JobSpec) -> ResourceSpecV1:
    resources = spec.resources or ResourceSpecV1()
    if not isinstance(resources, ResourceSpecV1):
        raise InvalidJobException(f'Invalid resources: {_EXECUTOR} needs a ResourceSpecV1, got {resources!r}.')
    return resources


def _check_of_pilot(field: str, value: Optional[str], of_pilot: str, option: str) -> None:
    """Refuse an attribute that belongs to the pilot and is different there."""
    if value is not None and value != of_pilot:
        _refuse(
            f'attributes.{field}',
            value,
            f'{of_pilot!r} or nothing, because all jobs run in the pilot, whose {option} is set with '
            f'RPJobExecutorConfig({option}=...)',
        )


def _is_text(text: str) -> bool:
    """Tell whether text can be sent to RADICAL-Pilot, or comes from bytes that are not UTF-8."""
    try:
        text.encode('utf-8')
    except UnicodeEncodeError:
        return False
    return True


def _refuse(field: str, value: object, expected: str) -> NoReturn:
    raise InvalidJobException(f'Invalid {field} for {_EXECUTOR}: got {value!r}, expected {expected}.')


def inherited(environment: Dict[str, str]) -> Dict[str, str]:
    """Return what a job inherits from the environment of this program.

    >>> inherited({'HOME': '/home/alice', 'RP_TASK_ID': 'task.000001', 'PSIJ_NODEFILE': '/tmp/nodes'})
    {'HOME': '/home/alice'}
    """
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith('RP_') and name != 'PSIJ_NODEFILE'  # of a task that this program itself may be
    }
