"""``sacct`` of Slurm 22.05, with its oddities: it takes 128 from exit codes above 128, and it lags behind.

Knobs: ``accounting`` is ``off``, or the seconds after which slurmdbd learns of something.
"""

from __future__ import annotations

import time

from fakes.commandline import Exit, getopt, options, out, unsupported
from fakes.core import SIGKILL, Cluster, Job
from fakes.slurm import jobs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OPTIONS = options(
    'accounts=A allclusters,L allocations,X allusers,a associations=x array, brief,b clusters=M completion,c '
    'constraints=C delimiter= duplicates,D endtime=E federation, file=f flags=F format=o gid=g group=g help,h '
    'helpformat,e jobs=j json, local, long,l name= ncpus=I nnodes=i nodelist=N noconvert, noheader,n parsable,p '
    'parsable2,P partition=r qos=q reason=R starttime=S state=s timelimit-max= timelimit-min=k truncate,T uid=u '
    'units= use-local-uid, user=u usage,U verbose,v version,V wckeys=W whole-hetjob? yaml,'
)
COVERED = {
    'allocations', 'allusers', 'duplicates', 'format', 'jobs', 'name', 'noheader', 'noconvert', 'parsable',
    'parsable2', 'starttime', 'endtime', 'version',
}  # fmt: skip


class Record:
    """A line of accounting: an allocation, its batch script or a step."""

    def __init__(self, job: Job, suffix: str, state: str, code: str, *, derived: str = '', reason: str = '') -> None:
        self.job, self.suffix, self.state, self.code = job, suffix, state, code
        self.derived, self.reason = derived, reason

    @property
    def allocation(self) -> bool:
        return not self.suffix


FIELDS: dict[str, Callable[[Record], object]] = {
    'Account': lambda line: line.job.account,
    'AllocNodes': lambda line: len(line.job.nodes),
    'DerivedExitCode': lambda line: line.derived,
    'Elapsed': lambda line: jobs.full_elapsed(jobs.run_time(line.job)),
    'ElapsedRaw': lambda line: jobs.run_time(line.job),
    'End': lambda line: jobs.date(line.job.ended, 'Unknown'),
    'ExitCode': lambda line: line.code,
    'JobID': lambda line: jobs.array_job_id(line.job) + line.suffix,
    'JobIDRaw': lambda line: f'{line.job.id}{line.suffix}',
    'JobName': lambda line: line.job.name if line.allocation else line.suffix[1:],
    'MaxRSS': lambda line: f'{line.job.max_rss}K' if line.suffix == '.batch' and line.job.max_rss else '',
    'NNodes': lambda line: len(line.job.nodes) or line.job.node_count,
    'NodeList': lambda line: jobs.node_list(line.job) or 'None assigned',
    'Partition': lambda line: line.job.queue if line.allocation else '',
    'Reason': lambda line: line.reason,
    'Start': lambda line: jobs.date(line.job.started, 'Unknown'),
    'State': lambda line: line.state,
    'Submit': lambda line: jobs.date(line.job.submitted, 'Unknown'),
    'User': lambda line: line.job.user if line.allocation else '',
}
_BY_NAME = {name.lower(): (name, value) for name, value in FIELDS.items()}


def main(cluster: Cluster, argv: list[str]) -> int:
    given, operands = getopt('sacct', argv, OPTIONS)
    values = dict(given)
    for name in values:
        if name not in COVERED:
            raise unsupported(cluster, f'--{name}')
    if 'version' in values:
        out('slurm-wlm 22.05.8\n')
        return 0
    if operands:
        raise unsupported(cluster, f'the operand {operands[0]!r}')
    if cluster.knob('accounting').strip() == 'off':
        raise Exit(1, 'Slurm accounting storage is disabled\n')
    if not ('parsable' in values or 'parsable2' in values):
        raise unsupported(cluster, 'output without --parsable or --parsable2')
    columns = _columns(values.get('format', 'JobID,JobName,Partition,Account,AllocNodes,State,ExitCode'))
    end = '|\n' if 'parsable' in values else '\n'
    lines = [] if 'noheader' in values else ['|'.join(name for name, _ in columns) + end]
    for record in _records(cluster, values):
        if record.allocation or 'allocations' not in values:
            lines.append('|'.join(str(value(record)) for _, value in columns) + end)
    out(''.join(lines))
    return 0


