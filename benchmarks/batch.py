"""The batch engine: its own cost, on top of the scheduler's commands."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from psij import Job, JobSpec, JobStatus
from psij.executors.batch.slurm import SlurmExecutorConfig, SlurmJobExecutor

from .measure import Figure, compare, cost

LIVE = 50_000


def run() -> Iterator[Figure]:
    """Measure."""
    with tempfile.TemporaryDirectory() as directory:
        yield from _submission(Path(directory))
        yield from _poll(Path(directory))
        if shutil.which('sbatch'):
            yield from _real(Path(directory))


@contextlib.contextmanager
def _commands(directory: Path, **scripts: str) -> Iterator[None]:
    """Put commands on the PATH that do nothing but print."""
    commands = directory / 'bin'
    commands.mkdir(exist_ok=True)
    for name, text in scripts.items():
        (commands / name).write_text(f'#!/bin/sh\n{text}\n')
        (commands / name).chmod(0o755)
    before = os.environ['PATH']
    os.environ['PATH'] = f'{commands}:{before}'
    try:
        yield
    finally:
        os.environ['PATH'] = before


def _executor(directory: Path, delay: int = 3600) -> SlurmJobExecutor:
    config = SlurmExecutorConfig(work_directory=directory / 'work', initial_queue_polling_delay=delay)
    return SlurmJobExecutor(config=config)


def _submission(directory: Path) -> Iterator[Figure]:
    count = 200
    with _commands(directory, sbatch='echo $$'):
        executor = _executor(directory)

        def ours() -> None:
            for _ in range(count):
                executor.submit(Job(JobSpec('/bin/true', ['a'], environment={'A': '1'})))

        def raw() -> None:
            for _ in range(count):
                subprocess.run(['sbatch', '--parsable', '/dev/null'], capture_output=True, text=True, check=True)

        ours()
        own = statistics.median((cost(ours).cpu - cost(raw).cpu) / count for _ in range(7))
    yield Figure('CPU of submit() on top of subprocess.run of the command', own * 1000, 'ms', at_most=0.5)


def _poll(directory: Path) -> Iterator[Figure]:
    answer = directory / 'answer'
    answer.write_text(''.join(f'{number}|{number}|R|0|None|\n' for number in range(LIVE)))
    with _commands(directory, squeue=f'exec cat {answer}'):
        executor = _executor(directory)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        jobs = [Job() for _ in range(LIVE)]
        poller = executor._queue_poll_thread
        poller._enabled = False  # asked here, and not by its own thread
        for number, job in enumerate(jobs):
            executor.attach(job, str(number))
        poller._poll()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        rounds = []
        for _ in range(5):
            begin = time.process_time()
            poller._poll()
            rounds.append(time.process_time() - begin)
    yield Figure(f'CPU of a poll round with {LIVE} jobs, each', statistics.median(rounds) / LIVE * 1e6, 'us', at_most=2)
    yield Figure('memory of a live job, the answers included', memory / LIVE, 'kB', at_most=4)


def _real(directory: Path) -> Iterator[Figure]:
    """Measure on a real Slurm, if there is one."""
    if subprocess.run(['sinfo', '-h'], capture_output=True, check=False).returncode != 0:
        return
    script = directory / 'true.sh'
    script.write_text('#!/bin/sh\n/bin/true\n')
    count = 40
    executor = _executor(directory, 2)

    def ours() -> None:
        for _ in range(count):
            executor.submit(Job(JobSpec('/bin/true', attributes=None)))

    def raw() -> None:
        for _ in range(count):
            subprocess.run(['sbatch', '-o', '/dev/null', str(script)], capture_output=True, check=True)

    ours()
    _, (ratio,) = compare(raw, ours, rounds=5)
    yield Figure('wall time of submit() to the bare sbatch', ratio.wall, 'x', at_most=1.15)
    _settle()

    def loop() -> None:
        for _ in range(300):
            subprocess.run(['sbatch', '-o', '/dev/null', str(script)], capture_output=True, check=True)
        _settle()

    ended = threading.Semaphore(0)
    delays: list[float] = []

    def note(job: Job, status: JobStatus) -> None:
        if status.final:
            ended.release()

    executor.set_job_status_callback(note)

    def all_jobs() -> None:
        for _ in range(300):
            executor.submit(Job(JobSpec('/bin/true')))
        for _ in range(300):
            ended.acquire()

    ours_cost = cost(all_jobs)
    _settle()
    base = cost(loop)
    yield Figure('300 jobs, first submit to last callback, to a shell loop', ours_cost.wall / base.wall, 'x')

    stamp = directory / 'stamp'
    for _ in range(20):
        job = Job(JobSpec('/bin/sh', ['-c', f'date +%s.%N > {stamp}']))
        executor.submit(job)
        job.wait()
        ended.acquire()
        delays.append(time.time() - float(stamp.read_text()))
    delays.sort()
    yield Figure('end of a job to its callback, median', statistics.median(delays), 's', at_most=0.3)
    yield Figure('end of a job to its callback, 95th percentile', delays[18], 's', at_most=1)


def _settle() -> None:
    while subprocess.run(['squeue', '-h', '--me'], capture_output=True, check=True).stdout.strip():
        time.sleep(0.1)
