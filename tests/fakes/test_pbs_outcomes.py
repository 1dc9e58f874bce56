"""How jobs end on the stand-ins for OpenPBS and Torque: killed, deleted, forgotten, with servers that fail."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Optional, cast

import pytest

from fakes.harness import FakeCluster
from psij import Job, JobSpec, JobState, JobStatus, ResourceSpecV1, SubmitException
from psij._runtime.status_channel import shared_channel
from psij.executors.batch.pbs import PBSJobExecutor
from psij.executors.batch.pbs_base import GenericPBSJobExecutor, PBSExecutorConfig
from psij.executors.batch.pbs_classic import PBSClassicJobExecutor

SOON = timedelta(seconds=30)
SITES: dict[str, tuple[Callable[..., GenericPBSJobExecutor], str, dict[str, Any]]] = {
    'release': (PBSJobExecutor, 'pbs', {}),
    'master': (PBSJobExecutor, 'pbs', {'variant': 'master'}),
    'release without history': (PBSJobExecutor, 'pbs', {'history': 'off'}),
    'torque': (PBSClassicJobExecutor, 'torque', {}),
    'torque that forgets at once': (PBSClassicJobExecutor, 'torque', {'keep': 0}),
    'release as if torque': (PBSClassicJobExecutor, 'pbs', {}),
    'master as if torque': (PBSClassicJobExecutor, 'pbs', {'variant': 'master'}),
    'release without history as if torque': (PBSClassicJobExecutor, 'pbs', {'history': 'off'}),
}
FORGETFUL = ['release without history', 'torque that forgets at once', 'release without history as if torque']
REMEMBERING = [name for name in SITES if name not in FORGETFUL]


class Site:
    """A cluster with an executor."""

    def __init__(self, name: str, path: Path, **knobs: Any) -> None:
        executor, scheduler, settings = SITES[name]
        self.cluster = FakeCluster(path / 'cluster', scheduler, kill_grace=0.3, **settings, **knobs)
        self.gate = path / 'gate'
        config = PBSExecutorConfig(work_directory=path / 'work', queue_polling_interval=1)
        config.initial_queue_polling_delay = cast(int, 0.2)
        self.executor = executor(config=config)

    def submit(self, script: str, reach: Optional[JobState] = JobState.ACTIVE, **fields: Any) -> Job:
        job = Job(JobSpec('/bin/sh', ['-c', script], **fields))
        self.executor.submit(job)
        if reach is not None:
            job.wait(SOON, [reach])
            assert job.status.state is reach
        return job

    def waiting_jobs(self, count: int, exit_code: int = 0) -> list[Job]:
        """Submit jobs that wait until the gate is there, and wait until the queue has been asked about all of them."""
        script = f'while [ ! -e "{self.gate}" ]; do sleep 0.05; done; exit {exit_code}'
        jobs = [self.submit(script, None) for _ in range(count)]
        for job in jobs:
            job.wait(SOON, [JobState.ACTIVE])
            self.wait(lambda job=job: self.executor._progress(job).listed)  # type: ignore[misc]
        return jobs

    def wait(self, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def number(self, job: Job) -> int:
        return int(str(job.native_id).partition('.')[0])

    def end(self, job: Job, reason: str, by: Optional[int] = None) -> None:
        number = self.number(job)
        if self.cluster.job(number).state != 'queued':
            self.cluster.wait_until(number, lambda job: job.pid, 'start its script')
        assert self.cluster.end(number, reason, self.cluster.uid if by is None else by)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Site]]:
    sites = []

    def make_one(name: str, **knobs: object) -> Site:
        site = Site(name, tmp_path, **knobs)
        sites.append(site)
        for key, value in site.cluster.environment.items():
            monkeypatch.setenv(key, value)
        monkeypatch.setenv('HOME', str(tmp_path))
        return site

    yield make_one
    for site in sites:
        site.cluster.close()
        assert not site.cluster.log()


@pytest.fixture(params=list(SITES))
def site(request: pytest.FixtureRequest, make: Callable[..., Site]) -> Site:
    return make(request.param)


def final(job: Job) -> JobStatus:
    status = job.wait(timedelta(seconds=40))
    assert status is not None
    return status


def reason(status: JobStatus) -> object:
    return (status.metadata or {}).get('reason')


# --- ends -------------------------------------------------------------------------------------------------------------


def test_jobs_run_side_by_side(site: Site) -> None:
    """The development version lists the first of several only: the others have not ended, and do not fail."""
    jobs = site.waiting_jobs(4, exit_code=3)
    deadline = time.monotonic() + 2.5  # two rounds
    site.wait(lambda: time.monotonic() > deadline)
    assert {job.status.state for job in jobs} == {JobState.ACTIVE}
    site.gate.touch()
    assert {(final(job).state, final(job).exit_code) for job in jobs} == {(JobState.FAILED, 3)}


@pytest.mark.parametrize('name', REMEMBERING)
def test_walltime(make: Callable[..., Site], name: str) -> None:
    site = make(name, time_scale=0.001)  # ten minutes are 0.6 s
    status = final(site.submit('sleep 600', None))
    assert (status.state, reason(status)) == (JobState.FAILED, 'timeout')
    assert 'walltime' in str(status.message)


@pytest.mark.parametrize('name', REMEMBERING)
def test_deleted_from_outside(make: Callable[..., Site], name: str) -> None:
    site = make(name)
    job = site.submit('sleep 600')
    site.end(job, 'cancelled')
    status = final(job)
    assert (status.state, reason(status), status.exit_code) == (JobState.CANCELED, 'cancelled_by_user', None)


@pytest.mark.parametrize('name', ['release', 'master'])
def test_deleted_by_an_operator(make: Callable[..., Site], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make(name)
    monkeypatch.setattr(site.executor, '_current_user', lambda: 'alice')
    job = site.submit('sleep 600')
    site.end(job, 'cancelled', -1)
    assert (final(job).state, reason(final(job))) == (JobState.CANCELED, 'cancelled_by_system')


@pytest.mark.parametrize('name', REMEMBERING)
def test_deleted_before_it_ran(make: Callable[..., Site], name: str) -> None:
    """There is no exit status then, which is no success."""
    site = make(name, hold_queue='')
    job = site.submit('true', None)
    site.end(job, 'cancelled')
    assert final(job).state is JobState.CANCELED


def test_many_deleted_at_once(make: Callable[..., Site]) -> None:
    """Too many to be asked about by ID: the listing does not have them any more, and the history tells."""
    site = make('master')
    jobs = site.waiting_jobs(12)
    for job in jobs:
        site.end(job, 'cancelled')
    assert {(final(job).state, reason(final(job))) for job in jobs} == {(JobState.CANCELED, 'cancelled_by_user')}


@pytest.mark.parametrize('name', FORGETFUL)
def test_nothing_remembers_how_it_ended(make: Callable[..., Site], name: str) -> None:
    """The node and all that ran on it are gone, and the scheduler has forgotten the job."""
    site = make(name)
    (job,) = site.waiting_jobs(1)
    site.cluster.change(site.number(job), may_requeue=False)
    site.end(job, 'node_failure')
    assert (final(job).state, reason(final(job))) == (JobState.FAILED, 'lost')


def test_exit_code_without_history(site: Site) -> None:
    assert final(site.submit('exit 7', None)).exit_code == 7
    assert final(site.submit('true', None)).state is JobState.COMPLETED


def test_a_job_that_exits_for_long_is_active(make: Callable[..., Site]) -> None:
    """Its exit status is there already, but it has not ended, and may even run again."""
    site = make('release', hold_end='')
    job = Job(JobSpec('/bin/true'))
    site.executor.submit(job)
    number = site.number(job)
    site.cluster.wait_for(number, 'ending')
    answer = site.cluster.run('qstat', '-f', '-F', 'json', str(number))
    assert '"job_state":"E"' in answer.stdout
    assert '"Exit_status":0' in answer.stdout
    statuses = site.executor.parse_status_output(0, answer.stdout)
    assert statuses[str(job.native_id)].state is JobState.ACTIVE
    site.cluster.unset('hold_end')
    assert final(job).state is JobState.COMPLETED


def test_held_and_released(make: Callable[..., Site]) -> None:
    site = make('release')
    spec = JobSpec('/bin/true')
    assert spec.attributes is not None
    spec.attributes.custom_attributes = {'pbs.h': True}
    job = Job(spec)
    site.executor.submit(job)
    site.wait(lambda: job.status.message == 'The job is held.')
    assert job.status.state is JobState.QUEUED
    site.cluster.change(site.number(job), hold='')
    assert final(job).state is JobState.COMPLETED


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['release', 'torque'])
@pytest.mark.parametrize('fault', ['down', 'hang'])
def test_server_away(make: Callable[..., Site], name: str, fault: str) -> None:
    """Well-formed answers without jobs, exit code 255, or none at all: no job is lost."""
    site = make(name)
    site.executor._command_timeout = 0.5
    job, other = site.waiting_jobs(2)
    site.cluster.set(fault)
    site.wait(lambda: site.executor._queue_poll_thread._warned)
    with pytest.raises(SubmitException) as error:
        site.executor.submit(Job(JobSpec('/bin/true')))
    assert error.value.transient
    assert {job.status.state, other.status.state} == {JobState.ACTIVE}
    site.end(other, 'cancelled')
    site.cluster.unset(fault)
    assert final(other).state is JobState.CANCELED
    site.gate.touch()
    assert final(job).state is JobState.COMPLETED


@pytest.mark.parametrize('name', ['release', 'torque', 'release without history as if torque'])
def test_lost_reply(make: Callable[..., Site], name: str) -> None:
    """The job is found by its script, and not submitted twice."""
    site = make(name, hold_queue='', **{'lost_reply.once': ''})
    job = Job(JobSpec('/bin/true'))
    site.executor.submit(job)
    assert site.number(job) == 1
    site.cluster.unset('hold_queue')
    assert final(job).state is JobState.COMPLETED
    assert len(list(site.cluster.everything())) == 1


@pytest.mark.parametrize('name', REMEMBERING)
def test_lost_reply_about_a_job_that_has_ended_since(make: Callable[..., Site], name: str) -> None:
    site = make(name, **{'lost_reply.once': ''})
    job = site.submit('exit 3', None)
    assert site.number(job) == 1
    assert (final(job).state, final(job).exit_code) == (JobState.FAILED, 3)


def test_remarks_of_others_on_stderr(make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    """They are no reason to learn nothing about jobs, even if one of them is not known any more."""
    site = make('release without history')
    wrapper = site.gate.with_name('wrapper') / 'qstat'
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho "ERROR: ld.so: ignored." >&2\nexec {site.cluster.commands}/qstat "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv('PATH', f'{wrapper.parent}:{os.environ["PATH"]}')
    job, other = site.waiting_jobs(2)
    site.cluster.change(site.number(job), may_requeue=False)
    site.end(job, 'node_failure')
    assert (final(job).state, reason(final(job))) == (JobState.FAILED, 'lost')
    assert other.status.state is JobState.ACTIVE


def test_carriage_returns(make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    """The development version refuses scripts with one at the end of a line."""
    site = make('master')
    monkeypatch.setenv('INHERITED', '1\r\n2')
    result = site.gate.with_name('result')
    script = f'printf %s "$INHERITED" "$GIVEN" "$0" > "{result}"'
    job = Job(JobSpec('/bin/sh', ['-c', script, 'a\r\nb'], environment={'GIVEN': "'\r\n"}))
    site.executor.submit(job)
    assert final(job).state is JobState.COMPLETED
    assert result.read_bytes() == b"1\r\n2'\r\na\r\nb"


def test_rejection_has_the_words_of_the_scheduler(make: Callable[..., Site]) -> None:
    site = make('torque')
    spec = JobSpec('/bin/true')
    assert spec.attributes is not None
    spec.attributes.queue_name = 'nosuchqueue'
    job = Job(spec)
    with pytest.raises(SubmitException, match='requested queue not found') as error:
        site.executor.submit(job)
    assert not error.value.transient
    assert job.status.state is JobState.NEW


def test_a_job_that_spoils_the_listing(make: Callable[..., Site]) -> None:
    """Somebody else's variable turns the answer of the release into something that is not JSON."""
    site = make('release')
    poison = '#!/bin/sh\n#PBS -h -v V_A=nan,V_B=.5,V_C=caf\udcc3\udca9\n'
    script = site.gate.with_name('poison')
    script.write_bytes(os.fsencode(poison))
    assert site.cluster.run('qsub', str(script)).returncode == 0
    jobs = site.waiting_jobs(12)
    site.gate.touch()
    assert {final(job).state for job in jobs} == {JobState.COMPLETED}
    assert site.executor._queue_poll_thread._poll_error_count == 0


