"""Slurm: parsers against recordings of the real one, directives by its own rules, scripts as golden files."""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import Step, steps

from psij import InvalidJobException, Job, JobAttributes, JobSpec, JobState, ResourceSpecV1
from psij._runtime.command import CommandResult
from psij._runtime.outcome import parse_exit_record
from psij.executors.batch import slurm
from psij.executors.batch.slurm import SlurmExecutorConfig, SlurmJobExecutor, parse_sacct, parse_sbatch, parse_squeue

from . import scripts
from .scripts import TEXT, hostile

GOLDEN = Path(__file__).parent.parent.parent / 'golden' / 'slurm'


@pytest.fixture
def executor(tmp_path: Path) -> SlurmJobExecutor:
    return SlurmJobExecutor(config=SlurmExecutorConfig(work_directory=tmp_path / 'work'))


def directives(executor: SlurmJobExecutor, spec: JobSpec) -> List[str]:
    script = executor.render_submit_script(Job(spec))
    return [line[len('#SBATCH ') :] for line in script.splitlines() if line.startswith('#SBATCH ')]


# --- sbatch -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'step', [s for s in steps('slurm', 'sbatch') if s.exit_code == 0 and '-Q' not in s.argv], ids=str
)
def test_job_id_of_each_recorded_submission(step: Step) -> None:
    printed = None if '--version' in step.argv else re.search(r'\d+', step.stdout)
    if printed is None:
        with pytest.raises(ValueError, match='printed no job ID'):
            parse_sbatch(step.stdout)
    else:
        assert parse_sbatch(step.stdout) == printed[0]


def test_job_id_among_the_remarks_of_a_site() -> None:
    assert parse_sbatch('Welcome, you have 12 jobs left today\n4711;test\n') == '4711'
    assert parse_sbatch('Submitted batch job 9 on cluster c2\nCharged to project 42\n') == '9'


@pytest.mark.parametrize('step', [s for s in steps('slurm', 'sbatch') if s.exit_code != 0], ids=str)
def test_rejections_and_outages(executor: SlurmJobExecutor, step: Step) -> None:
    """Only outages and limits for the moment are worth another attempt; only a lost reply leaves open what happened."""
    answer = CommandResult(('sbatch',), step.exit_code, step.stdout, step.stderr)
    passing = re.search(r'Unable to contact|Socket timed out|[Mm]unge|MaxSubmitJobLimit', step.stderr) is not None
    assert executor._is_transient(answer) is passing
    assert executor._may_have_submitted(answer) is ('Socket timed out' in step.stderr)


def test_lost_job_is_found_by_its_script(executor: SlurmJobExecutor) -> None:
    listing = '7|/home/alice/other.sh\n8|/home/alice/a b/1.job\n'
    assert executor._parse_lookup_output(Job(), Path('/home/alice/a b/1.job'), listing) == '8'
    assert executor._parse_lookup_output(Job(), Path('/home/alice/b.job'), listing) is None


# --- squeue -------------------------------------------------------------------------------------------------------


def recorded_rows() -> Dict[Tuple[str, str, str, str], Step]:
    """Return each different state, reason and exit code that was ever printed."""
    rows: Dict[Tuple[str, str, str, str], Step] = {}
    for step in steps('slurm', 'squeue'):
        if '-O' in step.argv and 'StateCompact:|' in step.argv[step.argv.index('-O') + 1] and step.exit_code == 0:
            for line in step.stdout.splitlines():
                parts = [part.strip() for part in line.split('|')]
                code = parts[3] if 'exit_code' in ' '.join(step.argv) else ''
                rows.setdefault((parts[0], parts[1], parts[2], code), step)
    return rows


