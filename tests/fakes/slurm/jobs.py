"""The words that Slurm 22.05 has for the states, reasons, ids and times of a job."""

from __future__ import annotations

import os
import time

from fakes.commandline import Exit
from fakes.core import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

STATES = {
    'PD': 'PENDING', 'R': 'RUNNING', 'S': 'SUSPENDED', 'CD': 'COMPLETED', 'CA': 'CANCELLED', 'F': 'FAILED',
    'TO': 'TIMEOUT', 'NF': 'NODE_FAIL', 'PR': 'PREEMPTED', 'BF': 'BOOT_FAIL', 'DL': 'DEADLINE',
    'OOM': 'OUT_OF_MEMORY', 'CG': 'COMPLETING', 'CF': 'CONFIGURING', 'RS': 'RESIZING', 'RD': 'RESV_DEL_HOLD',
    'RQ': 'REQUEUED', 'RF': 'REQUEUE_FED', 'RH': 'REQUEUE_HOLD', 'RV': 'REVOKED', 'SI': 'SIGNALING',
    'SE': 'SPECIAL_EXIT', 'SO': 'STAGE_OUT', 'ST': 'STOPPED',
}  # fmt: skip

_KILLED = {
    'cancelled': 'CA', 'timeout': 'TO', 'out_of_memory': 'OOM', 'node_failure': 'NF', 'preempted': 'PR',
    'deadline': 'DL', 'dependency': 'CA', 'rejected': 'F', 'requeued': 'RQ',
}  # fmt: skip

_REASON_OF_END = {
    'timeout': 'TimeLimit', 'out_of_memory': 'OutOfMemory', 'node_failure': 'NodeDown', 'deadline': 'DeadLine',
    'rejected': 'BadConstraints',
}  # fmt: skip

_REASON_OF_WAITING = {
    'begin': 'BeginTime', 'dependency': 'Dependency', 'dependency_failed': 'DependencyNeverSatisfied',
    'array_limit': 'JobArrayTaskLimit',
}  # fmt: skip

_REASON_OF_HOLD = {
    'user': 'JobHeldUser', 'admin': 'JobHeldAdmin', 'requeued': 'job requeued in held state',
    'special': 'job requeued in held state', 'launch': 'launch failed requeued held',
}  # fmt: skip

LAUNCH_FAILED = 4021  # the raw exit code of a job whose files could not be opened: 0:53


def state(job: Job) -> str:
    """Return the compact state of a job."""
    if job.shown:
        return job.shown[0]
    if job.state == 'queued':
        return 'SE' if job.hold == 'special' else 'PD'
    if job.state != 'done':
        return {'starting': 'CF', 'running': 'R', 'suspended': 'S', 'ending': 'CG'}[job.state]
    return _KILLED[job.kill] if job.kill else 'F' if exit_code(job) else 'CD'


def long_state(job: Job) -> str:
    """Return the long state of a job; one that no table knows is the second word of ``Job.shown``."""
    return job.shown[-1] if job.shown else STATES[state(job)]


def exit_code(job: Job) -> int:
    """Return the raw wait status."""
    if job.launch_error:
        return LAUNCH_FAILED
    if job.kill in ('rejected', 'deadline'):
        return 1 << 8
    if job.kill == 'node_failure':
        return 0  # nobody could tell it
    return 125 | 0x80 if job.kill == 'out_of_memory' else (job.wait_status or 0)


def derived_exit_code(job: Job) -> int:
    """Return the raw wait status of the step that went worst."""
    return max((int(step.get('status', 0)) for step in job.steps), default=0)


def code_and_signal(status: int) -> str:
    """Write a raw wait status as ``code:signal``.

    >>> code_and_signal(768), code_and_signal(15), code_and_signal(253), code_and_signal(LAUNCH_FAILED)
    ('3:0', '0:15', '0:125', '0:53')
    """
    return f'0:{status & 0x7F}' if status & 0x7F else f'{status >> 8}:0'


def reason(job: Job) -> str:
    if 'reason' in job.extra:
        return str(job.extra['reason'])
    if job.kill in _REASON_OF_END:
        return _REASON_OF_END[job.kill]
    if job.state == 'queued' or (job.final and not job.started):  # a job cancelled in the queue keeps its reason
        if job.hold:
            return _REASON_OF_HOLD[job.hold]
        return _REASON_OF_WAITING.get(job.blocked, job.blocked) or 'None'
    if job.kill or job.wait_status is None:
        return 'JobLaunchFailure' if job.launch_error else 'None'
    code = exit_code(job)
    return 'JobLaunchFailure' if code & 0x7F else 'NonZeroExitCode' if code else 'None'


