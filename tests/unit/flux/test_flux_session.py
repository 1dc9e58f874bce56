"""The connection to Flux: one thread, one stream of events, and what happens when something goes wrong with it."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest
from fakes.flux import BINDINGS, FakeFlux

from psij import Job, JobSpec, JobState, JobStatus, SubmitException
from psij.executors import _flux_executor, _flux_session
from psij.executors._flux_jobspec import script_request
from psij.executors._flux_session import bindings
from unit.flux.running import finish, reach, run, submit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from psij.executors.flux import FluxJobExecutor

SLEEP = JobSpec('/bin/sleep', ['60'])
TRUE = JobSpec('/bin/true')


def _reason(status: JobStatus) -> object:
    return (status.metadata or {}).get('reason')


# --- events ----------------------------------------------------------------------------------------------------------


def test_one_stream_for_all_jobs(executor: FluxJobExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that are submitted are not watched one by one."""

    def refuse(*arguments: object) -> None:
        raise AssertionError('a job is watched')

    monkeypatch.setattr(bindings().job, 'event_watch_async', refuse)
    jobs = [submit(executor, TRUE) for _ in range(5)]
    assert [finish(job).state for job in jobs] == [JobState.COMPLETED] * 5


def test_a_guest_has_no_journal(executor: FluxJobExecutor, instance: FakeFlux) -> None:
    """The journal is for the owner of the instance; others watch their jobs."""
    instance.set(journal='guest')
    jobs = [submit(executor, spec) for spec in (TRUE, JobSpec('/no/such'), SLEEP)]
    reach(jobs[2], JobState.ACTIVE)
    jobs[2].cancel()
    assert [str(finish(job).state) for job in jobs] == ['COMPLETED', 'FAILED', 'CANCELED']


