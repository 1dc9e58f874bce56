"""OpenPBS and Torque: parsers against recordings of the real ones, directives by their own rules, golden scripts."""

from __future__ import annotations

import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest
from fakes.pbs.script import directives as pbs_directives
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recordings import Step, steps

from psij import (
    InvalidJobException,
    Job,
    JobAttributes,
    JobExecutor,
    JobSpec,
    JobState,
    ResourceSpecV1,
    SubmitException,
)
from psij._runtime.command import CommandResult
from psij.executors.batch import _pbs_status
from psij.executors.batch._pbs_status import parse_json, parse_xml
from psij.executors.batch.batch_scheduler_executor import InvalidJobStateError
from psij.executors.batch.pbs import PBSJobExecutor
from psij.executors.batch.pbs_base import GenericPBSJobExecutor, PBSExecutorConfig, acceptable_name, parse_qsub
from psij.executors.batch.pbs_classic import PBSClassicJobExecutor
from psij.executors.batch.script_generator import TemplatedScriptGenerator

from . import scripts
from .scripts import TEXT, hostile

GOLDEN = Path(__file__).parent.parent.parent / 'golden'
CLASSES = {'pbs': PBSJobExecutor, 'pbs_master': PBSJobExecutor, 'torque': PBSClassicJobExecutor}


@pytest.fixture
def executor(tmp_path: Path) -> PBSJobExecutor:
    return PBSJobExecutor(config=PBSExecutorConfig(work_directory=tmp_path / 'work'))


@pytest.fixture
def torque(tmp_path: Path) -> PBSClassicJobExecutor:
    return PBSClassicJobExecutor(config=PBSExecutorConfig(work_directory=tmp_path / 'work'))


@pytest.fixture(params=['pbs', 'torque'])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> GenericPBSJobExecutor:
    return CLASSES[request.param](config=PBSExecutorConfig(work_directory=tmp_path / 'work'))


def directives(executor: GenericPBSJobExecutor, spec: JobSpec) -> List[str]:
    script = executor.render_submit_script(Job(spec))
    return [line[len('#PBS ') :] for line in script.split('\n') if line.startswith('#PBS ')]


def output(step: Step) -> str:
    """Return what a parser gets from the engine."""
    return step.stdout if step.exit_code == 0 else f'{step.stdout}\n{step.stderr}'


# --- names and classes ----------------------------------------------------------------------------------------------


def test_names_of_the_existing_package(tmp_path: Path) -> None:
    from psij.executors.batch.pbspro import PBSProExecutorConfig, PBSProJobExecutor

    assert (PBSProJobExecutor, PBSProExecutorConfig) == (PBSJobExecutor, PBSExecutorConfig)
    assert isinstance(JobExecutor.get_instance('pbspro'), PBSJobExecutor)
    assert isinstance(JobExecutor.get_instance('torque'), PBSClassicJobExecutor)
    assert isinstance(PBSJobExecutor().config, PBSExecutorConfig)


def test_plugin_with_a_template_of_its_own(tmp_path: Path) -> None:
    """Plugins pass a generator as the first argument, and rely on the commands of OpenPBS."""
    template = tmp_path / 'site.mustache'
    template.write_text(
        '#PBS -l walltime={{formatted_job_duration}}\n{{#custom_attributes.pbs}}{{key}}{{/custom_attributes.pbs}}'
    )

    class SiteExecutor(GenericPBSJobExecutor):
        _NAME_ = 'site'

        def __init__(self, url: Optional[str] = None, config: Optional[PBSExecutorConfig] = None) -> None:
            config = config or PBSExecutorConfig(work_directory=tmp_path)
            super().__init__(generator=TemplatedScriptGenerator(config, template), url=url, config=config)

    executor = SiteExecutor(url='u')
    assert executor.url == 'u'
    spec = JobSpec('/bin/true', attributes=JobAttributes(custom_attributes={'pbs.x': 1}))
    assert executor.render_submit_script(Job(spec)) == '#PBS -l walltime=0:10:0\nx'
    assert executor.get_submit_command(Job(), Path('/a')) == ['qsub', '/a']


# --- qsub -----------------------------------------------------------------------------------------------------------


def submissions(failed: bool) -> List[Tuple[str, Step]]:
    return [(name, step) for name in CLASSES for step in steps(name, 'qsub') if (step.exit_code != 0) is failed]


def test_job_id_of_each_recorded_submission() -> None:
    for _, step in submissions(failed=False):
        if re.match(r'\d', step.stdout):
            assert parse_qsub(step.stdout) == step.stdout.strip(), step
        else:  # -z, --version
            with pytest.raises(ValueError, match='printed no job ID'):
                parse_qsub(step.stdout)


def test_job_id_among_the_remarks_of_a_site() -> None:
    assert parse_qsub('Welcome to 12.cluster\n123.pbs01\nYour quota: 80\n') == '123.pbs01'
    assert parse_qsub('8\n') == '8'


@pytest.mark.parametrize(('name', 'step'), submissions(failed=True), ids=str)
def test_rejections_and_outages(either: GenericPBSJobExecutor, name: str, step: Step) -> None:
    """Only outages are worth another attempt, and none of those recorded leaves open whether there is a job."""
    answer = CommandResult(('qsub',), step.exit_code, step.stdout, step.stderr)
    assert either._is_transient(answer) is ('cannot connect' in step.stderr)
    assert not either._may_have_submitted(answer)


@pytest.mark.parametrize(
    'text',
    [
        "qsub: would exceed queue generic's per-user limit of jobs in 'Q' state",
        'qsub: submit error (Maximum number of jobs already in queue for user MSG=total number of jobs)',
    ],
)
def test_limits_for_the_moment_are_transient(either: GenericPBSJobExecutor, text: str) -> None:
    answer = CommandResult(('qsub',), 1, '', text)
    assert either._is_transient(answer)
    assert not either._may_have_submitted(answer)


def test_an_aborted_connection_leaves_open_what_happened(either: GenericPBSJobExecutor) -> None:
    assert either._may_have_submitted(CommandResult(('qsub',), 1, '', 'qsub: submit error (End of File)'))
    assert either._may_have_submitted(CommandResult(('qsub',), None, '', '', 'no answer', timed_out=True))


