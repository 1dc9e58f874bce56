"""What the batch engine makes of reports, exit codes and the queue; the scheduler is a toy, everything else is real."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import IO, Callable, Dict, List

import pystache
import pytest

from psij import (
    InvalidJobException,
    Job,
    JobSpec,
    JobState,
    JobStatus,
    StageIn,
    StageOut,
    StageOutFlags,
    StagingMode,
    SubmitException,
)
from psij._runtime import job_files, status_channel
from psij._runtime.status_channel import Report
from psij.executors.batch import batch_scheduler_executor as engine
from psij.executors.batch.script_generator import TemplatedScriptGenerator, expand_partials

from .toy import ToyExecutor, result, send, submitted, token

SOON = timedelta(seconds=10)
NOW = timedelta(0)


@pytest.fixture
def executor(tmp_path: Path) -> ToyExecutor:
    return ToyExecutor(tmp_path / 'work')


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('_FILE_GRACE', '_LOST_GRACE', '_LISTING_GRACE', '_SIGNAL_GRACE'):
        monkeypatch.setattr(engine, name, 0.0)
    monkeypatch.setattr(engine, '_LOOKUPS', (0.0, 0.0))


def final(job: Job) -> JobStatus:
    status = job.wait(SOON)
    assert status is not None
    assert status.final
    return status


# --- submission ---------------------------------------------------------------------------------------------------


def test_submission_writes_a_private_script_and_queues_the_job(executor: ToyExecutor) -> None:
    executor.answers['submit'] = 'quota: 12 %\nsubmitted as 77\n'
    job = submitted(executor)
    script = executor.work_directory / f'{job.id}.job'
    assert executor.asked == [['submit', str(script)]]
    assert job.native_id == '77'
    assert job.status.state is JobState.QUEUED
    assert job.status.metadata == {'native_id': '77'}
    assert script.stat().st_mode & 0o777 == 0o600
    assert executor.work_directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ('answer', 'message', 'transient'),
    [
        (result('', 1, 'no such queue'), 'no such queue', False),
        (result('', None), 'the command "toy" was not found', False),
        (result('', 3), engine.UNKNOWN_ERROR, False),
        (result(''), 'no job ID that could be understood', False),
    ],
)
def test_failed_submission_leaves_no_trace(
    executor: ToyExecutor, answer: object, message: str, transient: bool
) -> None:
    executor.answers['submit'] = answer  # type: ignore[assignment]
    job = Job(JobSpec('/bin/true'))
    with pytest.raises(SubmitException, match=message) as info:
        executor.submit(job)
    assert info.value.transient is transient
    assert (job.status.state, job.executor, job.native_id) == (JobState.NEW, None, None)
    assert [name for name in executor.files() if not name.endswith('.revoked')] == []
    executor.answers['submit'] = '5'
    executor.submit(job)
    assert job.native_id == '5'


def test_job_whose_submission_timed_out_is_found(executor: ToyExecutor, no_grace: None) -> None:
    executor.answers.update(submit=result('', None, timed_out=True), lookup='42\n')
    assert submitted(executor).native_id == '42'


@pytest.mark.usefixtures('no_grace')
def test_job_that_may_have_been_accepted_cannot_run_twice(executor: ToyExecutor) -> None:
    """If nobody can say whether there is a job, the script must find a note that keeps it from running."""
    scripts: List[str] = []

    def accept_too_late(argv: List[str]) -> object:
        scripts.append(Path(argv[1]).read_text())
        return result('', None, timed_out=True)

    executor.answers.update(submit=accept_too_late, lookup='')  # type: ignore[arg-type]
    job = Job(JobSpec('/bin/true'))
    with pytest.raises(SubmitException) as info:
        executor.submit(job)
    assert info.value.transient
    (note,) = executor.files()
    assert note.endswith('.revoked')
    assert note in scripts[0]
    executor.answers['submit'] = '1'
    executor.submit(job)
    assert note not in executor.script(job)


@pytest.mark.usefixtures('no_grace')
def test_submit_command_that_was_killed_may_have_submitted(executor: ToyExecutor) -> None:
    executor.answers.update(submit=result('', -9), lookup='42\n')
    assert submitted(executor).native_id == '42'
    executor.answers['lookup'] = ''
    with pytest.raises(SubmitException, match=r'ended by signal 9.*\n.*safe to submit it again') as info:
        executor.submit(Job(JobSpec('/bin/true')))
    assert info.value.transient


def test_ids_may_be_any_objects(executor: ToyExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, 'job_id_from_submit_output', int)
    assert submitted(executor).native_id == '1'


@pytest.mark.usefixtures('no_grace')
def test_lookup_that_answers_rubbish_finds_nothing(executor: ToyExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(job: Job, path: Path, out: str) -> None:
        raise ValueError(out)

    monkeypatch.setattr(executor, '_parse_lookup_output', parse)
    executor.answers.update(submit=result('', None, timed_out=True), lookup='rubbish')
    with pytest.raises(SubmitException, match='safe to submit it again'):
        executor.submit(Job(JobSpec('/bin/true')))
    (note,) = executor.files()
    assert note.endswith('.revoked')


@pytest.mark.usefixtures('no_grace')
def test_nothing_is_promised_for_scripts_of_others(executor: ToyExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their templates may not look for the note."""
    monkeypatch.setattr(executor, 'generate_submit_script', lambda job, context, file: file.write('#!/bin/sh\n'))
    executor.answers['submit'] = result('', None, timed_out=True)
    with pytest.raises(SubmitException, match='it will run'):
        executor.submit(Job(JobSpec('/bin/true')))


