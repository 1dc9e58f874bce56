"""Jobs with files to stage out: whatever happens, what becomes of the files agrees with how the job ends."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import List, Tuple

import pytest
from leases import leased

from psij import Job, JobSpec, JobState, StageIn, StageOut, StageOutFlags
from psij._runtime.status_channel import StatusChannel
from psij.executors import local as local_module

from .conftest import Local, eventually, final, program, reach

SUCCESS, CANCEL = StageOutFlags.ON_SUCCESS, StageOutFlags.ON_CANCEL


@pytest.fixture
def place(local: Local) -> Path:
    """Return the directory of a job, with what it may deliver."""
    place = local.directory / 'job'
    place.mkdir()
    for name in ('first', 'second', 'canceled'):
        (place / name).write_text(name)
    return place


@pytest.fixture
def results(local: Local) -> Path:
    """Return the directory to which the job delivers."""
    return local.directory / 'results'


@pytest.fixture
def spec(local: Local, place: Path, results: Path) -> JobSpec:
    """Return a job that delivers two files if it ends well, and another one if it is canceled."""
    spec = local.shell('exit 0', directory=place)
    conditions = {'first': SUCCESS, 'second': SUCCESS, 'canceled': CANCEL}
    spec.stage_out = {StageOut(name, results / name, flags) for name, flags in conditions.items()}
    return spec


@pytest.fixture
def no_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no report of a script arrive, as where the loopback interface is down."""
    register = StatusChannel.register

    def to_nobody(self: StatusChannel, *arguments: object) -> int:
        register(self, *arguments)  # type: ignore[arg-type]
        return 9

    monkeypatch.setattr(StatusChannel, 'register', to_nobody)


def names(results: Path) -> List[str]:
    return sorted(os.listdir(results)) if results.exists() else []


