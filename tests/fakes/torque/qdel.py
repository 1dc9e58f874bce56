"""``qdel`` of Torque."""

from __future__ import annotations

from fakes.commandline import Exit, err, unsupported
from fakes.core import Cluster
from fakes.pbs.jobs import number
from fakes.pbs.script import OptionError, getopt
from fakes.torque.jobs import SERVER, listed, state

USAGE = 'usage: qdel [{ -a | -c | -p | -t | -W delay | -m message}]\n'


def main(cluster: Cluster, argv: list[str]) -> int:
    try:
        options, words = getopt(argv, 'acpt:W:m:b:')
    except OptionError as ex:
        raise Exit(2, f'qdel: {ex}\n{USAGE}') from None
    if options:
        raise unsupported(cluster, f'qdel -{options[0][0]}')
    if not words:
        raise Exit(2, USAGE)
    codes = [_delete(cluster, word) for word in words]
    return next((code for code in reversed(codes) if code), 0)


def _delete(cluster: Cluster, word: str) -> int:
    if not word[:1].isdigit():
        err(f'qdel: illegally formed job identifier: {word}\n')
        return 1
    wanted = number(word, SERVER)
    job = None if wanted is None else cluster.find(wanted)
    if job is None or not listed(cluster, job):
        err(f'qdel: nonexistent job id: {word}\n')
        return 153
    letter = state(job)
    if letter in 'CE':
        what = 'COMPLETE' if letter == 'C' else 'EXITING'
        err(f'qdel: Request invalid for state of job MSG=invalid state for job - {what} {word}\n')
        return 170
    if not cluster.may_change(job):
        err(f'qdel: Unauthorized Request  {word}\n')
        return 159
    cluster.end(job.id, 'cancelled', cluster.uid)
    return 0
