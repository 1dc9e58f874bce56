"""The Flux executor against Flux used directly: on a real Flux if there is one, else on the stand-in of the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Callable

from psij import Job, JobExecutor, JobExecutorConfig, JobSpec
from psij.executors._flux_jobspec import LAUNCHER, process_request
from psij.executors._flux_session import bindings

from .measure import Figure, compare

TESTS = Path(__file__).resolve().parent.parent / 'tests'
COUNT = 100
THREADS = 16


def run() -> Iterator[Figure]:
    """Measure."""
    sys.path.insert(0, str(TESTS))
    real = shutil.which('flux') is not None
    with contextlib.ExitStack() as stack:
        variables = stack.enter_context(_instance(real))
        os.environ.update(variables)
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        executor = JobExecutor.get_instance('flux', config=JobExecutorConfig(work_directory=work))
        yield from _jobs(executor, real)


def _instance(real: bool) -> contextlib.AbstractContextManager[Mapping[str, str]]:
    if real:
        from schedulers.flux.instance import instance, missing

        missing()  # finds the bindings
        return instance()
    from fakes.flux import instance_for_all

    return instance_for_all()


def _jobs(executor: JobExecutor, real: bool) -> Iterator[Figure]:
    def one_by_one(launcher: str) -> None:
        jobs = [Job(JobSpec('/bin/true', launcher=launcher)) for _ in range(COUNT)]
        for job in jobs:
            executor.submit(job)
        for job in jobs:
            job.wait()

    def processes() -> None:
        one_by_one(LAUNCHER)

    def script() -> None:
        one_by_one('single')

    def by_threads() -> None:
        jobs = [Job(JobSpec('/bin/true', launcher=LAUNCHER)) for _ in range(COUNT)]
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(executor.submit, jobs))
        for job in jobs:
            job.wait()

    script()
    name = f'{COUNT} /bin/true to {"Flux" if real else "the stand-in for Flux"} alone'
    target = 1.2 if real else None  # the stand-in does so little that the shell of a script counts
    _, (without_script, with_script) = compare(partial(_directly, together=False), processes, script, rounds=5)
    yield Figure(f'{name}, one by one', without_script.wall, 'x', at_most=1.2)
    yield Figure(f'{name}, one by one, with a script', with_script.wall, 'x', at_most=target)
    _, (threads,) = compare(partial(_directly, together=True), by_threads, rounds=5)
    yield Figure(f'{name}, at once, by {THREADS} threads', threads.wall, 'x', at_most=target)
    yield Figure('CPU of a job in this process, on top of that', _own_cpu(processes), 'ms')
    yield Figure('end of a job to its callback, median', _delay(executor), 'ms')


def _directly(together: bool) -> None:
    """Submit, all at once as ``flux.job.FluxExecutor`` does, or one by one as ``flux.job.submit``; then wait."""
    flux = bindings()
    handle = flux.flux.Flux()
    text = process_request(JobSpec('/bin/true'), dict(os.environ), Path.cwd()).text
    if together:
        ids = [future.get_id() for future in [flux.job.submit_async(handle, text) for _ in range(COUNT)]]
    else:
        ids = [flux.job.submit_async(handle, text).get_id() for _ in range(COUNT)]
    for watch in [flux.job.event_watch_async(handle, job_id) for job_id in ids]:
        while watch.get_event() is not None:
            pass


def _own_cpu(function: Callable[[], None]) -> float:
    """Return the milliseconds of CPU of this process for each job, those of the direct way taken off."""
    differences = []
    for _ in range(5):
        times = [time.process_time()]
        for each in (partial(_directly, together=False), function):
            each()
            times.append(time.process_time())
        differences.append((times[2] - times[1]) - (times[1] - times[0]))
    return statistics.median(differences) / COUNT * 1000


def _delay(executor: JobExecutor) -> float:
    """Return the milliseconds from the end of a job, as Flux records it, to its callback."""
    delays = []
    for _ in range(20):
        job = Job(JobSpec('/bin/true'))
        job.set_job_status_callback(
            lambda job, status: delays.append(time.time() - status.time) if status.final else None
        )
        executor.submit(job)
        job.wait()
    return statistics.median(delays) * 1000