@pytest.mark.usefixtures('no_grace')
@pytest.mark.parametrize(
    ('signs', 'said'),
    [(['active'], 'it runs'), (['active', 'done'], 'it has ended'), (['no script'], 'it has ended')],
)
def test_job_that_runs_all_the_same_is_not_submitted_again(executor: ToyExecutor, signs: List[str], said: str) -> None:
    """Its script says so, by reports or by having removed itself."""
    job = Job(JobSpec('/bin/true'))

    def accept(argv: List[str]) -> object:
        if 'active' in signs:
            executor._on_report(job, Report(job.id, JobState.ACTIVE, None, ''))
        if 'done' in signs:
            executor._on_report(job, Report(job.id, None, 0, ''))
        if 'no script' in signs:
            Path(argv[1]).unlink()
        return result('', None, timed_out=True)

    executor.answers['submit'] = accept  # type: ignore[assignment]
    with pytest.raises(SubmitException, match=said) as info:
        executor.submit(job)
    assert not info.value.transient


@pytest.mark.usefixtures('no_grace')
def test_second_attempt_is_not_taken_for_the_first(executor: ToyExecutor) -> None:
    """The first, which may be accepted late, finds that it was withdrawn; its script has the same name."""
    job = Job(JobSpec('/bin/true'))
    executor.answers.update(submit=result('', None, timed_out=True), lookup='')
    for answer in ('', '77\n'):
        executor.answers['lookup'] = answer
        with pytest.raises(SubmitException, match='safe to submit it again'):
            executor.submit(job)
    assert len(executor.files()) == 2


