"""The Flux executor, over the stand-in: what jobs get, and what is learned about them."""

from __future__ import annotations

import itertools
import os
import signal
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Optional

import pytest
from fakes.flux import FakeFlux

from psij import (
    InvalidJobException,
    Job,
    JobAttributes,
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
from psij.executors._flux_events import native_id
from psij.executors._flux_session import bindings
from unit.flux.running import finish, reach, run, submit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from psij.executors.flux import FluxJobExecutor

ALL_STATES = ['QUEUED', 'STAGE_IN', 'ACTIVE', 'STAGE_OUT', 'CLEANUP']


def _reason(status: JobStatus) -> object:
    return (status.metadata or {}).get('reason')


def _sh(script: str, **fields: object) -> JobSpec:
    spec = JobSpec('/bin/sh', ['-c', script])
    for name, value in fields.items():
        setattr(spec, name, value)
    return spec


# --- states and outcomes ---------------------------------------------------------------------------------------------


def test_states_come_in_order(executor: FluxJobExecutor) -> None:
    """Each once, to both callbacks; times are those of Flux and never decrease."""
    seen: list[JobStatus] = []
    job = Job(JobSpec('/bin/true'))
    executor.set_job_status_callback(lambda job, status: seen.append(status))
    executor.submit(job)
    status = finish(job)
    assert [str(status.state) for status in seen] == [*ALL_STATES, 'COMPLETED']
    assert [status.time for status in seen] == sorted(status.time for status in seen)
    assert (status.exit_code, status.message) == (0, None)


def test_the_native_id_is_known_at_once(executor: FluxJobExecutor, instance: FakeFlux) -> None:
    instance.set(held=True)
    job = submit(executor, JobSpec('/bin/true'))
    assert job.status.state is JobState.QUEUED
    assert job.native_id is not None
    assert job.status.metadata == {'native_id': job.native_id}
    assert job.native_id in executor.list()
    instance.set(held=False)
    finish(job)
    assert executor.list() == []


def test_the_job_sees_the_same_id(executor: FluxJobExecutor, tmp_path: Path) -> None:
    job = submit(executor, _sh('echo $FLUX_JOB_ID', stdout_path=tmp_path / 'out'))
    finish(job)
    assert (tmp_path / 'out').read_text().strip() == job.native_id


@pytest.mark.parametrize(
    ('script', 'code', 'reason', 'words'),
    [
        ('exit 3', 3, 'exit_code', 'exit code 3'),
        ('kill -9 $$', 137, 'signal', 'SIGKILL'),
        ('kill -TERM $$', 143, 'signal', 'SIGTERM'),
    ],
)
def test_failures(executor: FluxJobExecutor, script: str, code: int, reason: str, words: str) -> None:
    status = run(executor, _sh(script))
    assert (status.state, status.exit_code, _reason(status)) == (JobState.FAILED, code, reason)
    assert words in (status.message or '')


@pytest.mark.parametrize(
    ('executable', 'code', 'words'),
    [
        ('/no/such program', 127, '/no/such program: No such file'),
        ('/etc/passwd', 126, '/etc/passwd: Permission denied'),
    ],
)
@pytest.mark.parametrize('launcher', ['single', 'flux'])
def test_an_executable_that_cannot_be_run(
    executor: FluxJobExecutor, executable: str, code: int, words: str, launcher: str
) -> None:
    status = run(executor, JobSpec(executable, launcher=launcher))
    assert (status.state, status.exit_code, _reason(status)) == (JobState.FAILED, code, 'exit_code')
    assert words in (status.message or '')


def test_the_walltime_is_over(executor: FluxJobExecutor) -> None:
    status = run(executor, _sh('sleep 60', attributes=JobAttributes(timedelta(seconds=0.2))))
    assert (status.state, status.exit_code, _reason(status)) == (JobState.FAILED, 142, 'timeout')


def test_a_job_that_can_never_run(executor: FluxJobExecutor) -> None:
    """Flux accepts it, and says so afterwards."""
    seen: list[str] = []
    executor.set_job_status_callback(lambda job, status: seen.append(str(status.state)))
    status = run(executor, JobSpec('/bin/true', resources=ResourceSpecV1(node_count=64)))
    assert (status.state, status.exit_code, _reason(status)) == (JobState.FAILED, None, 'submit_rejected')
    assert status.message == 'unsatisfiable request: need 64 node(s) with 1 cores each, only 2 eligible'
    assert seen == ['QUEUED', 'FAILED']


def test_accounting(executor: FluxJobExecutor) -> None:
    metadata = run(executor, JobSpec('/bin/true')).metadata or {}
    assert metadata['native_state'] == 'COMPLETED'
    assert isinstance(metadata['elapsed'], float)


# --- refusals --------------------------------------------------------------------------------------------------------


def test_a_refused_job_can_be_changed_and_submitted_again(executor: FluxJobExecutor) -> None:
    spec = JobSpec('/bin/true', attributes=JobAttributes(queue_name='nosuch'))
    job = Job(spec)
    with pytest.raises(SubmitException, match="'nosuch' is not a valid queue") as raised:
        executor.submit(job)
    assert not raised.value.transient
    assert isinstance(raised.value.__cause__, OSError)
    assert (job.status.state, job.executor, job.native_id) == (JobState.NEW, None, None)
    spec.attributes = JobAttributes()
    executor.submit(job)
    assert finish(job).state is JobState.COMPLETED


@pytest.mark.parametrize(
    'spec',
    [
        JobSpec('/bin/true', resources=ResourceSpecV1(memory=1 << 20)),
        JobSpec('/bin/true', attributes=JobAttributes(reservation_id='r')),
        JobSpec('/bin/true', attributes=JobAttributes(custom_attributes={'flux.nosuch': 1})),
        JobSpec('/bin/true', launcher='flux', pre_launch='/bin/true'),
        JobSpec('/bin/true', stage_in={StageIn('https://example.org/x', 'x')}),
    ],
)
def test_what_cannot_be_done_is_refused_before_submission(executor: FluxJobExecutor, spec: JobSpec) -> None:
    job = Job(spec)
    with pytest.raises(InvalidJobException):
        executor.submit(job)
    assert (job.status.state, job.executor) == (JobState.NEW, None)


def test_an_unknown_launcher(executor: FluxJobExecutor) -> None:
    with pytest.raises(ValueError, match='nosuch'):
        executor.submit(Job(JobSpec('/bin/true', launcher='nosuch')))


def test_a_directory_that_is_not_there(executor: FluxJobExecutor, tmp_path: Path) -> None:
    """Flux would run the job in /tmp, and report success."""
    missing = tmp_path / 'no such'
    status = run(executor, JobSpec('/bin/true', directory=missing))
    assert status.state is JobState.FAILED
    assert f'{missing}: No such file or directory' in (status.message or '')
    with pytest.raises(SubmitException, match='no such'):
        executor.submit(Job(JobSpec('/bin/true', directory=missing, launcher='flux')))


# --- what the job gets -----------------------------------------------------------------------------------------------

ODD = ['', ' ', "it's", '"$HOME"', '`id`', '{{id}}', '{{nosuch}}', '-n', 'a\nb', '\u0192\u00e9', os.fsdecode(b'\xff')]


def test_arguments_arrive_as_they_are(executor: FluxJobExecutor, tmp_path: Path) -> None:
    """Flux would replace {{id}}, and takes nothing but UTF-8."""
    status = run(executor, JobSpec('/usr/bin/printf', ['%s\\0', *ODD], stdout_path=tmp_path / 'out'))
    assert status.state is JobState.COMPLETED
    assert (tmp_path / 'out').read_bytes().split(b'\0')[:-1] == [os.fsencode(word) for word in ODD]


@pytest.mark.parametrize('inherit', [True, False])
def test_environment_values_arrive_as_they_are(executor: FluxJobExecutor, tmp_path: Path, inherit: bool) -> None:
    environment = {f'V{i}': value for i, value in enumerate(ODD)}
    spec = JobSpec('/usr/bin/env', ['-0'], stdout_path=tmp_path / 'out', inherit_environment=inherit)
    spec.environment = {**environment, 'NUMBER': 42, 'PATH': '/bin', 'IFS': ' :', 'BASH_ENV': '/no/such'}
    assert run(executor, spec).state is JobState.COMPLETED
    got = _environment(tmp_path / 'out')
    expected = {**environment, 'NUMBER': '42', 'PATH': '/bin', 'IFS': ' :', 'BASH_ENV': '/no/such'}
    assert {name: got.get(name) for name in expected} == expected
    if not inherit:
        others = {name for name in got if name not in expected and not name.startswith(('FLUX_', 'CUDA_'))}
        assert others == set()


def _environment(path: Path) -> dict[str, str]:
    lines = path.read_bytes().split(b'\0')[:-1]
    return dict(os.fsdecode(line).split('=', 1) for line in lines)


def test_the_environment_is_inherited(
    executor: FluxJobExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what is not UTF-8, but not what describes the job in which this program runs, if it does."""
    for name, value in {'PLAIN': 'a b', 'ODD': os.fsdecode(b'\xff\xfe'), 'FLUX_JOB_SIZE': '9', 'PMI_FD': '7'}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('PSIJ_NODEFILE', '/no/such')
    run(executor, JobSpec('/usr/bin/env', ['-0'], stdout_path=tmp_path / 'out'))
    got = _environment(tmp_path / 'out')
    assert (got['PLAIN'], got['ODD'], got['FLUX_JOB_SIZE']) == ('a b', os.fsdecode(b'\xff\xfe'), '1')
    assert 'PMI_FD' not in got
    assert 'PSIJ_NODEFILE' not in got


@pytest.mark.parametrize('launcher', ['single', 'flux'])
@pytest.mark.parametrize('relative', [True, False])
def test_streams(executor: FluxJobExecutor, tmp_path: Path, launcher: str, relative: bool) -> None:
    (tmp_path / 'in').write_text('hello\n')
    base = Path() if relative else tmp_path
    spec = _sh('cat; echo oops >&2', directory=tmp_path, launcher=launcher)
    spec.stdin_path, spec.stdout_path, spec.stderr_path = base / 'in', base / 'out', base / 'err'
    assert run(executor, spec).state is JobState.COMPLETED
    assert (tmp_path / 'out').read_text() == 'hello\n'
    assert (tmp_path / 'err').read_text() == 'oops\n'


def test_streams_with_odd_names(executor: FluxJobExecutor, tmp_path: Path) -> None:
    """Flux would replace {{id}} in the name of a file."""
    path = tmp_path / "{{id}} it's"
    run(executor, _sh('echo a; echo b >&2', stdout_path=path, stderr_path=path))
    assert path.read_text() == 'a\nb\n'


def test_a_stream_that_cannot_be_opened(executor: FluxJobExecutor, tmp_path: Path) -> None:
    status = run(executor, _sh('true', stdout_path=tmp_path / 'no' / 'such'))
    assert status.state is JobState.FAILED
    assert 'stdout_path' in (status.message or '')


def test_output_that_nobody_wants_is_no_message(executor: FluxJobExecutor) -> None:
    status = run(executor, _sh('echo output; exit 1'))
    assert 'output' not in (status.message or '')


@pytest.mark.parametrize(
    ('launcher', 'lines'), [(None, 1), ('single', 1), ('multiple', 3), ('MULTIPLE', 3), ('flux', 3), ('Flux', 3)]
)
def test_launchers(executor: FluxJobExecutor, tmp_path: Path, launcher: Optional[str], lines: int) -> None:
    spec = _sh('echo x', stdout_path=tmp_path / 'out', launcher=launcher, resources=ResourceSpecV1(process_count=3))
    assert run(executor, spec).state is JobState.COMPLETED
    assert (tmp_path / 'out').read_text() == 'x\n' * lines


def test_processes_that_flux_starts_know_their_ranks(executor: FluxJobExecutor, tmp_path: Path) -> None:
    """They have PMI, too, so that MPI programs work."""
    spec = _sh('echo $FLUX_TASK_RANK $PMI_RANK $PMI_SIZE', stdout_path=tmp_path / 'out', launcher='flux')
    spec.resources = ResourceSpecV1(node_count=2, processes_per_node=2)
    run(executor, spec)
    assert sorted((tmp_path / 'out').read_text().splitlines()) == [f'{i} {i} 4' for i in range(4)]


def test_a_script_has_no_pmi(executor: FluxJobExecutor, tmp_path: Path) -> None:
    """An MPI program that is started once must not wait for processes that do not exist."""
    spec = _sh('echo ${PMI_SIZE-none}', stdout_path=tmp_path / 'out', resources=ResourceSpecV1(node_count=2))
    run(executor, spec)
    assert (tmp_path / 'out').read_text() == 'none\n'


@pytest.mark.parametrize(
    ('resources', 'hosts'),
    [
        (None, None),
        (ResourceSpecV1(process_count=1), [os.uname().nodename]),
        (ResourceSpecV1(process_count=3), [os.uname().nodename] * 3),
        (ResourceSpecV1(node_count=2, processes_per_node=2), ['node01', 'node01', 'node02', 'node02']),
    ],
)
@pytest.mark.parametrize('inherit', [True, False])
def test_the_node_file(
    executor: FluxJobExecutor,
    tmp_path: Path,
    resources: Optional[ResourceSpecV1],
    hosts: Optional[list[str]],
    inherit: bool,
) -> None:
    script = 'if [ -n "${PSIJ_NODEFILE+x}" ]; then cat "$PSIJ_NODEFILE"; else echo none; fi'
    spec = _sh(script, stdout_path=tmp_path / 'out', resources=resources, inherit_environment=inherit)
    spec.environment = {'PATH': os.environ['PATH']}
    assert run(executor, spec).state is JobState.COMPLETED
    assert (tmp_path / 'out').read_text().split() == (hosts or ['none'])


def test_pre_launch_and_post_launch(executor: FluxJobExecutor, tmp_path: Path) -> None:
    (tmp_path / 'pre').write_text('export A=from_pre\n')
    (tmp_path / 'post').write_text(f'echo after > {tmp_path}/post.out\n')
    spec = _sh('echo $A', stdout_path=tmp_path / 'out')
    spec.pre_launch, spec.post_launch = tmp_path / 'pre', tmp_path / 'post'
    assert run(executor, spec).state is JobState.COMPLETED
    assert (tmp_path / 'out').read_text() == 'from_pre\n'
    assert (tmp_path / 'post.out').read_text() == 'after\n'


def test_a_pre_launch_that_fails(executor: FluxJobExecutor, tmp_path: Path) -> None:
    (tmp_path / 'pre').write_text('echo this is why >&2\nexit 7\n')
    status = run(executor, _sh('true', pre_launch=tmp_path / 'pre'))
    assert (status.state, status.exit_code) == (JobState.FAILED, 7)
    assert 'this is why' in (status.message or '')


def test_custom_attributes_reach_flux(executor: FluxJobExecutor) -> None:
    """The stand-in has no dependencies, and refuses one in Flux's words."""
    attributes = JobAttributes(custom_attributes={'flux.dependency': 'foo:bar'})
    with pytest.raises(SubmitException, match='dependency scheme "foo" not supported'):
        executor.submit(Job(JobSpec('/bin/true', attributes=attributes)))


def test_a_job_with_urgency_0_is_held(executor: FluxJobExecutor) -> None:
    job = submit(executor, JobSpec('/bin/true', attributes=JobAttributes(custom_attributes={'flux.urgency': 0})))
    assert finish(submit(executor, JobSpec('/bin/true'))).state is JobState.COMPLETED
    assert job.status.state is JobState.QUEUED
    job.cancel()
    assert finish(job).state is JobState.CANCELED


# --- staging ---------------------------------------------------------------------------------------------------------


def _staged(tmp_path: Path, script: str = 'cat in > out') -> JobSpec:
    (tmp_path / 'job').mkdir()
    (tmp_path / 'source').write_text('data')
    spec = _sh(script, directory=tmp_path / 'job', stage_in={StageIn(tmp_path / 'source', 'in')})
    spec.stage_out = {StageOut('out', tmp_path / 'result')}
    spec.cleanup = {'in'}
    return spec


def test_staging(executor: FluxJobExecutor, tmp_path: Path) -> None:
    """States are reported when they begin: the executable finds the job ACTIVE."""
    seen: list[str] = []
    executor.set_job_status_callback(lambda job, status: seen.append(str(status.state)))
    status = run(executor, _staged(tmp_path))
    assert status.state is JobState.COMPLETED, status
    assert (tmp_path / 'result').read_text() == 'data'
    assert not (tmp_path / 'job' / 'in').exists()
    assert seen == [*ALL_STATES, 'COMPLETED']


def test_active_begins_after_stage_in(executor: FluxJobExecutor, tmp_path: Path) -> None:
    fifo = tmp_path / 'fifo'
    os.mkfifo(fifo)
    job = submit(executor, _staged(tmp_path, f'cat {fifo}; cat in > out'))
    reach(job, JobState.ACTIVE)
    assert (tmp_path / 'job' / 'in').exists()
    fifo.write_text('go on')
    assert finish(job).state is JobState.COMPLETED


def test_a_missing_source(executor: FluxJobExecutor, tmp_path: Path) -> None:
    """The executable does not run, and the job was never ACTIVE."""
    seen: list[str] = []
    executor.set_job_status_callback(lambda job, status: seen.append(str(status.state)))
    spec = _staged(tmp_path, 'touch ran')
    (tmp_path / 'source').unlink()
    status = run(executor, spec)
    assert (status.state, status.exit_code) == (JobState.FAILED, 121)
    assert f'Missing source file: {tmp_path}/source' in (status.message or '')
    assert not (tmp_path / 'job' / 'ran').exists()
    assert seen == ['QUEUED', 'STAGE_IN', 'FAILED']


@pytest.mark.parametrize('by', ['cancel', 'timeout'])
def test_files_are_staged_out_when_the_job_is_ended(executor: FluxJobExecutor, tmp_path: Path, by: str) -> None:
    spec = _staged(tmp_path, 'echo partial > out; exec sleep 60')
    spec.stage_out = {StageOut('out', tmp_path / 'result', StageOutFlags.ON_CANCEL)}
    if by == 'timeout':
        spec.attributes = JobAttributes(timedelta(seconds=0.5))
    job = submit(executor, spec)
    reach(job, JobState.ACTIVE)
    if by == 'cancel':
        _wait_for(tmp_path / 'job' / 'out')
        job.cancel()
    assert finish(job).state is (JobState.CANCELED if by == 'cancel' else JobState.FAILED)
    assert (tmp_path / 'result').read_text() == 'partial\n'


def _wait_for(path: Path) -> None:
    import threading

    pause = threading.Event()
    while not path.exists() or not path.stat().st_size:
        pause.wait(0.01)


# --- cancel ----------------------------------------------------------------------------------------------------------


def test_cancel_a_job_that_waits(executor: FluxJobExecutor, instance: FakeFlux) -> None:
    instance.set(held=True)
    job = submit(executor, JobSpec('/bin/true'))
    job.cancel()
    status = finish(job)
    assert (status.state, status.exit_code, _reason(status)) == (JobState.CANCELED, None, 'cancelled_by_user')


@pytest.mark.parametrize('launcher', ['single', 'multiple', 'flux'])
def test_cancel_a_job_that_runs(executor: FluxJobExecutor, launcher: str) -> None:
    job = submit(executor, _sh('sleep 60', launcher=launcher, resources=ResourceSpecV1(process_count=2)))
    reach(job, JobState.ACTIVE)
    job.cancel()
    job.cancel()
    status = finish(job)
    assert (status.state, _reason(status)) == (JobState.CANCELED, 'cancelled_by_user')
    job.cancel()  # nothing happens


def test_cancel_a_job_that_ignores_sigterm(executor: FluxJobExecutor, instance: FakeFlux, tmp_path: Path) -> None:
    instance.set(kill_timeout=0.1)
    job = submit(executor, _sh(f'trap "" TERM; echo x > {tmp_path}/ready; while :; do sleep 60; done'))
    _wait_for(tmp_path / 'ready')
    job.cancel()
    assert finish(job).state is JobState.CANCELED


def test_a_job_that_ended_before_is_what_it_was(executor: FluxJobExecutor) -> None:
    job = submit(executor, JobSpec('/bin/true'))
    finish(job)
    executor.cancel(job)
    assert job.status.state is JobState.COMPLETED


def test_cancelled_by_somebody_else(executor: FluxJobExecutor, instance: FakeFlux) -> None:
    job = submit(executor, _sh('sleep 60'))
    instance.raise_exception(int(bindings().job.JobID(job.native_id)), 'cancel', 'maintenance', userid=12345)
    status = finish(job)
    assert (status.state, status.message, _reason(status)) == (
        JobState.CANCELED,
        'maintenance',
        'cancelled_by_system',
    )


def test_cancel_a_job_of_nobody(executor: FluxJobExecutor) -> None:
    with pytest.raises(SubmitException, match='not submitted'):
        executor.cancel(Job(JobSpec('/bin/true')))


# --- attach ----------------------------------------------------------------------------------------------------------


def _another(executor: FluxJobExecutor) -> FluxJobExecutor:
    return type(executor)(url=executor.url)


@pytest.mark.parametrize('form', ['f58', 'unicode', 'decimal', 'hexadecimal', 'blanks'])
def test_attach_to_a_job_that_has_ended(executor: FluxJobExecutor, form: str) -> None:
    """In any form that Flux knows, from another executor; the exit code is known."""
    first = submit(executor, _sh('exit 3'))
    finish(first)
    number = int(bindings().job.JobID(first.native_id))
    forms = {
        'f58': first.native_id,
        'unicode': str(bindings().job.JobID(number)),
        'decimal': str(number),
        'hexadecimal': hex(number),
        'blanks': f' {first.native_id}\n',
    }
    job = Job()
    _another(executor).attach(job, str(forms[form]))
    status = finish(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 3)
    assert job.native_id == first.native_id == native_id(number)


def test_attach_to_a_job_that_runs(executor: FluxJobExecutor) -> None:
    first = submit(executor, _sh('sleep 60'))
    seen: list[str] = []
    job = Job()
    job.set_job_status_callback(lambda job, status: seen.append(str(status.state)))
    other = _another(executor)
    other.attach(job, str(first.native_id))
    reach(job, JobState.ACTIVE)
    job.cancel()
    assert (finish(job).state, finish(first).state) == (JobState.CANCELED, JobState.CANCELED)
    assert seen == ['QUEUED', 'STAGE_IN', 'ACTIVE', 'CANCELED']


def test_the_same_message_after_attach(executor: FluxJobExecutor) -> None:
    first = submit(executor, JobSpec('/no/such'))
    finish(first)
    job = Job()
    _another(executor).attach(job, str(first.native_id))
    assert finish(job).message == first.status.message


def test_attach_to_a_job_that_flux_does_not_know(executor: FluxJobExecutor) -> None:
    job = Job()
    executor.attach(job, 'f2B2k5ZCK')
    status = finish(job)
    assert (status.state, _reason(status)) == (JobState.FAILED, 'lost')
    assert status.message == 'Flux knows no such job (f2B2k5ZCK).'


@pytest.mark.parametrize('text', ['', 'not-an-id', '12x', '-1'])
def test_attach_to_something_that_is_no_id(executor: FluxJobExecutor, text: str) -> None:
    job = Job()
    with pytest.raises(InvalidJobException, match='Invalid native ID'):
        executor.attach(job, text)
    assert (job.status.state, job.executor) == (JobState.NEW, None)


def test_attach_a_job_that_was_submitted(executor: FluxJobExecutor) -> None:
    job = submit(executor, JobSpec('/bin/true'))
    finish(job)
    with pytest.raises(InvalidJobException, match='NEW'):
        executor.attach(job, str(job.native_id))


# --- files -----------------------------------------------------------------------------------------------------------


def test_no_files_stay(executor: FluxJobExecutor, instance: FakeFlux, tmp_path: Path) -> None:
    """But the launcher scripts, which are shared; the script of the job is private while it is there."""
    spec = _sh(
        'stat -c %a "$FLUX_JOB_TMPDIR" "$FLUX_JOB_TMPDIR"/*',
        stdout_path=tmp_path / 'out',
        resources=ResourceSpecV1(process_count=2),
    )
    run(executor, spec)
    modes = (tmp_path / 'out').read_text().split()
    assert modes[:1] == ['700']
    assert not list(instance.directory.glob('jobtmp-*'))
    assert not [path for path in (tmp_path / 'work').rglob('*') if path.is_file() and path.suffix != '.sh']


def test_the_launcher_log(executor: FluxJobExecutor, instance: FakeFlux, tmp_path: Path) -> None:
    log = tmp_path / 'log'
    config = JobExecutorConfig(launcher_log_file=log, work_directory=tmp_path / 'work')
    run(type(executor)(url=instance.uri, config=config), JobSpec('/bin/true'))
    assert 'Command done: 0' in log.read_text()


def test_signals_reach_the_process_itself(executor: FluxJobExecutor, tmp_path: Path) -> None:
    """With the launcher `single` there is no shell in between any more when it runs."""
    job = submit(executor, _sh(f'echo $$ > {tmp_path}/pid; exec sleep 60'))
    _wait_for(tmp_path / 'pid')
    os.kill(int((tmp_path / 'pid').read_text()), signal.SIGUSR1)
    assert finish(job).exit_code == 128 + signal.SIGUSR1


# --- documentation ---------------------------------------------------------------------------------------------------


def test_the_example_of_the_documentation(
    instance: FakeFlux, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[3] / 'docs' / 'executors' / 'flux.rst').read_text(encoding='utf-8')
    _, _, rest = page.partition('.. code-block:: python\n')
    lines = itertools.takewhile(lambda line: not line or line.startswith(' '), rest.splitlines())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('FLUX_URI', instance.uri)
    exec(textwrap.dedent('\n'.join(lines)), {})
    assert 'COMPLETED' in capsys.readouterr().out
    assert sorted((tmp_path / 'ranks.txt').read_text().splitlines()) == [f'rank {i} of 4' for i in range(4)]
