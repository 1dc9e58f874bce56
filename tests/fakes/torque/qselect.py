"""``qselect -u USER [-s STATES]`` of Torque; it lists completed jobs, too."""

from __future__ import annotations

from fakes.commandline import out, unsupported
from fakes.core import Cluster
from fakes.pbs.script import getopt
from fakes.torque.jobs import SERVER, listed, state


def main(cluster: Cluster, argv: list[str]) -> int:
    options, words = getopt(argv, 'u:s:')
    if words:
        raise unsupported(cluster, f'qselect {" ".join(argv)}')
    given = dict(options)
    cluster.kick_if_due()
    for job in cluster.jobs():
        if listed(cluster, job) and given.get('u', job.user) == job.user and state(job) in given.get('s', state(job)):
            out(f'{job.id}.{SERVER}\n')
    return 0