def test_attach_by_number(make: Callable[..., Site]) -> None:
    site = make('release')
    (job,) = site.waiting_jobs(1, exit_code=4)
    other = Job()
    site.executor.attach(other, str(site.number(job)))
    other.wait(SOON, [JobState.ACTIVE])
    site.gate.touch()
    assert (final(other).state, final(other).exit_code) == (JobState.FAILED, 4)


def test_attach_by_number_without_history(make: Callable[..., Site]) -> None:
    """The names of its files have the name of the server too. The program that has submitted it is gone."""
    site = make('release', history='off')
    (job,) = site.waiting_jobs(1, exit_code=4)
    site.executor._queue_poll_thread.unregister_job(job)
    shared_channel().unregister(job.id)
    other = Job()
    site.executor.attach(other, str(site.number(job)))
    other.wait(SOON, [JobState.ACTIVE])
    site.gate.touch()
    assert (final(other).state, final(other).exit_code) == (JobState.FAILED, 4)


@pytest.mark.parametrize('name', ['release', 'master', 'release without history'])
def test_attach_in_capital_letters(make: Callable[..., Site], name: str) -> None:
    """``qstat`` takes IDs in any case of letters, and answers with the usual one."""
    site = make(name)
    (job,) = site.waiting_jobs(1, exit_code=4)
    site.executor._queue_poll_thread.unregister_job(job)
    shared_channel().unregister(job.id)
    other = Job()
    site.executor.attach(other, str(job.native_id).upper())
    other.wait(SOON, [JobState.ACTIVE])
    site.gate.touch()
    assert (final(other).state, final(other).exit_code) == (JobState.FAILED, 4)


