"""``qselect -u USER [-s STATES] [-x] [-ts.gt.TIME]`` of OpenPBS."""

from __future__ import annotations

import time

from fakes.commandline import Exit, err, out, unsupported
from fakes.core import Cluster
from fakes.pbs.jobs import SERVER, state
from fakes.pbs.script import OptionError, getopt


def main(cluster: Cluster, argv: list[str]) -> int:
    try:
        options, words = getopt(argv, 'u:s:xTt:')
    except OptionError as ex:
        raise Exit(2, f'qselect: {ex}\nusage: qselect [-a [op]date_time]\n') from None
    given = dict(options)
    if words or set(given) - set('usxt'):
        raise unsupported(cluster, f'qselect {" ".join(argv)}')
    if not set(given.get('s', '')) <= set('BEFHMQRSTUWX'):
        raise Exit(2, 'qselect: illegal -s value\nusage: qselect [-a [op]date_time]\n')
    cluster.kick_if_due()
    if 'x' in given and cluster.knob('history', 'on') == 'off':
        err('qselect: PBS is not configured to maintain job history\n')
        return 0
    since = _moment(cluster, given['t']) if 't' in given else None
    for job in cluster.jobs():
        if (
            ('x' in given or not job.final)
            and given.get('u', job.user) == job.user
            and state(job)[0] in given.get('s', state(job)[0])
            and (since is None or job.started > since)
        ):
            out(f'{job.id}.{SERVER}\n')
    return 0


def _moment(cluster: Cluster, text: str) -> float:
    if not text.startswith('s.gt.') or len(text) != len('s.gt.CCYYMMDDhhmm'):
        raise unsupported(cluster, f'qselect -t{text}')
    return time.mktime(time.strptime(text[len('s.gt.') :], '%Y%m%d%H%M'))