def _columns(text: str) -> list[tuple[str, Callable[[Record], object]]]:
    columns = []
    for field in text.split(','):
        name = field.partition('%')[0]  # a width means nothing in parsable output
        if name.lower() not in _BY_NAME:
            raise Exit(1, f'sacct: error: Invalid field requested: "{name}"\n')
        columns.append(_BY_NAME[name.lower()])
    return columns


def _records(cluster: Cluster, values: dict[str, str]) -> Iterator[Record]:
    found = cluster.everything()
    if 'jobs' in values:
        try:
            found = iter(list(jobs.select(found, values['jobs'])))
        except jobs.JobIdError as ex:
            raise Exit(1, f'sacct: fatal: Bad job/step specified: {ex}\n') from ex
    elif 'allusers' not in values:
        found = (job for job in found if job.uid == cluster.uid)
    now = time.time() - float(cluster.knob('accounting', '0'))
    for job in found:
        if job.submitted <= now and values.get('name') in (None, job.name):
            yield from _history(_as_of(job, now), 'duplicates' in values)


def _as_of(job: Job, now: float) -> Job:
    """Return a job as the data base knew it at that time."""
    if not job.final or job.ended <= now:
        return job
    return job.copy(state='running' if job.started else 'queued', kill='', ended=0.0, wait_status=None, launch_error='')


def _history(job: Job, all_runs: bool) -> Iterator[Record]:
    """Return the records of the last run of a job, or of all its runs; a requeued job has none of its next one yet."""
    runs = [job.copy(state='done', **run) for run in job.past]
    if not runs or job.state != 'queued':
        runs.append(job)
    for run in runs if all_runs else runs[-1:]:
        yield from _run(run)


def _run(job: Job) -> Iterator[Record]:
    if job.state == 'ending' and job.wait_status is not None:  # accounting does not wait for the epilogue
        job = job.copy(state='done')
    state = jobs.long_state(job)
    if job.kill == 'cancelled' and job.killed_by >= 0:
        state = f'CANCELLED by {job.killed_by}'
    if state in ('COMPLETING', 'CONFIGURING', 'STOPPED'):
        state = 'RUNNING'
    code = _code(jobs.exit_code(job)) if job.final and jobs.state(job) in ('CD', 'F', 'OOM', 'DL') else '0:0'
    waits = job.state == 'queued'
    derived = '0:0' if job.kill in ('cancelled', 'timeout') else _code(jobs.derived_exit_code(job))
    yield Record(job, '', state, code, derived=derived, reason=jobs.reason(job) if waits else 'None')
    if job.state in ('running', 'ending', 'suspended') or job.wait_status is not None or job.launch_error:
        yield Record(job, '.batch', *_batch(job))
        for number, step in enumerate(job.steps):
            if 'status' in step:
                yield Record(job, f'.{number}', *_step(int(step['status'])))


def _batch(job: Job) -> tuple[str, str]:
    if not job.final:
        return 'RUNNING', '0:0'
    if job.kill == 'node_failure':
        return 'CANCELLED', ''
    if job.kill == 'timeout' and job.wait_status == SIGKILL:
        return 'TIMEOUT', '0:0'
    return _step(jobs.exit_code(job))


def _step(status: int) -> tuple[str, str]:
    if status == 125 | 0x80:
        return 'OUT_OF_MEMORY', '0:125'
    return ('CANCELLED' if status & 0x7F else 'FAILED' if status else 'COMPLETED'), _code(status)


def _code(status: int) -> str:
    code, _, signal = jobs.code_and_signal(status).partition(':')
    return f'{int(code) - 128 if int(code) > 128 else code}:{signal}'