def test_lost_job_is_found_by_its_script(executor: PBSJobExecutor, torque: PBSClassicJobExecutor) -> None:
    path = Path('/home/alice/pbs/job.sh')
    (step, *_) = (s for s in steps('pbs', 'qstat', 'job_held') if '-F' in s.argv and '"Jobs"' in s.stdout)
    native_id = re.findall(r'"(\d+\.pbs01)"', step.stdout)[0]
    listing = step.stdout.replace('-h job.sh', f'-h {path}')
    assert executor._parse_lookup_output(Job(), path, listing) == native_id
    assert executor._parse_lookup_output(Job(), Path('/other'), listing) is None
    (step, *_) = (s for s in steps('torque', 'qstat', 'job_held') if '<Data>' in s.stdout)
    listing = step.stdout.replace('-h job.sh', f'-h {path}')
    assert torque._parse_lookup_output(Job(), path, listing) == step.argv[-1]


# --- qstat: every recording is read ---------------------------------------------------------------------------------


def status_answers(name: str) -> List[Step]:
    option = '-x' if name == 'torque' else '-F'
    return [
        step
        for step in steps(name, 'qstat')
        if option in step.argv and 'dsv' not in step.argv and '-u' not in step.argv and '-Q' not in step.argv
        and '-B' not in step.argv and 'nosuch' not in step.argv and ('-f' in step.argv or name == 'torque')
        and (step.stdout or step.exit_code)  # of some, only the sizes were recorded
    ]  # fmt: skip


def parse(name: str, step: Step) -> Dict[str, _pbs_status.Record]:
    return (parse_xml if name == 'torque' else parse_json)(step.exit_code, output(step))


@pytest.mark.parametrize('name', list(CLASSES))
def test_every_recorded_answer_is_read(name: str) -> None:
    """Each job of each answer is found with its state, whatever else is in the text."""
    found = 0
    for step in status_answers(name):
        expected = re.findall(r'"job_state":\s*"(.)"|<job_state>(.)</job_state>', step.stdout)
        if not expected and (step.exit_code in (2, 33, 111, 255) or 'pbsconf error' in step.stderr):
            with pytest.raises(RuntimeError, match='qstat'):
                parse(name, step)
            continue
        records = parse(name, step)
        distinct = len(set(re.findall(r'^\s+"(\d+[^"]*)":\s*\{|<Job_Id>(.*?)<', step.stdout, re.MULTILINE)))
        assert len(records) == distinct, step
        assert {record['job_state'] for record in records.values()} == {a or b for a, b in expected}, step
        found += len(records)
    assert found > 50


@pytest.mark.parametrize('name', ['pbs', 'pbs_master'])
def test_lines_say_the_same_as_json_where_that_is_valid(name: str) -> None:
    compared = 0
    for step in status_answers(name):
        document, _ = _pbs_status._cut_out_json(output(step))
        try:
            jobs: Dict[str, Any] = json.loads(document)['Jobs']
        except (ValueError, KeyError):
            continue
        records = parse(name, step)
        for native_id, attributes in jobs.items():
            expected = {key: str(attributes[key]) for key in _pbs_status._ATTRIBUTES if key in attributes}
            used = attributes.get('resources_used', {})
            expected.update({f'resources_used.{key}': str(used[key]) for key in ('walltime', 'mem') if key in used})
            assert records[native_id] == expected, step
            compared += 1
    assert compared > 100


def test_json_that_is_none_is_read() -> None:
    """Bare ``nan`` and ``.5``, stray bytes and backslashes: one bad job must not cost the others."""
    broken = 0
    for step in steps('pbs', 'qstat', 'json_oddities'):
        try:
            json.loads(step.stdout)
        except ValueError:
            broken += 1
            (record,) = parse_json(0, step.stdout).values()
            assert (record['job_state'], record['substate']) == ('H', '20')
    assert broken > 5


def test_values_cannot_pass_for_attributes() -> None:
    """A variable called job_state, or text that looks like a job, is deeper, or inside of a line."""
    (step, *_) = (s for s in steps('pbs', 'qstat', 'qstat_text_injection') if 'json' in s.argv)
    (record,) = parse_json(0, step.stdout).values()
    assert record['job_state'] == 'H'
    assert 'Exit_status' not in record
    nested = step.stdout.replace('"V_A":', '"job_state":')
    (record,) = parse_json(0, nested).values()
    assert record['job_state'] == 'H'


def test_json_in_another_layout() -> None:
    jobs = {'1.x': {'job_state': 'F', 'substate': 92, 'Exit_status': 0, 'resources_used': {'walltime': '00:00:01'}}}
    for text in (json.dumps({'Jobs': jobs}), json.dumps({'pbs_server': 'x', 'Jobs': jobs}, indent=2)):
        for answer in (text, f'Message of the day\n{text}\n'):
            record = parse_json(0, answer)['1.x']
            assert record == {
                'job_state': 'F', 'substate': '92', 'Exit_status': '0', 'resources_used.walltime': '00:00:01',
            }  # fmt: skip
    assert parse_json(0, json.dumps({'pbs_server': 'x'})) == {}


@pytest.mark.parametrize('text', ['', '<html>502</html>', '{"Jobs": [1]}', '[]', '{\n'])
def test_rubbish_is_not_an_empty_queue(text: str) -> None:
    with pytest.raises(ValueError, match='something else'):
        parse_json(0, text)
    if text:
        with pytest.raises(ValueError, match='something else'):
            parse_xml(0, text)


def test_a_server_that_is_away_is_no_empty_queue() -> None:
    """It costs exit code 255, and a well-formed document without jobs."""
    down = [s for s in steps('pbs', 'qstat', 'server_down') if s.exit_code == 255 and '-F' in s.argv]
    assert json.loads(down[0].stdout)
    for step in down:
        with pytest.raises(RuntimeError, match='exited with 255'):
            parse_json(step.exit_code, output(step))


def test_a_server_that_goes_away_half_way() -> None:
    """The jobs it has not come to are not lost: the whole answer counts for nothing."""
    (step, *_) = (s for s in steps('pbs', 'qstat', 'job_running') if '-F' in s.argv)
    with pytest.raises(RuntimeError):
        parse_json(255, f'{step.stdout}\nqstat: cannot connect to server pbs01 (errno=15010)\n')


