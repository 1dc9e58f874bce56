"""``qselect -u USER [-s STATES]`` of OpenPBS."""

from __future__ import annotations

from fakes.commandline import Exit, out, unsupported
from fakes.core import Cluster
from fakes.pbs.jobs import SERVER, state
from fakes.pbs.script import OptionError, getopt


def main(cluster: Cluster, argv: list[str]) -> int:
    try:
        options, words = getopt(argv, 'u:s:xTt:')
    except OptionError as ex:
        raise Exit(2, f'qselect: {ex}\nusage: qselect [-a [op]date_time]\n') from None
    given = dict(options)
    if words or set(given) - set('us'):
        raise unsupported(cluster, f'qselect {" ".join(argv)}')
    cluster.kick_if_due()
    for job in cluster.jobs():
        if not job.final and given.get('u', job.user) == job.user and state(job)[0] in given.get('s', state(job)[0]):
            out(f'{job.id}.{SERVER}\n')
    return 0
