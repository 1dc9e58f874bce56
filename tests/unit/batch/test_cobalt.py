"""Cobalt: parsers against recordings of the real one, directives by its own rules, scripts as golden files."""

from __future__ import annotations

import os
import re
import shlex
import stat
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Dict, List

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from recordings import HERE as RECORDINGS
from recordings import Step, steps

from psij import InvalidJobException, Job, JobAttributes, JobSpec, JobState, ResourceSpecV1, SubmitException
from psij._runtime.command import CommandResult
from psij._runtime.outcome import ExitRecord, final_status
from psij.executors.batch import cobalt
from psij.executors.batch.batch_scheduler_executor import UNKNOWN_ERROR
from psij.executors.batch.cobalt import CobaltExecutorConfig, CobaltJobExecutor, parse_log, parse_qstat, parse_qsub

from . import scripts
from .scripts import TEXT, hostile

GOLDEN = Path(__file__).parent.parent.parent / 'golden' / 'cobalt'


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CobaltJobExecutor:
    for name in list(os.environ):
        if name not in ('PATH', 'HOME', 'TMPDIR'):
            monkeypatch.delenv(name)
    return CobaltJobExecutor(config=CobaltExecutorConfig(work_directory=tmp_path / 'work'))


def words_of(script: str) -> List[str]:
    """Return the words of the directives in the way of qsub (recording ``directives``)."""
    first, *lines = script.split('\n')
    assert first.startswith('#!')
    words: List[str] = []
    for line in lines:
        if not line.startswith('#COBALT '):
            break
        words += line[len('#COBALT ') :].split()
    return words


def options(executor: CobaltJobExecutor, spec: JobSpec) -> List[str]:
    """Return what qsub sees: the directives, and then the words of its command line, which have precedence."""
    job = Job(spec)
    executor.work_directory.mkdir(parents=True, exist_ok=True)
    path = executor.work_directory / 'script'
    path.write_text(executor.render_submit_script(job), errors='surrogateescape')
    command, *arguments, last = executor.get_submit_command(job, path)
    assert (command, last) == ('qsub', str(path))
    return [*words_of(path.read_text(errors='surrogateescape')), *arguments]


def value_of(words: List[str], option: str) -> str:
    *_, last = [word for word in words if word.startswith(f'--{option}=')]
    return last.partition('=')[2]


# --- qsub ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('step', [s for s in steps('cobalt', 'qsub') if s.exit_code == 0], ids=str)
def test_job_id_of_each_recorded_submission(step: Step) -> None:
    """A new system begins with 1: the number of digits says nothing."""
    assert parse_qsub(step.stdout) == step.stdout.strip()


def test_job_id_among_the_remarks_of_a_site() -> None:
    assert parse_qsub('7 charged to project 4711\n') == '7'
    with pytest.raises(ValueError, match='no job ID'):
        parse_qsub('Welcome to v2 of the machine\n')


@pytest.mark.parametrize('step', [s for s in steps('cobalt', 'qsub') if s.exit_code != 0], ids=str)
def test_rejections_and_outages(executor: CobaltJobExecutor, step: Step) -> None:
    """A rejection may well begin with `component error`, but is not worth another attempt."""
    answer = CommandResult(('qsub',), step.exit_code, step.stdout, step.stderr)
    assert executor._is_transient(answer) is step.scenario.startswith('component_down')
    assert not executor._may_have_submitted(answer)


def test_a_time_out_leaves_open_whether_there_is_a_job(executor: CobaltJobExecutor) -> None:
    answer = CommandResult(('qsub',), None, '', '', 'no answer', timed_out=True)
    assert executor._may_have_submitted(answer)
    listing = 'JobID  Command      \n=====================\n 7     /home/a/b.job  \n12     /home/a/c.job  \n'
    assert executor._parse_lookup_output(Job(), Path('/home/a/c.job'), listing) == '12'
    assert executor._parse_lookup_output(Job(), Path('/home/a/d.job'), listing) is None


