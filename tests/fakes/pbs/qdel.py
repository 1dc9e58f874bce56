"""``qdel`` of OpenPBS."""

from __future__ import annotations

from fakes.commandline import Exit, err, unsupported
from fakes.core import Cluster
from fakes.pbs.jobs import SERVER, number
from fakes.pbs.script import OptionError, getopt

USAGE = 'usage:\n\tqdel [-W force|suppress_email=X] [-x] job_identifier...\n\tqdel --version\n'


def main(cluster: Cluster, argv: list[str]) -> int:
    try:
        options, words = getopt(argv, 'W:x')
    except OptionError as ex:
        raise Exit(2, f'qdel: {ex}\n{USAGE}') from None
    if options:
        raise unsupported(cluster, f'qdel -{options[0][0]}')
    if not words:
        raise Exit(2, USAGE)
    codes = [_delete(cluster, word) for word in words]
    return next((code for code in reversed(codes) if code), 0)


def _delete(cluster: Cluster, word: str) -> int:
    wanted = number(word, SERVER)
    if wanted is None:
        err(f'qdel: illegally formed job identifier: {word}\n')
        return 1
    job = cluster.find(wanted, keep=14 * 86400)
    if job is None or (job.final and cluster.knob('history', 'on') == 'off'):
        server = f'.{SERVER}' if '.' not in word and cluster.knob('variant') == 'master' else ''
        err(f'qdel: Unknown Job Id {word}{server}\n')
        return 153
    if job.final:
        err(f'qdel: Job has finished {word}\n')
        return 35
    if not cluster.may_change(job):
        err(f'qdel: Unauthorized Request  {word}\n')
        return 159
    if job.state == 'ending' and not job.kill:
        err(f'qdel: Request invalid for state of job {word}\n')
        return 168
    cluster.end(wanted, 'cancelled', cluster.uid)
    return 0
