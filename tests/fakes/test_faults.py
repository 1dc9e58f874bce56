"""Batch schedulers in trouble: outages, commands that hang or answer rubbish, jobs and clients that are killed.

One suite over all stand-ins. Whatever happens, every outcome is right, and none is lost.
`schedulers/test_slurm_faults.py` does the same with a real Slurm.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Callable, NamedTuple, Optional, cast

import pytest

from fakes.harness import FakeCluster
from psij import Job, JobExecutor, JobSpec, JobState, SubmitException
from psij._runtime.status_channel import StatusChannel
from psij.executors.batch import batch_scheduler_executor as engine
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutor, BatchSchedulerExecutorConfig

PATIENCE = timedelta(seconds=40)

Facts = tuple[str, Optional[int], object]
"""Final state, exit code and reason."""

COMPLETED: Facts = ('COMPLETED', 0, None)
FAILED: Facts = ('FAILED', 200, 'exit_code')
KILLED: Facts = ('FAILED', 137, 'signal')
CANCELED: Facts = ('CANCELED', None, 'cancelled_by_user')
LOST: Facts = ('FAILED', None, 'lost')

# After a lower exit code scripts wait some time for a signal that may have been its cause.
FAIL = 'exit 200'


class Scheduler(NamedTuple):
    """What is different from scheduler to scheduler.

    Attributes
    ----------
    stand_in
        The stand-in.
    executor
        The name of the executor.
    status, cancel
        The commands that ask about jobs, and cancel one.
    refusal
        What the submit command says while the server is away.
    unknown
        A state that nobody knows, in the form of `fakes.core.Job.shown`.
    forgetting
        The knobs with which nothing is known about a job that has ended.
    knobs
        Other knobs.
    waits_for_server
        Whether commands wait for ever while the server is away.
    killed
        What becomes of a job all of whose processes are killed, including those of the scheduler.
    """

    stand_in: str
    executor: str
    status: str
    cancel: str
    refusal: str
    unknown: tuple[str, ...]
    forgetting: Mapping[str, str]
    knobs: Mapping[str, str] = {}
    waits_for_server: bool = False
    killed: Facts = KILLED


_PBS = Scheduler('pbs', 'pbs', 'qstat', 'qdel', 'cannot connect to server pbs', ('Z', '99'), {'history': 'off'})
_LSF = Scheduler(
    'lsf', 'lsf', 'bjobs', 'bkill', 'batch system daemon not responding', ('ODD',), {'keep': '0', 'history': 'off'},
    {'dialect': 'lsf'}, waits_for_server=True,
)  # fmt: skip
SCHEDULERS = {
    'slurm': Scheduler(
        'slurm', 'slurm', 'squeue', 'scancel', 'Unable to contact slurm controller', ('ZZ', 'ZZTOP'),
        {'keep': '0', 'accounting': 'off'},
    ),
    'pbs': _PBS,
    'pbs-master': _PBS._replace(knobs={'variant': 'master'}),
    'torque': Scheduler(
        'torque', 'pbs_classic', 'qstat', 'qdel', 'Cannot connect to specified server host', ('Z',), {'keep': '0'},
        killed=CANCELED,  # exit status 265, as after qdel
    ),
    'lsf': _LSF,
    'volclava': _LSF._replace(knobs={'dialect': 'volclava'}),
    'cobalt': Scheduler('cobalt', 'cobalt', 'qstat', 'qdel', 'Connection refused', ('odd',), {}),
}  # fmt: skip


class Gate:
    """What jobs wait for: a lock that is held until they may go on."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self.wait = f'flock -s "{path}" true'

    def open(self) -> None:
        os.close(self._fd)