@pytest.mark.parametrize('row', list(recorded_rows()), ids=str)
def test_each_recorded_row_is_understood(row: Tuple[str, str, str, str]) -> None:
    native_id, code, reason, wait_status = row
    status = parse_squeue(f'{native_id}|1|{code}|{wait_status}|{reason}|\n')[native_id]
    assert status.state is slurm._STATES[code]
    assert status.metadata is not None
    assert status.metadata['native_state'] == code
    if status.state is JobState.QUEUED and reason not in ('None', ''):
        assert status.message  # the reason is the only sign of a job that will never start


def outcome(scenario: str) -> List[Tuple[str, Any, Any]]:
    """Return the final states of the jobs of a scenario, with exit code and reason, in the order of their end."""
    found = {}
    for (native_id, code, reason, wait_status), step in recorded_rows().items():
        if step.scenario == scenario:
            status = parse_squeue(f'{native_id}|1|{code}|{wait_status}|{reason}|\n')[native_id]
            if status.final:
                found[native_id] = (status.state.name, status.exit_code, (status.metadata or {}).get('reason'))
    return list(found.values())


@pytest.mark.parametrize(
    ('scenario', 'expected'),
    [
        ('lifecycle_completed', {('COMPLETED', 0, None)}),
        ('lifecycle_cancel_pending', {('CANCELED', None, 'cancelled_by_user')}),
        # the other one ended by itself before scancel
        ('lifecycle_cancel_running', {('CANCELED', None, 'cancelled_by_user'), ('COMPLETED', 0, None)}),
        ('lifecycle_timeout', {('FAILED', None, 'timeout')}),
        ('lifecycle_oom_sampled', {('FAILED', 137, None)}),
    ],
)
def test_recorded_outcomes(scenario: str, expected: set[Tuple[str, Any, Any]]) -> None:
    assert set(outcome(scenario)) == expected


def test_recorded_exit_codes_are_those_of_a_shell() -> None:
    codes = {code for _, code, _ in outcome('lifecycle_failed_exit_3')}
    assert {3, 127, 255} <= codes
    assert {137, 143, 139} <= {code for _, code, _ in outcome('lifecycle_signal')}


def test_out_of_memory_is_a_failure_even_with_exit_code_zero() -> None:
    states = {(state, reason) for state, _, reason in outcome('lifecycle_oom_cgroup')}
    assert ('FAILED', 'out_of_memory') in states


def test_reasons_with_blanks_and_commas() -> None:
    text = (
        '7|7|PD|0|ReqNodeNotAvail, UnavailableNodes:node02|\n'
        '8|8|PD|0|Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions|\n'
    )
    statuses = parse_squeue(text)
    assert 'node02' in str(statuses['7'].message)
    assert 'DRAINED' in str(statuses['8'].message)


def test_odd_lines_of_others_do_no_harm() -> None:
    text = 'no such line\n|||||\n9|9|XX|0|None|\n86_[3-5%2]|86|PD|0|JobArrayTaskLimit|\n12|12|R|0|None|\n'
    statuses = parse_squeue(text)
    assert statuses['12'].state is JobState.ACTIVE
    assert statuses['9'].state is JobState.QUEUED  # an unknown state is never ahead of what is known


def test_rubbish_is_not_an_empty_queue() -> None:
    assert parse_squeue('') == {}
    with pytest.raises(ValueError, match='something else'):
        parse_squeue('<html>503 Service Unavailable</html>')


def test_unknown_field_makes_it_ask_in_the_older_way(executor: SlurmJobExecutor) -> None:
    """An unknown field costs all output, with exit code 0: this must not look like an empty queue."""
    (step,) = [s for s in steps('slurm', 'squeue') if s.argv[-2:] == ['-O', 'bogus']]
    assert (step.exit_code, step.stdout.strip()) == (0, '')
    assert '-O' in executor.get_status_command(['1'])
    assert executor._must_ask_differently(CommandResult(('squeue',), 0, step.stdout, step.stderr))
    assert '-o' in executor.get_status_command(['1'])
    assert not executor._must_ask_differently(CommandResult(('squeue',), 0, '', ''))
    assert parse_squeue('3|3|PD||Resources|')['3'].state is JobState.QUEUED


