"""The executor on the stand-in: sessions, lost cancellations, pilots that go away. The contract suite has the rest."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, List

import pytest

from psij import (
    InvalidJobException,
    Job,
    JobAttributes,
    JobExecutor,
    JobExecutorConfig,
    JobSpec,
    JobState,
    JobStatus,
    ResourceSpecV1,
    StageIn,
    StageOut,
    StageOutFlags,
    SubmitException,
)
from psij.executors import _rp_session
from psij.executors.rp import RPJobExecutorConfig

PATIENCE = timedelta(seconds=30)


def submitted(executor: Any, *command: str, **fields: Any) -> Job:
    job = Job(JobSpec(command[0], list(command[1:]), **fields))
    executor.submit(job)
    return job


def final(job: Job) -> JobStatus:
    status = job.wait(PATIENCE)
    assert status is not None, job
    return status


def active(job: Job) -> Job:
    assert job.wait(PATIENCE, JobState.ACTIVE) is not None, job
    return job


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def files(executor: Any) -> List[str]:
    return os.listdir(executor.config.work_directory / 'rp')


# --- without RADICAL-Pilot ----------------------------------------------------------------------------------------


def test_it_is_not_imported_before_an_executor_is_made(rp: Any) -> None:
    script = (
        'import sys; from psij.executors.rp import RPJobExecutorConfig; print("radical" in sys.modules); '
        'from psij.executors.rp import RPJobExecutor; print("radical.pilot" in sys.modules)'
    )
    path = os.pathsep.join([*sys.path, str(Path(rp.__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, '-c', script], env={**os.environ, 'PYTHONPATH': path}, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ('False\nTrue\n', '')


def test_without_it_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'radical.pilot', None)
    from psij._plugins import executors

    plugin = executors.select('rp')
    monkeypatch.setattr(plugin, '_class', None)
    monkeypatch.setattr(plugin, 'error', None)
    with pytest.raises(ValueError, match=r"pip install '\.\[rp\]'"):
        JobExecutor.get_instance('rp')


@pytest.mark.parametrize(('variable', 'value'), [('VIRTUAL_ENV', ''), ('PATH', '/usr/bin:/bin')])
def test_an_environment_that_is_not_activated(
    executor: Any, rp: Any, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """RADICAL-Pilot would leave the program hanging at its end; instead nothing is started."""
    monkeypatch.setattr(sys, 'base_prefix', '/elsewhere')
    with monkeypatch.context() as patch:
        patch.setenv(variable, value)
        with pytest.raises(SubmitException, match='bin/activate'):
            submitted(executor, '/bin/true')
        assert rp.Session.opened == []
    assert final(submitted(executor, '/bin/true')).state is JobState.COMPLETED


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('settings', [{'runtime': 0}, {'cores': 2.5}, {'gpus': 'one'}])
def test_wrong_settings(rp: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        JobExecutor.get_instance('rp', config=RPJobExecutorConfig(**settings))


@pytest.mark.parametrize('label', ['local.elsewhere', 'nonsense'])
def test_unknown_resource(rp: Any, config: RPJobExecutorConfig, label: str) -> None:
    executor = JobExecutor.get_instance('rp', url=label, config=config)
    with pytest.raises(SubmitException, match=label):
        submitted(executor, '/bin/true')
    assert rp.Session.opened == []


def test_what_the_pilot_is_like(rp: Any, tmp_path: Path) -> None:
    """By default it has the cores of this machine, or is one node of another."""
    local = JobExecutor.get_instance('rp', config=JobExecutorConfig(work_directory=tmp_path))
    other = JobExecutor.get_instance(
        'rp', url='site.machine', config=RPJobExecutorConfig(work_directory=tmp_path, runtime=20, queue='debug')
    )
    for executor in (local, other):
        final(submitted(executor, '/bin/true'))
    of_local, of_other = (rp.TaskManager.of_session[session].pilot.description for session in rp.Session.opened)
    assert (of_local['resource'], of_local['cores']) == ('local.localhost', os.cpu_count())
    assert dict(of_other) == {
        'resource': 'site.machine',
        'nodes': 1,
        'runtime': 20,
        'queue': 'debug',
        'exit_on_error': False,
    }


def test_executors_with_equal_settings_share_a_session(rp: Any, executor: Any, tmp_path: Path) -> None:
    same = JobExecutor.get_instance('rp', config=RPJobExecutorConfig(work_directory=tmp_path / 'other'))
    different = JobExecutor.get_instance('rp', config=RPJobExecutorConfig(work_directory=tmp_path, cores=1))
    jobs = [submitted(each, '/bin/true') for each in (executor, same)]
    assert len(rp.Session.opened) == 1
    assert set(same.list()) == {job.native_id for job in jobs}
    assert different.list() == []
    final(submitted(different, '/bin/true'))
    assert len(rp.Session.opened) == 2


def test_nothing_is_started_by_questions(rp: Any, executor: Any) -> None:
    assert executor.list() == []
    job = Job()
    executor.attach(job, 'psij.of.somebody')
    assert final(job).metadata == {'reason': 'lost'}
    assert rp.Session.opened == []


def test_threads_that_submit_at_once_start_one_session(rp: Any, executor: Any) -> None:
    jobs: List[Job] = []
    threads = [threading.Thread(target=lambda: jobs.append(submitted(executor, '/bin/true'))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [final(job).state for job in jobs] == [JobState.COMPLETED] * 5
    assert len(rp.Session.opened) == 1


def test_a_session_of_somebody_else_stays_open(rp: Any, tmp_path: Path) -> None:
    session = rp.Session(cfg={'base': str(tmp_path)})
    executor: Any = JobExecutor.get_instance(
        'rp', config=RPJobExecutorConfig(work_directory=tmp_path / 'work', session=session)
    )
    assert final(submitted(executor, '/bin/true')).state is JobState.COMPLETED
    executor.close()
    assert rp.Session.opened == [session]
    assert not session.closed
    session.close()


# --- submission ---------------------------------------------------------------------------------------------------


def test_a_failed_start_leaves_the_job_as_it_was(rp: Any, executor: Any) -> None:
    rp.KNOBS['refuse'] = RuntimeError('no ports')
    job = Job(JobSpec('/bin/true'))
    with pytest.raises(SubmitException, match='no ports'):
        executor.submit(job)
    assert (job.status.state, job.native_id, job.executor) == (JobState.NEW, None, None)
    assert files(executor) == []
    del rp.KNOBS['refuse']
    executor.submit(job)
    assert final(job).state is JobState.COMPLETED


def test_a_refused_task_leaves_the_job_as_it_was(rp: Any, executor: Any) -> None:
    rp.KNOBS['refuse_tasks'] = RuntimeError('no more')
    job = Job(JobSpec('/bin/true'))
    with pytest.raises(SubmitException, match='no more'):
        executor.submit(job)
    assert (job.status.state, job.native_id, executor.list(), files(executor)) == (JobState.NEW, None, [], [])
    del rp.KNOBS['refuse_tasks']
    executor.submit(job)
    assert final(job).state is JobState.COMPLETED


def test_a_custom_attribute_of_a_wrong_type(executor: Any) -> None:
    attributes = JobAttributes(custom_attributes={'rp.priority': 'high'})
    with pytest.raises(InvalidJobException, match='priority'):
        submitted(executor, '/bin/true', attributes=attributes)
    assert files(executor) == []


def test_a_job_that_can_never_run_fails_with_the_reason(executor: Any) -> None:
    status = final(submitted(executor, '/bin/true', resources=ResourceSpecV1(process_count=9)))
    assert status.state is JobState.FAILED
    assert 'too many threads per proc 9' in str(status.message)


def test_the_name_arrives_exactly(executor: Any, tmp_path: Path) -> None:
    """RADICAL-Pilot writes it into its scripts as it is."""
    name = 'a "$HOME" `id` $(id) \\ \n end'
    job = submitted(executor, '/usr/bin/printenv', 'RP_TASK_NAME', name=name, stdout_path=tmp_path / 'out')
    assert final(job).state is JobState.COMPLETED
    assert (tmp_path / 'out').read_text() == f'{name}\n'


def test_only_what_radical_pilot_says_is_added_to_the_environment(
    executor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('RP_TASK_ID', 'of an outer task')
    resources = ResourceSpecV1(gpu_cores_per_process=1)
    job = submitted(
        executor,
        '/usr/bin/env',
        inherit_environment=False,
        environment={'A': '1'},
        resources=resources,
        stdout_path=tmp_path / 'out',
    )
    assert final(job).state is JobState.COMPLETED
    seen = dict(line.split('=', 1) for line in (tmp_path / 'out').read_text().splitlines())
    assert seen.pop('PSIJ_NODEFILE').endswith('.nodefile')
    assert seen.pop('RP_TASK_ID') == job.native_id
    assert seen.pop('A') == '1'
    assert seen.pop('CUDA_VISIBLE_DEVICES') == '0'
    assert {name for name in seen if not name.startswith('RP_')} == set()


# --- the end of jobs ----------------------------------------------------------------------------------------------


def test_walltime(executor: Any) -> None:
    job = submitted(executor, '/bin/sleep', '300', attributes=JobAttributes(timedelta(seconds=0.3)))
    status = final(job)
    assert (status.state, (status.metadata or {})['reason']) == (JobState.FAILED, 'timeout')


@pytest.mark.parametrize('reason', ['cancelled_by_user', 'timeout'])
def test_a_job_that_is_ended_stages_out(executor: Any, tmp_path: Path, reason: str) -> None:
    """RADICAL-Pilot itself leaves no time for that."""
    seconds = 0.5 if reason == 'timeout' else 300
    (tmp_path / 'job').mkdir()
    (tmp_path / 'data').write_text('data')
    on = {'cancelled_by_user': StageOutFlags.ON_CANCEL, 'timeout': StageOutFlags.ON_ERROR}
    job = submitted(
        executor,
        '/bin/sh',
        '-c',
        'trap "echo trapped >> result; exit 3" TERM; echo begun > result; sleep 300 & wait',
        directory=tmp_path / 'job',
        stage_in={StageIn(tmp_path / 'data', 'data')},
        stage_out={StageOut('result', tmp_path / key, flag) for key, flag in on.items()},
        cleanup={'data'},
        attributes=JobAttributes(timedelta(seconds=seconds)),
    )
    active(job)
    eventually((tmp_path / 'job' / 'result').exists)
    if reason == 'cancelled_by_user':
        job.cancel()
    status = final(job)
    assert status.state is (JobState.FAILED if reason == 'timeout' else JobState.CANCELED)
    assert (status.metadata or {})['reason'] == reason
    assert {name for name in on if (tmp_path / name).exists()} == {reason}
    assert (tmp_path / reason).read_text() == 'begun\ntrapped\n'
    assert os.listdir(tmp_path / 'job') == ['result']
    assert files(executor) == []


def test_a_job_canceled_before_the_pilot_runs_never_runs(rp: Any, executor: Any, tmp_path: Path) -> None:
    """RADICAL-Pilot loses such a cancellation. The script is not there any more when the pilot wants to run it."""
    rp.KNOBS['hold'] = threading.Event()
    job = submitted(executor, '/bin/touch', str(tmp_path / 'ran'))
    job.cancel()
    assert final(job).state is JobState.CANCELED
    rp.KNOBS['hold'].set()
    (task,) = rp.TaskManager.of_session[rp.Session.opened[0]].get_tasks()
    eventually(lambda: task.state in rp.FINAL)
    assert task.state == 'FAILED'
    assert not (tmp_path / 'ran').exists()


def test_a_script_that_is_read_just_before_the_cancellation_does_nothing(
    rp: Any, executor: Any, tmp_path: Path
) -> None:
    rp.KNOBS['hold'] = threading.Event()
    job = submitted(executor, '/bin/touch', str(tmp_path / 'ran'))
    (script,) = (executor.config.work_directory / 'rp').iterdir()
    text = script.read_text()
    job.cancel()
    assert subprocess.run(['/bin/bash', '-c', text], capture_output=True).returncode == 125
    assert not (tmp_path / 'ran').exists()


def test_a_cancellation_that_gets_lost_is_repeated(rp: Any, executor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rp_session, '_CANCEL_INTERVAL', 0.05)
    job = active(submitted(executor, '/bin/sleep', '300'))
    eventually(lambda: files(executor) == [])  # the script has begun
    rp.KNOBS['deaf'] = 3
    job.cancel()
    assert final(job).state is JobState.CANCELED
    assert rp.KNOBS['deaf'] == 0


# --- the backend goes away ----------------------------------------------------------------------------------------


def pilot_of(rp: Any) -> Any:
    return rp.TaskManager.of_session[rp.Session.opened[-1]].pilot


def test_the_end_of_the_pilot(rp: Any, executor: Any) -> None:
    """Live jobs fail with the reason, the next submission fails, and the one after it has a new pilot."""
    running = active(submitted(executor, '/bin/sleep', '300'))
    seen: List[JobStatus] = []
    running.set_job_status_callback(lambda job, status: seen.append(status))
    pilot_of(rp).advance('FAILED')
    status = final(running)
    assert (status.state, (status.metadata or {})['reason']) == (JobState.FAILED, 'lost')
    assert 'pilot.0000' in str(status.message)
    assert [each.state.name for each in seen] == ['STAGE_OUT', 'CLEANUP', 'FAILED']
    job = Job(JobSpec('/bin/true'))
    with pytest.raises(SubmitException, match=r'pilot\.0000') as caught:
        executor.submit(job)
    assert caught.value.transient
    executor.submit(job)
    assert final(job).state is JobState.COMPLETED
    eventually(lambda: rp.Session.opened[0].closed)


def test_a_pilot_that_never_starts(rp: Any, executor: Any) -> None:
    rp.KNOBS['hold'] = threading.Event()
    job = submitted(executor, '/bin/true')
    pilot_of(rp).advance('FAILED')
    assert final(job).state is JobState.FAILED
    assert files(executor) == []


def test_the_runtime_of_the_pilot(rp: Any, executor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended a little earlier, in order: RADICAL-Pilot would leave the processes of jobs behind."""
    monkeypatch.setattr(_rp_session, '_RUNTIME_MARGIN', 3600 - 0.5)
    job = submitted(executor, '/bin/sleep', '300')
    status = final(job)
    assert 'runtime of the pilot, 60 minutes' in str(status.message)
    (task,) = rp.TaskManager.of_session[rp.Session.opened[0]].get_tasks()
    eventually(lambda: task.state in rp.FINAL)
    assert task.state == 'CANCELED'