class Site:
    """A cluster with an executor."""

    def __init__(self, scheduler: Scheduler, path: Path) -> None:
        self.scheduler = scheduler
        self.path = path
        self.cluster = FakeCluster(path / 'cluster', scheduler.stand_in, kill_grace=0.3, **scheduler.knobs)
        self.executor = self.new_executor()
        self.can_report = True
        self.rounds = 0
        self._states: dict[Job, list[JobState]] = {}
        self._gates = 0

    def new_executor(self) -> BatchSchedulerExecutor:
        config = BatchSchedulerExecutorConfig(work_directory=self.path / 'work')
        # fractions are accepted, although the API page has int
        config.queue_polling_interval, config.initial_queue_polling_delay = cast(int, 0.1), cast(int, 0.05)
        executor = JobExecutor.get_instance(self.scheduler.executor, config=config)
        assert isinstance(executor, BatchSchedulerExecutor)
        return executor

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def gate(self) -> Gate:
        self._gates += 1
        return Gate(self.path / f'gate-{self._gates}')

    def job(self, script: str) -> Job:
        job = Job(JobSpec('/bin/sh', ['-c', f': > "{self.path}"/running-$PSIJ_TEST; {script}']))
        assert job.spec is not None
        job.spec.environment = {'PSIJ_TEST': job.id}
        self.follow(job)
        return job

    def follow(self, job: Job) -> None:
        """Note all states that a job goes through."""
        states = self._states.setdefault(job, [])
        job.set_job_status_callback(lambda _, status: states.append(status.state))

    def submit(self, script: str) -> Job:
        job = self.job(script)
        self.executor.submit(job)
        return job

    def running(self, *scripts: str) -> list[Job]:
        """Submit jobs, and wait until their executables run, and the queue has been asked about them."""
        jobs = [self.submit(script) for script in scripts]
        for job in jobs:
            self.wait(lambda job=job: (self.path / f'running-{job.id}').exists())  # type: ignore[misc]
            self.wait_until_listed(job)
            assert job.wait(PATIENCE, JobState.ACTIVE) is not None
            assert job.status.state is JobState.ACTIVE
        return jobs

    def wait_until_listed(self, job: Job) -> None:
        """Wait for the first answer about a job: without one, an absent job is given ten seconds to appear."""
        self.wait(lambda: self.executor._progress(job).listed)

    def number(self, job: Job) -> int:
        return int(str(job.native_id).partition('.')[0])

    def processes(self, job: Job) -> list[int]:
        return self.cluster.process_ids(self.cluster.job(self.number(job)))

    def facts(self, job: Job) -> Facts:
        status = job.wait(PATIENCE)
        assert status is not None, f'{job} did not end'
        return status.state.name, status.exit_code, (status.metadata or {}).get('reason')

    def check_order_of_states(self) -> None:
        for job, states in self._states.items():
            steps = zip(states, states[1:])
            assert all(after.is_greater_than(before) for before, after in steps), f'{job}: {states}'

    def abandon(self) -> None:
        """Forget jobs that a test which failed has left: they must not disturb the next one."""
        for job in self._states:
            if job.native_id is not None and not job.status.final:
                self.executor._queue_poll_thread.unregister_job(job)

    def left_files(self) -> list[str]:
        directory = self.executor.work_directory
        return sorted(path.name for path in directory.iterdir() if not path.name.startswith('.'))

    # --- time ---------------------------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE.total_seconds()
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def wait_for_rounds(self, count: int = 1) -> None:
        """Wait until the queue has been asked a number of times from now on, which needs a live job."""
        after = self.rounds + 1 + count  # the one that goes on may have begun before
        self.wait(lambda: self.rounds >= after)

    def wait_for_silence(self) -> None:
        """Wait until the queue was asked, and did not answer."""
        self.wait(lambda: self.executor._queue_poll_thread._warned)

    @contextlib.contextmanager
    def trouble(self, fault: str, timeout: Optional[float] = None) -> Iterator[None]:
        """Turn on a fault, and give commands up after `timeout` seconds meanwhile."""
        usual = self.executor._command_timeout
        self.executor._command_timeout = timeout or usual
        if self.executor._queue_poll_thread._jobs:
            self.wait_for_rounds(0)  # a command that has begun before would be given up much later
        self.cluster.set(fault)
        try:
            yield
        finally:
            self.cluster.unset(fault)
            self.executor._command_timeout = usual

    def outage(self, timeout: float) -> contextlib.AbstractContextManager[None]:
        """Take the server away; `timeout` is for commands that wait for it."""
        return self.trouble('down', timeout if self.scheduler.waits_for_server else None)


@pytest.fixture(params=list(SCHEDULERS))
def site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site(SCHEDULERS[request.param], tmp_path)
    for name, value in site.cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('HOME', str(tmp_path))
    # stand-ins have fast file systems, and answer the first lookup
    for name in ('_FILE_GRACE', '_LOST_GRACE', '_EAGER'):
        monkeypatch.setattr(engine, name, 0.1)
    monkeypatch.setattr(engine, '_LOOKUPS', (0.0,))
    _count_rounds(site, monkeypatch)
    register = StatusChannel.register
    monkeypatch.setattr(StatusChannel, 'register', lambda *args: register(*args) if site.can_report else None)
    try:
        yield site
        site.check_order_of_states()
    finally:
        site.abandon()
        site.cluster.close()
    assert not site.cluster.log()


