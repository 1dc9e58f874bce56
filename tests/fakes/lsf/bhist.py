"""``bhist -l``: what the event log says about jobs, also about those that bjobs has forgotten.

The knob ``history`` can be ``off``.
"""

from __future__ import annotations

from fakes.commandline import Exit, err, out, unsupported
from fakes.core import Cluster, Job
from fakes.lsf import jobs


def main(cluster: Cluster, argv: list[str]) -> int:
    if argv[:1] != ['-l'] or not all(word.isdigit() for word in argv[1:]):
        raise unsupported(cluster, ' '.join(argv))
    if cluster.knob('history') == 'off':
        raise Exit(255, 'lsb.events: Permission denied\n')
    code = 0
    for word in argv[1:]:
        job = cluster.load(int(word))
        if job is None:
            err('No matching job found\n')
            code = 255
        else:
            out(_history(cluster, job))
    return code


def _history(cluster: Cluster, job: Job) -> str:
    name = f'Job Name <{job.name}>, ' if 'J' in job.extra['options'] else ''
    options = job.extra['options']
    files = ''.join(
        f', {kind} File <{options[name]}>' for name, kind in (('o', 'Output'), ('e', 'Error')) if name in options
    )
    lines = [
        '',
        f'Job <{job.id}>, {name}User <{job.user}>, Project <{job.account}>, Command <{job.extra["command"]}>',
        f'{jobs.long_date(job.submitted)}: Submitted from host <login01>, to Queue <{job.queue}>, '
        f'CWD <{job.cwd}>{files};',
    ]
    if job.started:
        date = jobs.long_date(job.started)
        lines += [
            f'{date}: Dispatched to <{job.nodes[0]}>;',
            f'{date}: Starting (Pid {job.pid});',
            f'{date}: Running with execution home </home/{job.user}>, Execution CWD <',
            f'                     {job.cwd}>, Execution Pid <{job.pid}>;',
        ]
    if job.final:
        lines.append(f'{jobs.long_date(job.ended)}: {_end(job)} The CPU time used is 0.0 seconds;')
        if jobs.speaks_lsf(cluster) and jobs.exit_reason(job):
            lines.append(f'{jobs.long_date(job.ended)}: Completed <exit>; {jobs.exit_reason(job)}.')
    return '\n'.join([*lines, '', 'Summary of time in seconds spent in various states', '', ''])


def _end(job: Job) -> str:
    if jobs.state(job) == 'DONE':
        return 'Done successfully.'
    code = jobs.exit_code(job)
    return 'Exited' if code is None else f'Exited with exit code {code}.'