@pytest.mark.parametrize('name', list(CLASSES))
def test_unknown_jobs_do_not_cost_the_others(name: str) -> None:
    """The exit code is that of the last unknown ID, and stdout has all others."""
    mixed = [
        s for s in steps(name, 'qstat', 'qstat_errors') if s.exit_code and ('"Jobs"' in s.stdout or '<Job>' in s.stdout)
    ]
    assert {s.exit_code for s in mixed} >= ({153, 172} if name == 'torque' else {1, 35, 153, 170})
    for step in mixed:
        if step in status_answers(name):
            assert parse(name, step)


def test_torque_prints_one_document_for_each_id() -> None:
    (step,) = (
        s for s in steps('torque', 'qstat', 'qstat_errors') if s.argv[1:2] == ['-x'] and s.stdout.count('<?xml') == 3
    )
    assert len(parse_xml(0, step.stdout)) == 3


def test_xml_with_control_characters() -> None:
    job = '<Job_Id>1.x</Job_Id><job_state>R</job_state><Variable_List>A=a\x01b</Variable_List>'
    text = f'<?xml version="1.0"?>\n<Data><Job>{job}</Job></Data>\n'
    assert parse_xml(0, text)['1.x']['job_state'] == 'R'
    named = text.replace('a\x01b', '&lt;job_state&gt;C&lt;/job_state&gt;')
    assert parse_xml(0, named)['1.x']['job_state'] == 'R'


NOISE = "ERROR: ld.so: object 'libfoo.so' from LD_PRELOAD cannot be preloaded: ignored."


@pytest.mark.parametrize('name', list(CLASSES))
def test_remarks_of_others_do_not_hide_what_qstat_says(name: str) -> None:
    """But a server that does not answer stays one, and what is told about it has nothing of the jobs."""
    unknown = [s for s in status_answers(name) if 'Unknown Job Id' in s.stderr]
    away = [s for s in status_answers(name) if re.search(r'onnect|pbsconf|pbs_iff', s.stderr)]
    assert unknown
    assert away
    for step in unknown:
        quiet, noisy = (step._replace(stderr=text) for text in (step.stderr, f'{NOISE}\n{step.stderr}{NOISE}\n'))
        assert parse(name, noisy) == parse(name, quiet)
    listing = next(s.stdout for s in status_answers(name) if 'Variable_List' in s.stdout and not s.exit_code)
    for step in away:
        with pytest.raises(RuntimeError) as error:
            parse(name, step._replace(stdout=listing, stderr=f'{NOISE}\n{unknown[0].stderr}{step.stderr}'))
        assert step.stderr.strip().split('\n')[-1] in str(error.value).replace('\\n', '\n')
        assert 'Variable_List' not in str(error.value)
        with pytest.raises(RuntimeError) as error:
            parse(name, step._replace(stdout=listing[:-20], stderr=NOISE))
        assert 'Variable_List' not in str(error.value)


def test_an_id_that_was_good_is_not_taken_for_a_wrong_one(executor: PBSJobExecutor) -> None:
    """Commands that have lost their configuration say so about every ID."""
    step = next(s for s in steps('pbs', 'qstat', 'qstat_errors') if s.argv[-1] == '12.otherserver' and '-F' in s.argv)
    with pytest.raises(RuntimeError, match='illegally formed'):
        executor.parse_status_output(step.exit_code, output(step))
    executor._attached['12.otherserver'] = False
    assert executor.parse_status_output(step.exit_code, output(step))['12.otherserver'].state is JobState.FAILED
    executor._statuses({'12.OtherServer': {'job_state': 'R'}})
    with pytest.raises(RuntimeError, match='illegally formed'):
        executor.parse_status_output(step.exit_code, output(step))


def test_no_jobs_at_all() -> None:
    assert parse_xml(0, '') == {}


# --- what it means --------------------------------------------------------------------------------------------------


def last_status(name: str, scenario: str) -> Tuple[str, Optional[int], Optional[str]]:
    """Return state, exit code and reason at the end of a recording."""
    *_, step = (
        s for s in steps(name, 'qstat', scenario) if s.exit_code == 0 and ('"Jobs"' in s.stdout or '<Job>' in s.stdout)
    )
    records = parse(name, step)
    (record, *_) = records.values()
    status = _pbs_status.status(record, 'alice')
    return status.state.name, status.exit_code, str((status.metadata or {}).get('reason'))


OUTCOMES = {
    'job_finished_ok': ('COMPLETED', 0, 'None'),
    'job_finished_exit3': ('FAILED', 3, 'None'),
    'job_exit_255': ('FAILED', 255, 'None'),
    'job_exec_of_missing_command': ('FAILED', 127, 'None'),
    'job_bad_shebang': ('FAILED', 127, 'None'),
    'job_bad_shell_option': ('FAILED', 254, 'None'),
    'job_self_sigkill': ('FAILED', 137, 'None'),
    'job_self_sigterm': ('FAILED', 143, 'None'),
    'job_self_sigsegv': ('FAILED', 139, 'None'),
    'job_signalled': ('FAILED', 138, 'None'),  # 256 + SIGUSR1: the shell above the script
    'job_bad_output_dir': ('COMPLETED', 0, 'None'),
    'job_deleted_queued': ('CANCELED', None, 'cancelled_by_user'),
    'job_deleted_held': ('CANCELED', None, 'cancelled_by_user'),
    'job_deleted_running': ('CANCELED', None, 'cancelled_by_user'),
    'job_deleted_running_trap': ('CANCELED', None, 'cancelled_by_user'),
    'job_deleted_running_trap_exit0': ('CANCELED', None, 'cancelled_by_user'),
    'job_deleted_by_operator': ('CANCELED', None, 'cancelled_by_system'),
    'job_suspended': ('CANCELED', None, 'cancelled_by_user'),
    'job_killed_walltime': ('FAILED', None, 'timeout'),
    'job_killed_walltime_trap': ('FAILED', None, 'timeout'),
    'job_killed_mem': ('FAILED', None, 'out_of_memory'),
    'job_killed_cput': ('FAILED', 137, 'None'),
    'job_waiting': ('FAILED', None, 'dependency'),
    'job_prologue_fail1': ('FAILED', None, 'node_failure'),
    'job_prologue_fail2': ('COMPLETED', 0, 'None'),
    'job_rerun': ('COMPLETED', 0, 'None'),
    'job_exiting': ('FAILED', 3, 'None'),
    'job_slow_epilogue': ('FAILED', 3, 'None'),
}
TORQUE_OUTCOMES = {
    'job_finished_ok': ('COMPLETED', 0, 'None'),
    'job_finished_exit3': ('FAILED', 3, 'None'),
    'job_self_sigkill': ('FAILED', 137, 'None'),
    'job_self_sigterm': ('FAILED', 143, 'None'),
    'job_bad_shebang': ('FAILED', 127, 'None'),
    'job_deleted_running': ('CANCELED', None, 'cancelled_by_user'),
    'job_deleted_running_trap': ('CANCELED', None, 'cancelled_by_user'),
    'job_queued': ('CANCELED', None, 'cancelled_by_user'),  # deleted before it ran
    'job_killed_walltime': ('FAILED', None, 'timeout'),
    'job_killed_cput': ('FAILED', None, 'timeout'),
    'job_killed_mem': ('FAILED', 1, 'None'),  # memory becomes a limit of the process
    'job_running': ('COMPLETED', 0, 'None'),
}


