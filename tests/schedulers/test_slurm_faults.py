"""A real Slurm in trouble: outages, dead nodes, killed jobs, killed clients. Every outcome must be right, none lost.

This needs root, to start a cluster of its own and to break it, and takes some minutes; it runs if ``PSIJ_TEST_FAULTS``
is set, as ``.ci/run`` does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

import pytest

from psij import Job, JobAttributes, JobSpec, JobState, JobStatus, ResourceSpecV1
from psij.executors.batch.slurm import SlurmExecutorConfig, SlurmJobExecutor

HERE = Path(__file__).parent / 'slurm'
PATIENCE = timedelta(seconds=240)

pytestmark = [
    pytest.mark.skipif(
        'PSIJ_TEST_FAULTS' not in os.environ, reason='takes minutes and needs root: set PSIJ_TEST_FAULTS'
    ),
    pytest.mark.timeout(600),
]


class Cluster:
    """A cluster of the tests' own."""

    def __init__(self, directory: Path) -> None:
        self.environment = {
            'SLURM_TEST_DIR': str(directory),
            'SLURM_TEST_PORT': '17900',
            'SLURM_TEST_MINJOBAGE': '2',  # jobs are forgotten within seconds, so sacct has to be asked
            'SLURM_TEST_EXTRA': 'MessageTimeout=5\nSlurmdTimeout=5',
        }
        self.config = directory / 'etc' / 'slurm.conf'

    def do(self, script: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(HERE / script), *arguments],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope='module')
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(Path('/var/lib/slurm-test-faults'))
    cluster.do('up')
    before = os.environ.get('SLURM_CONF')
    os.environ['SLURM_CONF'] = str(cluster.config)
    try:
        yield cluster
    finally:
        if before is None:
            del os.environ['SLURM_CONF']
        else:
            os.environ['SLURM_CONF'] = before
        cluster.do('down', '--purge')


@pytest.fixture(scope='module')
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('work')


def new_executor(work: Path) -> SlurmJobExecutor:
    return SlurmJobExecutor(
        config=SlurmExecutorConfig(work_directory=work, queue_polling_interval=3, initial_queue_polling_delay=1)
    )


@pytest.fixture(scope='module')
def executor(cluster: Cluster, work: Path) -> SlurmJobExecutor:
    return new_executor(work)


@pytest.fixture(scope='module')
def over_time(executor: SlurmJobExecutor) -> Job:
    """A job that has a minute and takes longer: started first, so that nobody has to wait for its end."""
    return submit(executor, 'sleep 300', duration=timedelta(minutes=1))


def submit(
    executor: SlurmJobExecutor, script: str, duration: timedelta = timedelta(minutes=10), **custom: object
) -> Job:
    attributes = JobAttributes(duration, custom_attributes={f'slurm.{name}': value for name, value in custom.items()})
    job = Job(JobSpec('/bin/sh', ['-c', script], attributes=attributes))
    executor.submit(job)
    return job


def final(job: Job) -> JobStatus:
    status = job.wait(PATIENCE)
    assert status is not None, f'{job} did not end'
    return status


def facts(job: Job) -> Tuple[str, Optional[int], object]:
    status = final(job)
    return status.state.name, status.exit_code, (status.metadata or {}).get('reason')


def scontrol(*arguments: str) -> None:
    subprocess.run(['scontrol', *arguments], check=True)


