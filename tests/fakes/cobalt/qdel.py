"""``qdel`` of Cobalt 1.0.33: about jobs that it does not know it says nothing, with exit code 0."""

from __future__ import annotations

from fakes.cobalt import log
from fakes.cobalt.jobs import own
from fakes.cobalt.optparse import QDEL_USAGE, parse
from fakes.commandline import Exit, options, out
from fakes.core import Cluster


def main(cluster: Cluster, argv: list[str]) -> int:
    _, operands = parse('qdel', QDEL_USAGE, argv, options('force,f'))
    if not operands:
        raise Exit(1, 'No Jobid(s) given\n\n', f'{QDEL_USAGE}\n')
    deleted = own(cluster, operands)
    for job in deleted:
        if job.active and not job.kill:
            pending = '' if job.state == 'running' else ' now pending'
            log.add(job, f'Info: user delete requested with signal SIGTERM by user {cluster.user}{pending}')
        cluster.end(job.id, 'cancelled', cluster.uid)
    if deleted:
        rows = [('JobID', 'User'), *((str(job.id), job.user) for job in deleted)]
        widths = [max(map(len, column)) for column in zip(*rows)]
        title, *lines = [''.join(f'{cell:{width}}  ' for cell, width in zip(row, widths)) for row in rows]
        out(''.join(f'{line}\n' for line in ['      Deleted Jobs', title, '=' * len(title), *lines]))
    return 0