@pytest.mark.parametrize('name', ['pbs', 'pbs_master'])
@pytest.mark.parametrize('scenario', list(OUTCOMES))
def test_recorded_outcomes(name: str, scenario: str) -> None:
    assert last_status(name, scenario) == OUTCOMES[scenario]


@pytest.mark.parametrize('scenario', list(TORQUE_OUTCOMES))
def test_recorded_outcomes_of_torque(scenario: str) -> None:
    assert last_status('torque', scenario) == TORQUE_OUTCOMES[scenario]


@pytest.mark.parametrize('code', ['271', '143', '265', '137', '0', ''])
def test_a_deleted_job_is_canceled_whatever_its_exit_status(code: str) -> None:
    record = {'job_state': 'F', 'substate': '91', **({'Exit_status': code} if code else {})}
    assert _pbs_status.status(record, 'alice').state is JobState.CANCELED


def test_271_alone_is_no_proof_of_a_deletion() -> None:
    """Servers before 22.05 end jobs that way at their limits, too; the comment tells."""
    record = {'job_state': 'F', 'substate': '93', 'Exit_status': '271', 'comment': 'Job run at X and failed'}
    status = _pbs_status.status(record, 'alice')
    assert (status.state, status.exit_code) == (JobState.FAILED, 143)
    record['comment'] = 'Job run at X and exceeded resource walltime'
    status = _pbs_status.status(record, 'alice')
    assert (status.state, (status.metadata or {})['reason']) == (JobState.FAILED, 'timeout')


@pytest.mark.parametrize(
    ('code', 'reason'),
    [
        (-24, 'cancelled_by_system'), (-25, 'cancelled_by_system'), (-26, 'out_of_memory'), (-27, 'out_of_memory'),
        (-28, 'timeout'), (-29, 'timeout'), (-1, 'node_failure'), (-2, 'node_failure'), (-11, 'node_failure'),
    ],
)  # fmt: skip
def test_negative_exit_status(code: int, reason: str) -> None:
    status = _pbs_status.status({'job_state': 'F', 'substate': '93', 'Exit_status': str(code)}, 'alice')
    assert (status.state, status.exit_code) == (JobState.FAILED, None)
    assert (status.metadata or {})['reason'] == reason
    assert status.message


def test_an_array_of_which_a_job_has_failed() -> None:
    """Its exit status may be 0."""
    *_, step = (
        s for s in steps('pbs_master', 'qstat', 'job_array') if s.argv[-1] == '145[].pbs01' and '-t' not in s.argv
    )
    record = parse_json(0, step.stdout)['145[].pbs01']
    assert (record['substate'], record['Exit_status']) == ('93', '0')
    status = _pbs_status.status(record, 'alice')
    assert (status.state, status.exit_code) == (JobState.FAILED, None)
    assert 'failed' in str(status.message)


def test_no_exit_status_is_no_success() -> None:
    for substate in ('91', '92', '93'):
        status = _pbs_status.status({'job_state': 'F', 'substate': substate}, 'alice')
        assert status.state is not JobState.COMPLETED


def test_exit_status_means_nothing_before_the_end() -> None:
    """A job that is run again has that of its last attempt."""
    for step in steps('pbs', 'qstat', 'job_prologue_fail2'):
        for record in parse_json(step.exit_code, output(step)).values() if '-F' in step.argv else ():
            if record['job_state'] in 'REQ':
                status = _pbs_status.status(record, 'alice')
                assert not status.final
                assert status.exit_code is None


@pytest.mark.parametrize(
    ('letter', 'state'),
    [*((c, JobState.QUEUED) for c in 'QHWTM'), *((c, JobState.ACTIVE) for c in 'RSUEB'), ('?', JobState.QUEUED)],
)
def test_states(letter: str, state: JobState) -> None:
    """An unknown letter is never ahead of what is known, and a suspended job never goes back."""
    status = _pbs_status.status({'job_state': letter}, 'alice')
    assert status.state is state
    assert (status.metadata or {})['native_state'] == letter


def test_an_array_and_its_jobs() -> None:
    for step in steps('pbs', 'qstat', 'job_array'):
        if '-F' in step.argv and step.exit_code == 0:
            for native_id, record in parse_json(0, step.stdout).items():
                status = _pbs_status.status(record, 'alice')
                assert status.final is (record['job_state'] in 'FX'), native_id


def test_messages_say_why_a_job_waits() -> None:
    def message(**record: str) -> Optional[str]:
        return _pbs_status.status(record, 'alice').message

    assert message(job_state='Q', comment='Not Running: No. ') == 'Not Running: No.'
    assert message(job_state='H', substate='20') == 'The job is held.'
    assert 'depends' in str(message(job_state='H', substate='22'))
    assert 'begin' in str(message(job_state='W'))
    assert message(job_state='S') == 'The job is suspended.'
    assert message(job_state='R', comment='Job run at ...') is None
    assert message(job_state='Q', comment='caf\x03\udce9') == 'caf??'