def _count_rounds(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    poller = site.executor._queue_poll_thread
    poll = poller._poll

    def count() -> None:
        poll()
        site.rounds += 1

    monkeypatch.setattr(poller, '_poll', count)


# --- the server is away -----------------------------------------------------------------------------------------------


def test_jobs_end_during_an_outage(site: Site) -> None:
    """Twenty jobs, half of which cannot report: each ends as it should, and none is lost."""
    gate = site.gate()
    ends: list[tuple[str, Facts]] = [('exit 0', COMPLETED)] * 10
    ends += [(f'exit {code}', ('FAILED', code, 'exit_code')) for code in (1, 2, 3, 64, 100, 121, 127, 254, 255)]
    ends += [('kill -9 $$', KILLED)]
    jobs = []
    for number, (end, _) in enumerate(ends):
        site.can_report = number % 2 == 0
        jobs.append(site.submit(f'{gate.wait}; {end}'))
    (survivor,) = site.running('exec sleep 600')
    for job in jobs:
        assert job.wait(PATIENCE, JobState.ACTIVE) is not None
    with site.outage(timeout=0.2):
        site.wait_for_silence()
        assert {job.status.state for job in jobs} == {JobState.ACTIVE}
        gate.open()
        # what their scripts say is enough, but for the one that was killed
        assert [site.facts(job) for job in jobs[:-1]] == [expected for _, expected in ends[:-1]]
        site.cluster.wait_for(site.number(jobs[-1]))
        assert not survivor.status.final
    assert site.facts(jobs[-1]) == KILLED
    site.cluster.run(site.scheduler.cancel, str(survivor.native_id))
    assert site.facts(survivor) == CANCELED
    assert site.left_files() == []


def test_submission_during_an_outage(site: Site) -> None:
    """It fails in the words of the scheduler, may be tried again, and has not made a second job."""
    job = site.job(FAIL)
    with site.outage(timeout=0.6):
        with pytest.raises(SubmitException, match=site.scheduler.refusal) as refusal:
            site.executor.submit(job)
        assert refusal.value.transient
        assert (job.status.state, job.native_id) == (JobState.NEW, None)
    site.executor.submit(job)
    assert site.facts(job) == FAILED
    assert len(list(site.cluster.everything())) == 1


def test_commands_that_hang(site: Site) -> None:
    """Each is given up after the timeout of the engine, and no state is lost."""
    gate = site.gate()
    job, unwanted = site.running(f'{gate.wait}; {FAIL}', 'exec sleep 600')
    rejected = site.job(':')
    with site.trouble('hang', timeout=0.2):
        begin = time.monotonic()
        with pytest.raises(SubmitException, match='did not answer within') as refusal:
            site.executor.submit(rejected)
        assert refusal.value.transient
        with pytest.raises(SubmitException, match='did not answer within'):
            unwanted.cancel()
        with pytest.raises(SubmitException, match='did not answer within'):
            site.executor.list()
        site.wait_for_silence()
        assert time.monotonic() - begin < 20
        assert {job.status.state, unwanted.status.state} == {JobState.ACTIVE}
        assert rejected.status.state is JobState.NEW
    site.executor.submit(rejected)
    unwanted.cancel()
    gate.open()
    assert [site.facts(each) for each in (job, unwanted, rejected)] == [FAILED, CANCELED, COMPLETED]


# --- answers that make no sense ---------------------------------------------------------------------------------------


def test_rubbish_with_exit_code_zero(site: Site) -> None:
    """It changes nothing as often as the configuration allows, which is twice; then all is well again."""
    gate = site.gate()
    failing, succeeding = site.running(f'{gate.wait}; {FAIL}', f'{gate.wait}; exit 0')
    fault = f'rubbish.{site.scheduler.status}.once'
    for _ in range(2):
        site.cluster.set(fault)
        site.wait(lambda: not site.cluster.has_knob(fault))
    site.wait(lambda: not site.executor._queue_poll_thread._warned)
    assert {failing.status.state, succeeding.status.state} == {JobState.ACTIVE}
    gate.open()
    assert (site.facts(failing), site.facts(succeeding)) == (FAILED, COMPLETED)


def test_unknown_state(site: Site) -> None:
    """A job keeps its state while its letter is one that nobody knows, and others are not affected."""
    gate = site.gate()
    odd, other = site.running(f'{gate.wait}; {FAIL}', 'exec sleep 600')
    site.cluster.set('hold_queue')
    odd_waiting = site.submit(FAIL)
    for job in (odd, odd_waiting):
        site.cluster.change(site.number(job), shown=site.scheduler.unknown)
    site.wait_for_rounds()
    site.cluster.run(site.scheduler.cancel, str(other.native_id))
    assert site.facts(other) == CANCELED
    assert (odd.status.state, odd_waiting.status.state) == (JobState.ACTIVE, JobState.QUEUED)
    for job in (odd, odd_waiting):
        site.cluster.change(site.number(job), shown=())
    site.cluster.unset('hold_queue')
    gate.open()
    assert site.facts(odd) == FAILED
    assert site.facts(odd_waiting) == FAILED


# --- jobs that are ended ----------------------------------------------------------------------------------------------


def test_walltime(site: Site) -> None:
    site.cluster.set('time_scale', 0.001)  # the ten minutes that a job has are 0.6 s
    job = site.submit('exec sleep 600')
    state, _, reason = site.facts(job)
    assert (state, reason) == ('FAILED', 'timeout')


@pytest.mark.parametrize('pending', [True, False], ids=['pending', 'running'])
def test_cancelled_from_outside(site: Site, pending: bool) -> None:
    """Somebody uses the scheduler's own command."""
    if pending:
        site.cluster.set('hold_queue')
        job = site.submit(':')
        site.wait_until_listed(job)
    else:
        (job,) = site.running('exec sleep 600')
    done = site.cluster.run(site.scheduler.cancel, str(job.native_id))
    assert done.returncode == 0, done.stderr
    assert site.facts(job) == CANCELED
    assert site.left_files() == []


def test_executable_killed(site: Site) -> None:
    (job,) = site.running('exec sleep 600')
    os.kill(site.processes(job)[-1], signal.SIGKILL)
    assert site.facts(job) == KILLED
    assert site.left_files() == []


def test_all_processes_killed(site: Site) -> None:
    """The script cannot record anything, so it is for the scheduler to tell."""
    (job,) = site.running('exec sleep 600')
    os.killpg(site.cluster.job(site.number(job)).pid, signal.SIGKILL)
    assert site.facts(job) == site.scheduler.killed
    assert site.left_files() == []


# --- clients that are gone --------------------------------------------------------------------------------------------

CLIENT = """
import json, sys
from pathlib import Path
from psij import Job, JobExecutor, JobSpec, JobState
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutorConfig
name, work, *scripts = sys.argv[1:]
config = BatchSchedulerExecutorConfig(work_directory=Path(work), initial_queue_polling_delay=600)
executor = JobExecutor.get_instance(name, config=config)
jobs = [Job(JobSpec('/bin/sh', ['-c', script])) for script in scripts]
for job in jobs:
    executor.submit(job)
for job in jobs:  # as their scripts report, since nobody asks the queue
    job.wait(target_states=JobState.ACTIVE)
print(json.dumps([job.native_id for job in jobs]), flush=True)
sys.stdin.read()
"""


def submit_and_die(site: Site, scripts: list[str]) -> list[str]:
    """Submit jobs from a program that is killed when all of them run, and return their native IDs."""
    with subprocess.Popen(
        [sys.executable, '-c', CLIENT, site.scheduler.executor, str(site.path / 'work'), *scripts],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdout is not None
        ids: list[str] = json.loads(client.stdout.readline())
        client.kill()
    return ids


def test_client_killed(site: Site) -> None:
    """Whether a job has ended by then or not, another program that attaches knows as much as the one that is gone."""
    first, second = site.gate(), site.gate()
    ends: dict[str, Facts] = {'exit 0': COMPLETED, FAIL: FAILED, 'kill -9 $$': KILLED}
    ids = submit_and_die(site, [f'{gate.wait}; {end}' for gate in (first, second) for end in ends])
    jobs = [Job() for _ in ids]
    ended, alive = jobs[: len(ends)], jobs[len(ends) :]
    first.open()
    for native_id in ids[: len(ends)]:
        site.cluster.wait_for(int(native_id.partition('.')[0]))
    for job, native_id in zip(jobs, ids):
        site.follow(job)
        site.executor.attach(job, native_id)
    for job in alive:
        assert job.wait(PATIENCE, JobState.ACTIVE) is not None
        assert job.status.state is JobState.ACTIVE
    assert [site.facts(job) for job in ended] == list(ends.values())
    second.open()
    assert [site.facts(job) for job in alive] == list(ends.values())
    # only the program that is gone knows which script was whose; they are removed after 30 days
    assert [name for name in site.left_files() if not name.endswith('.job')] == []


# --- evidence that is gone --------------------------------------------------------------------------------------------


def test_forgotten_with_an_exit_code(site: Site) -> None:
    """The file of the script is all the evidence there is."""
    site.can_report = False
    for name, value in site.scheduler.forgetting.items():
        site.cluster.set(name, value)
    gate = site.gate()
    failing, succeeding = site.running(f'{gate.wait}; {FAIL}', gate.wait)
    gate.open()
    assert (site.facts(failing), site.facts(succeeding)) == (FAILED, COMPLETED)
    assert site.left_files() == []


def test_forgotten_without_a_trace(site: Site) -> None:
    """A job that was killed so that nobody tells is no success."""
    for name, value in site.scheduler.forgetting.items():
        site.cluster.set(name, value)
    (job,) = site.running('exec sleep 600')
    if site.scheduler.stand_in == 'cobalt':  # its log file knows more than its queue
        (site.executor.work_directory / f'{job.native_id}.cobaltlog').unlink()
    os.killpg(site.cluster.job(site.number(job)).pid, signal.SIGKILL)
    assert site.facts(job) == LOST
    assert site.left_files() == []


@pytest.mark.parametrize('can_report', [True, False], ids=['reports', 'no reports'])
def test_work_directory_vanishes(site: Site, can_report: bool) -> None:
    """Jobs end as well as somebody can tell, and the executor goes on with others."""
    site.can_report = can_report
    first, second = site.gate(), site.gate()
    ending, staying = site.running(f'{first.wait}; {FAIL}', f'{second.wait}; {FAIL}')
    shutil.rmtree(site.path / 'work')
    first.open()
    told = can_report or site.scheduler.stand_in != 'cobalt'  # whose log file was there, too
    assert site.facts(ending) == (FAILED if told else LOST)
    assert site.facts(site.submit(':')) == COMPLETED
    assert staying.status.state is JobState.ACTIVE
    second.open()
    assert site.facts(staying) == FAILED
    assert site.left_files() == []


def test_outage_is_logged_once(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """There is one warning for each kind of trouble, and not for each round."""
    caplog.set_level(logging.DEBUG, 'psij')
    site.running('exec sleep 600')

    def complaints(level: int = logging.NOTSET) -> list[str]:
        texts = [(record.levelno, record.getMessage()) for record in list(caplog.records)]
        return [text for number, text in texts if number >= level and text.startswith('Polling error')]

    with site.outage(timeout=0.2):
        site.wait(lambda: len(complaints()) >= 4)
    kinds = [re.sub(r'\d+', 'N', text) for text in complaints(logging.WARNING)]
    assert len(kinds) == 1, kinds


def test_banner(site: Site) -> None:
    """What a wrapper prints before each answer, or prints no more, does no harm."""
    gate = site.gate()
    failing, succeeding = site.running(f'{gate.wait}; {FAIL}', gate.wait)
    site.cluster.set(f'banner.{site.scheduler.status}', 'Your quota: 80 percent | see motd\n')
    site.wait_for_rounds(3)
    assert site.executor._queue_poll_thread._poll_error_count == 0
    late = site.submit(gate.wait)  # something new in an answer with a banner
    site.wait_until_listed(late)
    site.cluster.unset(f'banner.{site.scheduler.status}')
    site.wait_for_rounds(3)
    assert site.executor._queue_poll_thread._poll_error_count == 0
    gate.open()
    assert site.facts(failing) == FAILED
    assert (site.facts(succeeding), site.facts(late)) == (COMPLETED, COMPLETED)


def test_cancel_that_hangs_is_no_cancel(site: Site) -> None:
    """A cancel that was given up, and never reached the scheduler: the job ends by itself, with its own exit code."""
    gate = site.gate()
    (job,) = site.running(f'{gate.wait}; {FAIL}')
    with site.trouble('hang', timeout=0.2), pytest.raises(SubmitException, match='did not answer within'):
        job.cancel()
    gate.open()
    assert site.facts(job) == FAILED