def test_question_does_not_grow_with_the_number_of_jobs(executor: SlurmJobExecutor) -> None:
    assert executor.get_status_command([str(n) for n in range(50_000)]) == executor.get_status_command(['1'])


# --- sacct --------------------------------------------------------------------------------------------------------


def test_accounting() -> None:
    text = (
        '5|5|COMPLETED|0:0|12|2\n6|6|CANCELLED by 999999|0:0|1|1\n7|7|OUT_OF_MEMORY|0:125|3|1\n8_1|9|FAILED|0:53|0|1\n'
    )
    statuses = parse_sacct(text)
    assert statuses['5'].metadata == {'native_state': 'CD', 'elapsed': 12, 'nodes': 2}
    assert (statuses['6'].state, (statuses['6'].metadata or {})['reason']) == (JobState.CANCELED, 'cancelled_by_system')
    assert (statuses['7'].metadata or {})['reason'] == 'out_of_memory'
    assert statuses['8_1'].exit_code is None  # its files could not be opened: it never ran
    assert statuses['9'] is statuses['8_1']


@pytest.mark.parametrize(
    'state',
    sorted(
        {
            s.split()[0]
            for step in steps('slurm', 'sacct')
            for s in re.findall(r'^\d+\|(?:[\d_]+\|)?([A-Z][A-Z_ a-z0-9]+)\|', step.stdout, re.MULTILINE)
        }
    ),
)
def test_each_recorded_state_of_sacct_is_known(state: str) -> None:
    assert state.rstrip('+') in slurm._LONG_STATES


def test_missing_accounting_is_no_history(executor: SlurmJobExecutor) -> None:
    assert executor._parse_history_output(1, 'Slurm accounting storage is disabled\n') is None
    with pytest.raises(RuntimeError, match='Connection refused'):
        executor._parse_history_output(1, 'sacct: error: slurm_persist_conn_open_without_init: Connection refused')


def test_only_ids_are_asked_for(executor: SlurmJobExecutor) -> None:
    command = executor._get_history_command(['12', '86_2', 'x;y'])
    assert command is not None
    assert '12,86_2' in command
    assert executor._get_history_command(['x']) is None


@pytest.mark.parametrize('native_id', ['abc', '86_[3-5]', '-1', '12 13'])
def test_attach_takes_only_ids(executor: SlurmJobExecutor, native_id: str) -> None:
    with pytest.raises(InvalidJobException, match='Invalid native ID'):
        executor.attach(Job(), native_id)