def test_accounting_figures() -> None:
    *_, step = (s for s in steps('pbs', 'qstat', 'job_killed_walltime') if '-F' in s.argv and s.exit_code == 0)
    (record,) = parse_json(0, step.stdout).values()
    metadata = _pbs_status.status(record, 'alice').metadata
    assert metadata is not None
    assert (metadata['elapsed'], metadata['max_rss']) == (10, 7152 * 1024)


def test_ids_with_and_without_the_server(either: GenericPBSJobExecutor) -> None:
    records = {'12.pbs01': {'job_state': 'R'}}
    assert set(either._statuses(records)) == {'12.pbs01', '12'}


# --- which question is asked ------------------------------------------------------------------------------------------


def test_few_are_asked_for_by_id_and_many_are_not(executor: PBSJobExecutor, torque: PBSClassicJobExecutor) -> None:
    """Each ID costs a login and a privileged port: 1000 took 72 s, and the list of all jobs 0.2 s."""
    few, many = ['1.x', '2.x'], [f'{n}.x' for n in range(50_000)]
    assert executor.get_status_command(few) == ['qstat', '-f', '-F', 'json', '-x', '1.x', '2.x']
    assert executor.get_status_command(many) == ['qstat', '-f', '-F', 'json']  # with -x it would be all of two weeks
    assert torque.get_status_command(few) == ['qstat', '-x', '1.x', '2.x']
    assert torque.get_status_command(many) == ['qstat', '-x']


def answer(step: Step) -> CommandResult:
    return CommandResult(tuple(step.argv), step.exit_code, step.stdout, step.stderr)


@pytest.mark.parametrize('name', ['pbs', 'pbs_master'])
def test_without_history_it_asks_without_x(executor: PBSJobExecutor, name: str) -> None:
    """With -x nothing is listed, not even running jobs, and the exit code is 0."""
    blind = next(s for s in steps(name, 'qstat', 'history_off') if '-F' in s.argv and 'not configured' in s.stderr)
    assert (blind.exit_code, parse_json(0, blind.stdout)) == (0, {})
    assert executor._must_ask_differently(answer(blind))
    assert '-x' not in executor.get_status_command(['1.x'])
    assert executor._get_history_command(['1.x']) is None
    assert not executor._must_ask_differently(answer(blind))  # it is asked only once
    ended = next(s for s in steps(name, 'qstat', 'job_finished_ok') if s.exit_code == 35 and '-F' in s.argv)
    assert executor._must_ask_differently(answer(ended))  # somebody has turned it on
    assert '-x' in executor.get_status_command(['1.x'])


def test_an_answer_about_the_first_job_only(executor: PBSJobExecutor) -> None:
    """The version of December 2023 leaves out the others without a word; they have not ended."""
    cut = next(
        s
        for s in steps('pbs_master', 'qstat', 'qstat_errors')
        if s.exit_code == 0 and '-F' in s.argv and '-x' in s.argv and len(set(s.argv[5:]) - {''}) == 2
    )
    assert len(parse_json(0, cut.stdout)) == 1
    assert executor._must_ask_differently(answer(cut))
    assert executor.get_status_command(cut.argv[5:]) == ['qstat', '-f', '-F', 'json']
    assert executor.get_status_command(cut.argv[5:6])[-1] == cut.argv[5]  # one alone is answered


def test_complete_answers_change_nothing(executor: PBSJobExecutor) -> None:
    for step in steps('pbs', 'qstat', 'qstat_errors'):
        if '-F' in step.argv and 'dsv' not in step.argv:
            executor._must_ask_differently(answer(step))
    assert len(executor.get_status_command(['1.x', '2.x'])) == 7


def test_other_spellings_do_not_cut_an_answer_short(executor: PBSJobExecutor) -> None:
    (step, *_) = (s for s in steps('pbs', 'qstat', 'job_running') if '-F' in s.argv and s.exit_code == 0)
    native_id = next(iter(parse_json(0, step.stdout)))
    argv = ('qstat', '-f', '-F', 'json', '-x', native_id.upper(), native_id.partition('.')[0])
    assert not executor._must_ask_differently(CommandResult(argv, 0, step.stdout, ''))


@pytest.mark.parametrize('name', ['pbs', 'pbs_master'])
def test_openpbs_is_noticed_by_the_executor_for_torque(torque: PBSClassicJobExecutor, name: str) -> None:
    """There ``qstat -x`` prints a table, in which IDs are cut short, after what the site prints."""
    table = next(s for s in steps(name, 'qstat') if s.stdout.startswith('Job id '))
    assert torque._must_ask_differently(answer(table)._replace(stdout=f'Welcome\n{table.stdout}'))
    assert torque.get_status_command(['1.x']) == ['qstat', '-f', '-F', 'json', '-x', '1.x']
    assert torque._get_history_command(['1.x']) == ['qstat', '-f', '-F', 'json', '-x', '1.x']
    (step, *_) = (s for s in steps(name, 'qstat', 'job_running') if '-F' in s.argv and s.exit_code == 0)
    assert not torque._must_ask_differently(answer(step))
    assert torque.parse_status_output(0, step.stdout)


@pytest.mark.parametrize('name', ['pbs', 'pbs_master'])
def test_so_is_openpbs_without_history(torque: PBSClassicJobExecutor, name: str) -> None:
    for blind in steps(name, 'qstat', 'history_off'):
        if blind.argv[:2] == ['qstat', '-x']:
            torque._qstat = PBSClassicJobExecutor()._qstat
            assert torque._must_ask_differently(answer(blind))
            assert torque.get_status_command(['1.x']) == ['qstat', '-f', '-F', 'json', '1.x']
            assert torque._get_history_command(['1.x']) is None


def test_torque_is_not_taken_for_openpbs(torque: PBSClassicJobExecutor) -> None:
    for step in steps('torque', 'qstat'):
        assert not torque._must_ask_differently(answer(step))
    assert torque.get_status_command(['1.x']) == ['qstat', '-x', '1.x']