def test_a_process_of_radical_pilot_dies(rp: Any, executor: Any) -> None:
    """RADICAL-Pilot does not notice, and would let jobs wait for ever."""
    rp.KNOBS['hold'] = threading.Event()
    submitted(executor, '/bin/true').cancel()
    directory = pilot_of(rp).directory
    with subprocess.Popen(['/bin/bash', '-c', 'exec -a rp.component sleep 300'], cwd=directory) as component:
        eventually(lambda: b'rp.component' in Path(f'/proc/{component.pid}/cmdline').read_bytes())
        rp.KNOBS['hold'].set()
        job = active(submitted(executor, '/bin/sleep', '300'))
        component.kill()
        assert 'rp.component' in str(final(job).message)


def test_close(rp: Any, executor: Any) -> None:
    job = active(submitted(executor, '/bin/sleep', '300'))
    executor.close()
    assert final(job).state is JobState.FAILED
    assert 'closed' in str(job.status.message)
    assert rp.Session.opened[0].closed
    executor.close()
    assert final(submitted(executor, '/bin/true')).state is JobState.COMPLETED


def test_a_forked_child_closes_nothing(rp: Any, executor: Any) -> None:
    job = active(submitted(executor, '/bin/sleep', '300'))
    (session,) = _rp_session._sessions.values()
    pid = os.fork()
    if pid == 0:
        session.close()
        os._exit(0 if session.lost is None and not _rp_session._sessions else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not job.status.final
    job.cancel()
    final(job)
