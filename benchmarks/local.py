"""The local executor against `subprocess.Popen`."""

from __future__ import annotations

import gc
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from psij import Job, JobExecutor, JobExecutorConfig, JobSpec, JobState, JobStatus, StageIn, StageOut

from .measure import Figure, compare, cpu

N = 500
IN_FLIGHT = 4


def popen() -> None:
    """Run the programs with 4 in flight: the floor."""
    running: deque[subprocess.Popen[bytes]] = deque()
    for _ in range(N):
        running.append(subprocess.Popen(['/bin/true'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
        if len(running) >= IN_FLIGHT:
            running.popleft().wait()
    for process in running:
        process.wait()


def run() -> Iterator[Figure]:
    """Measure."""
    with tempfile.TemporaryDirectory() as directory:
        yield from _run(Path(directory))


def _run(directory: Path) -> Iterator[Figure]:
    executor = JobExecutor.get_instance('local', config=JobExecutorConfig(work_directory=directory / 'work'))
    nothing = directory / 'nothing.sh'
    nothing.write_text('export A=1\n')

    def all_of(count: int, **fields: object) -> None:
        jobs = [Job(JobSpec('/bin/true')) for _ in range(count)]
        for job in jobs:
            for name, value in fields.items():
                setattr(job.spec, name, value)
            executor.submit(job)
        for job in jobs:
            status = job.wait()
            assert status is not None
            assert status.exit_code == 0

    all_of(5, pre_launch=nothing)
    _, (plain, scripted) = compare(popen, lambda: all_of(N), lambda: all_of(N, pre_launch=nothing, post_launch=nothing))
    yield Figure('CPU of a plain job to Popen', plain.cpu, 'x', at_most=1.5)
    yield Figure('rate of submit 500, wait for all, to Popen with 4 in flight', 1 / plain.wall, 'x', at_least=0.7)
    yield Figure('CPU of a job with pre- and post-launch to Popen', scripted.cpu, 'x', at_most=4)
    yield from _staging(executor, directory)
    yield from _processes(directory)
    yield from _latency(executor)
    yield from _sleeping(executor)

    for _ in range(2):
        all_of(1000)
    gc.collect()
    before = _resident()
    for _ in range(5):
        all_of(1000)
    gc.collect()
    yield Figure('growth of memory over 5,000 jobs, each', (_resident() - before) / 5000, 'bytes', at_most=64)


def _staging(executor: JobExecutor, directory: Path) -> Iterator[Figure]:
    """A file in and one out, against a shell script with the two copies."""
    place = directory / 'job'
    place.mkdir()
    (directory / 'data').write_text('data')
    copies = f'cp {directory}/data {place}/in && /bin/true && cp {place}/in {directory}/out'

    def script() -> None:
        for _ in range(20):
            subprocess.run(['/bin/bash', '-c', copies], check=True)

    def staged() -> None:
        for _ in range(20):
            spec = JobSpec('/bin/true', directory=place)
            spec.stage_in = {StageIn(directory / 'data', 'in')}
            spec.stage_out = {StageOut('in', directory / 'out')}
            job = Job(spec)
            executor.submit(job)
            status = job.wait()
            assert status is not None
            assert status.exit_code == 0, status

    _, (ratio,) = compare(script, staged)
    yield Figure('CPU of a job with two staged files to bash with two cp', ratio.cpu, 'x')


ONE_JOB = """
from psij import Job, JobExecutor, JobSpec
job = Job(JobSpec('/bin/true'))
JobExecutor.get_instance('local').submit(job)
job.wait()
"""


def _processes(directory: Path) -> Iterator[Figure]:
    """What a plain job starts, as strace sees it; nothing is said where there is no strace."""
    if shutil.which('strace') is None:
        return
    trace = directory / 'trace'
    calls = 'trace=execve,fork,vfork,clone,clone3'
    subprocess.run(['strace', '-f', '-qq', '-e', calls, '-o', str(trace), sys.executable, '-c', ONE_JOB], check=True)
    lines = [line for line in trace.read_text().splitlines() if 'resumed>' not in line and 'CLONE_THREAD' not in line]
    programs = sum('execve(' in line for line in lines) - 1  # the first one is Python
    processes = sum('fork(' in line or 'clone' in line for line in lines)
    yield Figure('programs run for a plain job', programs, '', at_most=1)
    yield Figure('processes made for a plain job', processes, '', at_most=1)


def _latency(executor: JobExecutor) -> Iterator[Figure]:
    delays = []
    for _ in range(100):
        noted = threading.Event()
        moment: list[float] = []

        def note(job: Job, status: JobStatus, noted: threading.Event = noted, moment: list[float] = moment) -> None:
            if status.final:
                moment.append(time.time())
                noted.set()

        job = Job(JobSpec('/bin/sleep', ['0.02']))
        job.set_job_status_callback(note)
        executor.submit(job)
        pidfd = os.pidfd_open(int(job.native_id or 0))
        _wait_readable(pidfd)
        ended = time.time()
        os.close(pidfd)
        noted.wait()
        delays.append(max(moment[0] - ended, 0.0) * 1000)
    delays.sort()
    yield Figure('end of a process to its callback, median', statistics.median(delays), 'ms', at_most=1)
    yield Figure('end of a process to its callback, 95th percentile', delays[94], 'ms', at_most=5)


def _wait_readable(fd: int) -> None:
    import select

    select.select([fd], [], [])


def _sleeping(executor: JobExecutor) -> Iterator[Figure]:
    jobs = [Job(JobSpec('/bin/sleep', ['300'])) for _ in range(200)]
    finals: list[JobState] = []
    executor.set_job_status_callback(lambda job, status: finals.append(status.state) if status.final else None)
    for job in jobs:
        executor.submit(job)
    time.sleep(1.5)
    before, switches = cpu(), _switches()
    time.sleep(5)
    yield Figure('CPU in 5 s with 200 sleeping jobs', (cpu() - before) * 1000, 'ms', at_most=2)
    yield Figure('wake-ups of all threads in these 5 s', _switches() - switches, '', at_most=5)

    begin = time.process_time()  # without the children, whose whole lives would be counted when they are waited for
    for job in jobs:
        job.cancel()
    for job in jobs:
        job.wait()
    yield Figure('CPU to cancel 200 jobs', (time.process_time() - begin) * 1000, 'ms', at_most=50)
    wrong = sum(1 for state in finals if state is not JobState.CANCELED) + abs(len(finals) - 200)
    yield Figure('of which not CANCELED exactly once', wrong, '', at_most=0)
    executor.set_job_status_callback(None)


def _switches() -> int:
    total = 0
    for thread in os.listdir('/proc/self/task'):
        for line in Path(f'/proc/self/task/{thread}/status').read_text().splitlines():
            if line.startswith('voluntary_ctxt_switches'):
                total += int(line.split()[1])
    return total


def _resident() -> int:
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')
