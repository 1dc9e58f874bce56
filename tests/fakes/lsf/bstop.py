"""``bstop``: a waiting job is held, one that runs is stopped."""

from __future__ import annotations

from fakes.commandline import Exit, out, unsupported
from fakes.core import SIGSTOP, Cluster, signal_group


def main(cluster: Cluster, argv: list[str]) -> int:
    if len(argv) != 1 or not argv[0].isdigit():
        raise unsupported(cluster, ' '.join(argv))
    job = cluster.find(int(argv[0]))
    if job is None or job.final:
        raise Exit(255, f'Job <{argv[0]}>: {"No matching job found" if job is None else "Job has already finished"}\n')
    if not cluster.may_change(job):
        raise Exit(255, f'Job <{job.id}>: User permission denied\n')
    if job.state == 'queued':
        cluster.change(job.id, hold='user')
    else:
        signal_group(job.pid, SIGSTOP)
        cluster.change(job.id, state='suspended')
    out(f'Job <{job.id}> is being stopped\n')
    return 0
