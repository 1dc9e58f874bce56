"""What the commands of LSF do when its daemons are away: they wait for ever (recordings ``server_down_*``).

Kinds of ``down``: ``mbatchd`` (the default) and ``lim``.
"""

from __future__ import annotations

from fakes.commandline import Exit, err, hang
from fakes.core import Cluster

_WORDS = {'mbatchd': 'batch system daemon', 'lim': 'LSF daemon (LIM)'}


def down(cluster: Cluster, kind: str) -> None:
    if cluster.command == 'bhist':
        return  # it reads a file
    err(f'{_WORDS[kind or "mbatchd"]} not responding ... still trying\n')
    hang()


def lost_reply(cluster: Cluster) -> None:
    raise Exit(255, 'Failed in an LSF library call: Communication time out. Job not submitted.\n')
