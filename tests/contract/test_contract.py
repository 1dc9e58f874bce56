"""What a user may expect of any executor with any launcher."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Callable, List

import pytest

from psij import (
    InvalidJobException,
    Job,
    JobAttributes,
    JobExecutor,
    JobSpec,
    JobState,
    JobStatus,
    ResourceSpecV1,
    StageIn,
    StageOut,
    StageOutFlags,
    SubmitException,
)

from .conftest import Site

PASSED = ['QUEUED', 'STAGE_IN', 'ACTIVE', 'STAGE_OUT', 'CLEANUP']
HOSTILE = [
    '',
    ' ',
    'a b',
    '"',
    "'",
    '$HOME',
    '`id`',
    '$(id)',
    '\\',
    '*',
    '~',
    '-n',
    '--',
    '#',
    '{{job.id}}',
    'é',
    '\n',
    ';',
    ':',
]


# --- states and exit codes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(('script', 'end'), [('exit 0', 'COMPLETED'), ('exit 3', 'FAILED')])
def test_every_state_once_in_order(site: Site, script: str, end: str) -> None:
    of_job: List[JobStatus] = []
    of_executor: List[JobStatus] = []
    site.executor.set_job_status_callback(lambda job, status: of_executor.append(status))
    job = Job(site.shell(script))
    job.set_job_status_callback(lambda job, status: of_job.append(status))
    site.executor.submit(job)
    assert job.native_id
    site.final(job)
    assert [status.state.name for status in of_job] == [*PASSED, end]
    assert of_executor == of_job
    times = [status.time for status in of_job]
    assert times == sorted(times)
    assert of_job[0].metadata is not None
    assert of_job[0].metadata['native_id'] == job.native_id


@pytest.mark.parametrize('code', [0, 1, 3, 42, 255])
def test_exit_code(site: Site, code: int) -> None:
    status = site.run(site.shell(f'exit {code}'))
    assert status.exit_code == code
    assert status.state is (JobState.FAILED if code else JobState.COMPLETED)
    if code:
        assert status.metadata is not None
        assert status.metadata['reason'] == 'exit_code'
        assert status.message


def test_signal(site: Site) -> None:
    status = site.run(site.shell('kill -9 $$'))
    assert status.state is JobState.FAILED
    assert status.exit_code == 137
    assert status.metadata is not None
    assert status.metadata['reason'] in ('signal', 'exit_code')


def test_missing_executable_is_named(site: Site) -> None:
    status = site.run(site.spec('/no/such/program'))
    assert status.state is JobState.FAILED
    assert status.exit_code
    if site.launcher in ('single', 'multiple'):
        assert status.exit_code == 127
    assert status.message is not None
    assert '/no/such/program' in status.message


def test_file_that_is_not_executable(site: Site) -> None:
    plain = site.directory / 'plain'
    plain.write_text('nothing\n')
    status = site.run(site.spec(str(plain)))
    assert status.state is JobState.FAILED
    if site.launcher in ('single', 'multiple'):
        assert status.exit_code == 126
        assert status.message is not None
        assert str(plain) in status.message


# --- what the job gets --------------------------------------------------------------------------------------------


def echo(*arguments: str) -> List[str]:
    """Return the arguments of Python for a program that prints what it was given."""
    return ['-c', 'import os,sys; print(ascii([sys.argv[1:], os.environ.get("VALUE")]))', *arguments]


def test_arguments_and_environment_arrive_unchanged(site: Site) -> None:
    for value in ('', 'x=y', 'a b', '$HOME "x" \'y\'', 'two\nlines', 'é', '{{job.id}} `id` $(id) \\'):
        spec = site.spec(sys.executable, *echo(*HOSTILE), environment={'VALUE': value})
        assert eval(site.output(spec)) == [HOSTILE, value]


def test_paths_are_accepted_as_arguments(site: Site) -> None:
    spec = site.spec('/bin/echo')
    spec.arguments = [Path('/a/b')]  # type: ignore[list-item]
    assert site.output(spec) == '/a/b\n'


def test_environment_is_inherited(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('INHERITED', 'from outside')
    assert site.output(site.shell('echo "$INHERITED"')) == 'from outside\n'
    spec = site.shell('echo "${INHERITED-unset}" "$OWN"', inherit_environment=False, environment={'OWN': 1})
    assert site.output(spec) == 'unset 1\n'


def test_directory(site: Site) -> None:
    directory = site.directory / 'a "job" directory'
    directory.mkdir()
    spec = site.shell('pwd; echo error >&2', directory=directory, stdout_path='out', stderr_path='err')
    assert site.run(spec).state is JobState.COMPLETED
    assert (directory / 'out').read_text() == f'{directory}\n'
    assert (directory / 'err').read_text() == 'error\n'


def test_missing_directory(site: Site) -> None:
    marker = site.directory / 'ran'
    job = Job(site.spec('/bin/touch', str(marker), directory=site.directory / 'missing'))
    if site.backend.executor == 'local':
        with pytest.raises(SubmitException, match='missing'):
            site.executor.submit(job)
    else:  # it may exist where the job will run
        site.executor.submit(job)
        status = site.final(job)
        assert status.state is JobState.FAILED
        assert 'missing' in str(status.message)
    assert not marker.exists()


def test_standard_streams(site: Site) -> None:
    (site.directory / 'in put').write_text('read me\n')
    both = site.directory / 'both'
    spec = site.shell('cat; echo error >&2; echo done', stdin_path=site.directory / 'in put', stdout_path=both)
    spec.stderr_path = both
    assert site.run(spec).state is JobState.COMPLETED
    text = both.read_text()
    if site.launcher in ('mpirun', 'srun'):  # they forward the two streams separately
        assert sorted(text.splitlines()) == ['done', 'error', 'read me']
    else:
        assert text == 'read me\nerror\ndone\n'


def test_output_is_replaced(site: Site) -> None:
    output = site.directory / 'output'
    output.write_text('x' * 1000)
    assert site.output(site.shell('echo new')) == 'new\n'


def test_much_output_blocks_nothing(site: Site) -> None:
    output = site.output(site.shell('head -c 3000000 /dev/zero | tr "\\0" x'))
    assert len(output) == 3_000_000


@pytest.mark.parametrize('stream', ['stdin_path', 'stdout_path', 'stderr_path'])
def test_stream_that_cannot_be_opened(site: Site, stream: str) -> None:
    marker = site.directory / 'ran'
    spec = site.spec('/bin/touch', str(marker), **{stream: site.directory / 'no' / 'such' / 'file'})
    status = site.run(spec)
    assert status.state is JobState.FAILED
    assert status.message is not None
    assert 'no/such/file' in status.message
    assert not marker.exists()


def test_resources(site: Site) -> None:
    if site.launcher == 'single':
        assert site.output(site.shell('cat "$PSIJ_NODEFILE" | wc -l', resources=ResourceSpecV1(1))).strip() == '1'
        return
    spec = site.shell('echo run', resources=ResourceSpecV1(process_count=3))
    assert site.output(spec) == 'run\n' * 3
    spec = site.shell('wc -l < "$PSIJ_NODEFILE"', resources=ResourceSpecV1(process_count=3))
    assert set(site.output(spec).split()) == {'3'}


def test_no_nodefile_unless_asked_for(site: Site) -> None:
    assert site.output(site.shell('echo "${PSIJ_NODEFILE-unset}"')) == 'unset\n'


def test_first_failing_process_decides(site: Site) -> None:
    if site.launcher != 'multiple':
        pytest.skip('about several plain processes')
    script = '[ "$_PSI_J_PROCESS_INDEX_" = 2 ] && exit 7; exit 0'
    assert site.run(site.shell(script, resources=ResourceSpecV1(process_count=3))).exit_code == 7


# --- before and after ---------------------------------------------------------------------------------------------


def script(site: Site, name: str, text: str) -> Path:
    path = site.directory / name
    path.write_text(text)
    return path


def test_pre_launch(site: Site) -> None:
    count = site.directory / 'count'
    setup = script(site, 'set up.sh', f'export A="1 2"\nf() {{ echo "f: $A"; }}\nexport -f f\necho x >> "{count}"\n')
    spec = site.spec('/bin/bash', '-c', 'f', pre_launch=setup)
    assert site.output(spec) == 'f: 1 2\n'
    assert count.read_text() == 'x\n'


def test_failing_pre_launch(site: Site) -> None:
    marker = site.directory / 'ran'
    setup = script(site, 'setup.sh', 'echo no such module >&2\nexit 9\n')
    status = site.run(site.spec('/bin/touch', str(marker), pre_launch=setup))
    assert (status.state, status.exit_code) == (JobState.FAILED, 9)
    assert status.message is not None
    assert 'no such module' in status.message
    assert not marker.exists()


def test_post_launch(site: Site) -> None:
    marker = site.directory / 'done'
    finish = script(site, 'finish.sh', f'touch "{marker}"\n')
    status = site.run(site.shell('exit 5', post_launch=finish))
    assert status.exit_code == 5
    assert marker.exists()
    status = site.run(site.shell('exit 0', post_launch=script(site, 'fail.sh', 'exit 8\n')))
    assert (status.state, status.exit_code) == (JobState.FAILED, 8)


def test_staging(site: Site) -> None:
    directory = site.directory / 'job'
    directory.mkdir()
    (site.directory / 'data').write_text('payload')
    seen: List[str] = []
    spec = site.shell('cat input > result; echo more >> result', directory=directory)
    spec.stage_in = {StageIn(site.directory / 'data', 'input')}
    spec.stage_out = {
        StageOut('result', site.directory / 'final'),
        StageOut('error.log', site.directory / 'error.log', StageOutFlags.ON_ERROR),
        StageOut('absent', site.directory / 'absent', StageOutFlags.IF_PRESENT),
    }
    spec.cleanup = {'input', directory / 'result'}
    job = Job(spec)
    job.set_job_status_callback(lambda job, status: seen.append(status.state.name))
    site.executor.submit(job)
    status = site.final(job)
    assert status.state is JobState.COMPLETED, status
    assert seen == [*PASSED, 'COMPLETED']
    assert (site.directory / 'final').read_text() == 'payloadmore\n'
    assert sorted(os.listdir(directory)) == []
    assert not (site.directory / 'error.log').exists()


def test_missing_stage_in(site: Site) -> None:
    marker = site.directory / 'ran'
    seen: List[str] = []
    spec = site.spec('/bin/touch', str(marker), stage_in={StageIn(site.directory / 'missing', 'x')})
    spec.directory = site.directory
    job = Job(spec)
    job.set_job_status_callback(lambda job, status: seen.append(status.state.name))
    site.executor.submit(job)
    status = site.final(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 121)
    assert status.message is not None
    assert 'missing' in status.message
    assert not marker.exists()
    assert 'ACTIVE' not in seen


# --- cancel -------------------------------------------------------------------------------------------------------


def test_cancel_running(site: Site) -> None:
    job = site.submit(site.shell('sleep 300'))
    site.reach(job, JobState.ACTIVE)
    job.cancel()
    job.cancel()
    status = site.final(job)
    assert status.state is JobState.CANCELED
    assert status.metadata is not None
    assert status.metadata['reason'] == 'cancelled_by_user'
    job.cancel()
    assert job.status is status


def test_cancel_at_once(site: Site) -> None:
    job = site.submit(site.shell('sleep 300'))
    job.cancel()
    assert site.final(job).state is JobState.CANCELED


def test_cancel_after_the_end_changes_nothing(site: Site) -> None:
    job = site.submit(site.shell('exit 4'))
    status = site.final(job)
    job.cancel()
    site.executor.cancel(job)
    assert job.status is status


def test_cancel_before_submission(site: Site) -> None:
    with pytest.raises(SubmitException, match='not bound to an executor'):
        Job(site.shell('true')).cancel()


# --- wait ---------------------------------------------------------------------------------------------------------


def test_wait(site: Site) -> None:
    job = site.submit(site.shell('sleep 300'))
    assert job.wait(timedelta(0)) is None
    assert job.wait(timedelta(seconds=0.05)) is None
    status = site.reach(job, JobState.QUEUED)
    assert not status.final
    job.cancel()
    site.final(job)
    assert job.wait(timedelta(0)) is job.status


# --- attach and list ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize('code', [0, 6])
def test_attach_from_another_executor(site: Site, code: int) -> None:
    gate = site.directory / 'gate'
    os.mkfifo(gate)
    job = site.submit(site.shell(f'read line < "{gate}"; exit {code}'))
    site.reach(job, JobState.ACTIVE)
    again = [Job(), Job()]
    other = site.new_executor()
    for attached in again:
        other.attach(attached, str(job.native_id))
        assert attached.native_id == job.native_id
        site.reach(attached, JobState.ACTIVE)
    gate.write_text('go\n')
    for each in (job, *again):
        status = site.final(each)
        assert (status.state.name, status.exit_code) == ('FAILED' if code else 'COMPLETED', code), status


ATTACH = """
import sys
from datetime import timedelta
from pathlib import Path
sys.path[:0] = sys.argv[4:]
from contract.backends import BACKENDS
from psij import Job, JobExecutor, JobState
name, work, native_id = sys.argv[1:4]
backend = BACKENDS[name]
executor = JobExecutor.get_instance(backend.executor, config=backend.config(Path(work)))
job = Job()
executor.attach(job, native_id)
job.wait(backend.patience, JobState.ACTIVE)
print('attached', flush=True)
status = job.wait(backend.patience)
print(status.state, status.exit_code, (status.metadata or {}).get('assumed'))
"""


def test_attach_from_another_process(site: Site) -> None:
    if not site.backend.shares_jobs:
        pytest.skip('jobs are known only to the program that has submitted them')
    gate = site.directory / 'gate'
    os.mkfifo(gate)
    job = site.submit(site.shell(f'read line < "{gate}"; exit 6'))
    site.reach(job, JobState.ACTIVE)
    arguments = [sys.executable, '-c', ATTACH, site.name, str(site.work), str(job.native_id)]
    with subprocess.Popen(
        [*arguments, str(Path(__file__).parent.parent)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == 'attached\n'
        gate.write_text('go\n')
        last = process.stdout.read().strip()
    site.final(job)
    # where the system cannot tell the exit code of a local process to others, the library says so
    assert last in ('FAILED 6 None', 'COMPLETED None True')
    if site.backend.executor != 'local':
        assert last == 'FAILED 6 None'


def test_attach_to_an_unknown_job(site: Site) -> None:
    if site.launcher != 'single':
        pytest.skip('the launcher takes no part, and it takes some time')
    job = Job()
    site.executor.attach(job, '4194303')
    status = site.final(job)
    if site.backend.native_lookup:
        assert status.state is JobState.FAILED
        assert status.message
    else:
        assert status.metadata is not None
        assert status.metadata['assumed'] is True


def test_attach_needs_a_new_job(site: Site) -> None:
    job = site.submit(site.shell('true'))
    with pytest.raises(InvalidJobException):
        site.executor.attach(job, '1')
    site.final(job)


def test_list(site: Site) -> None:
    job = site.submit(site.shell('sleep 300'))
    assert job.native_id in site.executor.list()
    job.cancel()
    site.final(job)


# --- several jobs, several threads --------------------------------------------------------------------------------


def test_one_specification_for_several_jobs(site: Site) -> None:
    spec = site.shell('true')
    jobs = [site.submit(spec) for _ in range(3)]
    assert {site.final(job).state for job in jobs} == {JobState.COMPLETED}


def test_many_jobs_at_once(site: Site) -> None:
    jobs = [site.submit(site.shell(f'exit {number % 3}')) for number in range(20)]
    assert [site.final(job).exit_code for job in jobs] == [number % 3 for number in range(20)]
    assert len({job.native_id for job in jobs}) == 20


def test_submission_from_several_threads(site: Site) -> None:
    jobs: List[Job] = []

    def work() -> None:
        for _ in range(3):
            jobs.append(site.submit(site.shell('true')))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ends = [site.final(job) for job in jobs]
    assert [end.state for end in ends] == [JobState.COMPLETED] * 12, ends


def test_callbacks_may_do_anything(site: Site) -> None:
    second = Job(site.shell('exit 2'))
    threads = set()

    def follow(job: Job, status: JobStatus) -> None:
        threads.add(threading.current_thread().name)
        if status.state is JobState.COMPLETED:
            site.executor.submit(second)
            job.cancel()
            assert job.wait() is status
            raise RuntimeError('callbacks may fail')

    first = Job(site.shell('true'))
    first.set_job_status_callback(follow)
    site.executor.submit(first)
    site.final(first)
    assert site.final(second).exit_code == 2
    assert threads == {'psij-callbacks'}


# --- bad input ----------------------------------------------------------------------------------------------------


def test_job_can_be_submitted_once(site: Site) -> None:
    job = site.submit(site.shell('true'))
    with pytest.raises(InvalidJobException):
        site.executor.submit(job)
    site.final(job)
    with pytest.raises(InvalidJobException, match='NEW state'):
        site.executor.submit(job)


def spoil(name: str) -> Callable[[JobSpec], None]:
    def set_field(field: str, value: object) -> Callable[[JobSpec], None]:
        return lambda spec: setattr(spec, field, value)

    def set_attribute(field: str, value: object) -> Callable[[JobSpec], None]:
        return lambda spec: setattr(spec.attributes, field, value)

    return {
        'executable': set_field('executable', None),
        'arguments': set_field('arguments', ['a', None]),
        'NUL': set_field('arguments', ['a\0b']),
        'environment': set_field('environment', {'not a name': 'x'}),
        'resources': set_field('resources', 'many'),
        'process_count': set_field('resources', broken_resources()),
        'duration': set_attribute('duration', 'a while'),
        'launcher': set_field('launcher', 5),
        'stage_in': set_field('stage_in', {StageIn('https://example.org/x', 'x')}),
        'queue_name': set_attribute('queue_name', ['a']),
    }[name]


def broken_resources() -> ResourceSpecV1:
    resources = ResourceSpecV1(process_count=4)
    resources.node_count = 3
    return resources


@pytest.mark.parametrize(
    'field',
    [
        *('executable', 'arguments', 'NUL', 'environment', 'resources', 'process_count', 'duration', 'launcher'),
        *('stage_in', 'queue_name'),
    ],
)
def test_bad_specification_is_refused_and_can_be_mended(site: Site, field: str) -> None:
    job = Job(site.shell('true'))
    assert job.spec is not None
    spoil(field)(job.spec)
    with pytest.raises((InvalidJobException, ValueError)):
        site.executor.submit(job)
    assert (job.status.state, job.executor, job.native_id) == (JobState.NEW, None, None)
    assert site.left_files() == []
    job.spec = site.shell('true')
    site.executor.submit(job)
    assert site.final(job).state is JobState.COMPLETED


@pytest.mark.parametrize('environment', [{1: 'x'}, {'A': ['x']}])
def test_wrong_types_in_the_environment(site: Site, environment: object) -> None:
    spec = site.shell('true')
    spec.environment = environment  # type: ignore[assignment]
    with pytest.raises(TypeError) as info:
        site.executor.submit(Job(spec))
    assert isinstance(info.value, InvalidJobException)


def test_unknown_launcher(site: Site) -> None:
    job = Job(site.shell('true', launcher='no-such-launcher'))
    with pytest.raises(ValueError, match='Available launchers'):
        site.executor.submit(job)
    assert job.status.state is JobState.NEW


def test_near_types_are_converted(site: Site) -> None:
    spec = site.shell('true')
    assert spec.attributes is not None
    spec.attributes.duration = 30  # type: ignore[assignment]
    assert site.run(spec).state is JobState.COMPLETED
    assert spec.attributes.duration == timedelta(minutes=30)


# --- the executor itself ------------------------------------------------------------------------------------------


def test_name_and_version(site: Site) -> None:
    assert site.executor.name == site.backend.executor
    assert str(site.executor) == f'JobExecutor[{site.backend.executor}, {site.executor.version}]'
    assert type(site.executor) is type(JobExecutor.get_instance(site.backend.executor.upper()))


def test_job_name_and_attributes_do_no_harm(site: Site) -> None:
    spec = site.shell('true', name='my "first" job')
    spec.attributes = JobAttributes(
        timedelta(minutes=5, seconds=0.5), custom_attributes={'other.thing': object(), 'x': 1}
    )
    assert site.run(spec).state is JobState.COMPLETED


def test_nothing_is_left(site: Site) -> None:
    assert site.run(site.shell('true', resources=ResourceSpecV1(1))).state is JobState.COMPLETED
    assert site.run(site.shell('exit 3')).state is JobState.FAILED
    job = site.submit(site.shell('sleep 300'))
    site.reach(job, JobState.ACTIVE)
    job.cancel()
    site.final(job)
    assert site.left_files() == []