@pytest.mark.usefixtures('no_grace')
def test_full_disk_does_not_hide_what_the_scheduler_said(
    executor: ToyExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def accept(argv: List[str]) -> object:
        monkeypatch.setattr(job_files, 'write_private', fail)
        return result('', None, timed_out=True)

    def fail(path: Path, text: str) -> Path:
        raise OSError(28, 'No space left on device')

    executor.answers['submit'] = accept  # type: ignore[assignment]
    with pytest.raises(SubmitException, match='it will run'):
        executor.submit(Job(JobSpec('/bin/true')))


def test_lookup_that_times_out_is_not_repeated(executor: ToyExecutor, no_grace: None) -> None:
    timed_out = result('', None, timed_out=True)
    executor.answers.update(submit=timed_out, lookup=timed_out)
    with pytest.raises(SubmitException, match='safe to submit it again'):
        executor.submit(Job(JobSpec('/bin/true')))
    assert executor.asked.count(['lookup']) == 1


def test_list_that_is_not_understood(executor: ToyExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(out: str) -> List[str]:
        raise ValueError(out)

    monkeypatch.setattr(executor, 'parse_list_output', parse)
    executor.answers['list'] = 'Welcome'
    with pytest.raises(SubmitException, match="is not understood: 'Welcome'"):
        executor.list()


@pytest.mark.usefixtures('no_grace')
@pytest.mark.parametrize('command', ['submit', 'lookup'])
def test_submission_that_is_interrupted_is_withdrawn(executor: ToyExecutor, command: str) -> None:
    """The scheduler may have got the job when Ctrl-C came."""

    def interrupt(argv: List[str]) -> object:
        raise KeyboardInterrupt

    executor.answers['submit'] = result('', None, timed_out=True)
    executor.answers[command] = interrupt  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        executor.submit(Job(JobSpec('/bin/true')))
    (note,) = executor.files()
    assert note.endswith('.revoked')


def test_files_of_an_earlier_job_with_the_same_id_say_nothing(executor: ToyExecutor) -> None:
    """Schedulers that are installed anew begin to count from the start."""
    job_files.private_directory(executor.work_directory)
    for name in ('1.ec', '1.out', '1.cancelled', '1.nodefile'):
        (executor.work_directory / name).write_text('0\n')
        os.utime(executor.work_directory / name, (0, 0))
    job = submitted(executor)
    assert executor.files() == [f'{job.id}.job']
    executor.poll()
    assert not job.status.final


def test_early_report_waits_for_the_native_id(executor: ToyExecutor) -> None:
    """A job may run before the submit command has returned."""
    states: List[JobState] = []

    def run_at_once(argv: List[str]) -> object:
        script = Path(argv[1]).read_text()
        job_id = Path(argv[1]).stem
        send(script, f'{job_id} ACTIVE {token(script, "ACTIVE")}\n')
        send(script, f'{job_id} DONE 0 {token(script, "DONE")}\n')
        return result('8')

    executor.answers['submit'] = run_at_once  # type: ignore[assignment]
    job = Job(JobSpec('/bin/true'))
    job.set_job_status_callback(lambda job, status: states.append(status.state))
    executor.submit(job)
    assert final(job).state is JobState.COMPLETED
    assert job.native_id == '8'
    assert states == [s for s in JobState if s not in (JobState.NEW, JobState.FAILED, JobState.CANCELED)]


def test_rendering_has_no_effects(executor: ToyExecutor) -> None:
    job = Job(JobSpec('/bin/echo', ['it is me']))
    script = executor.render_submit_script(job)
    assert "/bin/echo 'it is me'" in script
    assert '/dev/udp' not in script
    assert not executor.asked
    assert (job.status.state, job.executor) == (JobState.NEW, None)
    executor.submit(job)


# --- reports ------------------------------------------------------------------------------------------------------


def test_reports_move_the_job(executor: ToyExecutor) -> None:
    job = submitted(executor)
    script = executor.script(job)
    send(script, f'{job.id} ACTIVE {token(script, "ACTIVE")}\n')
    status = job.wait(SOON, JobState.ACTIVE)
    assert status is not None
    assert status.state is JobState.ACTIVE
    executor.print('something went wrong\n')
    send(script, f'{job.id} DONE 3 {token(script, "DONE")}\n')
    status = final(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 3)
    assert status.message == 'something went wrong'
    assert status.metadata == {'native_id': '1', 'reason': 'exit_code'}
    assert executor.asked == [executor.asked[0]]  # the scheduler was never asked
    assert executor.files() == []


def test_job_that_runs_again_before_anybody_has_seen_it_wait(executor: ToyExecutor) -> None:
    """The end of the first run must not become that of the second one."""
    job = submitted(executor)
    script = executor.script(job)
    executor.answers['status'] = '1 r'
    end = f'{job.id} SIGNAL 143 {token(script, "SIGNAL")}'
    send(script, end)
    executor.eventually(lambda: executor.reported(job) is not None)
    send(script, f'{job.id} ACTIVE {token(script, "ACTIVE")}')
    executor.eventually(lambda: executor.reported(job) is None)
    executor.poll()
    assert job.status.state is JobState.ACTIVE
    send(script, end)  # by somebody who has overheard it
    send(script, f'{job.id} CLEANUP {token(script, "CLEANUP")}')
    assert job.wait(SOON, JobState.CLEANUP)
    assert executor.reported(job) is None


def test_forged_reports_change_nothing(executor: ToyExecutor) -> None:
    job = submitted(executor)
    other = submitted(executor)
    script = executor.script(job)
    active = token(script, 'ACTIVE')
    for forgery in (
        f'{job.id} DONE 0 {active}',  # a token that was overheard, for another state
        f'{job.id} CLEANUP {active}',
        f'{other.id} ACTIVE {active}',  # or for another job
        f'{job.id} ACTIVE {"0" * 32}',
        f'{job.id} ACTIVE',
        f'{job.id} COMPLETED {active}',
        f'{job.id} DONE -1 {token(script, "DONE")}',
        f'{job.id} DONE 0 {token(script, "SIGNAL")}',
        f'{job.id} SIGNAL 0 {token(script, "SIGNAL")}',
        '\xff\x00garbage',
        '',
    ):
        send(script, forgery)
    send(script, f'{job.id} STAGE_IN {token(script, "STAGE_IN")}')
    status = job.wait(SOON, JobState.STAGE_IN)  # datagrams arrive in order, so all others were looked at
    assert status is not None
    assert status.state is JobState.STAGE_IN
    assert other.status.state is JobState.QUEUED


@pytest.mark.usefixtures('no_grace')
def test_report_of_a_signal_waits_for_the_reason(executor: ToyExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script knows that it got a signal, the scheduler knows why."""
    monkeypatch.setattr(engine, '_SIGNAL_GRACE', 60.0)
    job = submitted(executor)
    script = executor.script(job)
    send(script, f'{job.id} ACTIVE {token(script, "ACTIVE")}')
    send(script, f'{job.id} DONE 143 {token(script, "DONE")}')
    job.wait(SOON, JobState.ACTIVE)
    executor.answers['status'] = '1 r'
    executor.poll()
    assert not job.status.final
    executor.answers['status'] = '1 f timeout'
    executor.poll()
    status = final(job)
    assert status.state is JobState.FAILED
    assert status.metadata is not None
    assert status.metadata['reason'] == 'timeout'
    assert status.message is not None
    assert 'walltime' in status.message


# --- the queue ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('lines', [True, False])
def test_states_of_the_queue(tmp_path: Path, lines: bool) -> None:
    executor = ToyExecutor(tmp_path, lines=lines)
    job = submitted(executor)
    executor.answers['status'] = '9 r\n1 q - waits for nodes\n'
    executor.poll()
    assert (str(job.status.state), job.status.message) == ('QUEUED', 'waits for nodes')
    executor.answers['status'] = '1 r'
    executor.poll()
    assert str(job.status.state) == 'ACTIVE'
    executor.answers['status'] = '1 q - requeued'
    executor.poll()
    assert (str(job.status.state), job.status.message) == ('ACTIVE', 'requeued')  # never backwards, never silent
    executor.record('0\n')
    executor.answers['status'] = '1 d'
    executor.poll()
    assert final(job).state is JobState.COMPLETED


def test_pending_reason_is_not_a_new_state(executor: ToyExecutor) -> None:
    job = Job(JobSpec('/bin/true'))
    seen: List[JobState] = []
    job.set_job_status_callback(lambda job, status: seen.append(status.state))
    executor.submit(job)
    executor.answers['status'] = '1 q - no licence'
    executor.poll()
    executor.answers['status'] = '1 r'
    executor.poll()
    job.wait(SOON, JobState.ACTIVE)
    assert seen == [JobState.QUEUED, JobState.STAGE_IN, JobState.ACTIVE]


def test_scheduler_cannot_tell_staging_from_running(executor: ToyExecutor) -> None:
    job = submitted(executor, JobSpec('/bin/true', stage_in={StageIn('/etc/passwd', 'x')}, directory='/tmp'))
    executor.answers['status'] = '1 r'
    executor.poll()
    assert job.status.state is JobState.STAGE_IN


def test_new_job_that_is_not_listed_has_not_ended(executor: ToyExecutor) -> None:
    job = submitted(executor)
    for _ in range(5):
        executor.poll()
    assert job.status.state is JobState.QUEUED


@pytest.mark.parametrize(
    ('record', 'output', 'state', 'code', 'message'),
    [
        ('0\n', '', JobState.COMPLETED, 0, None),
        ('3\n', 'oops\n', JobState.FAILED, 3, 'oops'),
        ('137\n', '', JobState.FAILED, 137, 'The job ended with exit code 137, which stands for the signal SIGKILL.'),
    ],
)
@pytest.mark.usefixtures('no_grace')
def test_job_that_left_the_queue_with_a_record(
    executor: ToyExecutor, record: str, output: str, state: JobState, code: int, message: str
) -> None:
    job = submitted(executor)
    executor.record(record)
    executor.print(output)
    executor.poll()
    status = final(job)
    assert (status.state, status.exit_code, status.message) == (state, code, message)
    assert executor.files() == []


@pytest.mark.usefixtures('no_grace')
def test_job_that_left_without_a_trace_is_not_completed(executor: ToyExecutor) -> None:
    job = submitted(executor)
    executor.poll()
    executor.poll()
    status = final(job)
    assert status.state is JobState.FAILED
    assert status.metadata == {'native_id': '1', 'reason': 'lost'}
    assert status.message is not None
    assert 'nothing tells how it ended' in status.message


@pytest.mark.usefixtures('no_grace')
def test_history_tells_about_jobs_that_left(executor: ToyExecutor) -> None:
    job = submitted(executor)
    executor.answers['history'] = '1 f node_failure'
    executor.poll()
    executor.poll()
    status = final(job)
    assert status.state is JobState.FAILED
    assert status.metadata is not None
    assert status.metadata['reason'] == 'node_failure'


def test_silent_history_is_told_once(executor: ToyExecutor, caplog: pytest.LogCaptureFixture) -> None:
    """And it does not keep a job from ending when it speaks again."""
    job = submitted(executor)
    executor.answers.update(status='1 r', history=result('', None, timed_out=True))
    executor.poll()
    executor.answers['status'] = ''
    for _ in range(3):
        executor.poll()
    assert not job.status.final
    assert [record.levelname for record in caplog.records if 'history' in record.getMessage()] == ['WARNING']
    executor.answers['history'] = '1 c'
    executor.poll()
    assert final(job).state is JobState.CANCELED


@pytest.mark.usefixtures('no_grace')
def test_silent_history_is_no_evidence(executor: ToyExecutor) -> None:
    job = submitted(executor)
    executor.answers['history'] = result('', 1, 'cannot reach the database')
    for _ in range(5):
        executor.poll()
    assert job.status.state is JobState.QUEUED
    executor.answers['history'] = ''
    executor.poll()
    assert final(job).state is JobState.FAILED


@pytest.mark.parametrize(
    ('verdict', 'record', 'state', 'reason', 'code'),
    [
        ('1 f timeout', '0\n', JobState.COMPLETED, None, 0),  # it had ended well before the limit was noticed
        ('1 f timeout', '0\nTERM\n', JobState.FAILED, 'timeout', 0),
        ('1 f timeout', '143\nTERM\n', JobState.FAILED, 'timeout', 143),
        ('1 f out_of_memory', '0\n', JobState.COMPLETED, None, 0),
        ('1 f', '137\n', JobState.FAILED, 'signal', 137),
        ('1 d', '4\n', JobState.FAILED, 'exit_code', 4),
        ('1 d', '', JobState.COMPLETED, None, None),  # the scheduler of this test does not tell
        ('1 f', '', JobState.FAILED, 'lost', None),
        ('1 c', '0\nTERM\n', JobState.CANCELED, 'cancelled_by_user', None),
        ('1 c cancelled_by_system', '', JobState.CANCELED, 'cancelled_by_system', None),
    ],
)
@pytest.mark.usefixtures('no_grace')
def test_verdict_and_record(
    executor: ToyExecutor, verdict: str, record: str, state: JobState, reason: object, code: object
) -> None:
    job = submitted(executor)
    if record:
        executor.record(record)
    executor.answers['status'] = verdict
    executor.poll()
    executor.poll()
    status = final(job)
    assert (status.state, (status.metadata or {}).get('reason'), status.exit_code) == (state, reason, code)
    assert executor.files() == []


def test_slow_file_system_gets_time(executor: ToyExecutor) -> None:
    job = submitted(executor)
    executor.answers['status'] = '1 d'
    executor.poll()
    assert not job.status.final
    executor.record('5')  # not complete
    executor.poll()
    assert not job.status.final
    executor.record('5\n')
    executor.poll()
    assert final(job).exit_code == 5


# --- trouble ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'answer', [result('', None, timed_out=True), result('', None), result('', 1, 'cannot contact controller')]
)
def test_scheduler_that_is_away_changes_nothing(
    executor: ToyExecutor, answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    job = submitted(executor)
    executor.answers['status'] = '1 r'
    executor.poll()
    executor.answers['status'] = executor.answers['list'] = answer  # type: ignore[assignment]
    with caplog.at_level(logging.WARNING, 'psij'):
        for _ in range(10):
            executor.poll()
    assert job.status.state is JobState.ACTIVE
    assert len(caplog.records) == 1  # once for each kind of trouble, not for each round
    executor.record('0\n')
    executor.poll()
    assert final(job).state is JobState.COMPLETED  # the script's record is enough


@pytest.mark.usefixtures('no_grace')
def test_status_command_that_fails_because_a_job_is_gone(executor: ToyExecutor) -> None:
    """Plugins may ask about all jobs at once, with a command that fails if one of them is not there."""
    gone = submitted(executor)
    executor.answers['submit'] = '2'
    there = submitted(executor)
    executor.answers.update(status=result('', 1, 'Unknown job'), list='2\n')
    for _ in range(executor.config.queue_polling_error_threshold):
        executor.poll()
    assert not gone.status.final
    executor.poll()
    executor.poll()
    assert (final(gone).metadata or {})['reason'] == 'lost'
    assert not there.status.final


def test_jobs_that_are_listed_again_are_not_lost(executor: ToyExecutor) -> None:
    """Gaps in a list, with time between them, are no evidence; nor is another spelling of an ID of somebody else."""
    job = submitted(executor)
    attached = Job()
    executor.attach(attached, '2')
    executor.answers['status'] = '1 r\n2 r'
    executor.poll()
    executor.answers.update(status=result('', 1, 'Something'), list='')
    for _ in range(4):
        executor.poll()
    assert executor._progress(job).unlisted_since is not None
    executor.answers['list'] = '1\n2.server\n'
    executor.poll()
    assert executor._progress(job).unlisted_since is None
    assert executor._progress(attached).unlisted_since is None


def test_trouble_of_the_past_is_not_counted(executor: ToyExecutor) -> None:
    executor.answers['status'] = 'rubbish'
    given_up = submitted(executor)
    while not given_up.status.final:
        executor.poll()
    job = submitted(executor)
    executor.poll()
    assert not job.status.final


def test_trouble_slows_down_all_questions(tmp_path: Path) -> None:
    """A second of rubbish must not be counted several times because somebody cancels a job meanwhile."""
    executor = ToyExecutor(tmp_path)
    executor.answers['status'] = 'rubbish'
    poller = executor._queue_poll_thread
    job = submitted(executor)
    poller.start()._round()
    before = executor.asked.count(['status'])
    executor.cancel(job)
    assert poller._timer is not None
    assert poller._timer.when - time.monotonic() > 1
    assert executor.asked.count(['status']) == before
    poller.unregister_job(job)


def test_forked_child_asks_about_its_own_jobs(executor: ToyExecutor) -> None:
    """The timer of the parent will not fire in the child."""
    poller = executor._queue_poll_thread.start()
    submitted(executor)
    assert poller._timer is not None
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            executor.answers.update(submit='2', status='2 d')
            executor.config.initial_queue_polling_delay = 0
            code = 0 if submitted(executor).wait(SOON) is not None else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    poller._jobs.clear()


def test_rubbish_is_counted(executor: ToyExecutor) -> None:
    job = submitted(executor)
    executor.answers['status'] = 'complete rubbish'
    executor.poll()
    executor.poll()
    executor.answers['status'] = '1 q'
    executor.poll()
    executor.answers['status'] = 'complete rubbish'
    executor.poll()
    executor.poll()
    assert job.status.state is JobState.QUEUED
    executor.poll()
    status = final(job)
    assert status.state is JobState.FAILED
    assert status.message is not None
    assert status.message.startswith('Failed to poll for job status:')


# --- cancel, list, attach -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures('no_grace')
def test_cancelled_job_that_left_the_queue_is_canceled(executor: ToyExecutor) -> None:
    job = submitted(executor)
    job.cancel()
    assert executor.asked[-1] == ['cancel', '1']
    executor.poll()
    executor.poll()
    assert final(job).state is JobState.CANCELED
    job.cancel()
    assert executor.asked.count(['cancel', '1']) == 1


@pytest.mark.usefixtures('no_grace')
def test_cancelling_is_known_to_all_who_follow_the_job(executor: ToyExecutor, tmp_path: Path) -> None:
    """Not every scheduler says later who has ended a job, and launchers turn the signal into any exit code."""
    job = submitted(executor)
    other, follower = ToyExecutor(tmp_path / 'work'), Job()
    other.attach(follower, '1')
    follower.cancel()
    executor.record('1\n')
    for watcher in (executor, other):
        watcher.poll()
    assert [final(each).state for each in (job, follower)] == [JobState.CANCELED] * 2
    assert executor.files() == []


def test_job_that_had_failed_before_was_not_cancelled(executor: ToyExecutor) -> None:
    job = submitted(executor)
    executor.record('6\n')
    job.cancel()
    executor.poll()
    status = final(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 6)


def test_job_that_ends_well_in_spite_of_being_cancelled_is_completed(executor: ToyExecutor) -> None:
    job = submitted(executor)
    job.cancel()
    executor.record('0\n')
    executor.poll()
    assert final(job).state is JobState.COMPLETED
    assert executor.files() == []


def test_cancelling_of_an_earlier_job_with_the_same_id_does_not_count(executor: ToyExecutor) -> None:
    job_files.private_directory(executor.work_directory)
    (executor.work_directory / '1.cancelled').touch()
    job = submitted(executor)
    executor.record('6\n')
    executor.poll()
    assert final(job).state is JobState.FAILED


def test_cancel_that_comes_too_late_is_no_error(executor: ToyExecutor) -> None:
    job = submitted(executor)
    executor.answers['cancel'] = result('', 35, 'the job is over')
    job.cancel()
    executor.record('0\n')
    executor.answers['status'] = '1 d'
    executor.poll()
    assert final(job).state is JobState.COMPLETED


@pytest.mark.usefixtures('no_grace')
def test_cancel_command_that_does_not_answer_may_have_worked(executor: ToyExecutor) -> None:
    job = submitted(executor)
    executor.answers['cancel'] = result('', None, timed_out=True)
    with pytest.raises(SubmitException) as info:
        job.cancel()
    assert info.value.transient
    executor.record('143\nTERM\n')
    executor.poll()
    assert final(job).state is JobState.CANCELED


@pytest.mark.usefixtures('no_grace')
def test_cancel_of_a_job_that_waits_for_its_second_run(executor: ToyExecutor) -> None:
    """The record of the first run does not mean that the job has ended."""
    job = submitted(executor)
    executor.record('143\nTERM\n')
    job.cancel()
    executor.poll()
    assert final(job).state is JobState.CANCELED


def test_job_that_ends_while_it_is_cancelled_leaves_nothing(
    executor: ToyExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files may have been removed just before the note is made."""
    job = submitted(executor)
    note = executor._note_cancellation

    def end_and_note(job: Job) -> List[Path]:
        executor.record('0\n')
        executor.poll()
        assert final(job).state is JobState.COMPLETED
        return note(job)

    monkeypatch.setattr(executor, '_note_cancellation', end_and_note)
    job.cancel()
    assert executor.files() == []


def test_cancel_that_a_plugin_takes_for_no_error_may_have_failed(
    executor: ToyExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, 'process_cancel_command_output', lambda code, out: None)
    job = submitted(executor)
    executor.answers['cancel'] = result('', 9)
    executor.cancel(job)
    executor.record('3\n')
    executor.poll()
    assert final(job).state is JobState.FAILED


def test_end_after_a_cancellation_is_noticed_soon(executor: ToyExecutor) -> None:
    """A job may take a while to end; the long interval between questions begins anew then."""
    executor.answers['status'] = '1 r'
    job = submitted(executor)
    executor.poll()
    executor.answers['cancel'] = result('', None, timed_out=True)
    with pytest.raises(SubmitException):
        executor.cancel(job)
    assert (executor.work_directory / '1.cancelled').read_text() == 'unsure'
    executor.answers['cancel'] = ''
    executor.cancel(job)
    assert (executor.work_directory / '1.cancelled').read_text() == ''
    executor._queue_poll_thread.start()
    for _ in range(3):
        executor.poll()
        assert executor._queue_poll_thread._timer is not None
        assert executor._queue_poll_thread._timer.when - time.monotonic() < 1
    executor._queue_poll_thread.unregister_job(job)


def test_refused_cancel_is_an_error(executor: ToyExecutor) -> None:
    job = submitted(executor)
    executor.answers['cancel'] = result('', 1, 'permission denied')
    with pytest.raises(SubmitException, match='permission denied'):
        job.cancel()
    executor.record('6\n')
    executor.poll()
    assert final(job).state is JobState.FAILED


def test_cancel_needs_a_submitted_job(executor: ToyExecutor) -> None:
    with pytest.raises(SubmitException, match=r'^Job does not have a native ID\.$'):
        executor.cancel(Job())


def test_list_has_no_blank_lines(executor: ToyExecutor) -> None:
    executor.answers['list'] = ' 1 \n\n2\n'
    assert executor.list() == ['1', '2']


@pytest.mark.usefixtures('no_grace')
def test_attached_job_that_nobody_knows_is_assumed_completed(executor: ToyExecutor) -> None:
    job = Job()
    executor.attach(job, '1')
    executor.poll()
    executor.poll()
    status = final(job)
    assert status.state is JobState.COMPLETED
    assert status.metadata == {'native_id': '1', 'assumed': True}


@pytest.mark.usefixtures('no_grace')
def test_attached_job_of_ours_is_as_good_as_a_submitted_one(executor: ToyExecutor, tmp_path: Path) -> None:
    submitted(executor)
    again = ToyExecutor(tmp_path / 'work')
    job = Job()
    again.attach(job, '1')
    again.print('no luck')
    again.record('9\n')
    again.poll()
    status = final(job)
    assert (status.state, status.exit_code, status.message) == (JobState.FAILED, 9, 'no luck')


@pytest.mark.parametrize('native_id', ['', '-rf', 'a b', '../1', '1\n2'])
def test_attach_refuses_what_is_no_id(executor: ToyExecutor, native_id: str) -> None:
    job = Job()
    with pytest.raises(InvalidJobException, match='Invalid native ID'):
        executor.attach(job, native_id)
    assert job.executor is None


def test_several_jobs_for_one_id(executor: ToyExecutor) -> None:
    jobs = [Job(), Job()]
    for job in jobs:
        executor.attach(job, '1')
    executor.answers['status'] = '1 c'
    executor.poll()
    assert [final(job).state for job in jobs] == [JobState.CANCELED] * 2
    assert jobs[0].status is not jobs[1].status


def test_who_sees_the_end_first_leaves_the_files_to_those_who_follow(executor: ToyExecutor, tmp_path: Path) -> None:
    job = submitted(executor)
    others = [ToyExecutor(tmp_path / 'work') for _ in range(2)]
    followers = [Job(), Job()]
    for other, follower in zip(others, followers):
        other.attach(follower, '1')
    executor.record('6\n')
    executor.print('no luck')
    for watcher in (executor, *others):
        watcher.answers['status'] = '1 f'
        watcher.poll()
    seen = [final(each) for each in (job, *followers)]
    assert [(status.exit_code, status.message) for status in seen] == [(6, 'no luck')] * 3
    assert executor.files() == []


def test_program_that_ends_does_not_follow_any_more(executor: ToyExecutor, tmp_path: Path) -> None:
    """Such as ``psij status``; the submitting program must not keep the files for it."""
    job = submitted(executor)
    program = (
        'import sys; from pathlib import Path; from psij import Job; from unit.batch.toy import ToyExecutor\n'
        'jobs = [Job(), Job()]\n'
        'for job in jobs: ToyExecutor(Path(sys.argv[1])).attach(job, "1")\n'
        'print(len(list(Path(sys.argv[1]).rglob("*.followed"))))'
    )
    command = [sys.executable, '-c', program, str(tmp_path / 'work')]
    tests = Path(__file__).parents[2]
    assert subprocess.check_output(command, cwd=tests, text=True) == '3\n'
    assert executor.files() == [f'{job.id}.job']


@pytest.mark.usefixtures('no_grace')
def test_submitter_who_gets_no_reports_is_left_the_files(
    executor: ToyExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_channel.shared_channel(), 'register', lambda *_: None)
    job = submitted(executor)
    other, follower = ToyExecutor(tmp_path / 'work'), Job()
    other.attach(follower, '1')
    executor.record('0\n')
    for watcher in (other, executor):
        watcher.poll()
    assert [final(each).state for each in (follower, job)] == [JobState.COMPLETED] * 2
    assert executor.files() == []


# --- many jobs, files ---------------------------------------------------------------------------------------------


def test_submitter_whose_reports_do_not_get_through_is_left_the_files(executor: ToyExecutor, tmp_path: Path) -> None:
    """It has a port, but the job runs and nothing has come in."""
    job = submitted(executor)
    other = ToyExecutor(tmp_path / 'work')
    attached = Job()
    other.attach(attached, '1')
    executor.answers['status'] = other.answers['status'] = '1 r'
    executor.poll()
    executor.record('3\n')
    other.answers['status'] = executor.answers['status'] = ''
    other.poll()
    assert final(attached).exit_code == 3
    executor.poll()
    assert final(job).exit_code == 3


def test_tasks_of_an_array_share_an_id(executor: ToyExecutor) -> None:
    """One of its lines goes away, another is the same as before."""
    executor.answers['status'] = '1 q - first\n1 q - second'
    job = submitted(executor)
    executor.poll()
    executor.answers['status'] = '1 q - second'
    executor.poll()
    assert '1' in executor._queue_poll_thread._listed
    executor.answers['status'] = ''
    executor.poll()
    assert '1' not in executor._queue_poll_thread._listed
    assert not job.status.final


def test_only_changed_lines_are_parsed(executor: ToyExecutor) -> None:
    jobs = [Job() for _ in range(100)]
    for number, job in enumerate(jobs):
        executor.attach(job, str(number))
    executor.answers['status'] = '\n'.join(f'{number} r' for number in range(200))
    executor.poll()
    executor.poll()
    assert executor.parsed == 200
    executor.answers['status'] = '\n'.join(f'{number} {"c" if number == 7 else "r"}' for number in range(200))
    executor.poll()
    assert executor.parsed == 202  # what the line says now, and what it said before
    assert [job.native_id for job in jobs if job.status.final] == ['7']
    late = Job()
    executor.attach(late, '150')
    executor.poll()
    assert late.status.state is JobState.ACTIVE


@pytest.mark.parametrize('hook', ['_clean_submit_script', '_read_aux_files', '_remove_files'])
def test_job_ends_whatever_a_plugin_does(executor: ToyExecutor, monkeypatch: pytest.MonkeyPatch, hook: str) -> None:
    def fail(*_: object) -> None:
        raise FileNotFoundError(hook)

    job, other = submitted(executor), Job()
    executor.attach(other, '2')
    monkeypatch.setattr(executor, hook, fail)
    executor.record('0\n')
    executor.answers['status'] = '1 d\n2 c'
    executor.poll()
    assert (final(job).state, final(other).state) == (JobState.COMPLETED, JobState.CANCELED)


def test_trouble_with_one_job_does_not_affect_others(
    executor: ToyExecutor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [Job(), Job()]
    for number, job in enumerate(jobs):
        executor.attach(job, str(number))
    on_listed = executor._on_listed

    def fail_twice(job: Job, status: JobStatus) -> None:
        if job is jobs[0] and len(failures) < 2:
            failures.append(job)
            raise OSError('stale file handle')
        on_listed(job, status)

    failures: List[Job] = []
    monkeypatch.setattr(executor, '_on_listed', fail_twice)
    executor.answers['status'] = '0 r\n1 r'
    executor.poll()
    assert jobs[1].status.state is JobState.ACTIVE
    executor.poll()
    executor.poll()
    assert jobs[0].status.state is JobState.ACTIVE
    assert [record.levelname for record in caplog.records] == ['WARNING']


def test_plugins_may_replace_the_way_to_run_commands(executor: ToyExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, '_run_command', lambda argv: '77\n')
    assert submitted(executor).native_id == '77'


def test_templates_that_cannot_stage_are_not_asked_to(executor: ToyExecutor, monkeypatch: pytest.MonkeyPatch) -> None:

    def generate(job: Job, context: Dict[str, object], file: IO[str]) -> None:
        file.write(pystache.render(expand_partials('{{> batch_lib}}\n{{> stagein}}\n'), context))

    monkeypatch.setattr(executor, 'generate_submit_script', generate)
    submitted(executor, JobSpec('/bin/true', stage_in={StageIn('a', 'b')}))
    for act in (executor.submit, executor.render_submit_script):
        with pytest.raises(InvalidJobException, match='cannot do what stage_out asks for'):
            act(Job(JobSpec('/bin/true', stage_out={StageOut('a', 'b')})))


def test_templates_write_numbers_for_enumerations_and_truth(tmp_path: Path) -> None:
    """Shell code of others compares them."""
    template = tmp_path / 'x.mustache'

    def rendered() -> str:
        out = io.StringIO()
        TemplatedScriptGenerator(None, template).generate_submit_script(
            Job(), {'mode': StagingMode.MOVE, 'flags': StageOutFlags.ALWAYS, 'yes': True, 'no': 1.5}, out
        )
        return out.getvalue()

    template.write_text('{{mode}} {{flags}} {{yes}} {{no}}')
    assert rendered() == '3 14 1 1.5'
    template.write_text('{{mode}}')
    os.utime(template, (1, 1))
    assert rendered() == '3', 'the template was edited'


@pytest.mark.usefixtures('no_grace')
def test_messages_of_plugins_are_kept(executor: ToyExecutor) -> None:
    """They know no reasons, and what they say is more than an exit code."""
    executor.answers['status'] = '1 f - over the limit'
    job = submitted(executor)
    executor.record('7\n')
    executor.print('_PSI_J_LAUNCHER_DONE\n')
    executor.poll()
    assert (final(job).message, final(job).exit_code) == ('over the limit', 7)


def test_plugins_may_watch_all_states(tmp_path: Path) -> None:
    seen: List[JobState] = []

    class Watching(ToyExecutor):
        def _set_job_status(self, job: Job, status: JobStatus) -> None:
            seen.append(status.state)
            super()._set_job_status(job, status)

    executor = Watching(tmp_path / 'work')
    job = submitted(executor)
    executor.answers['status'] = '1 r'
    executor.poll()
    executor.record('3\n')
    executor.answers['status'] = '1 f'
    executor.poll()
    assert final(job).exit_code == 3
    assert list(dict.fromkeys(seen)) == [JobState.QUEUED, JobState.ACTIVE, JobState.FAILED]


def test_files_are_kept_on_demand(tmp_path: Path) -> None:
    executor = ToyExecutor(tmp_path, keep_files=True)
    job = submitted(executor)
    executor.record('0\n')
    executor.print('')
    executor.answers['status'] = '1 d'
    executor.poll()
    final(job)
    assert executor.files() == sorted(['1.ec', '1.out', f'{job.id}.job'])


def test_left_overs_are_removed_after_thirty_days(tmp_path: Path) -> None:
    import os

    executor = ToyExecutor(tmp_path)
    executor.work_directory.mkdir(parents=True)
    for name, days in (('old.job', 31), ('young.job', 29)):
        path = executor.work_directory / name
        path.touch()
        os.utime(path, times=(0, path.stat().st_mtime - days * 86400))
    job = submitted(executor)
    assert executor.files() == sorted(['young.job', f'{job.id}.job'])


def test_files_of_live_jobs_are_touched(executor: ToyExecutor) -> None:
    import os

    job = submitted(executor)
    path = executor.work_directory / f'{job.id}.job'
    os.utime(path, (0, 0))
    executor._touch_files([job])
    assert path.stat().st_mtime > 0
    job_files.remove_old(executor.work_directory)
    assert path.exists()


def test_work_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = ToyExecutor(tmp_path / 'work')
    executor.work_directory.mkdir(parents=True)
    monkeypatch.setattr('os.geteuid', lambda: 4711)
    with pytest.raises(SubmitException, match=r'belongs to another user.*work_directory='):
        executor.submit(Job(JobSpec('/bin/true')))


@pytest.mark.parametrize('method', ['submit', 'render_submit_script'])
def test_bad_specification_is_refused(executor: ToyExecutor, method: str) -> None:
    act: Callable[[Job], object] = getattr(executor, method)
    job = Job(JobSpec())
    with pytest.raises(InvalidJobException, match='executable'):
        act(job)
    assert job.executor is None
    assert executor.asked == []