def test_script_is_made_executable(executor: CobaltJobExecutor, tmp_path: Path) -> None:
    """Cobalt runs the file itself, and refuses one that is not executable; nobody else may read it."""
    path = tmp_path / 'script'
    path.touch(0o600)
    executor.get_submit_command(Job(JobSpec('/bin/true')), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_work_directory_with_a_blank_is_refused(executor: CobaltJobExecutor) -> None:
    """Cobalt deletes blanks from the path, so it would run another file, or none."""
    with pytest.raises(SubmitException, match='work directory without blanks'):
        executor.get_submit_command(Job(JobSpec('/bin/true')), Path('/home/a b/1.job'))


# --- qstat and qdel -----------------------------------------------------------------------------------------------

RECORDED_TABLES = [
    step
    for step in steps('cobalt', 'qstat')
    if step.exit_code == 0 and re.match(r'JobID +State *$', step.stdout, re.MULTILINE | re.IGNORECASE)
]


@pytest.mark.parametrize('step', RECORDED_TABLES, ids=str)
def test_each_recorded_table(step: Step) -> None:
    expected = dict(re.findall(r'^ *(\d+) +(\w+) *$', step.stdout, re.MULTILINE))
    assert expected
    statuses = parse_qstat(step.stdout)
    assert {key: (status.metadata or {})['native_state'] for key, status in statuses.items()} == expected
    assert all(status.state is cobalt._STATES[expected[key]] for key, status in statuses.items())


def recorded_states() -> List[str]:
    text = ''.join(path.read_text() for path in (RECORDINGS / 'cobalt').glob('*.json'))
    return sorted({*re.findall(r' State +: (\w+)', text), *re.findall(r'\d,\s+"(\w+)"\s+\]', text)})


@pytest.mark.parametrize('state', recorded_states())
def test_each_recorded_state_is_known(state: str) -> None:
    assert state in cobalt._STATES


def test_no_state_is_final() -> None:
    """A job that is being killed may live for minutes, and how one ended is known when it is gone."""
    assert not any(state.final for state in cobalt._STATES.values())
    assert parse_qstat('JobID  State\n===\n1  killing\n')['1'].state is JobState.ACTIVE
    assert 'never run' in str(parse_qstat('JobID  State\n===\n1  dep_fail\n')['1'].message)


def test_padded_ids_and_odd_lines() -> None:
    statuses = parse_qstat('Motto of the day\nJobID  State\n===\n 987   running  \n1023   novel  \nJobs: 2 in all\n')
    assert list(statuses) == ['987', '1023']
    assert statuses['1023'].state is JobState.QUEUED  # an unknown state is never ahead of what is known


def test_empty_table_is_an_answer_and_nothing_is_not() -> None:
    (step,) = [s for s in steps('cobalt', 'qstat') if s.argv == ['qstat', '--header', 'JobId'] and s.exit_code == 0]
    assert parse_qstat(step.stdout) == {}
    for rubbish in ('', '<html>502</html>'):
        with pytest.raises(ValueError, match='something else'):
            parse_qstat(rubbish)


@pytest.mark.parametrize('step', [s for s in steps('cobalt', 'qstat') if s.exit_code], ids=str)
def test_failures_of_qstat(executor: CobaltJobExecutor, step: Step) -> None:
    """Without a word it means that no such job exists; with one, that there is no answer."""
    out = CommandResult(('qstat',), step.exit_code, step.stdout, step.stderr).output
    if step.stderr:
        with pytest.raises(RuntimeError, match='exited with'):
            executor.parse_status_output(step.exit_code, out)
    else:
        assert executor.parse_status_output(step.exit_code, out) == {}
        assert executor.parse_status_output(step.exit_code, UNKNOWN_ERROR) == {}


def test_question_does_not_grow_and_names_its_columns(
    executor: CobaltJobExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = executor.get_status_command([str(number) for number in range(50_000)])
    assert command == ['qstat', '-u', executor._current_user(), '--header', 'JobID:State']
    monkeypatch.setenv('QSTAT_HEADER', 'User')
    monkeypatch.setenv('CQSTAT_HEADER_FULL', 'User')
    assert 'QSTAT' not in executor._execute(['/usr/bin/env']).stdout


def test_list_has_neither_header_nor_padding(executor: CobaltJobExecutor) -> None:
    (step,) = [s for s in steps('cobalt', 'qstat') if s.argv == ['qstat', '-u', 'alice', '--header', 'JobId']]
    assert executor.parse_list_output(step.stdout) == ['28', '29']
    assert executor.parse_list_output('JobID  \n=======\n 987   \n1023   \n') == ['987', '1023']


@pytest.mark.parametrize('step', [s for s in steps('cobalt', 'qdel') if s.exit_code], ids=str)
def test_failed_cancellation_is_reported(executor: CobaltJobExecutor, step: Step) -> None:
    with pytest.raises(SubmitException, match=re.escape(step.stderr.strip().splitlines()[-1][:40])):
        executor.process_cancel_command_output(step.exit_code, step.stdout + step.stderr)


@pytest.mark.parametrize('native_id', ['abc', 'default', '-1', '12 13', '1.x'])
def test_attach_takes_only_numbers(executor: CobaltJobExecutor, native_id: str) -> None:
    """Another word might be the name of a queue."""
    with pytest.raises(InvalidJobException, match='Invalid native ID'):
        executor.attach(Job(), native_id)


# --- the log file of a job ------------------------------------------------------------------------------------------


def recorded_log(scenario: str, number: str) -> str:
    """Return what is recorded of the log file of a job, or its end."""
    (step,) = [s for s in steps('cobalt', 'bash', scenario) if f'{number}.cobaltlog' in s.argv[-1]]
    return re.split(r'^==$', step.stdout, flags=re.MULTILINE)[1 if number == '1009' else 0]


@pytest.mark.parametrize(
    ('scenario', 'number', 'state', 'code', 'reason'),
    [
        ('run_and_exit', '1005', JobState.FAILED, 3, None),
        ('run_and_exit', '1006', JobState.FAILED, 139, None),
        ('run_and_exit', '1007', JobState.FAILED, 127, None),
        ('run_and_exit', '1008', JobState.CANCELED, None, 'cancelled_by_user'),
        ('run_and_exit', '1009', JobState.CANCELED, None, 'cancelled_by_user'),
        ('states', '31', JobState.CANCELED, None, 'cancelled_by_user'),
    ],
)
def test_recorded_logs(scenario: str, number: str, state: JobState, code: Any, reason: Any) -> None:
    """The queue does not tell how a job ended; its log file does."""
    status = parse_log(recorded_log(scenario, number), 'alice', has_run=False)
    assert status is not None
    assert (status.state, status.exit_code) == (state, code)
    assert (status.metadata or {}).get('reason') == reason


def test_log_tells_who_deleted_a_job() -> None:
    status = parse_log(recorded_log('run_and_exit', '1008'), 'bob', has_run=True)
    assert status is not None
    assert (status.metadata or {})['reason'] == 'cancelled_by_system'


BEGIN = """Jobid: 9
qsub --time=5 --nodecount=1 x.sh
Sun Nov 22 13:36:16 2026 +0000 (UTC) submitted with cwd set to: /home/alice
Sun Nov 22 13:36:37 2026 +0000 (UTC) Command: '/home/alice/x.sh'
Sun Nov 22 13:36:37 2026 +0000 (UTC) COBALT_ENDTIME=1795354607
"""


def log_of(*events: str) -> str:
    return BEGIN + ''.join(f'Sun Nov 22 13:36:50 2026 +0000 (UTC) Info: {event}\n' for event in events)


@pytest.mark.parametrize(
    ('event', 'reason'),
    [
        ('user delete requested with signal SIGTERM by user alice', 'cancelled_by_user'),
        ('user delete requested with signal SIGTERM by user alice now pending', 'cancelled_by_user'),
        ('user delete requested with signal SIGTERM', 'cancelled_by_user'),
        ('user delete requested with signal SIGTERM by user root now pending', 'cancelled_by_system'),
        (
            "forced delete requested by user 'root'; initiating job termination and removal of job from the queue",
            'cancelled_by_system',
        ),
        (
            "forced delete requested by user 'alice'; initiating job termination and removal of job from the queue",
            'cancelled_by_user',
        ),
    ],
)
def test_each_form_of_a_deletion(event: str, reason: str) -> None:
    status = parse_log(log_of(event), 'alice', has_run=True)
    assert status is not None
    assert (status.state, (status.metadata or {})['reason']) == (JobState.CANCELED, reason)


def test_log_of_a_job_that_runs_or_has_run_is_no_sign_of_a_deletion() -> None:
    (step,) = list(steps('cobalt', 'bash', 'qsub_ok'))
    log = step.stdout.split('--\n')[2]
    assert log.startswith('Jobid: 3\n')
    assert parse_log(log, 'alice', has_run=False) is None
    assert parse_log(recorded_log('states', '31'), 'alice', has_run=True) is None


OVERRUN = 'maximum execution time exceeded; initiating job terminiation'  # sic
EXITED = 'task completed normally with an exit code of {}; initiating job cleanup and removal'


@pytest.mark.parametrize(
    ('events', 'state', 'code', 'reason'),
    [
        ([OVERRUN], JobState.FAILED, None, 'timeout'),
        ([OVERRUN, EXITED.format(1)], JobState.FAILED, 1, 'timeout'),
        ([OVERRUN, EXITED.format(0)], JobState.COMPLETED, 0, None),  # it was faster than the signal
        ([OVERRUN, 'user delete requested with signal SIGKILL by user root'], JobState.FAILED, None, 'timeout'),
        (
            ['user delete requested with signal SIGTERM by user bob', OVERRUN],
            JobState.CANCELED,
            None,
            'cancelled_by_system',
        ),
        ([EXITED.format(143)], JobState.FAILED, 143, None),
    ],
)
def test_log_tells_that_the_walltime_was_over(events: List[str], state: JobState, code: Any, reason: Any) -> None:
    """As after a deletion, there is no exit code. The first cause is the one that counts."""
    status = parse_log(log_of(*events), 'alice', has_run=True)
    assert status is not None
    assert (status.state, status.exit_code, (status.metadata or {}).get('reason')) == (state, code, reason)


def test_old_versions_do_not_tell_that_the_walltime_was_over() -> None:
    """They log nothing at all about it; so all that is known is what the script has noticed."""
    verdict = parse_log(log_of(), 'alice', has_run=True)
    assert verdict is None
    status = final_status(verdict, ExitRecord(143, told_to_end=True), None, cancelled=False)
    assert (status.state, (status.metadata or {})['reason']) == (JobState.FAILED, 'signal')
    assert 'SIGTERM' in str(status.message)


# --- options ------------------------------------------------------------------------------------------------------


def test_every_field(executor: CobaltJobExecutor) -> None:
    spec = JobSpec(
        '/bin/date',
        name='myjob',
        resources=ResourceSpecV1(node_count=2, processes_per_node=3, cpu_cores_per_process=4, exclusive_node_use=True),
        attributes=JobAttributes(
            duration=timedelta(hours=2, seconds=1),
            queue_name='debug',
            account='proj1',
            custom_attributes={'cobalt.attrs': 'a=1:b=2', 'Cobalt.held': True, 'cobalt.notify': '', 'pbs.x': 1},
        ),
    )
    assert options(executor, spec) == [
        '--jobname=myjob',
        '--nodecount=2',
        '--proccount=6',
        '--time=121',
        '--queue=debug',
        '--project=proj1',
        '--output=/dev/null',
        '--error=/dev/null',
        f'--debuglog={executor.work_directory}/$jobid.cobaltlog',
        '--attrs=a=1:b=2',
        '--held',
        '--notify',
    ]


@pytest.mark.parametrize(
    ('duration', 'expected'),
    [
        (None, '0'),
        (timedelta(0), '5'),
        (timedelta(seconds=1), '5'),
        (timedelta(minutes=5), '5'),
        (timedelta(minutes=5, seconds=1), '6'),
        (timedelta(minutes=10), '10'),
        (timedelta(2), '2880'),
    ],
)
def test_walltime_is_never_missing(executor: CobaltJobExecutor, duration: Any, expected: str) -> None:
    """qsub takes no job without one; zero is its word for the longest that is allowed, and sites refuse 1 to 4."""
    spec = JobSpec('/bin/true', attributes=JobAttributes())
    assert spec.attributes is not None
    spec.attributes.duration = duration
    words = list(map(str, cobalt._options(spec, Path('/log'))))
    assert value_of(words, 'time') == expected
    assert value_of(words, 'nodecount') == '1'


def test_reservation_is_a_queue(executor: CobaltJobExecutor) -> None:
    assert value_of(options(executor, JobSpec('x', attributes=JobAttributes(reservation_id='R.me'))), 'queue') == 'R.me'
    spec = JobSpec('x', attributes=JobAttributes(queue_name='debug', reservation_id='R.me'))
    with pytest.raises(InvalidJobException, match=r'reservation_id.*Cobalt'):
        executor.render_submit_script(Job(spec))


@pytest.mark.parametrize('field', ['memory', 'gpu_cores_per_process'])
def test_what_cobalt_cannot_ask_for_is_refused(executor: CobaltJobExecutor, field: str) -> None:
    spec = JobSpec('/bin/true', resources=ResourceSpecV1(**{field: 1}))  # type: ignore[arg-type]
    with pytest.raises(InvalidJobException, match=f'{field}.*Cobalt'):
        executor.render_submit_script(Job(spec))


def test_directives_stand_together_below_the_first_line(executor: CobaltJobExecutor) -> None:
    """qsub stops reading at the first line that is none, be it empty."""
    script = executor.render_submit_script(Job(JobSpec('/bin/true', environment={'A': '1'})))
    assert len(words_of(script)) == len(re.findall('^#COBALT', script, re.MULTILINE)) > 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(value=st.text(min_size=1))
@example('"quoted"')
@example('two words')
@example('a #COBALT --held')
@example('$(id)`id`')
@example('-x')
@pytest.mark.parametrize('field', ['queue_name', 'account', 'reservation_id', 'custom'])
def test_value_arrives_or_is_refused(executor: CobaltJobExecutor, field: str, value: str) -> None:
    """Directives have no quotes: what cannot stand in one goes to the command line."""
    spec = JobSpec('/bin/true', name='x')
    assert spec.attributes is not None
    if field == 'custom':
        spec.attributes.custom_attributes = {'cobalt.comment': value}
    else:
        setattr(spec.attributes, field, value)
    option = {'queue_name': 'queue', 'reservation_id': 'queue', 'account': 'project'}
    if not value.isprintable():
        with pytest.raises(InvalidJobException, match=field):
            options(executor, spec)
        return
    words = options(executor, spec)
    assert value_of(words, option.get(field, 'comment')) == value
    assert len(words) == len(options(executor, JobSpec('/bin/true'))) + 1


def test_repeated_option_keeps_its_order(executor: CobaltJobExecutor) -> None:
    """The command line has precedence over directives, but a custom attribute over what is generated."""
    spec = JobSpec('x', attributes=JobAttributes(queue_name='a b', custom_attributes={'cobalt.queue': 'c'}))
    assert value_of(options(executor, spec), 'queue') == 'c'


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(name=TEXT)
@example('n-$jobid-$COBALT_JOBID-$x')
@example('a\nb')
@example('ü \t"\'')
@example(' ')
@example('')
def test_name_is_made_acceptable(executor: CobaltJobExecutor, name: str) -> None:
    """It is printable ASCII in which nothing is expanded, and never empty."""
    (word,) = [word for word in options(executor, JobSpec('/bin/true', name=name)) if word.startswith('--jobname=')]
    assert re.fullmatch('--jobname=[!-~]([ -~]*[!-~])?', word)
    assert '$' not in word


@pytest.mark.parametrize(
    ('name', 'expected'),
    [('n-$jobid-$x', 'n-_jobid-_x'), ('a\nb', 'a_b'), (' run 1 ', 'run 1'), ('ü', '_'), (' ', 'psij'), ('', 'psij')],
)
def test_job_finds_its_name_as_it_was_given(
    executor: CobaltJobExecutor, tmp_path: Path, name: str, expected: str
) -> None:
    spec = JobSpec('/bin/sh', ['-c', 'printf %s "$PSIJ_JOB_NAME"'], name=name, stdout_path=tmp_path / 'out')
    assert value_of(options(executor, spec), 'jobname') == expected
    assert run_script(executor, spec, tmp_path) == ''
    assert (tmp_path / 'out').read_text() == name


@pytest.mark.parametrize('key', ['a b', 'x=1', '', '-x', 'a\nb', '$(x)', 't'])
def test_name_of_a_custom_attribute_is_an_option(executor: CobaltJobExecutor, key: str) -> None:
    spec = JobSpec('/bin/true', attributes=JobAttributes(custom_attributes={f'cobalt.{key}': '1'}))
    with pytest.raises(InvalidJobException, match=r'cobalt\.'):
        executor.render_submit_script(Job(spec))


@pytest.mark.parametrize('field', ['queue_name', 'account', 'reservation_id'])
def test_empty_value_is_none(executor: CobaltJobExecutor, field: str) -> None:
    spec = JobSpec('x', attributes=JobAttributes(**{field: ''}))  # type: ignore[arg-type]
    assert options(executor, spec) == options(executor, JobSpec('x'))


def test_empty_reservation_does_not_contradict_a_queue(executor: CobaltJobExecutor) -> None:
    spec = JobSpec('x', attributes=JobAttributes(queue_name='debug', reservation_id=''))
    assert value_of(options(executor, spec), 'queue') == 'debug'


# --- scripts ------------------------------------------------------------------------------------------------------

SPECS = {
    'plain': JobSpec('/bin/date', inherit_environment=False),
    'everything': JobSpec(
        '/opt/app/run it',
        ['a b', '$HOME', '"', "'", '', '--x=*'],
        directory='/scratch/job 1',
        name='all-of-it',
        environment={'A': '1 2', 'PATH': '/opt/bin'},
        stdin_path='/in put',
        stdout_path='out.txt',
        stderr_path='err.txt',
        resources=ResourceSpecV1(node_count=2, processes_per_node=2, cpu_cores_per_process=4),
        attributes=JobAttributes(timedelta(hours=1), 'debug', 'acct', None, {'cobalt.attrs': 'mcdram=flat'}),
        pre_launch='/opt/app/setup',
        post_launch='/opt/app/finish',
        launcher='aprun',
    ),
}


@pytest.mark.parametrize('name', list(SPECS))
def test_golden_scripts(
    executor: CobaltJobExecutor, name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in list(os.environ):
        monkeypatch.delenv(variable)
    for variable, value in {'HOME': '/home/alice', 'LANG': 'C.UTF-8', 'MODULES': "it's a b", 'SHLVL': '1'}.items():
        monkeypatch.setenv(variable, value)
    job = Job(SPECS[name])
    script = executor.render_submit_script(job)
    names = {str(executor.config.work_directory): '/WORK', job.id: 'JOB-ID', str(Path.cwd()): '/CWD'}
    for text, replacement in names.items():
        script = script.replace(text, replacement)
    script = re.sub(r'/WORK/[0-9a-f]{64}/', '/WORK/LAUNCHERS/', script)
    golden = GOLDEN / f'{name}.job'
    if request.config.getoption('--update-golden'):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(script)
    assert script == golden.read_text()


def run_script(executor: CobaltJobExecutor, spec: JobSpec, directory: Path, **variables: str) -> str:
    return scripts.run(executor, spec, directory, '1', COBALT_JOBID='1', **variables)


HOSTILE = hostile('"\n#COBALT --held\n', '$jobid')


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(arguments=st.lists(TEXT | HOSTILE, max_size=4), value=TEXT | HOSTILE, inherited=TEXT | HOSTILE)
def test_rendered_script_passes_values_on_unchanged(
    executor: CobaltJobExecutor, tmp_path: Path, arguments: List[str], value: str, inherited: str
) -> None:
    """The script is run by a real bash: what the program gets must be what the specification says."""
    output = tmp_path / 'it\'s the "output"'
    program = 'import os,sys; print(ascii([sys.argv[1:], os.environ["VALUE"], os.environ["INHERITED"]]))'
    spec = JobSpec(sys.executable, ['-SEc', program, *arguments], environment={'VALUE': value}, stdout_path=output)
    os.environ['INHERITED'] = inherited
    try:
        printed = run_script(executor, spec, tmp_path)
    finally:
        del os.environ['INHERITED']
    assert printed == ''
    assert eval(output.read_text()) == [arguments, value, inherited]
    assert not (tmp_path / 'pwned').exists()
    assert (executor.work_directory / '1.ec').read_text() == '0\n'


@pytest.mark.parametrize('inherit', [True, False])
def test_environment(
    executor: CobaltJobExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inherit: bool
) -> None:
    """Cobalt passes nothing on, so the script does; what Cobalt itself sets is not touched."""
    variables = {'OURS': 'x', 'COBALT_JOBID': '99', 'HOME': '/elsewhere', 'BASH_FUNC_f%%': '() { :; }', 'odd.name': '1'}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    spec = JobSpec('/bin/sh', ['-c', 'echo "${OURS-unset} $COBALT_JOBID $HOME"'], inherit_environment=inherit)
    spec.stdout_path = tmp_path / 'out'
    assert run_script(executor, spec, tmp_path) == ''
    assert (tmp_path / 'out').read_text() == f'{"x" if inherit else "unset"} 1 {tmp_path}\n'


def test_script_fails_without_its_directory(executor: CobaltJobExecutor, tmp_path: Path) -> None:
    marker = tmp_path / 'ran'
    printed = run_script(executor, JobSpec('/bin/touch', [str(marker)], directory=tmp_path / 'missing'), tmp_path)
    assert 'missing' in printed
    assert not marker.exists()
    assert (executor.work_directory / '1.ec').read_text() == '1\n'


@pytest.mark.parametrize(
    ('variables', 'expected'),
    [
        ({'COBALT_NODEFILE': 'FILE', 'COBALT_PARTNAME': 'c03'}, 'c03 c03 c04 c04'),
        ({'COBALT_PARTNAME': '7-8'}, 'nid00007 nid00007 nid00008 nid00008'),
        ({'COBALT_PARTNAME': '8,10'}, 'nid00008 nid00008 nid00010 nid00010'),
        ({'COBALT_NODEFILE': '/gone', 'COBALT_PARTNAME': 'MIR-0-32'}, 'MIR-0-32 MIR-0-32 MIR-0-32 MIR-0-32'),
    ],
    ids=['cluster', 'range on a Cray', 'list on a Cray', 'Blue Gene'],
)
def test_nodefile_has_a_line_for_each_process(
    executor: CobaltJobExecutor, tmp_path: Path, variables: Dict[str, str], expected: str
) -> None:
    """Cobalt's own file has one for each node, and exists on clusters only."""
    nodes = tmp_path / 'nodes'
    nodes.write_text('c03\nc04\n')
    variables = {name: value.replace('FILE', str(nodes)) for name, value in variables.items()}
    output = tmp_path / 'hosts'
    spec = JobSpec('/bin/sh', ['-c', 'cat "$PSIJ_NODEFILE"'], stdout_path=output)
    spec.resources = ResourceSpecV1(node_count=2, processes_per_node=2)
    assert run_script(executor, spec, tmp_path, **variables) == ''
    assert output.read_text().split() == expected.split()


def test_shell_quotes_would_stay_in_the_value() -> None:
    """A reminder of why values are not quoted (recording ``directives``: a name came back as ``"q"``)."""
    assert words_of(f'#!/bin/sh\n#COBALT --jobname={shlex.quote("a b")}\n') == ["--jobname='a", "b'"]