def test_client_commands_are_shielded_from_the_environment(
    executor: SlurmJobExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ('SBATCH_PARTITION', 'SQUEUE_FORMAT', 'SLURM_NTASKS', 'SCANCEL_STATE', 'SLURM_CONF'):
        monkeypatch.setenv(name, 'x')
    output = executor._execute(['/usr/bin/env']).stdout
    assert sorted(re.findall(r'^((?:SLURM|SBATCH|SQUEUE|SCANCEL)_\w+)=', output, re.MULTILINE)) == ['SLURM_CONF']
    assert 'LC_ALL=C\n' in output


# --- directives ---------------------------------------------------------------------------------------------------


def test_every_field_becomes_a_directive(executor: SlurmJobExecutor) -> None:
    spec = JobSpec(
        '/bin/date',
        name='my job',
        directory='/scratch/a b',
        inherit_environment=False,
        resources=ResourceSpecV1(
            node_count=2,
            processes_per_node=3,
            cpu_cores_per_process=4,
            gpu_cores_per_process=1,
            exclusive_node_use=True,
            memory=3 * 1024 * 1024 + 1,
        ),
        attributes=JobAttributes(
            duration=timedelta(days=1, hours=2, minutes=3, seconds=4.5),
            queue_name='debug',
            account='proj 1',
            reservation_id='r"1',
            custom_attributes={'slurm.qos': 'high', 'Slurm.requeue': True, 'slurm.hold': '', 'pbs.x': 1, 'plain': 2},
        ),
    )
    assert directives(executor, spec) == [
        '--job-name="my job"',
        '--chdir="/scratch/a b"',
        '--exclusive',
        '--nodes=2',
        '--ntasks=6',
        '--ntasks-per-node=3',
        '--cpus-per-task=4',
        '--gpus-per-task=1',
        '--mem=1537K',
        '--time=1-2:3:5',
        '--partition=debug',
        '--account="proj 1"',
        '--reservation="r\\"1"',
        '--export=NONE',
        '--output=/dev/null',
        '--error=/dev/null',
        '--qos=high',
        '--requeue',
        '--hold',
    ]


def test_defaults(executor: SlurmJobExecutor) -> None:
    assert directives(executor, JobSpec('/usr/bin/true')) == [
        '--job-name=true',
        '--nodes=1',
        '--ntasks=1',
        '--ntasks-per-node=1',
        '--time=0:10:0',
        '--export=ALL',
        '--output=/dev/null',
        '--error=/dev/null',
    ]


def slurm_value(directive: str) -> str:
    """Return the value of an option as sbatch reads it (recording ``sbatch_directive_quoting``)."""
    value = directive.partition('=')[2]
    if not value.startswith('"'):
        return re.split(r'[\s#]', value, maxsplit=1)[0]
    text, characters = '', iter(value[1:])
    for character in characters:
        if character == '"':
            return text
        text += next(characters) if character == '\\' else character
    raise AssertionError(f'no end of the value in {directive}')


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.text(min_size=1))
@pytest.mark.parametrize('field', ['name', 'queue_name', 'account', 'reservation_id', 'directory', 'custom'])
def test_value_arrives_or_is_refused(executor: SlurmJobExecutor, field: str, value: str) -> None:
    """No text can end the line of its directive, or the value of its option."""
    spec = JobSpec('/bin/true', name='x')
    assert spec.attributes is not None
    options = {'name': 'job-name', 'queue_name': 'partition', 'reservation_id': 'reservation', 'directory': 'chdir'}
    if field == 'custom':
        spec.attributes.custom_attributes = {'slurm.comment': value}
    elif field in ('name', 'directory'):
        setattr(spec, field, value)
    else:
        setattr(spec.attributes, field, value)
    option = options.get(field, 'comment' if field == 'custom' else field)
    if not value.isprintable():
        with pytest.raises(InvalidJobException, match=field):
            directives(executor, spec)
        return
    lines = directives(executor, spec)
    (line,) = [line for line in lines if line.startswith(f'--{option}=')]
    expected = str(Path.cwd() / value) if field == 'directory' else value
    assert slurm_value(line) == expected
    assert len(lines) == len(directives(executor, JobSpec('/bin/true'))) + (field != 'name')


@pytest.mark.parametrize('key', ['a b', 'x=1 --wrap', '', '-x', 'a\nb', '$(x)'])
def test_name_of_a_custom_attribute_is_an_option(executor: SlurmJobExecutor, key: str) -> None:
    spec = JobSpec('/bin/true', attributes=JobAttributes(custom_attributes={f'slurm.{key}': '1'}))
    with pytest.raises(InvalidJobException, match=r'slurm\.'):
        executor.render_submit_script(Job(spec))


# --- scripts ------------------------------------------------------------------------------------------------------


def render(executor: SlurmJobExecutor, spec: JobSpec) -> str:
    """Return a script with everything that differs from run to run replaced by a name."""
    job = Job(spec)
    script = executor.render_submit_script(job)
    for text, name in ((str(executor.config.work_directory), '/WORK'), (job.id, 'JOB-ID'), (str(Path.cwd()), '/CWD')):
        script = script.replace(text, name)
    return re.sub(r'/WORK/[0-9a-f]{64}/', '/WORK/LAUNCHERS/', script)


