"""A real Flux for the tests, where the command ``flux`` is on the PATH."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

_PATIENCE = 60.0  # seconds for an instance to start, or to end


def missing() -> Optional[str]:
    """Return why there is no real Flux here, if there is none."""
    if shutil.which('flux') is None:
        return 'there is no flux'
    path = subprocess.run(['flux', 'env', 'printenv', 'PYTHONPATH'], capture_output=True, text=True, check=False).stdout
    sys.path += [entry for entry in path.strip().split(os.pathsep) if entry and entry not in sys.path]
    try:
        import psij.executors.flux

        getattr(psij.executors.flux, 'FluxJobExecutor')  # noqa: B009 - this is what imports the bindings
    except ImportError as ex:
        return str(ex)
    return None


@contextlib.contextmanager
def instance() -> Iterator[Mapping[str, str]]:
    """Provide an instance: the one in which this runs, or else one of two brokers that is started here."""
    if 'FLUX_URI' in os.environ:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix='psij-flux-') as directory:
        uri = Path(directory) / 'uri'
        script = f'echo "$FLUX_URI" > {uri}.new && mv {uri}.new {uri} && exec sleep 86400'
        with subprocess.Popen(['flux', 'start', '--test-size=2', '/bin/sh', '-c', script]) as process:
            deadline = time.monotonic() + _PATIENCE
            while not uri.exists():
                assert process.poll() is None, 'flux start has failed'
                assert time.monotonic() < deadline, 'flux start takes too long'
                time.sleep(0.1)
            try:
                yield {'FLUX_URI': uri.read_text().strip()}
            finally:
                process.terminate()
                try:
                    process.wait(_PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