def test_outage_of_a_minute(cluster: Cluster, executor: SlurmJobExecutor, over_time: Job) -> None:
    """Twenty jobs that end before, during and after an outage of the controller."""
    scripts: Dict[str, Tuple[str, Optional[int], object]] = {
        'sleep {}': ('COMPLETED', 0, None),
        'sleep {}; exit 3': ('FAILED', 3, 'exit_code'),
        'sleep {}; kill -9 $$': ('FAILED', 137, 'signal'),
        'sleep {}; exit 255': ('FAILED', 255, 'exit_code'),
    }
    jobs = [
        (submit(executor, script.format(seconds)), expected)
        for seconds in (1, 10, 20, 40, 80)
        for script, expected in scripts.items()
    ]
    for job, _ in jobs:
        assert job.wait(PATIENCE, JobState.ACTIVE) is not None
    cluster.do('fault', 'controller-down')
    begin = time.monotonic()
    try:
        early = [(job, expected) for job, expected in jobs[:12] if expected[1] != 137]
        for job, expected in early:  # their scripts say how they ended, so nobody else is needed
            status = job.wait(timedelta(seconds=60))
            assert status is not None
            assert (status.state.name, status.exit_code) == expected[:2]
        time.sleep(max(0.0, 60 - (time.monotonic() - begin)))
    finally:
        cluster.do('fault', 'controller-up')
    assert [facts(job) for job, _ in jobs] == [expected for _, expected in jobs]


def test_submission_during_an_outage(cluster: Cluster, executor: SlurmJobExecutor) -> None:
    from psij import SubmitException

    job = Job(JobSpec('/bin/true'))
    cluster.do('fault', 'controller-down')
    try:
        with pytest.raises(SubmitException) as info:
            executor.submit(job)
        assert info.value.transient
        assert job.status.state is JobState.NEW
    finally:
        cluster.do('fault', 'controller-up')
    executor.submit(job)
    assert final(job).state is JobState.COMPLETED


def test_authentication_outage(cluster: Cluster, executor: SlurmJobExecutor) -> None:
    job = submit(executor, 'sleep 8; exit 4')
    job.wait(PATIENCE, JobState.ACTIVE)
    cluster.do('fault', 'munge-down')
    try:
        assert facts(job) == ('FAILED', 4, 'exit_code')
    finally:
        cluster.do('fault', 'munge-up')


def test_killed_by_others(executor: SlurmJobExecutor) -> None:
    cancelled, signalled = submit(executor, 'sleep 300'), submit(executor, 'sleep 300')
    held = submit(executor, 'true', hold=True)
    for job in (cancelled, signalled):
        job.wait(PATIENCE, JobState.ACTIVE)
    subprocess.run(['scancel', str(cancelled.native_id), str(held.native_id)], check=True)
    subprocess.run(['scancel', '-f', '-s', 'USR1', str(signalled.native_id)], check=True)
    assert facts(cancelled) == ('CANCELED', None, 'cancelled_by_user')
    assert facts(held) == ('CANCELED', None, 'cancelled_by_user')
    state, code, reason = facts(signalled)
    assert (state, reason) == ('FAILED', 'signal')
    assert code == 138


def test_cancel_by_us_ends_trapping_jobs(executor: SlurmJobExecutor) -> None:
    job = submit(executor, "trap 'exit 0' TERM; sleep 300 & wait")
    job.wait(PATIENCE, JobState.ACTIVE)
    job.cancel()
    assert facts(job)[0] == 'CANCELED'


def test_requeued_job_does_not_go_back(executor: SlurmJobExecutor) -> None:
    states: List[JobState] = []
    job = Job(JobSpec('/bin/sh', ['-c', '[ -n "$SLURM_RESTART_COUNT" ] && exit 6; sleep 300']))
    job.set_job_status_callback(lambda job, status: states.append(status.state))
    assert job.spec is not None
    job.spec.attributes = JobAttributes(custom_attributes={'slurm.requeue': True})
    executor.submit(job)
    job.wait(PATIENCE, JobState.ACTIVE)
    scontrol('requeue', str(job.native_id))
    deadline = time.monotonic() + 60
    while (
        'JobState=PENDING'
        not in subprocess.run(
            ['scontrol', 'show', 'job', str(job.native_id)], capture_output=True, text=True, check=True
        ).stdout
    ):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not job.status.final
    # not at once: a node that gets a job again in the second in which its credential was revoked lets the job fail
    scontrol('update', f'jobid={job.native_id}', 'starttime=now+3')
    assert facts(job) == ('FAILED', 6, 'exit_code'), job
    assert states == sorted(states, key=lambda state: state.value)
    assert len(set(states)) == len(states)


