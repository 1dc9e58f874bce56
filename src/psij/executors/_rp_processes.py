"""The processes of RADICAL-Pilot on this machine.

They are children of nobody: each is found by its name, which begins with ``rp.``, and its working directory, or by the
ID of the session in the environment with which it was started.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Iterator, List, Tuple

from psij._runtime import process_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    import psutil

_PREFIX = 'rp.'


_ATTEMPTS = 10


def components(directory: str) -> List[Tuple[int, str]]:
    """Return the pids and names of RADICAL-Pilot's own processes that work in a directory."""
    directory = os.path.realpath(directory)
    found = []
    for process in _own_processes('cmdline', 'cwd'):
        name = (process.info['cmdline'] or [''])[0].strip()
        if name.startswith(_PREFIX) and process.info['cwd'] == directory:
            found.append((process.pid, name))
    return found


def kill_all(session: str, sandbox: str) -> None:
    """Kill all processes that belong to a pilot, and those that they have started.

    Parameters
    ----------
    session
        The ID of the session, which is in the environment of tasks.
    sandbox
        The directory of the pilot.
    """
    for _ in range(_ATTEMPTS):  # they may start others meanwhile
        pids = _of_pilot(session, os.path.realpath(sandbox))
        if not pids:
            return
        process_tree.send(signal.SIGKILL, [*process_tree.descendants(pids), *pids])
        time.sleep(0.02)


def _of_pilot(session: str, sandbox: str) -> List[int]:
    return [
        process.pid
        for process in _own_processes('cwd', 'environ')
        if _is_inside(process.info['cwd'] or '', sandbox)
        or (process.info['environ'] or {}).get('RP_SESSION_ID') == session
    ]


def _is_inside(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory + '/')


def _own_processes(*facts: str) -> Iterator[psutil.Process]:
    """Yield the processes of this user but this one, with certain facts in their ``info``."""
    import psutil

    user = os.geteuid()
    for process in psutil.process_iter(['uids', *facts]):
        uids = process.info['uids']
        if uids is not None and uids.effective == user and process.pid != os.getpid():
            yield process
