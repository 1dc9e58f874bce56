"""``bresume``: undoes ``bstop`` and ``bsub -H``."""

from __future__ import annotations

from fakes.commandline import Exit, out, unsupported
from fakes.core import SIGCONT, Cluster, signal_group


def main(cluster: Cluster, argv: list[str]) -> int:
    if len(argv) != 1 or not argv[0].isdigit():
        raise unsupported(cluster, ' '.join(argv))
    job = cluster.find(int(argv[0]))
    if job is None:
        raise Exit(255, f'Job <{argv[0]}>: No matching job found\n')
    if job.state == 'suspended':
        signal_group(job.pid, SIGCONT)
        cluster.change(job.id, state='running')
    else:
        cluster.change(job.id, hold='')
    out(f'Job <{job.id}> is being resumed\n')
    return 0
