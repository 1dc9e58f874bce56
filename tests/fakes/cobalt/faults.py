"""What the commands of Cobalt print when its components are away (recordings ``component_down_cqm`` and ``_slp``).

Kinds of ``down``: ``cqm`` (the queue manager; the default) and ``slp`` (the service location). The real commands need
two seconds to find out; these know it at once.
"""

from __future__ import annotations

from fakes.cobalt.qsub import NOISE
from fakes.commandline import Exit
from fakes.core import Cluster

_TRACEBACK = (
    "<Fault 20: '-------------------------------- START TRACEBACK ------------------------------\\n"
    "    Exception  : error: [Errno 111] Connection refused\\n'>"
)


def down(cluster: Cluster, kind: str) -> None:
    """Fail as the command does when a component is away."""
    if kind == 'slp':
        request = 'del_jobs' if cluster.command == 'qdel' else 'get_queues'
        words = f'Following exception occurred while trying to execute queue-manager.{request}: '
        place = 'Proxy.py     :L#422:cn:queue-manager'
        if cluster.command == 'qsub':
            words, place = 'Failed to connect to system: ', 'Proxy.py     :L#422:cn:system'
        raise Exit(1, f'{NOISE}component error: {words}{place}\n\n')
    prefix = '' if cluster.command == 'qsub' else 'component error: XMLRPC failure '
    raise Exit(1, f'{NOISE}{prefix}{_TRACEBACK}\n')


def lost_reply(cluster: Cluster) -> None:
    """Fail as qsub may when the connection breaks after the job was made; these words were not recorded."""
    raise Exit(1, f'{NOISE}component error: XMLRPC failure <Fault 20: timed out>\n')