def test_bindings_without_a_journal(executor: FluxJobExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Flux 0.68 there was none."""
    monkeypatch.delattr(bindings().job, 'JournalConsumer')
    assert run(executor, TRUE).state is JobState.COMPLETED


def test_events_that_come_before_the_id(executor: FluxJobExecutor, instance: FakeFlux) -> None:
    """The journal may tell everything about a job before the answer to its submission is there."""
    instance.set(late=True)
    seen: list[str] = []
    executor.set_job_status_callback(lambda job, status: seen.append(str(status.state)))
    assert run(executor, JobSpec('/bin/sh', ['-c', 'exit 3'])).exit_code == 3
    assert seen == ['QUEUED', 'STAGE_IN', 'ACTIVE', 'STAGE_OUT', 'CLEANUP', 'FAILED']


def test_many_jobs_from_many_threads(executor: FluxJobExecutor, instance: FakeFlux) -> None:
    """Each ends once, and the handle is used by one thread only (the stand-in checks that)."""
    ends: list[str] = []
    executor.set_job_status_callback(lambda job, status: ends.append(job.id) if status.final else None)
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda _: submit(executor, TRUE), range(100)))
    assert {str(finish(job).state) for job in jobs} == {'COMPLETED'}
    assert sorted(ends) == sorted(job.id for job in jobs)
    assert len(bindings().flux.threads) == 1


def test_an_error_in_one_job_does_not_end_the_others(
    executor: FluxJobExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = submit(executor, SLEEP)
    reach(first, JobState.ACTIVE)
    set_status = executor._set_job_status

    def fail_once(job: Job, status: JobStatus) -> None:
        monkeypatch.setattr(executor, '_set_job_status', set_status)
        raise RuntimeError('for this test')

    monkeypatch.setattr(executor, '_set_job_status', fail_once)
    submit(executor, TRUE)
    first.cancel()
    assert finish(first).state is JobState.CANCELED


# --- the life of a session -------------------------------------------------------------------------------------------


def _flux_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == 'psij-flux']


def _wait_for_the_end_of_threads() -> None:
    for thread in _flux_threads():
        thread.join(10)
        assert not thread.is_alive()


def test_no_thread_without_jobs(executor: FluxJobExecutor) -> None:
    assert _flux_threads() == []
    job = submit(executor, SLEEP)
    assert len(_flux_threads()) == 1
    job.cancel()
    finish(job)
    _wait_for_the_end_of_threads()
    assert run(executor, TRUE).state is JobState.COMPLETED  # with a new session


@pytest.mark.filterwarnings('ignore:unclosed <socket:ResourceWarning')  # the garbage collector picks the order
def test_a_session_leaves_nothing_behind(executor: FluxJobExecutor) -> None:
    """Neither descriptors, nor futures that the bindings would keep together with their handle."""
    run(executor, TRUE)
    _wait_for_the_end_of_threads()
    gc.collect()
    before = len(os.listdir('/proc/self/fd'))
    for _ in range(3):
        run(executor, JobSpec('/no/such'))
        executor.list()
        _wait_for_the_end_of_threads()
    gc.collect()
    assert len(os.listdir('/proc/self/fd')) == before
    assert bindings().flux.pending == set()


def test_jobs_go_on_without_their_executor(executor: FluxJobExecutor, instance: FakeFlux) -> None:
    """What is known about a job does not depend on who holds the executor."""
    job = submit(type(executor)(url=instance.uri), JobSpec('/bin/sh', ['-c', 'sleep 0.2; exit 5']))
    gc.collect()
    assert finish(job).exit_code == 5


def test_after_a_fork(executor: FluxJobExecutor) -> None:
    """The child opens a connection of its own, and the one of the parent goes on."""
    job = submit(executor, SLEEP)
    reach(job, JobState.ACTIVE)
    pid = os.fork()
    if pid == 0:
        try:
            ok = run(executor, TRUE).state is JobState.COMPLETED
        finally:
            os._exit(0 if ok else 1)
    assert os.waitpid(pid, 0)[1] == 0
    job.cancel()
    assert finish(job).state is JobState.CANCELED


def test_the_interpreter_ends_while_jobs_run(instance: FakeFlux) -> None:
    """At once, without noise, and the job goes on. Flux's own executor would wait for the job."""
    program = (
        'import psij\n'
        f'executor = psij.JobExecutor.get_instance("flux", url={instance.uri!r})\n'
        'job = psij.Job(psij.JobSpec("/bin/sleep", ["60"]))\n'
        'executor.submit(job)\n'
        'job.wait(target_states=psij.JobState.ACTIVE)\n'
        'print(job.native_id)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', program],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(BINDINGS), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ''
    executor = _executor(instance)
    assert executor.list() == [done.stdout.strip()]
    job = Job()
    executor.attach(job, done.stdout.strip())
    job.cancel()
    finish(job)


def _executor(instance: Optional[FakeFlux], url: Optional[str] = None) -> FluxJobExecutor:
    from psij.executors.flux import FluxJobExecutor

    return FluxJobExecutor(url=instance.uri if instance is not None else url)


# --- trouble ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('journal', ['owner', 'guest'])
def test_the_broker_is_lost(executor: FluxJobExecutor, instance: FakeFlux, journal: str) -> None:
    """Live jobs fail with a message, the next submission too, and nothing hangs."""
    instance.set(journal=journal)
    jobs = [submit(executor, SLEEP) for _ in range(3)]
    attached = Job()
    executor.attach(attached, str(jobs[0].native_id))
    reach(jobs[0], JobState.ACTIVE)
    reach(attached, JobState.ACTIVE)
    instance.kill()
    for job in (*jobs, attached):
        status = finish(job)
        assert (status.state, _reason(status)) == (JobState.FAILED, 'lost')
        assert 'There is no connection to Flux' in (status.message or '')
        job.cancel()  # nothing happens
    job = Job(TRUE)
    with pytest.raises(SubmitException, match=f'There is no connection to Flux .*{instance.directory}') as raised:
        executor.submit(job)
    assert raised.value.transient
    assert (job.status.state, job.executor) == (JobState.NEW, None)
    with pytest.raises(SubmitException, match='There is no connection'):
        executor.list()


def test_the_broker_is_lost_while_a_message_is_read(executor: FluxJobExecutor, instance: FakeFlux) -> None:
    """The job has its outcome, without the text that explains it."""
    instance.set(mute='job-info.eventlog-watch')
    job = submit(executor, JobSpec('/no/such'))
    session = executor._session
    assert session is not None
    while not session._readings:
        time.sleep(0.01)
    instance.kill()
    status = finish(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 127)


def test_the_broker_is_lost_during_a_submission(executor: FluxJobExecutor, instance: FakeFlux) -> None:
    instance.set(mute='job-ingest')
    with ThreadPoolExecutor(1) as pool:
        submission = pool.submit(executor.submit, Job(TRUE))
        while not _flux_threads():
            pass
        instance.kill()
        with pytest.raises(SubmitException, match='no connection'):
            submission.result(30)


@pytest.mark.parametrize('url', ['local:///no/such/local-0', 'bogus://x', 'nosuch:1'])
def test_an_instance_that_is_not_there(stand_in: None, url: str) -> None:
    with pytest.raises(SubmitException, match='no connection to Flux') as raised:
        _executor(None, url).submit(Job(TRUE))
    assert url in str(raised.value)


def test_the_default_instance(stand_in: None, instance: FakeFlux, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the one of FLUX_URI, or of the system."""
    with pytest.raises(SubmitException, match='/run/flux/local was not found'):
        _executor(None).submit(Job(TRUE))
    monkeypatch.setenv('FLUX_URI', instance.uri)
    assert run(_executor(None), TRUE).state is JobState.COMPLETED


def test_an_instance_that_has_just_been_started(
    executor: FluxJobExecutor, instance: FakeFlux, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It publishes its URI some seconds before it takes jobs."""
    monkeypatch.setattr(_flux_executor, '_START_INTERVAL', 0.01)
    instance.set(refuse=[errno.ENOSYS, 'No service matching job-ingest.submit is registered'], refuse_count=3)
    assert run(executor, TRUE).state is JobState.COMPLETED


def test_an_instance_that_never_takes_jobs(
    executor: FluxJobExecutor, instance: FakeFlux, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_flux_executor, '_START_INTERVAL', 0.01)
    monkeypatch.setattr(_flux_executor, '_START_PATIENCE', 0.05)
    instance.set(refuse=[errno.ENOSYS, 'No service matching job-ingest.submit is registered'])
    with pytest.raises(SubmitException, match='No service matching') as raised:
        executor.submit(Job(TRUE))
    assert raised.value.transient


def test_no_answer_to_a_submission(
    executor: FluxJobExecutor, instance: FakeFlux, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reported as failed, so the job must not run when the answer comes after all."""
    monkeypatch.setattr(_flux_executor, '_PATIENCE', 0.3)
    instance.set(late=True)
    job = Job(JobSpec('/bin/sleep', ['1']))
    with pytest.raises(SubmitException, match='did not answer within') as raised:
        executor.submit(job)
    assert raised.value.transient
    assert (job.status.state, job.executor) == (JobState.NEW, None)


def test_a_submission_that_was_given_up_is_cancelled(
    executor: FluxJobExecutor, instance: FakeFlux, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if that was at the last moment, when the answer of Flux is there."""
    session = _flux_session.Session(instance.uri)
    accepted: list[int] = []
    submitted: Future[int] = Future()
    accept = session._accept

    class Listener(_flux_session.Listener):
        def on_accepted(self, job_id: int) -> None:
            accepted.append(job_id)

    def accept_too_late(job_id: int, listener: Listener, answer: Future[int]) -> int:
        answer.cancel()
        submitted.set_result(job_id)
        return accept(job_id, listener, answer)

    monkeypatch.setattr(session, '_accept', accept_too_late)
    text = script_request(SLEEP, '#!/bin/bash\nsleep 60\n', {}, Path('/')).text
    session.submit(text, 16, Listener())
    job = Job()
    executor.attach(job, str(submitted.result(10)))
    assert finish(job).state is JobState.CANCELED
    assert accepted == []


# --- connecting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('url', 'opened'),
    [
        (None, ()),
        ('', ()),
        ('local:///run/flux/local', ('local:///run/flux/local',)),
        ('ssh://far/run/local-0', ('ssh://far/run/local-0',)),
        ('/', ('/',)),
        ('../..', ('../..',)),
        ('jobid:f1', ('ssh://far/run/local-0',)),
        ('f1', ('ssh://far/run/local-0',)),
        ('pid:1', ('local:///run/local-0',)),
    ],
)
def test_urls(url: Optional[str], opened: tuple[str, ...]) -> None:
    """What is not for the bindings is resolved; an instance on this machine needs no ssh."""
    calls: list[tuple[str, ...]] = []

    class Uri:
        def __init__(self, host: str) -> None:
            self.remote, self.local = f'ssh://{host}/run/local-0', 'local:///run/local-0'

        def __str__(self) -> str:
            return self.remote

    class Resolver:
        def resolve(self, url: str) -> Uri:
            return Uri(os.uname().nodename if url.startswith('pid') else 'far')

    modules: Any = SimpleNamespace(
        flux=SimpleNamespace(Flux=lambda *arguments: calls.append(arguments)),
        uri=SimpleNamespace(FluxURIResolver=Resolver),
    )
    _flux_session.open_handle(modules, url)
    assert calls == [opened]


# --- without flux ----------------------------------------------------------------------------------------------------

_NO_FLUX = 'import sys; sys.modules["flux"] = None; '  # imports of it fail


def _python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, timeout=30, check=False, env=_clean()
    )


def _clean() -> dict[str, str]:
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}


def test_flux_is_not_imported_before_it_is_asked_for(instance: FakeFlux) -> None:
    program = (
        'import psij, sys, psij.executors.flux\n'
        'psij.JobExecutor.get_executor_names()\n'
        'psij.JobExecutor.get_instance("local")\n'
        'assert "flux" not in sys.modules\n'
    )
    done = _python(program)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('how', ['get_instance', 'import'])
def test_without_flux_the_error_says_what_to_install(how: str) -> None:
    wanted = {
        'get_instance': 'psij.JobExecutor.get_instance("flux")',
        'import': 'from psij.executors.flux import FluxJobExecutor',
    }
    done = _python(f'{_NO_FLUX}import psij; {wanted[how]}')
    assert done.returncode == 1
    assert "pip install '.[flux]' in a checkout" in done.stderr
    assert 'module load flux' in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith('ValueError' if how == 'get_instance' else 'ImportError')


def test_without_flux_the_list_of_plugins_says_so() -> None:
    program = f'{_NO_FLUX}import psij.__main__; sys.argv = ["psij", "plugins"]; sys.exit(psij.__main__.main())'
    done = _python(program)
    (line,) = [line for line in done.stdout.splitlines() if '.[flux]' in line]
    assert line.startswith('\t     error: ')
