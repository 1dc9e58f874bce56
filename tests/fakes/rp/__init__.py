"""A stand-in for RADICAL-Pilot, for where the real one is not installed.

``bindings`` has the Python package, ``bin`` the one program whose presence on the PATH is asked for.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

HERE = Path(__file__).resolve().parent

BINDINGS = HERE / 'bindings'
"""The directory to put on ``sys.path`` for the stand-in's ``radical`` package."""

COMMANDS = HERE / 'bin'
"""The directory to put on ``PATH``."""


@contextlib.contextmanager
def installed() -> Iterator[Any]:
    """Have the stand-in imported as ``radical.pilot``, and give the module."""
    from psij._plugins import executors
    from psij.executors import _rp_session

    sys.path.insert(0, str(BINDINGS))
    importlib.invalidate_caches()
    executors.select('rp').error = None  # another test may have found it missing
    try:
        yield importlib.import_module('radical.pilot')
    finally:
        for session in list(_rp_session._sessions.values()):
            session.close()
        _rp_session._sessions.clear()
        sys.path.remove(str(BINDINGS))
        for name in [name for name in sys.modules if name.split('.')[0] == 'radical']:
            del sys.modules[name]


@contextlib.contextmanager
def pilot_for_all() -> Iterator[Mapping[str, str]]:
    """Provide the stand-in to all tests of a session, with the variables that the executor looks at."""
    with installed():
        yield variables()


def variables() -> dict[str, str]:
    """Return the variables that the executor looks at."""
    return {'PATH': f'{COMMANDS}:{os.environ["PATH"]}', 'VIRTUAL_ENV': sys.prefix}
