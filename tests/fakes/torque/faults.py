"""What the commands of Torque print when a daemon is away (recordings ``server_down``, ``trqauthd_down``).

Kinds of ``down``: ``stopped`` (the server; the default) and ``trqauthd``. A server that hangs is the fault ``hang``.
"""

from __future__ import annotations

import sys

from fakes.commandline import Exit
from fakes.core import Cluster
from fakes.torque.jobs import SERVER

_UNREACHABLE = (
    f"\nUnable to communicate with {SERVER}(10.67.0.1)\nCannot connect to specified server host '{SERVER}'.\n"
)


def down(cluster: Cluster, kind: str) -> None:
    command = cluster.command
    tries = 3 if command == 'qstat' else 1
    if kind == 'trqauthd':
        words = 'socket_connect_unix failed: 15137\n' * tries
        words += f'{command}: cannot connect to server (null) (errno=15137) could not connect to trqauthd\n'
        raise Exit(33, words + ('qstat: Error (15137 - could not connect to trqauthd) \n' if tries > 1 else ''))
    words = _UNREACHABLE * tries
    words += f'{command}: cannot connect to server {SERVER} (errno=111) Connection refused\n'
    if command == 'qstat':
        words += 'qstat: Error (111 - Connection refused) \n'
    raise Exit(111, words * (max(len([word for word in sys.argv[1:] if word[:1].isdigit()]), 1) if tries > 1 else 1))


def lost_reply(cluster: Cluster) -> None:
    """Fail after the job has been made. This was not recorded; the text is that of an aborted connection."""
    raise Exit(1, 'qsub: submit error (End of File)\n')
