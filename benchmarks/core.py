"""Importing the package, and making jobs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator

from .measure import Figure, compare

N = 20_000


def run() -> Iterator[Figure]:
    """Measure."""
    with tempfile.TemporaryDirectory() as cache:
        # compiled once, as by an installation
        environment = {**os.environ, 'PYTHONPYCACHEPREFIX': cache}
        environment.pop('PYTHONDONTWRITEBYTECODE', None)

        def python(code: str) -> None:
            subprocess.run([sys.executable, '-c', code], env=environment, check=True)

        python('import psij')
        _, (ratio,) = compare(lambda: python('pass'), lambda: python('import psij'), rounds=11)
    yield Figure('CPU of `import psij`, interpreter included, to `pass`', ratio.cpu, 'x', at_most=4)

    from psij import Job, JobSpec

    begin = time.process_time()
    for _ in range(N):
        Job(JobSpec('/bin/true', ['a']))
    yield Figure('CPU to make a job with its specification', (time.process_time() - begin) / N * 1e6, 'us', at_most=20)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    jobs = [Job(JobSpec('/bin/true', ['a'])) for _ in range(5000)]
    size = (tracemalloc.get_traced_memory()[0] - before) / len(jobs)
    tracemalloc.stop()
    yield Figure('memory of a job with its specification', size / 1000, 'kB', at_most=1.5)
