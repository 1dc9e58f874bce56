from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Iterator

import pytest

from .harness import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def user_site() -> Iterator[Site]:
    """A site whose scripts run as an ordinary user, to whom permissions mean something."""
    # not tmp_path: only its owner can enter that
    root = Path(tempfile.mkdtemp(prefix='psij-test-'))
    try:
        if os.geteuid() != 0:
            yield Site(root)
            return
        if shutil.which('setpriv') is None:
            pytest.skip('setpriv is needed to become an ordinary user')
        site = Site(root, ('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'))
        os.chown(root, 65534, 65534)
        yield site
    finally:
        for directory, _, _ in os.walk(root):
            os.chmod(directory, 0o700)
        shutil.rmtree(root)


@pytest.fixture
def other_file_system(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system than ``site``."""
    for candidate in ('/dev/shm', '/var/tmp', '/tmp', str(Path.home())):
        if os.access(candidate, os.W_OK) and os.stat(candidate).st_dev != os.stat(tmp_path).st_dev:
            break
    else:
        pytest.skip('there is only one file system')
    root = Path(tempfile.mkdtemp(prefix='psij-test-', dir=candidate))
    yield root
    shutil.rmtree(root)
