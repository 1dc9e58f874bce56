"""The RADICAL-Pilot executor against RADICAL-Pilot used directly, in the same pilot on this machine.

Run it in the virtual environment that ``tests/schedulers/rp/setup`` makes: ``python -m benchmarks rp``.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from psij import Job, JobExecutor, JobSpec
from psij.executors import _rp_session
from psij.executors.rp import RPJobExecutorConfig

from .measure import Figure, compare

COUNT = 100
ROUNDS = 5


def run() -> Iterator[Figure]:
    """Measure."""
    with tempfile.TemporaryDirectory() as directory:
        config = RPJobExecutorConfig(work_directory=Path(directory), cores=8, runtime=30)
        executor: Any = JobExecutor.get_instance('rp', config=config)
        try:
            begin = time.perf_counter()
            _jobs(executor, 1)
            yield Figure(
                'start of a session and a pilot, to the end of the first job', time.perf_counter() - begin, 's'
            )
            (session,) = _rp_session._sessions.values()
            assert session._started is not None
            yield from _compare(executor, session._started.tasks)
        finally:
            executor.close()


def _compare(executor: Any, tasks: Any) -> Iterator[Figure]:
    one_by_one, together = partial(_directly, tasks, False), partial(_directly, tasks, True)
    _, (jobs, bulk) = compare(one_by_one, partial(_jobs, executor, COUNT), together, rounds=ROUNDS)
    yield Figure(f'{COUNT} /bin/true to RADICAL-Pilot alone, one by one', jobs.wall, 'x', at_most=1.2)
    yield Figure('  for comparison: the same, but RADICAL-Pilot gets all at once', bulk.wall, 'x')
    yield Figure('one /bin/true, submission to end', _latency(executor), 's')


def _jobs(executor: Any, count: int) -> None:
    jobs = [Job(JobSpec('/bin/true')) for _ in range(count)]
    for job in jobs:
        executor.submit(job)
    for job in jobs:
        job.wait()


def _directly(tasks: Any, together: bool) -> None:
    rp = _rp_session.radical_pilot()
    descriptions = [rp.TaskDescription({'executable': '/bin/true'}) for _ in range(COUNT)]
    if together:
        submitted = tasks.submit_tasks(descriptions)
    else:
        submitted = [tasks.submit_tasks(description) for description in descriptions]
    tasks.wait_tasks([task.uid for task in submitted])


def _latency(executor: Any) -> float:
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        _jobs(executor, 1)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)
