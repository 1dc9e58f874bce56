"""``import psij`` does nothing but define names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import psij

SOURCE = Path(psij.__file__).parent.parent

# Without `site`, whose hooks may import anything. What the script itself needs is imported before it looks.
SCRIPT = """
import json, os, signal, sys, threading
sys.path.append(SOURCE)

def look():
    return {
        'threads': [thread.name for thread in threading.enumerate()],
        'descriptors': sorted(os.listdir('/proc/self/fd')) if os.path.isdir('/proc/self/fd') else [],
        'handlers': [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        'files': sorted(name for _, *names in os.walk('.') for part in names for name in part),
        'wakeup': signal.set_wakeup_fd(-1),
        'hooks': [str(hook) for hook in (sys.excepthook, threading.excepthook, *sys.meta_path, *sys.path_hooks)],
    }

before, modules = look(), set(sys.modules)
import psij
print(json.dumps({'before': before, 'after': look(), 'modules': sorted(set(sys.modules) - modules)}))
"""


@pytest.fixture
def seen(tmp_path: Path) -> Any:
    """Return what an interpreter saw of itself before and after the import, with a plugin on its path."""
    plugins = tmp_path / 'plugins'
    (plugins / 'psij-descriptors').mkdir(parents=True)
    (plugins / 'psij-descriptors' / 'intruder.py').write_text('open("intruder was here", "w").close()')
    home = tmp_path / 'home'
    home.mkdir()
    script = SCRIPT.replace('SOURCE', f'{os.fspath(SOURCE)!r}); sys.path.append({os.fspath(plugins)!r}')
    done = subprocess.run(
        [sys.executable, '-S', '-B', '-c', script],
        capture_output=True,
        text=True,
        cwd=home,
        env={'HOME': str(home), 'PATH': os.environ['PATH']},
    )
    assert done.stderr == '', done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize('what', ['threads', 'descriptors', 'handlers', 'files', 'wakeup', 'hooks'])
def test_no_side_effects(seen: Any, what: str) -> None:
    """No thread, no file descriptor, no signal handler, no file; no code of a plugin is run."""
    assert seen['after'][what] == seen['before'][what]


HEAVY = {
    *('typeguard', 'psutil', 'pystache', 'filelock', 'packaging'),
    *('logging', 'subprocess', 'asyncio', 'importlib.metadata', 'json', 'typing', 'uuid', 'socket', 'argparse'),
    *('psij.serialize', 'psij._plugins', 'psij._spec_check', 'psij.utils', 'psij.executors', 'psij.launchers'),
}


def test_heavy_modules_are_imported_when_they_are_needed(seen: Any) -> None:
    assert not HEAVY & set(seen['modules'])