def test_history_is_asked_about_one_job_at_a_time(executor: PBSJobExecutor, torque: PBSClassicJobExecutor) -> None:
    assert executor._get_history_command(['1.x', '2.x']) == ['qstat', '-f', '-F', 'json', '-x', '1.x']
    assert torque._get_history_command(['1.x']) is None


def test_without_history_qstat_can_tell_that_an_id_is_wrong(executor: PBSJobExecutor) -> None:
    """An ID that somebody else has given, and that no listing has shown."""
    blind = next(s for s in steps('pbs', 'qstat', 'history_off') if '-F' in s.argv and 'not configured' in s.stderr)
    executor._must_ask_differently(answer(blind))
    executor._attached['2.other'] = False
    assert executor._get_history_command(['1.x', '2.other']) == ['qstat', '-f', '-F', 'json', '2.other']
    assert executor._get_history_command(['1.x']) is None


# --- cancel, list, attach -------------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', list(CLASSES))
def test_cancelling_what_has_ended_is_no_error(either: GenericPBSJobExecutor, name: str) -> None:
    ended = 0
    for step in steps(name, 'qdel'):
        if step.exit_code == 0:
            continue
        expected: type[Exception] = SubmitException
        if re.search(r'Unknown Job|nonexistent|has finished|invalid for state', step.stderr):
            expected = InvalidJobStateError
            ended += 1
        with pytest.raises(expected) as error:
            either.process_cancel_command_output(step.exit_code, step.stderr)
        if isinstance(error.value, SubmitException):
            assert error.value.transient is ('onnect' in step.stderr)
    assert ended > 3


def test_list_has_whole_ids(either: GenericPBSJobExecutor) -> None:
    """``qstat -u`` cuts them, and has lines of headers."""
    assert either.get_list_command()[:2] == ['qselect', '-u']
    (step, *_) = (s for s in steps('pbs', 'qselect', 'qstat_list') if s.exit_code == 0 and s.stdout)
    assert either.parse_list_output(step.stdout)[:2] == ['415.pbs01', '741.pbs01']


@pytest.mark.parametrize('native_id', ['abc', '', '-1', '12 13', '12.x/../y', '12.x;y'])
def test_attach_takes_only_ids(either: GenericPBSJobExecutor, native_id: str) -> None:
    with pytest.raises(InvalidJobException, match='Invalid native ID'):
        either.attach(Job(), native_id)


def test_torque_says_nothing_about_arrays(torque: PBSClassicJobExecutor) -> None:
    """Asked about one, it lists all jobs there are."""
    with pytest.raises(InvalidJobException, match='array'):
        torque.attach(Job(), '146[].torque01')


