"""What the commands of OpenPBS print when the server is away (recordings ``server_down``, ``server_unresolvable``).

Kinds of ``down``: ``stopped`` (the default) and ``config`` (no pbs.conf). A server that hangs is the fault ``hang``.
"""

from __future__ import annotations

import sys

from fakes.commandline import Exit
from fakes.core import Cluster
from fakes.pbs.jobs import SERVER
from fakes.pbs.qstat import document

_NO_CONFIG = 'pbsconf error: pbs conf variables not found: PBS_HOME PBS_EXEC PBS_SERVER\n'


def down(cluster: Cluster, kind: str) -> None:
    command = cluster.command
    ids = [word for word in sys.argv[1:] if word[:1].isdigit()]
    empty = document(cluster, []) if '-F' in sys.argv else ''  # well-formed even now
    if kind == 'config':
        if command == 'qsub':
            raise Exit(255, f'{_NO_CONFIG}No such file or directory\nqsub: cannot connect to server  (errno=0)\n')
        complaints = ''.join(f'{command}: illegally formed job identifier: {word}\n' for word in ids)
        raise Exit(1, _NO_CONFIG + complaints, empty.replace(SERVER, ''))
    if command == 'qdel':
        raise Exit(162, f"Connection refused\nCouldn't connect to cluster: {SERVER}\n")
    words = f'Connection refused\n{command}: cannot connect to server {SERVER} (errno=15010)\n'
    raise Exit(255 if command == 'qstat' else 162, words * max(len(ids) if command == 'qstat' else 1, 1), empty)


def lost_reply(cluster: Cluster) -> None:
    """Fail after the job has been made. This was not recorded; the text is that of an aborted connection."""
    raise Exit(255, f'qsub: Error reading reply from server {SERVER}: End of File (errno=15031)\n')
