"""The processes of RADICAL-Pilot on this machine.

They are children of nobody: each is found by its name, which begins with ``rp.``, and its working directory, or by the
ID of the session in the environment with which it was started.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Callable, Iterator, List, Optional, Tuple, TypeVar

from psij._runtime import process_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    import psutil

Fact = TypeVar('Fact')

_PREFIX = 'rp.'


_ATTEMPTS = 10


def components(directory: str) -> List[Tuple[int, str]]:
    """Return the pids and names of RADICAL-Pilot's own processes that work in a directory."""
    directory = os.path.realpath(directory)
    found = []
    for process in _own_processes():
        name = (_ask(process.cmdline) or [''])[0].strip()
        if name.startswith(_PREFIX) and _ask(process.cwd) == directory:
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
        pids = [
            process.pid for process in _own_processes() if _is_of_pilot(process, session, os.path.realpath(sandbox))
        ]
        if not pids:
            return
        process_tree.send(signal.SIGKILL, [*process_tree.descendants(pids), *pids])
        time.sleep(0.02)


def _is_of_pilot(process: psutil.Process, session: str, sandbox: str) -> bool:
    directory = _ask(process.cwd) or ''
    if directory == sandbox or directory.startswith(f'{sandbox}/'):
        return True
    return (_ask(process.environ) or {}).get('RP_SESSION_ID') == session


def _own_processes() -> Iterator[psutil.Process]:
    """Yield the processes of this user but this one."""
    import psutil

    user = os.geteuid()
    for process in psutil.process_iter():
        uids = _ask(process.uids)
        if uids is not None and uids.effective == user and process.pid != os.getpid():
            yield process


def _ask(question: Callable[[], Fact]) -> Optional[Fact]:
    """Return a fact about a process, or None if it is gone, or is just about to."""
    import psutil

    try:
        return question()
    except (psutil.Error, OSError):
        return None