def test_client_commands_are_shielded_from_the_environment(
    either: GenericPBSJobExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job script whose directives are not read would run without limits."""
    for name in ('PBS_DPREFIX', 'PBS_QSTAT_EXECONLY', 'PBS_SERVER'):
        monkeypatch.setenv(name, 'x')
    assert re.findall(r'^(PBS_\w+)=', either._execute(['/usr/bin/env']).stdout, re.MULTILINE) == ['PBS_SERVER']


# --- directives -------------------------------------------------------------------------------------------------------

EVERYTHING = JobSpec(
    '/opt/app/run it',
    ['a b', '$HOME', '"', "'", '', '--x=*'],
    directory='/scratch/job 1',
    name='all of it',
    inherit_environment=False,
    environment={'A': '1 2', 'PATH': '/opt/bin'},
    stdin_path='/in put',
    stdout_path='out.txt',
    stderr_path='err.txt',
    resources=ResourceSpecV1(
        node_count=2, processes_per_node=3, cpu_cores_per_process=4, gpu_cores_per_process=1, exclusive_node_use=True,
        memory=3 * 1024 * 1024 + 1,
    ),
    attributes=JobAttributes(
        timedelta(days=1, hours=2, minutes=3, seconds=4.5), 'long', 'my account', 'R12.pbs01',
        {'pbs.p': 5, 'PBS.h': True, 'pbs.W': 'umask=022', 'slurm.x': 1, 'plain': 2},
    ),
    pre_launch='/opt/app/setup',
    post_launch='/opt/app/finish',
    launcher='multiple',
)  # fmt: skip


def test_every_field_becomes_a_directive(executor: PBSJobExecutor) -> None:
    assert directives(executor, EVERYTHING) == [
        '-N all_of_it',
        '-l select=2:ncpus=12:mpiprocs=3:ompthreads=4:ngpus=3:mem=1537kb',
        '-l place=scatter:exclhost',
        '-l walltime=26:3:5',
        '-q long',
        '-A "my account"',
        '-q R12',
        '-o /dev/null',
        '-e /dev/null',
        '-p 5',
        '-h',
        '-W umask=022',
    ]


def test_every_field_becomes_a_directive_of_torque(torque: PBSClassicJobExecutor) -> None:
    assert directives(torque, EVERYTHING) == [
        '-N all_of_it',
        '-l nodes=2:ppn=12:gpus=3,mem=3073kb',
        '-n',
        '-l walltime=26:3:5',
        '-q long',
        '-A "my account"',
        '-l advres=R12.pbs01',
        '-o /dev/null',
        '-e /dev/null',
        '-p 5',
        '-h',
        '-W umask=022',
    ]


def test_defaults(executor: PBSJobExecutor, torque: PBSClassicJobExecutor) -> None:
    common = ['-l walltime=0:10:0', '-o /dev/null', '-e /dev/null']
    assert directives(executor, JobSpec('/usr/bin/true')) == [
        '-N true', '-l select=1:ncpus=1:mpiprocs=1', '-l place=scatter:shared', *common,
    ]  # fmt: skip
    assert directives(torque, JobSpec('/usr/bin/true')) == ['-N true', '-l nodes=1:ppn=1', *common]


@pytest.mark.parametrize(
    ('processes', 'cores', 'chunk'),
    [
        (1, None, '1:ncpus=1:mpiprocs=1'),
        (1, 3, '1:ncpus=3:mpiprocs=1:ompthreads=3'),
        (4, None, '1:ncpus=4:mpiprocs=4:ompthreads=1'),
        (4, 2, '1:ncpus=8:mpiprocs=4:ompthreads=2'),
    ],
)
def test_threads_are_those_of_a_process(
    executor: PBSJobExecutor, processes: int, cores: Optional[int], chunk: str
) -> None:
    """Otherwise PBS sets OMP_NUM_THREADS to the cores of all of them."""
    resources = ResourceSpecV1(process_count=processes, cpu_cores_per_process=cores)
    assert f'-l select={chunk}' in directives(executor, JobSpec('/bin/true', resources=resources))


@pytest.mark.parametrize('key', ['J', 'I', 'z', 'J1-3'])
def test_options_that_make_a_job_impossible_to_follow(either: GenericPBSJobExecutor, key: str) -> None:
    spec = JobSpec('/bin/true', attributes=JobAttributes(custom_attributes={f'pbs.{key}': True}))
    with pytest.raises(InvalidJobException, match=f'pbs.{key}: '):
        either.render_submit_script(Job(spec))


def test_arrays_of_torque(executor: PBSJobExecutor, torque: PBSClassicJobExecutor) -> None:
    """The first of its jobs to end would be taken for the end of all."""
    spec = JobSpec('/bin/true', attributes=JobAttributes(custom_attributes={'pbs.t': '1-3'}))
    with pytest.raises(InvalidJobException, match='one job for each element'):
        torque.render_submit_script(Job(spec))
    assert '-t 1-3' in directives(executor, spec)  # no option of OpenPBS, whose qsub will say so


def test_environment_does_not_travel_with_options(either: GenericPBSJobExecutor) -> None:
    """``-V`` does nothing in the release, and ``-v`` loses quotes, commas and newlines."""
    spec = JobSpec('/bin/true', environment={'A': 'b,"c'}, inherit_environment=True)
    assert not [line for line in directives(either, spec) if line.startswith(('-V', '-v'))]


@pytest.mark.parametrize(('duration', 'text'), [(0.2, '0:0:1'), (59.1, '0:1:0'), (360_000, '100:0:0')])
def test_walltime_is_rounded_up(either: GenericPBSJobExecutor, duration: float, text: str) -> None:
    spec = JobSpec('/bin/true', attributes=JobAttributes(timedelta(seconds=duration)))
    assert f'-l walltime={text}' in directives(either, spec)


def accepted_names(name: str) -> List[Tuple[str, bool]]:
    return [
        (s.argv[s.argv.index('-N') + 1], s.exit_code == 0) for s in steps(name, 'qsub', 'qsub_names') if '-N' in s.argv
    ]


@pytest.mark.parametrize('name', list(CLASSES))
def test_names_are_made_acceptable(name: str) -> None:
    """What all versions were seen to accept stays; everything else becomes something that they accept."""
    for text, accepted in accepted_names(name):
        made = acceptable_name(text)
        assert re.fullmatch(r'[A-Za-z0-9._+-]{1,230}', made)
        if name != 'torque':
            assert (made == text) is accepted, text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.text(min_size=1))
@pytest.mark.parametrize('field', ['name', 'queue_name', 'account', 'reservation_id', 'custom'])
def test_value_arrives_or_is_refused(executor: PBSJobExecutor, field: str, value: str) -> None:
    """No text can end the line of its directive, or become another option."""
    spec = JobSpec('/bin/true', name='x')
    assert spec.attributes is not None
    option = {'name': '-N', 'queue_name': '-q', 'account': '-A', 'reservation_id': '-q', 'custom': '-W'}[field]
    if field == 'custom':
        spec.attributes.custom_attributes = {'pbs.W': value}
    elif field == 'name':
        spec.name = value
    else:
        setattr(spec.attributes, field, value)
    if '\0' in value or (field != 'name' and (not value.isprintable() or '"' in value or '\\' in value)):
        with pytest.raises(InvalidJobException, match=field):
            directives(executor, spec)
        return
    words = pbs_directives(executor.render_submit_script(Job(spec)))
    expected = acceptable_name(value) if field == 'name' else value
    if field == 'reservation_id':
        expected = re.sub(r'^([RSM]\d+)\..*', r'\1', expected)
    assert [option, expected] in words
    assert len(words) == len(directives(executor, JobSpec('/bin/true'))) + (field != 'name')
    assert all(len(line) == 2 for line in words)


@pytest.mark.parametrize('key', ['a b', 'x=1', '', 'a\nb', '$(x)', '"'])
def test_name_of_a_custom_attribute_is_an_option(either: GenericPBSJobExecutor, key: str) -> None:
    spec = JobSpec('/bin/true', attributes=JobAttributes(custom_attributes={f'pbs.{key}': '1'}))
    with pytest.raises(InvalidJobException, match=r'pbs\.'):
        either.render_submit_script(Job(spec))


# --- scripts ----------------------------------------------------------------------------------------------------------

COMMON = '# --- from here on the script is the same for all schedulers ---\n'


def render(executor: GenericPBSJobExecutor, spec: JobSpec) -> str:
    """Return what is the scheduler's own in a script, with what differs from run to run replaced by a name."""
    job = Job(spec)
    script, _, _ = executor.render_submit_script(job).partition(COMMON)
    for text, name in ((str(executor.config.work_directory), '/WORK'), (job.id, 'JOB-ID')):
        script = script.replace(text, name)
    return script


SPECS = {
    'plain': JobSpec('/bin/date'),
    'everything': EVERYTHING,
}


@pytest.mark.parametrize('spec', list(SPECS))
@pytest.mark.parametrize('name', ['pbs', 'torque'])
def test_golden_scripts(
    name: str, spec: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part that is the same for all schedulers is in the golden scripts of Slurm."""
    executor = CLASSES[name](config=PBSExecutorConfig(work_directory=tmp_path / 'work'))
    for variable in list(os.environ):
        monkeypatch.delenv(variable)
    monkeypatch.setenv('PATH', '/usr/bin:/bin')
    monkeypatch.setenv('GREETING', "it's\n#PBS -q stolen")
    monkeypatch.setenv('PBS_JOBID', '1.outer')
    script = render(executor, SPECS[spec])
    golden = GOLDEN / name / f'{spec}.job'
    if request.config.getoption('--update-golden'):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(script)
    assert script == golden.read_text()


def run_script(executor: GenericPBSJobExecutor, spec: JobSpec, directory: Path, **variables: str) -> str:
    return scripts.run(executor, spec, directory, '1.x', PBS_JOBID='1.x', **variables)


HOSTILE = hostile('"\n#PBS -q x\n')


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=20)
@given(
    arguments=st.lists(TEXT | HOSTILE, max_size=3), value=TEXT | HOSTILE, inherited=TEXT | HOSTILE, name=TEXT | HOSTILE
)
def test_rendered_script_passes_values_on_unchanged(
    either: GenericPBSJobExecutor, tmp_path: Path, arguments: List[str], value: str, inherited: str, name: str
) -> None:
    """The script is run by a real bash: what the program gets must be what the specification and the caller have."""
    result = tmp_path / 'it\'s the "output"'
    program = (
        'import os,sys; e = os.environ; print(ascii([sys.argv[1:], e["VALUE"], e["INHERITED"], e["PSIJ_JOB_NAME"]]))'
    )
    spec = JobSpec('python3', ['-c', program, *arguments], name=name, environment={'VALUE': value}, stdout_path=result)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('INHERITED', inherited)
        patch.setenv('VALUE', 'of the submitting program')
        printed = run_script(either, spec, tmp_path)
    assert printed == ''
    assert eval(result.read_text()) == [arguments, value, inherited, name]
    assert not (tmp_path / 'pwned').exists()


def variables_of_a_job(executor: GenericPBSJobExecutor, tmp_path: Path, **fields: Any) -> Dict[str, str]:
    result = tmp_path / 'variables'
    spec = JobSpec('/usr/bin/env', ['-0'], stdout_path=result, **fields)
    run_script(executor, spec, tmp_path, PBS_QUEUE='q', TMPDIR='/job/tmp', NCPUS='3')
    return dict(item.split('=', 1) for item in result.read_text().split('\0') if item)


def test_the_environment_is_inherited_by_the_script(
    either: GenericPBSJobExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Except for what says where and in which job a program runs."""
    monkeypatch.setenv('FLAVOUR', 'sweet\nand "sour"')
    for name in ('PBS_QUEUE', 'TMPDIR', 'NCPUS', 'PBS_O_HOST', 'PSIJ_NODEFILE'):
        monkeypatch.setenv(name, 'of the submitting program')
    monkeypatch.setenv('BASH_FUNC_ls%%', '() { echo no; }')
    variables = variables_of_a_job(either, tmp_path)
    assert variables['FLAVOUR'] == 'sweet\nand "sour"'
    assert (variables['PBS_QUEUE'], variables['TMPDIR'], variables['NCPUS']) == ('q', '/job/tmp', '3')
    assert not {'PBS_O_HOST', 'PSIJ_NODEFILE'} & variables.keys()


def test_devices_and_threads_are_those_of_the_job(
    executor: PBSJobExecutor, torque: PBSClassicJobExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PBS says which devices a job may use; the number of threads is set by OpenPBS alone."""
    devices = ('CUDA_VISIBLE_DEVICES', 'GPU_DEVICE_ORDINAL', 'ROCR_VISIBLE_DEVICES')
    for name in (*devices, 'OMP_NUM_THREADS'):
        monkeypatch.setenv(name, '7')
    assert not {*devices, 'OMP_NUM_THREADS'} & variables_of_a_job(executor, tmp_path).keys()
    variables = variables_of_a_job(torque, tmp_path)
    assert not set(devices) & variables.keys()
    assert variables['OMP_NUM_THREADS'] == '7'


def test_no_carriage_return_gets_into_a_script(
    either: GenericPBSJobExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one before the end of a line, qsub takes the script for one of Windows, and refuses it."""
    value = "\r\n'\r'\n\r"
    monkeypatch.setenv('INHERITED', value)
    result = tmp_path / 'result'
    program = (
        'import os,sys; e = os.environ; print(ascii([sys.argv[1], e["GIVEN"], e["INHERITED"], e["PSIJ_JOB_NAME"]]))'
    )
    spec = JobSpec('python3', ['-c', program, value], name=value, environment={'GIVEN': value}, stdout_path=result)
    run_script(either, spec, tmp_path)
    assert eval(result.read_text()) == [value] * 4
    assert b'\r' not in (tmp_path / 'script').read_bytes()


def test_a_script_to_look_at_can_leave_it_out(either: GenericPBSJobExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('TOKEN', 'my password')
    job = Job(JobSpec('/bin/true'))
    assert "export TOKEN='my password'" in either.render_submit_script(job)
    assert 'password' not in either.render_submit_script(job, environment=False)


def test_or_it_is_not(either: GenericPBSJobExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('FLAVOUR', 'sweet')
    variables = variables_of_a_job(either, tmp_path, inherit_environment=False, environment={'A': '1'})
    assert 'FLAVOUR' not in variables
    assert (variables['A'], variables['PBS_QUEUE']) == ('1', 'q')


@pytest.mark.parametrize(('cores', 'lines'), [(None, 'b b a a'), (1, 'b b a a'), (2, 'b b b b a a a a')])
def test_nodefile_has_a_line_for_each_process(
    torque: PBSClassicJobExecutor, tmp_path: Path, cores: Optional[int], lines: str
) -> None:
    """Torque's own has one for each core."""
    nodes = tmp_path / 'nodes'
    nodes.write_text('\n'.join(lines.split()) + '\n')
    result = tmp_path / 'hosts'
    resources = ResourceSpecV1(node_count=2, processes_per_node=2, cpu_cores_per_process=cores)
    spec = JobSpec('/bin/sh', ['-c', 'cat "$PSIJ_NODEFILE"'], stdout_path=result, resources=resources)
    assert run_script(torque, spec, tmp_path, PBS_NODEFILE=str(nodes)) == ''
    assert result.read_text().split() == ['b', 'b', 'a', 'a']


def test_nodefile_of_openpbs(executor: PBSJobExecutor, tmp_path: Path) -> None:
    result = tmp_path / 'where'
    spec = JobSpec('/bin/sh', ['-c', 'echo "$PSIJ_NODEFILE"'], stdout_path=result, resources=ResourceSpecV1(2))
    run_script(executor, spec, tmp_path, PBS_NODEFILE='/var/nodes')
    assert result.read_text() == '/var/nodes\n'
