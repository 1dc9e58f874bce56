"""``scancel`` of Slurm 22.05: an exit code of 0 says nothing about an effect."""

from __future__ import annotations

import os
import time

from fakes.commandline import Exit, err, getopt, options, unsupported
from fakes.core import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Cluster, Job, signal_group
from fakes.slurm import jobs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS = options(
    'account=A batch,b clusters=M cron, ctld, full,f hurry,H help, interactive,i me, name=n nodelist=w '
    'partition=p qos=q quiet,Q reservation=R sibling= signal=s state=t usage, user=u verbose,v version,V wckey='
)
FILTERS = ('account', 'me', 'name', 'partition', 'state', 'user')
SIGNALS = {
    'HUP': 1, 'INT': 2, 'QUIT': 3, 'ABRT': 6, 'KILL': SIGKILL, 'USR1': 10, 'USR2': 12, 'ALRM': 14, 'TERM': SIGTERM,
    'CONT': SIGCONT, 'STOP': SIGSTOP, 'TSTP': 20,
}  # fmt: skip
NOT_YOURS = 2002 & 0xFF  # the low byte of Slurm's error number


def main(cluster: Cluster, argv: list[str]) -> int:
    given, operands = getopt('scancel', argv, OPTIONS)
    values = dict(given)
    for name in values:
        if name not in (*FILTERS, 'batch', 'full', 'quiet', 'signal', 'verbose', 'ctld'):
            raise unsupported(cluster, f'--{name}')
    number = _parse_signal(values['signal']) if 'signal' in values else 0
    if not operands and not any(name in values for name in FILTERS):
        raise Exit(1, 'scancel: error: No job identification provided\n')
    ids = [item for operand in operands for item in operand.split(',') if item]
    if ids:
        try:
            list(jobs.select(iter(()), ','.join(ids)))
        except jobs.JobIdError as ex:
            raise Exit(1, f'scancel: error: Invalid job id {ex}\n') from ex
    code = 0
    for job, label in [*_by_id(cluster, ids), *(_by_filter(cluster, values) if not ids else ())]:
        if 'verbose' in values:
            err(f'scancel: {"Signal " + str(number) + " to" if number else "Terminating"} job {label}\n')
        if not cluster.may_change(job):
            err(f'scancel: error: Kill job error on job id {label}: Access/permission denied\n')
            code = NOT_YOURS
        elif job.final:
            if 'verbose' in values:
                err(f'scancel: error: Kill job error on job id {label}: Job/step already completing or completed\n')
        else:
            _cancel(cluster, job, number, 'batch' in values, 'full' in values)
    return code


def _parse_signal(text: str) -> int:
    name = text.upper()
    if text.isdigit():
        return int(text)
    if name.startswith('SIG'):
        name = name[3:]
    if name not in SIGNALS:
        raise Exit(1, f'Unknown job signal: {text}\n')
    return SIGNALS[name]


def _by_id(cluster: Cluster, ids: list[str]) -> Iterator[tuple[Job, str]]:
    """Return the jobs that are known, each with the word that named it; the others are passed over in silence."""
    for text in ids:
        number = text.partition('_')[0].partition('.')[0]
        job = cluster.find(int(number))
        if job is not None:
            others = cluster.jobs() if job.array_id else iter([job])
            yield from ((found, text) for found in jobs.select(others, text))


def _by_filter(cluster: Cluster, values: dict[str, str]) -> Iterator[tuple[Job, str]]:
    states = {
        code
        for word in values.get('state', '').upper().split(',')
        for code, name in jobs.STATES.items()
        if word in (code, name)
    }
    for job in cluster.jobs():
        if job.final or ('me' in values and job.uid != cluster.uid) or (states and jobs.state(job) not in states):
            continue
        if all(
            name not in values or getattr(job, attribute) in values[name].split(',')
            for name, attribute in (('user', 'user'), ('name', 'name'), ('partition', 'queue'), ('account', 'account'))
        ) and cluster.may_change(job):
            yield job, str(job.id)


def _cancel(cluster: Cluster, job: Job, number: int, batch: bool, full: bool) -> None:
    if number in (0, SIGKILL):
        if job.task >= 0 and job.state == 'queued':
            _drop_task(cluster, job)
        else:
            cluster.end(job.id, 'cancelled', cluster.uid)
    elif number in (SIGSTOP, SIGCONT):
        signal_group(job.pid, number)
        cluster.change(job.id, shown=('ST', 'STOPPED') if number == SIGSTOP else ())
    elif batch:
        _signal(job.pid, number)
    elif full or number != SIGTERM:
        signal_group(job.pid, number)
    else:  # SIGTERM goes to the steps only
        for step in job.steps:
            for pid in step.get('pids', ()):
                _signal(pid, number)


def _drop_task(cluster: Cluster, task: Job) -> None:
    """Take a waiting task out of its array: it leaves no trace."""
    with cluster.lock:
        array = cluster.load(task.array_id)
        if array is not None:
            array.array = tuple(index for index in array.array if index != task.task)
            if not array.array:
                array.__dict__.update(state='done', kill='cancelled', ended=time.time())
            cluster.save(array)


def _signal(pid: int, number: int) -> None:
    try:
        if pid:
            os.kill(pid, number)
    except ProcessLookupError:
        pass