def is_killed_early(local: Local, job: Job, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Cancel a job, and return what is set when the time is over that its executable had."""
    asked = threading.Event()
    end_executable = local_module._Run._end_executable

    def note(self: local_module._Run) -> None:
        end_executable(self)
        asked.set()

    monkeypatch.setattr(local_module._Run, '_end_executable', note)
    job.cancel()
    return asked


def test_cancel_of_an_attached_job_that_stages_out(
    local: Local, spec: JobSpec, place: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the same minute for it, although the states of the script are not known here."""
    with leased(place / 'first') as lease:
        job = local.submit(spec)
        eventually(lease.is_wanted, 'the file is staged out')
        attached = Job()
        local.new_executor(cancel_grace=0.05).attach(attached, str(job.native_id))
        assert is_killed_early(local, attached, monkeypatch).wait(10)
    assert final(attached).state is JobState.CANCELED
    assert final(job).state is JobState.CANCELED
    assert names(results) == ['first', 'second']


def test_cancel_by_another_program_while_the_job_stages_out(
    local: Local, spec: JobSpec, place: Path, results: Path
) -> None:
    code = """
        import sys, time
        from psij import Job, JobExecutor
        from psij.executors.local import LocalJobExecutorConfig
        job = Job()
        JobExecutor.get_instance('local', config=LocalJobExecutorConfig(cancel_grace=0.05)).attach(job, sys.argv[1])
        job.cancel()
        time.sleep(0.3)
    """
    with leased(place / 'first') as lease:
        job = local.submit(spec)
        eventually(lease.is_wanted, 'the file is staged out')
        program(code, str(job.native_id), home=local.directory)
    assert final(job).state is JobState.COMPLETED
    assert names(results) == ['first', 'second']


@pytest.mark.parametrize('pre_launch', [False, True])
def test_an_attached_job_that_stages_nothing_has_no_minute(local: Local, pre_launch: bool) -> None:
    """Although it runs through a script that ignores SIGTERM."""
    ready = local.directory / 'ready'
    spec = local.shell(f'trap "" TERM; touch {ready}; sleep 300; sleep 300')
    if pre_launch:
        spec.pre_launch = local.write('ignore.sh', 'trap "" TERM\n')
    job = local.submit(spec)
    eventually(ready.exists, 'the job runs')
    attached = Job()
    local.new_executor(cancel_grace=0.05).attach(attached, str(job.native_id))
    attached.cancel()
    assert final(attached).state is JobState.CANCELED


@pytest.mark.usefixtures('no_reports')
@pytest.mark.parametrize('code', [0, 3])
def test_a_job_that_has_run_was_active_also_without_reports(local: Local, spec: JobSpec, code: int) -> None:
    states: List[str] = []
    spec.arguments = ['-c', f'exit {code}']
    job = Job(spec)
    job.set_job_status_callback(lambda job, status: states.append(status.state.name))
    local.executor.submit(job)
    last = final(job).state.name
    assert states == ['QUEUED', 'STAGE_IN', 'ACTIVE', 'STAGE_OUT', 'CLEANUP', last]


@pytest.mark.usefixtures('no_reports')
def test_a_job_that_has_not_run_was_not_active(local: Local, spec: JobSpec) -> None:
    states: List[str] = []
    spec.stage_in = {StageIn(local.directory / 'missing', 'x')}
    job = Job(spec)
    job.set_job_status_callback(lambda job, status: states.append(status.state.name))
    local.executor.submit(job)
    assert final(job).exit_code == 121
    assert states == ['QUEUED', 'FAILED']


@pytest.mark.usefixtures('no_reports')
def test_cancel_without_reports_while_files_are_staged_out(
    local: Local, spec: JobSpec, place: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with leased(place / 'first') as lease:
        job = local.submit(spec, local.new_executor(cancel_grace=0.05))
        eventually(lease.is_wanted, 'the file is staged out')
        assert is_killed_early(local, job, monkeypatch).wait(10)
    assert final(job).state is JobState.CANCELED
    assert names(results) == ['first', 'second']


@pytest.mark.usefixtures('no_reports')
def test_cancel_without_reports_while_the_executable_runs(local: Local, spec: JobSpec, results: Path) -> None:
    ready = local.directory / 'ready'
    spec.arguments = ['-c', f'trap "" TERM; touch {ready}; sleep 300; sleep 300']
    job = local.submit(spec, local.new_executor(cancel_grace=0.05))
    eventually(ready.exists, 'the job runs')
    job.cancel()
    assert final(job).state is JobState.CANCELED
    assert names(results) == ['canceled']


def test_a_signal_from_elsewhere_while_the_executable_runs(local: Local, spec: JobSpec, results: Path) -> None:
    """It goes to the script alone, so the executable may end well; the job was told to end all the same."""
    gate = local.directory / 'gate'
    os.mkfifo(gate)
    spec.arguments = ['-c', f'read line < {gate}; exit 0']
    job = local.submit(spec)
    reach(job, JobState.ACTIVE)
    with gate.open('w'):
        os.kill(int(str(job.native_id)), signal.SIGTERM)
    status = final(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 143)
    assert names(results) == ['canceled']


def test_a_signal_from_elsewhere_while_files_are_staged_out(
    local: Local, spec: JobSpec, place: Path, results: Path
) -> None:
    with leased(place / 'first') as lease:
        job = local.submit(spec)
        eventually(lease.is_wanted, 'the file is staged out')
        os.kill(int(str(job.native_id)), signal.SIGTERM)
    status = final(job)
    assert (status.state, status.exit_code) == (JobState.COMPLETED, 0)
    assert names(results) == ['first', 'second']


PHASES: List[Tuple[str, StageOutFlags]] = [('stage in', CANCEL), ('stage out', SUCCESS)]


@pytest.mark.parametrize(('phase', 'condition'), PHASES)
def test_what_could_not_be_delivered_after_a_cancellation_is_said(
    local: Local, spec: JobSpec, place: Path, phase: str, condition: StageOutFlags
) -> None:
    (local.directory / 'input').write_text('')
    spec.stage_in = {StageIn(local.directory / 'input', 'input')}
    assert spec.stage_out is not None
    spec.stage_out |= {StageOut('missing', local.directory / 'results' / 'x', condition)}
    with leased(local.directory / 'input' if phase == 'stage in' else place / 'first') as lease:
        job = local.submit(spec)
        eventually(lease.is_wanted, phase)
        job.cancel()
    status = final(job)
    assert status.state is JobState.CANCELED
    assert 'Missing source file: missing' in str(status.message)