SPECS = {
    'plain': JobSpec('/bin/date'),
    'everything': JobSpec(
        '/opt/app/run it',
        ['a b', '$HOME', '"', "'", '', '--x=*'],
        directory='/scratch/job 1',
        name='all of it',
        inherit_environment=False,
        environment={'A': '1 2', 'PATH': '/opt/bin'},
        stdin_path='/in put',
        stdout_path='out.txt',
        stderr_path='err.txt',
        resources=ResourceSpecV1(node_count=2, processes_per_node=2),
        attributes=JobAttributes(timedelta(hours=1), 'debug', 'acct', 'res', {'slurm.constraint': 'a&b'}),
        pre_launch='/opt/app/setup',
        post_launch='/opt/app/finish',
        launcher='srun',
    ),
}


@pytest.mark.parametrize('name', list(SPECS))
def test_golden_scripts(executor: SlurmJobExecutor, name: str, request: pytest.FixtureRequest) -> None:
    script = render(executor, SPECS[name])
    golden = GOLDEN / f'{name}.job'
    if request.config.getoption('--update-golden'):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(script)
    assert script == golden.read_text()


def test_notices_of_a_site_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that are new are parsed alone, and these make no sense."""
    answers = ['12|12|R|0|None|\n', 'Maintenance at 6.\n12|12|R|0|None|\n', '12|12|R|0|None|\n', '12|12|CA|0|None|\n']
    executor = SlurmJobExecutor(config=SlurmExecutorConfig(work_directory=tmp_path))
    executor._queue_poll_thread._enabled = False
    monkeypatch.setattr(executor, '_run', lambda argv, *_: CommandResult(tuple(argv), 0, answers.pop(0), ''))
    job = Job()
    executor.attach(job, '12')
    for _ in range(3):
        executor._queue_poll_thread._poll()
        assert executor._queue_poll_thread._poll_error_count == 0
        assert job.status.state is JobState.ACTIVE
    executor._queue_poll_thread._poll()
    assert job.status.state is JobState.CANCELED


def test_subclass_in_another_module_has_the_same_template(executor: SlurmJobExecutor, tmp_path: Path) -> None:
    class OurSlurm(SlurmJobExecutor):
        """One that a site has adapted."""

    job = Job(JobSpec('/bin/date'))
    config = SlurmExecutorConfig(work_directory=executor.config.work_directory)
    assert OurSlurm(config=config).render_submit_script(job) == executor.render_submit_script(job)


def run_script(executor: SlurmJobExecutor, spec: JobSpec, directory: Path) -> str:
    return scripts.run(executor, spec, directory, '1', SLURM_JOB_ID='1')


HOSTILE = hostile('"\n#SBATCH --wrap=x\n')


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(arguments=st.lists(TEXT | HOSTILE, max_size=4), value=TEXT | HOSTILE)
def test_rendered_script_passes_values_on_unchanged(
    executor: SlurmJobExecutor, tmp_path: Path, arguments: List[str], value: str
) -> None:
    """The script is run by a real bash: what the program gets must be what the specification says."""
    output = tmp_path / 'it\'s the "output"'
    program = 'import os,sys; print(ascii([sys.argv[1:], os.environ["VALUE"]]))'
    spec = JobSpec('python3', ['-c', program, *arguments], environment={'VALUE': value}, stdout_path=output)
    printed = run_script(executor, spec, tmp_path)
    assert printed == ''
    assert eval(output.read_text()) == [arguments, value]
    assert not (tmp_path / 'pwned').exists()
    assert (executor.work_directory / '1.ec').read_text() == '0\n'


def test_script_fails_without_its_directory(executor: SlurmJobExecutor, tmp_path: Path) -> None:
    """Slurm itself would run the job in /tmp."""
    marker = tmp_path / 'ran'
    printed = run_script(executor, JobSpec('/bin/touch', [str(marker)], directory=tmp_path / 'missing'), tmp_path)
    assert 'missing' in printed
    assert not marker.exists()
    assert (executor.work_directory / '1.ec').read_text() == '1\n'


@pytest.mark.parametrize(
    ('tasks', 'hosts', 'expected'),
    [('2(x2)', 'a b', 'a a b b'), ('3,1', 'a b', 'a a a b'), ('2(x2),1', 'a b c', 'a a b b c'), ('1', 'a', 'a')],
)
def test_nodefile_has_a_line_for_each_process(
    executor: SlurmJobExecutor, tmp_path: Path, tasks: str, hosts: str, expected: str
) -> None:
    """`-N 2 -n 4` gives 3 + 1 tasks (recording job_environment): only Slurm knows."""
    scontrol = tmp_path / 'bin' / 'scontrol'
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\nprintf "%s\\n" {hosts}\n')
    scontrol.chmod(0o755)
    output = tmp_path / 'hosts'
    spec = JobSpec('/bin/sh', ['-c', 'cat "$PSIJ_NODEFILE"'], stdout_path=output, resources=ResourceSpecV1(2))
    spec.environment = {'PATH': f'{scontrol.parent}:/usr/bin:/bin'}
    text = io.StringIO()
    job = Job(spec)
    executor.work_directory.mkdir(parents=True)
    executor.generate_submit_script(job, executor._create_script_context(job), text)
    environment = {'SLURM_JOB_ID': '1', 'SLURM_TASKS_PER_NODE': tasks, 'PATH': f'{scontrol.parent}:/usr/bin:/bin'}
    subprocess.run(['/bin/bash', '-c', text.getvalue()], env=environment, check=True, cwd=tmp_path)
    assert output.read_text().split() == expected.split()


def test_shlex_is_not_the_rule_of_sbatch() -> None:
    """A reminder of why values are quoted as they are: the shell's way ends in literal quotes."""
    assert slurm_value(f'--comment={shlex.quote("a b")}') == "'a"


