"""How LSF shows the jobs of the table. The knob ``dialect`` is ``volclava`` (as recorded) or ``lsf`` (10.1)."""

from __future__ import annotations

import time

from fakes.core import Cluster, Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ORDER = ('RUN', 'USUSP', 'PEND', 'PSUSP')  # then those that have ended
CLEAN_PERIOD = 3600.0  # seconds

_REASONS = {
    'timeout': 'TERM_RUNLIMIT: job killed after reaching LSF run time limit',
    'out_of_memory': 'TERM_MEMLIMIT: job killed after reaching LSF memory usage limit',
    'preempted': 'TERM_PREEMPT: job killed after preemption',
    'node_failure': 'TERM_REMOVE_HUNG_JOB: job removed from LSF',
}


def speaks_lsf(cluster: Cluster) -> bool:
    return cluster.knob('dialect', 'volclava').strip() == 'lsf'


def number(job: Job) -> int:
    """Return the ID: all elements of an array have the same."""
    return job.array_id or job.id


def elements(cluster: Cluster) -> Iterator[Job]:
    """Return what bjobs knows, in its order, with waiting elements of arrays one by one."""
    found = []
    for job in cluster.jobs(CLEAN_PERIOD):
        found += [job.copy(task=index) for index in job.array] if job.array else [job]
    return iter(sorted(found, key=lambda job: (_rank(state(job)), number(job), job.task)))


def _rank(stat: str) -> int:
    return ORDER.index(stat) if stat in ORDER else len(ORDER)


def state(job: Job) -> str:
    if job.shown:
        return job.shown[0]
    if job.state == 'queued':
        return 'PSUSP' if job.hold else 'PEND'
    if job.state == 'starting':
        return 'PEND'
    if job.state == 'suspended':
        return 'USUSP'
    if not job.final:
        return 'RUN'
    return 'DONE' if job.wait_status == 0 and not job.out_of_memory else 'EXIT'


def exit_code(job: Job) -> int | None:
    """Return what the shell of the job would say."""
    if job.wait_status is None:
        return None
    return job.wait_status >> 8 if not job.wait_status & 0x7F else 128 + (job.wait_status & 0x7F)


def exit_reason(job: Job) -> str:
    if state(job) != 'EXIT' or not job.kill:
        return ''
    if job.kill == 'cancelled':
        return f'TERM_{"OWNER" if job.killed_by == job.uid else "ADMIN"}: job killed by ' + (
            'owner' if job.killed_by == job.uid else 'root or LSF administrator'
        )
    return _REASONS.get(job.kill, '')


def name(job: Job) -> str:
    return f'{job.name.partition("[")[0]}[{job.task}]' if job.task >= 0 else job.name


def date(moment: float) -> str:
    return time.strftime('%m/%d-%H:%M:%S', time.localtime(moment)) if moment else '-'


def long_date(moment: float) -> str:
    return time.strftime('%a %b %e %H:%M:%S', time.localtime(moment))