@pytest.mark.parametrize('name', ['release', 'master', 'release without history'])
def test_attach_to_a_job_of_another_server(make: Callable[..., Site], name: str) -> None:
    """It is not assumed to have completed; the others are followed all the same."""
    site = make(name)
    jobs = site.waiting_jobs(2)
    other = Job()
    site.executor.attach(other, f'{jobs[0].native_id}.example.org')
    assert final(other).state is JobState.FAILED
    assert f'illegally formed job identifier: {jobs[0].native_id}.example.org' in str(final(other).message)
    site.gate.touch()
    assert {final(job).state for job in jobs} == {JobState.COMPLETED}


def test_list_has_jobs_that_have_not_ended(site: Site) -> None:
    """Torque's qselect lists the others, too, for some time after their end."""
    ended = site.submit('true', None)
    assert final(ended).state is JobState.COMPLETED
    site.cluster.wait_for(site.number(ended))
    (job,) = site.waiting_jobs(1)
    assert site.executor.list() == [job.native_id]
    site.cluster.change(site.number(job), state='suspended')
    assert site.executor.list() == [job.native_id]


def test_threads_of_each_process(make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenPBS would count the cores of all processes, and Torque says nothing."""
    monkeypatch.setenv('OMP_NUM_THREADS', '7')
    resources = ResourceSpecV1(node_count=1, processes_per_node=4)
    for name, threads in (('release', '1'), ('torque', '7')):
        site = make(name)
        result = site.gate.with_name('threads')
        job = site.submit(f'echo $OMP_NUM_THREADS > "{result}"', None, resources=resources)
        assert final(job).state is JobState.COMPLETED
        assert result.read_text() == f'{threads}\n'


# --- the stand-ins ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(('name', 'seen'), [('release', 'unset'), ('master', 'set'), ('torque', 'set')])
def test_option_for_the_environment(make: Callable[..., Site], name: str, seen: str) -> None:
    """Recording qsub_V_release_bug: -V is accepted, and has no effect."""
    cluster = make(name).cluster
    done = cluster.run(
        'qsub', '-V', '-o', str(cluster.path / 'out'), stdin='echo "${MARK-unset}"\n', env={'MARK': 'set'}
    )
    cluster.wait_for(int(done.stdout.partition('.')[0]))
    assert (cluster.path / 'out').read_text() == f'{seen}\n'