@pytest.mark.parametrize('signame', ['SIGTERM', 'SIGSEGV', 'SIGALRM', 'SIGABRT', 'SIGPIPE'])
def test_script_that_is_killed_records_no_success(executor: SlurmJobExecutor, tmp_path: Path, signame: str) -> None:
    """bash runs its EXIT trap when a signal kills it, and then ``$?`` may well be zero."""
    fifo = tmp_path / 'fifo'
    os.mkfifo(fifo)
    process = scripts.start(
        executor, JobSpec('/bin/sh', ['-c', f'echo $$ > {fifo}; exec sleep 100']), tmp_path, SLURM_JOB_ID='1'
    )
    executable = int(fifo.read_text())
    process.send_signal(signal.Signals[signame])
    os.kill(executable, signal.SIGKILL)  # bash looks at its signals when what it waits for has ended
    process.wait()
    record = parse_exit_record((executor.work_directory / '1.ec').read_text())
    assert record is not None
    assert not record.is_conclusive


@pytest.mark.parametrize('signame', ['SIGUSR1', 'SIGHUP', 'SIGINT'])
def test_signals_for_the_executable_do_not_end_the_script(
    executor: SlurmJobExecutor, tmp_path: Path, signame: str
) -> None:
    fifo = tmp_path / 'fifo'
    os.mkfifo(fifo)
    process = scripts.start(
        executor, JobSpec('/bin/sh', ['-c', f'echo $$ > {fifo}; exec sleep 100']), tmp_path, SLURM_JOB_ID='1'
    )
    executable = int(fifo.read_text())
    process.send_signal(signal.Signals[signame])
    os.kill(executable, signal.SIGKILL)
    process.wait()
    assert (executor.work_directory / '1.ec').read_text() == '137\n'