def reason_or_nodes(job: Job) -> str:
    """Return what squeue prints below NODELIST(REASON)."""
    with_reason = state(job) in ('PD', 'SE', 'RD', 'F', 'TO', 'OOM', 'DL')
    return f'({reason(job)})' if with_reason else node_list(job)


def node_list(job: Job) -> str:
    if len(job.nodes) < 2:
        return ''.join(job.nodes)
    from fakes.hosts import compress

    return compress(list(job.nodes))


def task_indices(job: Job) -> str:
    """Return the index or indices of an array, cut as squeue cuts them."""
    if job.task >= 0:
        return str(job.task)
    if not job.array:
        return 'N/A'
    from fakes.hosts import ranges

    text = ranges(list(job.array))
    limit = int(os.environ.get('SLURM_BITSTR_LEN', '64'))
    if limit and len(text) > limit:
        text = text[: limit - 1 - 3] + '...'
    return f'{text}%{job.array_limit}' if job.array_limit else text


def array_job_id(job: Job) -> str:
    """Return the id by which users know a job: ``12``, ``12_3``, ``12_[3-5%2]``."""
    if job.task >= 0:
        return f'{job.array_id}_{job.task}'
    if not job.array:
        return str(job.id)
    text = f'{job.array_id}_[{task_indices(job)}]'
    return text if os.environ.get('SLURM_BITSTR_LEN') == '0' else text[:31]


def each_task(jobs: Iterator[Job]) -> Iterator[Job]:
    """Show every task of a waiting array as a job."""
    for job in jobs:
        if job.array:
            yield from (job.copy(array=(), task=index) for index in job.array)
        else:
            yield job


def priority(job: Job) -> int:
    """Earlier jobs go first, held ones not at all."""
    return 0 if job.hold or job.state == 'suspended' else 4294901760 - (job.array_id or job.id)


def run_time(job: Job) -> int:
    """Return the seconds that a job has run."""
    if not job.started:
        return 0
    return int(job.ended or time.time()) - int(job.started)


def elapsed(seconds: int) -> str:
    """Write a time as squeue does.

    >>> elapsed(5), elapsed(3600), elapsed(90061)
    ('0:05', '1:00:00', '1-01:01:01')
    """
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f'{days}-{hours:02d}:{minutes:02d}:{seconds:02d}'
    return f'{hours}:{minutes:02d}:{seconds:02d}' if hours else f'{minutes}:{seconds:02d}'


def full_elapsed(seconds: int) -> str:
    """Write a time as scontrol and sacct do.

    >>> full_elapsed(5), full_elapsed(90061)
    ('00:00:05', '1-01:01:01')
    """
    days, seconds = divmod(seconds, 86400)
    text = f'{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}'
    return f'{days}-{text}' if days else text


def date(seconds: float, unknown: str = 'N/A') -> str:
    return time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(seconds)) if seconds else unknown


def start(job: Job) -> float:
    """Return when a job started, or is to; one that never did has its end as its start."""
    if job.state == 'queued':
        return job.eligible if job.blocked == 'begin' or job.restarts else 0.0
    return job.started or job.ended


def end(job: Job) -> float:
    """Return when a job ended, or will have to."""
    if job.final or job.state == 'ending':
        return job.ended
    begin = start(job)
    return begin + job.walltime if begin and job.walltime else 0.0


def check_cluster(command: str, name: str) -> None:
    """Refuse any cluster but this one."""
    if name != 'test':
        raise Exit(
            1,
            f"{command}: error: No cluster '{name}' known by database.\n"
            f"{command}: error: '{name}' can't be reached now, or it is an invalid entry for --cluster.  "
            "Use 'sacctmgr list clusters' to see available clusters.\n",
        )


class JobIdError(Exception):
    """Not a list of job ids."""


def select(jobs: Iterator[Job], ids: str) -> Iterator[Job]:
    """Return the jobs of a comma-separated list of ids as squeue, sacct and scancel understand them."""
    wanted = [_parse_id(item) for item in ids.split(',') if item]
    for job in jobs:
        for number, task in wanted:
            if task < 0 and number in (job.id, job.array_id):
                yield job
                break
            if task >= 0 and number == job.array_id and (task == job.task or task in job.array):
                yield job.copy(array=(), task=task)
                break


def _parse_id(text: str) -> tuple[int, int]:
    """Split ``12``, ``12_3`` or ``12.batch``; what follows a number that cannot belong to it is ignored."""
    digits = text[: len(text) - len(text.lstrip('0123456789'))]
    if not digits or int(digits) == 0:
        raise JobIdError(text)
    task = text[len(digits) + 1 :] if text[len(digits) :].startswith('_') else ''
    return int(digits), int(task) if task.isdigit() else -1
