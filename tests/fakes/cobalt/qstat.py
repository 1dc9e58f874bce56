"""``qstat`` of Cobalt 1.0.33: a table, or with ``-l`` one field on a line."""

from __future__ import annotations

import os

from fakes.cobalt.jobs import known, short_state, state
from fakes.cobalt.optparse import QSTAT_USAGE, parse
from fakes.commandline import Exit, options, out, unsupported
from fakes.core import Cluster, Job
from fakes.hosts import compress

OPTIONS = options('full,f long,l user=u header= sort=')
DEFAULT = 'JobID:User:WallTime:Nodes:State:Location'


def main(cluster: Cluster, argv: list[str]) -> int:
    given, operands = parse('qstat', QSTAT_USAGE, argv, OPTIONS)
    values = dict(given)
    for name in {'full', 'sort'} & set(values):
        raise unsupported(cluster, f'--{name}')
    queues = cluster.knob('queues', 'default short admin').split()
    for word in operands:
        if not word.isdigit() and word not in queues:
            raise Exit(1, f'{word} is not a valid jobid or queue name\n')
    cluster.kick_if_due()
    jobs = [
        job
        for job in known(cluster)
        if (not operands or str(job.id) in operands or job.queue in operands)
        and values.get('user', job.user) == job.user
    ]
    if operands and not jobs:
        return 1
    header = (values.get('header') or os.environ.get('QSTAT_HEADER') or DEFAULT).split(':')
    rows = [[_cell(name, job) for name in header] for job in jobs]
    out(_records(header, rows) if 'long' in values else _table([_title(name) for name in header], rows))
    return 0


def _title(name: str) -> str:
    return 'S' if name.lower() == 'short_state' else name


def _cell(name: str, job: Job) -> str:
    """Return a field by its name, in which the case does not matter; one that is not known is no error."""
    minutes, seconds = divmod(int(job.walltime), 60)
    cells = {
        'jobid': str(job.id),
        'user': job.user,
        'walltime': f'{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}',
        'nodes': str(job.node_count),
        'state': state(job),
        'short_state': short_state(job),
        'location': compress(list(job.nodes)) if job.nodes else 'None',
        'jobname': job.name,
        'queue': job.queue,
        'project': job.account or 'None',
        'command': str(job.extra.get('command', 'None')),
    }
    return cells.get(name.lower(), '-')


def _records(header: list[str], rows: list[list[str]]) -> str:
    width = max(map(len, header[1:]), default=0)
    records = []
    for row in rows:
        lines = [f'{header[0]}: {row[0]}', *(f'    {name:{width}} : {cell}' for name, cell in zip(header[1:], row[1:]))]
        records.append(''.join(f'{line}\n' for line in [*lines, '']))
    return ''.join(records)


def _table(header: list[str], rows: list[list[str]]) -> str:
    for index, name in enumerate(header):
        if name.lower() == 'jobid':
            width = max((len(row[index]) for row in rows), default=0)
            for row in rows:
                row[index] = row[index].rjust(width)
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    lines = [''.join(f'{cell:{width}}  ' for cell, width in zip(row, widths)) for row in [header, *sorted(rows)]]
    return ''.join(f'{line}\n' for line in [lines[0], '=' * len(lines[0]), *lines[1:]])