CLIENT = """
import json, os, sys
from pathlib import Path
from psij import Job, JobSpec
from psij.executors.batch.slurm import SlurmExecutorConfig, SlurmJobExecutor
executor = SlurmJobExecutor(config=SlurmExecutorConfig(work_directory=Path(sys.argv[1])))
ids = []
for script in ('sleep 3', 'sleep 3; exit 5', 'sleep 3; kill -9 $$', 'sleep 300'):
    job = Job(JobSpec('/bin/sh', ['-c', script]))
    executor.submit(job)
    ids.append(job.native_id)
print(json.dumps(ids), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize('late', [False, True])
def test_client_killed_and_attached_again(cluster: Cluster, work: Path, late: bool) -> None:
    """A new process knows as much as the one that is gone, also if the jobs have left the queue by then."""
    client = subprocess.Popen(
        [sys.executable, '-c', CLIENT, str(work)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert client.stdout is not None
    assert client.stdin is not None
    ids = json.loads(client.stdout.readline())
    client.send_signal(signal.SIGKILL)
    client.wait()
    client.stdout.close()
    client.stdin.close()
    if late:
        deadline = time.monotonic() + 120
        listed = set(ids)
        while listed.intersection(ids[:3]):
            assert time.monotonic() < deadline
            time.sleep(0.5)
            listing = subprocess.run(
                ['squeue', '-h', '-t', 'all', '-o', '%i'], capture_output=True, text=True, check=True
            )
            listed = set(listing.stdout.split())
    executor = new_executor(work)
    jobs = [Job() for _ in ids]
    for job, native_id in zip(jobs, ids):
        executor.attach(job, native_id)
    status = jobs[3].wait(timedelta(seconds=20), JobState.ACTIVE)
    assert status is not None
    jobs[3].cancel()
    assert [facts(job) for job in jobs] == [
        ('COMPLETED', 0, None),
        ('FAILED', 5, 'exit_code'),
        ('FAILED', 137, 'signal'),
        ('CANCELED', None, 'cancelled_by_user'),
    ]


def test_dead_node(cluster: Cluster, executor: SlurmJobExecutor) -> None:
    spec = JobSpec('/bin/sleep', ['300'], resources=ResourceSpecV1(node_count=1))
    spec.attributes = JobAttributes(custom_attributes={'slurm.nodelist': 'node03', 'slurm.no-requeue': True})
    job = Job(spec)
    executor.submit(job)
    job.wait(PATIENCE, JobState.ACTIVE)
    cluster.do('fault', 'node-kill', 'node03')
    try:
        state, _, reason = facts(job)
        assert (state, reason) == ('FAILED', 'node_failure')
    finally:
        cluster.do('fault', 'node-restore', 'node03')


def test_memory(executor: SlurmJobExecutor) -> None:
    """Without cgroups it is a sampler that finds the excess, and Slurm does not say so: a SIGKILL is all one sees."""
    program = f'{sys.executable} -c "x = bytearray(400 << 20); import time; time.sleep(60)"'
    job = Job(JobSpec('/bin/sh', ['-c', program], resources=ResourceSpecV1(memory=100 << 20)))
    executor.submit(job)
    state, code, reason = facts(job)
    assert (state, code) == ('FAILED', 137)
    assert reason in ('signal', 'out_of_memory')


def test_time_limit(over_time: Job) -> None:
    state, _, reason = facts(over_time)
    assert (state, reason) == ('FAILED', 'timeout')
    assert over_time.status.message == 'The job exhausted its time limit.'


def test_nothing_is_left(work: Path, executor: SlurmJobExecutor) -> None:
    """After all that, only the scripts of the clients that were killed are there: nobody else knows their names."""
    left = [path.name for path in (work / 'slurm').iterdir() if path.suffix != '.job' and not path.name.startswith('.')]
    assert left == []
