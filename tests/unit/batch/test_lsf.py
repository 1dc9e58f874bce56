"""LSF: parsers against recordings of volclava, options by its rules, scripts as golden files.

The comments name the sections of the notes on LSF that a test protects; what IBM documents is tested with the shapes
that its manual gives.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
from fakes.harness import FakeCluster
from fakes.lsf.bsub import WRAPPER, parse
from fakes.lsf.directives import directives as read_directives
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from recordings import Step, steps

from psij import (
    InvalidJobException,
    Job,
    JobAttributes,
    JobSpec,
    JobState,
    JobStatus,
    ResourceSpecV1,
    StageIn,
    StageOut,
    SubmitException,
)
from psij._runtime.command import CommandResult, run
from psij._runtime.outcome import ExitRecord, final_status
from psij.executors.batch import lsf
from psij.executors.batch.batch_scheduler_executor import InvalidJobStateError
from psij.executors.batch.lsf import (
    LsfExecutorConfig,
    LsfJobExecutor,
    lsf_escape,
    lsf_name,
    parse_bhist,
    parse_bjobs,
    parse_bsub,
    run_limit,
    with_cause,
)

from . import scripts
from .scripts import TEXT, hostile

GOLDEN = Path(__file__).parent.parent.parent / 'golden' / 'lsf'


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LsfJobExecutor:
    monkeypatch.setenv('LSF_ENVDIR', str(tmp_path))  # where there is no lsf.conf
    return LsfJobExecutor(config=LsfExecutorConfig(work_directory=tmp_path / 'work'))


def directives(executor: LsfJobExecutor, spec: JobSpec) -> List[str]:
    script = executor.render_submit_script(Job(spec))
    return [line[len('#BSUB ') :] for line in script.splitlines() if line.startswith('#BSUB ')]


def options(executor: LsfJobExecutor, spec: JobSpec) -> Dict[str, str]:
    """Return the options that bsub understands, from the script and its arguments, of which the latter win."""
    command = executor.get_submit_command(Job(spec), Path('/x'))
    in_script, _ = parse(read_directives(executor.render_submit_script(Job(spec))), True, in_script=True)
    given, operands = parse(command[1:], True, in_script=False)
    assert (command[0], operands) == ('bsub', [])
    return {**in_script, **given}


def answer(exit_code: int = 0, stdout: str = '', stderr: str = '') -> CommandResult:
    return CommandResult(('x',), exit_code, stdout, stderr)


def of(record: Dict[str, str]) -> JobStatus:
    """Return the status for a record in the form of LSF 10.1."""
    text = json.dumps({'COMMAND': 'bjobs', 'JOBS': 1, 'RECORDS': [{'JOBID': '9', **record}]}, separators=(',', ':'))
    return parse_bjobs(text)['9']


def reason(status: JobStatus) -> object:
    return (status.metadata or {}).get('reason')


# --- bsub (section 1) -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize('step', [s for s in steps('lsf', 'bsub') if s.exit_code == 0 and s.stdout], ids=str)
def test_job_id_of_each_recorded_submission(step: Step) -> None:
    match = re.search(r'\d+', step.stdout)
    assert match is not None
    assert parse_bsub(step.stdout) == match[0]


def test_job_id_among_the_remarks_of_a_site() -> None:
    out = 'Cannot connect to LSF. Please wait ...\n== 12 jobs left ==\nJob <4711> is submitted to queue <q>.\n'
    assert parse_bsub(out) == '4711'
    with pytest.raises(ValueError, match='printed no job ID'):
        parse_bsub('')


@pytest.mark.parametrize('step', [s for s in steps('lsf', 'bsub') if s.exit_code == 255], ids=str)
def test_rejections_are_final(executor: LsfJobExecutor, step: Step) -> None:
    result = answer(step.exit_code, step.stdout, step.stderr)
    assert not executor._is_transient(result)
    assert not executor._may_have_submitted(result)


@pytest.mark.parametrize('text', ['LSF is down; try later', 'Cannot connect to LSF.', 'Pending job threshold reached.'])
def test_outages_and_limits_pass(executor: LsfJobExecutor, text: str) -> None:
    assert executor._is_transient(answer(255, '', text))


def test_script_is_read_from_standard_input(executor: LsfJobExecutor) -> None:
    """A file among the arguments would be run as a command, without its directives."""
    path = executor.work_directory / 'x.job'
    assert executor._get_submit_input(Job(JobSpec('/bin/true')), path) == path
    assert str(path) not in executor.get_submit_command(Job(JobSpec('/bin/true')), path)


def test_commands_read_a_file_or_nothing(tmp_path: Path) -> None:
    (tmp_path / 'in').write_text('text')
    assert run(['cat'], stdin_path=tmp_path / 'in').stdout == 'text'
    assert run(['cat']).stdout == ''
    assert run(['cat'], stdin_path=tmp_path / 'missing').exit_code is None


def test_url_is_accepted_by_position(tmp_path: Path) -> None:
    assert LsfJobExecutor(None, LsfExecutorConfig(work_directory=tmp_path)).name == 'lsf'


def test_bsub_is_shielded_from_the_environment(executor: LsfJobExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """BSUB_QUIET would hide the job ID; a default queue is the wish of the user."""
    for name in ('BSUB_QUIET', 'BSUB_QUIET2', 'BSUB_STDERR', 'BSUB_CHK_RESREQ', 'LSB_BJOBS_FORMAT', 'LSB_DEFAULTQUEUE'):
        monkeypatch.setenv(name, 'Y')
    printed = executor._execute(['/usr/bin/env'], c_locale=False).stdout
    assert re.findall('^(BSUB_[^=]*|LSB_[^=]*)=', printed, re.MULTILINE) == ['LSB_DEFAULTQUEUE']


# --- options (sections 1 and 7) -------------------------------------------------------------------------------------

EVERYTHING = JobSpec(
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
        duration=timedelta(hours=2, minutes=3, seconds=0.5),
        queue_name='debug',
        account='proj 1',
        reservation_id='r"1',
        custom_attributes={'lsf.app': 'my app', 'LSF.H': True, 'lsf.N': '', 'pbs.x': 1, 'plain': 2},
    ),
)


def test_every_field_becomes_an_option(executor: LsfJobExecutor) -> None:
    assert directives(executor, EVERYTHING) == [
        '-J "my job"',
        '-n 24',  # slots: one for each core
        '-R "span[ptile=12]"',
        '-gpu num=3/host',
        '-x',
        '-M 3073',
        '-W 2:04',
        '-q debug',
        '-P "proj 1"',
        "-U 'r\"1'",
        '-o /dev/null',
        '-e /dev/null',
        '-app "my app"',
        '-H',
        '-N',
    ]
    assert executor.get_submit_command(Job(EVERYTHING), Path('/x')) == ['bsub']
    assert "\ncd -- '/scratch/a b' || " in executor.render_submit_script(Job(EVERYTHING))


def test_defaults_are_understood_by_volclava(executor: LsfJobExecutor) -> None:
    """It would take ``-env none`` for ``-e nv``, and refuses -cwd, -nnodes and -gpu."""
    lines = directives(executor, JobSpec('/usr/bin/true', inherit_environment=False, directory='/tmp'))
    assert lines == [
        '-J true',
        '-n 1',
        '-R "span[ptile=1]"',
        '-W 0:10',
        '-o /dev/null',
        '-e /dev/null',
    ]


def test_account_is_a_project_and_no_group(executor: LsfJobExecutor) -> None:
    """An unknown fair-share group would be a rejection."""
    spec = JobSpec('/bin/true', attributes=JobAttributes(account='a1'))
    assert options(executor, spec)['P'] == 'a1'
    assert 'G' not in options(executor, spec)


@pytest.mark.parametrize(
    ('seconds', 'expected'),
    [(0, '0:01'), (0.5, '0:01'), (30, '0:01'), (60, '0:01'), (61, '0:02'), (450, '0:08'), (90000, '25:00')],
)
def test_run_limit_is_rounded_up_and_never_zero(executor: LsfJobExecutor, seconds: float, expected: str) -> None:
    """``-W 0:0`` kills the job at once (recording ``node_daemon_down``, last step)."""
    assert run_limit(timedelta(seconds=seconds)) == expected
    assert executor._format_duration(timedelta(seconds=seconds)) == expected


GIB = 1024**3


@pytest.mark.parametrize(
    ('conf', 'memory', 'expected'),
    [
        ('LSF_VERSION=2.2\n', 4097, '5'),
        ('# LSF_UNIT_FOR_LIMITS=GB\n', 4097, '5'),
        ('LSF_UNIT_FOR_LIMITS=KB\n', 4096, '4'),
        ('A=1\n  LSF_UNIT_FOR_LIMITS = M\n', 1024**2 + 1, '2'),
        ('LSF_UNIT_FOR_LIMITS=GB # of all limits\n', 4 * GIB, '4'),
        ('LSF_UNIT_FOR_LIMITS="gb"\n', 4 * GIB + 1, '5'),
        ('LSF_UNIT_FOR_LIMITS=TB\n', 1, '1'),
    ],
)
@pytest.mark.parametrize('place', ['LSF_ENVDIR', '/etc'])
def test_memory_is_in_the_unit_of_the_site(
    executor: LsfJobExecutor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    conf: str,
    memory: int,
    expected: str,
    place: str,
) -> None:
    """volclava refuses a suffix and takes numbers as KiB; so does LSF if no unit is chosen, but most sites do that."""
    (tmp_path / 'lsf.conf').write_text(conf)
    if place == '/etc':
        monkeypatch.delenv('LSF_ENVDIR')
        monkeypatch.setattr(lsf, '_SYSTEM_CONFIGURATION', str(tmp_path))
    spec = JobSpec('/bin/true', resources=ResourceSpecV1(memory=memory))
    assert options(executor, spec)['M'] == expected


@pytest.mark.parametrize('field', ['queue_name', 'account', 'reservation_id'])
def test_empty_value_is_none(executor: LsfJobExecutor, field: str) -> None:
    spec = JobSpec('/bin/true', attributes=JobAttributes(**{field: ''}))  # type: ignore[arg-type]
    assert options(executor, spec).keys() == {'J', 'n', 'R', 'W', 'o', 'e'}


def test_whole_nodes_of_csm(executor: LsfJobExecutor) -> None:
    """With ``-nnodes`` nothing is said about slots, and the first line of the list of hosts is the launch node."""
    spec = JobSpec('/bin/true', resources=ResourceSpecV1(node_count=2, processes_per_node=3))
    spec.attributes = JobAttributes(custom_attributes={'lsf.nnodes': 2})
    assert options(executor, spec)['nnodes'] == '2'
    assert not {'n', 'R'} & options(executor, spec).keys()


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('x[1-2]', 'x_1-2_'),  # would be two jobs
        ('a\nb\t', 'a_b_'),
        ('say "hi" and \'ho\'', 'say "hi" and \'ho\''),
        ('#hash', '#hash'),
        ('  blanks ', 'blanks'),
        ('', 'psij'),
        ('a/*%&|;<ü', 'a/*%&|;<ü'),
        ('ü' * 200, 'ü' * 127),  # 254 bytes
    ],
)
def test_name_is_made_acceptable(executor: LsfJobExecutor, name: str, expected: str) -> None:
    assert lsf_name(name) == expected
    assert options(executor, JobSpec('/bin/true', name=name))['J'] == expected


def test_custom_options_replace_ours_wherever_they_are(executor: LsfJobExecutor) -> None:
    """The command line has precedence over the script, so what replaces an argument must be one."""
    spec = JobSpec('/bin/true', attributes=JobAttributes(queue_name='#q', custom_attributes={'lsf.q': 'other'}))
    assert executor.get_submit_command(Job(spec), Path('/x')) == ['bsub', '-q', '#q', '-q', 'other']
    assert options(executor, spec)['q'] == 'other'


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.text(min_size=1) | st.text(' "\'#\\-[]$`a', min_size=1))
@pytest.mark.parametrize('field', ['queue_name', 'account', 'reservation_id', 'custom', 'name'])
def test_value_arrives_or_is_refused(executor: LsfJobExecutor, field: str, value: str) -> None:
    """Whatever it is, it ends up as the value of its option, by the rules that were recorded."""
    spec = JobSpec('/bin/true', name='x')
    assert spec.attributes is not None
    option = {'name': 'J', 'queue_name': 'q', 'account': 'P', 'reservation_id': 'U', 'custom': 'Jd'}[field]
    if field == 'custom':
        spec.attributes.custom_attributes = {'lsf.Jd': value}
    elif field == 'name':
        spec.name = value
    else:
        setattr(spec.attributes, field, value)
    if field != 'name' and not value.isprintable():
        with pytest.raises(InvalidJobException, match=field):
            directives(executor, spec)
        return
    found = options(executor, spec)
    assert found[option] == (lsf_name(value) if field == 'name' else value)
    assert found.keys() == {'J', 'n', 'R', 'W', 'o', 'e', option}


@pytest.mark.parametrize('key', ['a b', 'x=1', '', '-x', 'a\nb', '$(x)'])
def test_name_of_a_custom_attribute_is_an_option(executor: LsfJobExecutor, key: str) -> None:
    spec = JobSpec('/bin/true', attributes=JobAttributes(custom_attributes={f'lsf.{key}': '1'}))
    with pytest.raises(InvalidJobException, match=r'lsf\.'):
        executor.render_submit_script(Job(spec))


# --- bjobs (sections 2 and 3) ---------------------------------------------------------------------------------------


@pytest.mark.parametrize('step', [s for s in steps('lsf', 'bjobs') if '"RECORDS"' in s.stdout], ids=str)
def test_each_recorded_answer_is_understood(step: Step) -> None:
    """Also those with exit code 255, in which some or all jobs are not found."""
    found = parse_bjobs(step.stdout + '\n' + step.stderr)
    for native_id, state in re.findall(r'"JOBID":\t"(\d+)",\n\t+"STAT":\t"(\w+)"', step.stdout):
        assert native_id in found
        if step.stdout.count(f'"{native_id}"') == 1:
            assert (found[native_id].metadata or {})['native_state'] == state
    for native_id in re.findall(r'Job <(\d+)> is not found', step.stdout):
        assert native_id not in found


@pytest.mark.parametrize('step', [s for s in steps('lsf', 'bjobs') if s.exit_code and not s.stdout], ids=str)
def test_recorded_failures_are_no_answer(executor: LsfJobExecutor, step: Step) -> None:
    with pytest.raises(ValueError, match='something else'):
        executor.parse_status_output(step.exit_code, step.stderr)


@pytest.mark.parametrize(
    ('native_state', 'state'),
    [
        *[(name, JobState.QUEUED) for name in ('PEND', 'PROV', 'PSUSP', 'WAIT')],
        *[(name, JobState.ACTIVE) for name in ('RUN', 'USUSP', 'SSUSP', 'UNKWN', 'ZOMBI')],
        ('DONE', JobState.COMPLETED),
        ('EXIT', JobState.FAILED),
        ('NEWER', JobState.QUEUED),  # never ahead of what is known
    ],
)
def test_states(native_state: str, state: JobState) -> None:
    assert of({'STAT': native_state}).state is state


@pytest.mark.parametrize(
    ('cause', 'state', 'expected'),
    [
        ('TERM_OWNER: job killed by owner', JobState.CANCELED, 'cancelled_by_user'),
        ('TERM_FORCE_OWNER: x', JobState.CANCELED, 'cancelled_by_user'),
        ('TERM_ADMIN: job killed by root or LSF administrator', JobState.CANCELED, 'cancelled_by_system'),
        ('TERM_RUNLIMIT: job killed after reaching LSF run time limit', JobState.FAILED, 'timeout'),
        ('TERM_MEMLIMIT: job killed after reaching LSF memory usage limit', JobState.FAILED, 'out_of_memory'),
        ('TERM_PREEMPT: x', JobState.FAILED, 'preempted'),
        ('TERM_EXTERNAL_SIGNAL: job killed by a signal external to LSF', JobState.FAILED, None),
        ('TERM_UNKNOWN: x', JobState.FAILED, None),
        ('', JobState.FAILED, None),
    ],
)
def test_exit_is_told_apart_by_its_reason(cause: str, state: JobState, expected: Optional[str]) -> None:
    status = of({'STAT': 'EXIT', 'EXIT_CODE': '130', 'EXIT_REASON': cause})
    assert (status.state, reason(status), status.exit_code) == (state, expected, 130)


def test_messages() -> None:
    record = {'STAT': 'EXIT', 'EXIT_CODE': '', 'EXIT_REASON': 'TERM_OWNER: x', 'KILL_REASON': 'wrong input'}
    assert of(record).message == 'wrong input'
    assert of({'STAT': 'PEND', 'PEND_REASON': 'Not enough slots'}).message == 'Not enough slots'
    assert of({'STAT': 'SSUSP', 'SUSPEND_REASON': ''}).message == 'The job is suspended by the system.'
    assert of({'STAT': 'RUN', 'PEND_REASON': 'old', 'SUSPEND_REASON': '   -   '}).message is None


def test_odd_records_do_no_harm() -> None:
    """One record that is not understood must not keep the others from being used; nor must what a site prints."""
    text = 'Welcome {you}\n' + json.dumps(
        {'JOBS': 4, 'RECORDS': [{'STAT': 'RUN'}, {'JOBID': '8', 'ERROR': 'no'}, 'x', {'JOBID': '9', 'STAT': 'DONE'}]}
    )
    found = parse_bjobs(text + '\nBye\n')
    assert {number: status.state for number, status in found.items()} == {'8': JobState.QUEUED, '9': JobState.COMPLETED}


def test_quotes_that_are_not_escaped() -> None:
    first, second = '"JOBID":"8",\n"STAT":"RUN",\n"JOB_NAME":"say "hi""', '"JOBID":"9",\n"STAT":"DONE"'
    text = f'{{\n"JOBS":2,\n"RECORDS":[{{\n{first}\n}},{{\n{second}\n}}]\n}}'
    found = parse_bjobs(text)
    assert (found['8'].state, found['9'].state) == (JobState.ACTIVE, JobState.COMPLETED)


def test_no_jobs_is_an_answer_and_rubbish_is_none() -> None:
    (step, *_) = [s for s in steps('lsf', 'bjobs', 'other_users') if '"JOBS":\t0' in s.stdout]
    assert step.exit_code == 255
    assert parse_bjobs(step.stdout) == {}
    for text in ('', '{}', '[]', '<html>', '{"COMMAND":"bjobs"'):
        with pytest.raises(ValueError, match='something else'):
            parse_bjobs(text)


def test_elements_of_an_array() -> None:
    """They have the ID of the array; it has ended when all have."""
    (step,) = [s for s in steps('lsf', 'bjobs', 'bkill') if s.argv[-3:] == ['-o', 'jobid stat job_name', '70']]
    found = parse_bjobs(step.stdout)
    assert set(found) == {'70', '70[1]', '70[2]', '70[3]'}
    changed = step.stdout.replace('"RUN"', '"DONE"', 1)
    assert parse_bjobs(changed)['70'].state is JobState.ACTIVE
    changed = step.stdout.replace('"RUN"', '"EXIT"', 1).replace('"RUN"', '"DONE"')
    assert parse_bjobs(changed)['70'].state is JobState.FAILED
    assert parse_bjobs(changed)['70[2]'].state is JobState.COMPLETED


def test_fields_that_a_version_does_not_know(executor: LsfJobExecutor) -> None:
    """An unknown field costs the whole answer; what is known is asked for, and the choice is kept."""
    (step,) = [s for s in steps('lsf', 'bjobs') if 'kill_reason' in ' '.join(s.argv)]
    assert 'kill_reason' in ' '.join(executor.get_status_command(['1']))
    old_fix_pack = answer(255, '', '<KILL_REASON> in the format string is not a valid field name.\n')
    assert executor._must_ask_differently(old_fix_pack)
    assert executor.get_status_command(['1'])[4] == 'jobid jobindex stat exit_code exit_reason'
    assert executor._must_ask_differently(answer(step.exit_code, step.stdout, step.stderr))
    assert executor.get_status_command(['1'])[4] == 'jobid stat start_time job_name'
    assert not executor._must_ask_differently(answer(step.exit_code, step.stdout, step.stderr))
    assert not executor._must_ask_differently(answer(255, '{"JOBS":0,"RECORDS":[]}', ''))


def test_volclava_is_asked_for_what_it_knows_at_once(executor: LsfJobExecutor) -> None:
    assert executor._must_ask_differently(
        answer(99, '', '<JOBINDEX> in the format string is not a valid field name.\n')
    )
    assert executor.get_status_command(['1', '2']) == [
        *('bjobs', '-a', '-json', '-o', 'jobid stat start_time job_name', '1', '2')
    ]


# --- how it ended, where LSF does not say why (section 2) -----------------------------------------------------------

EXIT = JobStatus(JobState.FAILED, metadata={'native_state': 'EXIT'})


@pytest.mark.parametrize(
    ('record', 'cancelled', 'state', 'expected'),
    [
        (ExitRecord(130, True), True, JobState.CANCELED, 'cancelled_by_user'),
        (ExitRecord(130, True), False, JobState.CANCELED, 'cancelled_by_user'),  # bkill by hand
        (ExitRecord(143, True), False, JobState.CANCELED, 'cancelled_by_user'),
        (ExitRecord(140, True), False, JobState.FAILED, 'timeout'),  # USR2
        (None, True, JobState.CANCELED, 'cancelled_by_user'),  # killed with KILL, or before it ran
        (None, False, JobState.FAILED, 'lost'),
        (ExitRecord(130), False, JobState.FAILED, 'signal'),  # of its own
        (ExitRecord(3), True, JobState.FAILED, 'exit_code'),  # it ended before bkill
        (ExitRecord(0), True, JobState.COMPLETED, None),
    ],
)
def test_signal_of_the_script_tells_why(
    record: Optional[ExitRecord], cancelled: bool, state: JobState, expected: Optional[str]
) -> None:
    status = final_status(with_cause(EXIT, record, cancelled), record, None, cancelled)
    assert (status.state, reason(status)) == (state, expected)


def test_reasons_of_lsf_come_first() -> None:
    status = of({'STAT': 'EXIT', 'EXIT_CODE': '130', 'EXIT_REASON': 'TERM_RUNLIMIT: x'})
    assert with_cause(status, ExitRecord(130, True), False) is status
    done = of({'STAT': 'DONE'})
    assert with_cause(done, ExitRecord(0, True), True) is done  # it has handled the signal, and completed


def test_script_that_handles_bkill_and_ends_well_is_done(cluster: FakeCluster, live: LsfJobExecutor) -> None:
    """Recording ``job_run_killed``, job 58. Whether the script or bjobs is first to tell makes no difference."""
    os.mkfifo('fifo')
    job = submitted(live, 'trap "exit 0" INT TERM; echo > fifo; while :; do sleep 0.05; done')
    Path('fifo').read_text()
    job.cancel()
    assert final(job).state is JobState.COMPLETED


def test_job_that_never_started_was_cancelled() -> None:
    """bkill of a waiting job: volclava says EXIT, and nothing else."""
    assert of({'STAT': 'EXIT', 'START_TIME': '-'}).state is JobState.CANCELED
    assert of({'STAT': 'EXIT', 'START_TIME': '11/22-13:11:07'}).state is JobState.FAILED


# --- bhist (section 4) ----------------------------------------------------------------------------------------------


def test_recorded_history() -> None:
    (step,) = [s for s in steps('lsf', 'bhist') if '-l' in s.argv]
    status = parse_bhist(step.stdout)['172']
    assert (status.state, status.exit_code) == (JobState.FAILED, 4)


def history(*events: str) -> JobStatus:
    lines = ''.join(f'Sun Nov  2 13:22:11: {event}\n' for event in events)
    return parse_bhist(f'\nJob <7>, User <alice>, Command <x>\n{lines}\nSummary of time\n')['7']


def test_history_of_each_end() -> None:
    assert history('Dispatched to <a>;', 'Done successfully. The CPU').state is JobState.COMPLETED
    assert history('Dispatched to <a>;', 'Starting (Pid 1);').state is JobState.ACTIVE
    assert history('Dispatched to <a>;', 'Exited by signal 9. The').exit_code == 137
    assert history('Submitted from host <a>', 'Exited').state is JobState.CANCELED  # while it waited
    killed = history('Dispatched to <a>;', 'Exited with exit code 130. The', 'Completed <exit>; TERM_OWNER: job killed')
    assert killed.state is JobState.CANCELED
    assert reason(history('Starting (Pid 1);', 'Exited with exit code 140.', 'Completed; TERM_RUNLIMIT')) == 'timeout'


def test_history_counts_the_last_run_and_survives_broken_lines() -> None:
    assert history('Exited with exit code 3.', 'Dispatched to <a>;').state is JobState.ACTIVE
    assert history('Starting (Pid 1);', 'Exited with exit\n                     code 4. The').exit_code == 4
    assert parse_bhist('No matching job found\n') == {}


def test_only_ids_are_asked_for(executor: LsfJobExecutor) -> None:
    assert executor._get_history_command(['7', 'x;y', '0']) == ['bhist', '-l', '7']
    assert executor._get_history_command(['x']) is None


# --- bkill, list and attach (sections 3 and 5) ----------------------------------------------------------------------


@pytest.mark.parametrize(
    'step', [s for s in steps('lsf', 'bkill') if s.exit_code == 255 and 'Usage' not in s.stderr], ids=str
)
def test_recorded_answers_of_bkill(executor: LsfJobExecutor, step: Step) -> None:
    if 'in progress' in step.stderr:
        executor.process_cancel_command_output(255, step.stderr)  # neither success nor failure: bjobs will tell
    elif re.search('already finished|No matching', step.stderr):
        with pytest.raises(InvalidJobStateError):
            executor.process_cancel_command_output(255, step.stderr)
    else:
        with pytest.raises(SubmitException, match=r'denied|Illegal'):
            executor.process_cancel_command_output(255, step.stderr)


@pytest.mark.parametrize('native_id', ['0', '', '-s', 'abc', '1 2', '00'])
def test_all_jobs_are_never_killed(executor: LsfJobExecutor, native_id: str) -> None:
    """``bkill 0`` kills all jobs of the user, and ``bkill`` the last one."""
    with pytest.raises(SubmitException, match='not the ID'):
        executor.get_cancel_command(native_id)
    with pytest.raises(InvalidJobException, match='Invalid native ID'):
        executor.attach(Job(), native_id)
    assert executor.get_cancel_command('70[2]') == ['bkill', '70[2]']


def test_list(executor: LsfJobExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each array once; no jobs at all is no error, although the exit code is 255."""
    records = [{'JOBID': '7'}, {'JOBID': '9'}, {'JOBID': '7'}]
    text = json.dumps({'COMMAND': 'bjobs', 'JOBS': 3, 'RECORDS': records})
    monkeypatch.setattr(executor, '_run', lambda argv, c_locale=True, stdin_path=None: answer(0, text))
    assert executor.list() == ['7', '9']
    monkeypatch.setattr(executor, '_run', lambda *args: answer(255, '{"COMMAND":"bjobs","JOBS":0,"RECORDS":[]}'))
    assert executor.list() == []
    monkeypatch.setattr(executor, '_run', lambda *args: answer(0, ''))
    assert executor.list() == []
    monkeypatch.setattr(executor, '_run', lambda *args: answer(255, '', 'not responding'))
    with pytest.raises(SubmitException, match='not responding'):
        executor.list()


@pytest.mark.parametrize('text', ['No job found\n', 'Welcome\nNo unfinished job found\n'])
def test_list_without_jobs_in_words(executor: LsfJobExecutor, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(executor, '_run', lambda *args: answer(255, '', text))
    assert executor.list() == []


# --- scripts --------------------------------------------------------------------------------------------------------

SPECS = {
    'plain': JobSpec('/bin/date'),
    'everything': JobSpec(
        '/opt/app/run it',
        ['a b', '$HOME', '"', "'", '', '--x=*'],
        directory='/scratch/job 1',
        name='all of it [1]',
        inherit_environment=False,
        environment={'A': '1 2', 'PATH': '/opt/bin'},
        stdin_path='/in put',
        stdout_path='out.txt',
        stderr_path='err.txt',
        resources=ResourceSpecV1(node_count=2, processes_per_node=2, cpu_cores_per_process=3),
        attributes=JobAttributes(timedelta(hours=1), 'debug', 'acct', 'res', {'lsf.app': 'a&b'}),
        pre_launch='/opt/app/setup',
        post_launch='/opt/app/finish',
        launcher='jsrun',
    ),
}


@pytest.mark.parametrize('name', list(SPECS))
def test_golden_scripts(executor: LsfJobExecutor, name: str, request: pytest.FixtureRequest) -> None:
    job = Job(SPECS[name])
    script = executor.render_submit_script(job)
    for text, word in ((str(executor.config.work_directory), '/WORK'), (job.id, 'JOB-ID'), (str(Path.cwd()), '/CWD')):
        script = script.replace(text, word)
    script = re.sub(r'/WORK/[0-9a-f]{64}/', '/WORK/LAUNCHERS/', script)
    golden = GOLDEN / f'{name}.job'
    if request.config.getoption('--update-golden'):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(script)
    assert script == golden.read_text()


def run_script(executor: LsfJobExecutor, spec: JobSpec, directory: Path, **variables: str) -> str:
    return scripts.run(executor, spec, directory, '1', LSB_JOBID='1', **variables)


HOSTILE = hostile(
    '"\n#BSUB -J x\n',
    'x[1-2]\n',
    'x\n#BSUB -q short\ny',
    "it's\n # BSUB -H\n'",
    'BSUB',
    'BBSUBSUB',
    'x\n#BS\\\nUB -x\n',
    'x\n_USER_SCRIPT_\ntouch pwned\n)\n',
    "'\n_USER_SCRIPT_\n'",
    '_USER_SCRIPT_',
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(argument=TEXT | HOSTILE, value=TEXT | HOSTILE, name=TEXT | HOSTILE)
@example('x\n#BSUB -q short\ny', 'x\n_USER_SCRIPT_\ntouch pwned\n)\n', 'BSUB')
@example('x\n_USER_SCRIPT_\ntouch pwned\n)\n', 'x\n#BSUB -q short\ny', '_USER_SCRIPT_')
@example('', '', '"\'')
def test_rendered_script_passes_values_on_unchanged(
    executor: LsfJobExecutor, tmp_path: Path, argument: str, value: str, name: str
) -> None:
    """They are no directives either. The name that LSF cannot take is kept in the environment of the job."""
    output = tmp_path / 'it\'s the "output"'
    program = 'import os,sys; print(ascii([sys.argv[1], os.environ["VALUE"], os.environ["PSIJ_JOB_NAME"]]))'
    spec = JobSpec('python3', ['-c', program, argument], name=name, environment={'VALUE': value}, stdout_path=output)
    assert options(executor, spec) == {**options(executor, JobSpec('python3')), 'J': lsf_name(name)}
    script = unwrapped(executor.render_submit_script(Job(spec)), tmp_path)
    assert read_directives(script).count('-J') <= 1  # none if the name is an argument of bsub
    assert run_script(executor, spec, tmp_path) == ''
    assert eval(output.read_text()) == [argument, value, name]
    assert not (tmp_path / 'pwned').exists()


def unwrapped(script: str, directory: Path) -> str:
    """Return a script as volclava gets it out of the here document in which it puts it; nothing of it may be run."""
    wrapped = f'{WRAPPER}{script}\n_USER_SCRIPT_\n) > script\n'
    done = subprocess.run(['/bin/sh'], input=os.fsencode(wrapped), cwd=directory, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b'', b'')
    text = os.fsdecode((directory / 'script').read_bytes())
    assert text == f'{script}\n'
    return text


def test_no_field_is_a_directive_or_the_end_of_the_script(executor: LsfJobExecutor, tmp_path: Path) -> None:
    """Whatever partial a value gets into. Only the first lines are directives, and no line ends the here document."""
    evil = 'x\n#BSUB -q short\n_USER_SCRIPT_\ntouch pwned\n#BS\\\nUB -x\n/y'
    executor = LsfJobExecutor(config=LsfExecutorConfig(work_directory=tmp_path / evil))
    spec = JobSpec(
        f'/{evil}',
        [evil],
        name=evil,
        directory=f'/{evil}',
        environment={'BSUB_VALUE': evil, 'POSIXLY_CORRECT': evil},
        stdin_path=f'/{evil}',
        stdout_path=f'/{evil}',
        stderr_path=f'/{evil}',
        pre_launch=f'/{evil}',
        post_launch=f'/{evil}',
        resources=ResourceSpecV1(),
        stage_in={StageIn(f'/{evil}', evil)},
        stage_out={StageOut(evil, f'/{evil}')},
        cleanup={Path(evil)},
        attributes=JobAttributes(custom_attributes={'plain': evil, 'pbs.x': evil}),
    )
    script = unwrapped(executor.render_submit_script(Job(spec)), tmp_path)
    assert script.count('touch pwned') > 15
    head, _, rest = script.partition('\nexport PSIJ_JOB_NAME=')
    assert 'BSUB' in head
    assert not re.search(r'BSUB|\\\nUB|_USER_SCRIPT_', rest)
    assert read_directives(script).count('-J') <= 1  # none if the name is an argument of bsub


def test_variable_with_the_name_of_a_directive(executor: LsfJobExecutor, tmp_path: Path) -> None:
    spec = JobSpec('/bin/sh', ['-c', 'echo "$BSUB_X"'], environment={'BSUB_X': 'a b ~'}, stdout_path=tmp_path / 'out')
    assert run_script(executor, spec, tmp_path) == ''
    assert (tmp_path / 'out').read_text() == 'a b ~\n'


@settings(deadline=None, max_examples=40)
@given(value=st.text(st.sampled_from('BSUB_\'"\\\n\r ')) | st.sampled_from(['BSUB', '_USER_SCRIPT_']) | TEXT)
def test_escaped_value_is_one_word_without_a_mark(value: str) -> None:
    word = lsf_escape(value)
    printed = subprocess.run(['/bin/bash', '-c', f'printf %s. {word}'], stdout=subprocess.PIPE, check=True).stdout
    assert printed == f'{value}.'.encode()
    assert not re.search(r'BSUB|_USER_SCRIPT_|\\\r*\n', word)


def test_environment_is_not_inherited_if_so_wanted(executor: LsfJobExecutor, tmp_path: Path) -> None:
    """LSF passes the environment of the submission on, and volclava has no option against it."""
    output = tmp_path / 'env'
    spec = JobSpec('/usr/bin/env', ['-0'], inherit_environment=False, environment={'MINE': '1'}, stdout_path=output)
    given: Dict[str, Any] = {
        'SECRET': 'x\ny',
        'BASH_FUNC_f%%': '() { :; }',
        'LSB_HOSTS': 'a',
        'LSF_BINDIR': '/opt/lsf/bin',
    }
    run_script(executor, spec, tmp_path, **given)
    found = dict(item.split('=', 1) for item in output.read_text().split('\0') if item)
    assert found['PATH'] == '/opt/lsf/bin:/usr/local/bin:/usr/bin:/bin'
    assert {'MINE', 'LSB_HOSTS', 'HOME'} <= found.keys()
    assert not {'SECRET', 'BASH_FUNC_f%%'} & found.keys()


@pytest.mark.parametrize(
    ('resources', 'environment', 'expected'),
    [
        ({'process_count': 3}, {'LSB_HOSTS': 'b b a'}, 'b b a'),
        ({'process_count': 3}, {'LSB_MCPU_HOSTS': 'b 2 a 1 '}, 'b b a'),
        ({'process_count': 3}, {'LSB_DJOB_HOSTFILE': 'a a b', 'LSB_HOSTS': 'no'}, 'a a b'),
        ({'process_count': 3}, {'LSB_DJOB_HOSTFILE': '', 'LSB_HOSTS': 'a a a'}, 'a a a'),
        ({'process_count': 2, 'cpu_cores_per_process': 2}, {'LSB_HOSTS': 'a a b b'}, 'a b'),
    ],
)
def test_nodefile_has_a_line_for_each_process(
    executor: LsfJobExecutor, tmp_path: Path, resources: Dict[str, Any], environment: Dict[str, str], expected: str
) -> None:
    assert nodefile(executor, tmp_path, ResourceSpecV1(**resources), environment).split() == expected.split()


def nodefile(
    executor: LsfJobExecutor, tmp_path: Path, resources: ResourceSpecV1, environment: Dict[str, str], **custom: object
) -> str:
    output = tmp_path / 'out'
    hosts = environment.get('LSB_DJOB_HOSTFILE')
    if hosts is not None:
        environment = {**environment, 'LSB_DJOB_HOSTFILE': str(tmp_path / 'hosts')}
        if hosts:
            (tmp_path / 'hosts').write_text(hosts.replace(' ', '\n') + '\n')
    spec = JobSpec('/bin/sh', ['-c', 'cat "$PSIJ_NODEFILE"'], stdout_path=output, resources=resources)
    spec.attributes = JobAttributes(custom_attributes=custom)
    assert run_script(executor, spec, tmp_path, **environment) == ''
    return output.read_text()


def test_nodefile_of_csm_is_without_the_launch_node(executor: LsfJobExecutor, tmp_path: Path) -> None:
    hosts = {'LSB_DJOB_HOSTFILE': 'batch1 a a a a b b b b'}
    custom: Dict[str, Any] = {'lsf.nnodes': 2}
    resources = ResourceSpecV1(node_count=2, processes_per_node=2)
    assert nodefile(executor, tmp_path, resources, hosts, **custom).split() == ['a', 'a', 'b', 'b']


@pytest.mark.parametrize(
    ('number', 'recorded'),
    [(signal.SIGINT, '130\nTERM\n'), (signal.SIGUSR2, '140\nTERM\n'), (signal.SIGTERM, '143\nTERM\n')],
)
def test_script_records_that_it_was_told_to_end(
    executor: LsfJobExecutor, tmp_path: Path, number: signal.Signals, recorded: str
) -> None:
    """A bash that gets USR2 without a trap would leave the exit code of the command before."""
    fifo = tmp_path / 'fifo'
    os.mkfifo(fifo)
    # LSF starts jobs with the signals as they are by default, which a shell's background commands do not have
    script = scripts.write(executor, JobSpec('/bin/sh', ['-c', f'echo > {fifo}; exec sleep 60']), tmp_path)
    process = subprocess.Popen(
        ['/bin/bash', str(script)],
        env={'LSB_JOBID': '1', 'PATH': '/usr/bin:/bin'},
        start_new_session=True,
        restore_signals=True,
    )
    try:
        fifo.read_text()
        os.killpg(process.pid, number)
        process.wait(20)
    finally:
        process.kill()
    assert (executor.work_directory / '1.ec').read_text() == recorded


# --- with the stand-in ----------------------------------------------------------------------------------------------


@pytest.fixture(params=['lsf', 'volclava'])
def cluster(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    cluster = FakeCluster(tmp_path / 'cluster', 'lsf', dialect=request.param, kill_grace=0.2)
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield cluster
    cluster.close()


@pytest.fixture
def live(executor: LsfJobExecutor) -> LsfJobExecutor:
    executor.config.queue_polling_interval = 1
    executor.config.initial_queue_polling_delay = 0.1  # type: ignore[assignment]
    return executor


def submitted(executor: LsfJobExecutor, script: str, **fields: Any) -> Job:
    job = Job(JobSpec('/bin/sh', ['-c', script], **fields))
    executor.submit(job)
    return job


def final(job: Job) -> JobStatus:
    status = job.wait(timedelta(seconds=30))
    assert status is not None
    return status


def test_cancelled_from_outside(cluster: FakeCluster, live: LsfJobExecutor) -> None:
    job = submitted(live, 'sleep 60')
    job.wait(timedelta(seconds=20), JobState.ACTIVE)
    assert cluster.run('bkill', str(job.native_id)).returncode == 0
    status = final(job)
    assert (status.state, reason(status)) == (JobState.CANCELED, 'cancelled_by_user')


@pytest.mark.parametrize('outside', [False, True])
def test_cancelled_while_it_waits(cluster: FakeCluster, live: LsfJobExecutor, outside: bool) -> None:
    cluster.set('hold_queue')
    job = submitted(live, 'true')
    if outside:
        assert cluster.run('bkill', str(job.native_id)).returncode == 0
    else:
        job.cancel()
    assert final(job).state is JobState.CANCELED


def test_run_limit_is_a_timeout(cluster: FakeCluster, live: LsfJobExecutor) -> None:
    cluster.set('time_scale', '0.005')
    status = final(submitted(live, 'sleep 60', attributes=JobAttributes(timedelta(minutes=1))))
    assert (status.state, reason(status)) == (JobState.FAILED, 'timeout')


def test_operation_in_progress_is_left_to_bjobs(cluster: FakeCluster, live: LsfJobExecutor) -> None:
    job = submitted(live, 'sleep 60')
    job.wait(timedelta(seconds=20), JobState.ACTIVE)
    pid = cluster.job(int(str(job.native_id))).pid
    cluster.set('in_progress')
    job.cancel()
    assert final(job).state is JobState.CANCELED
    os.killpg(pid, signal.SIGKILL)


def test_job_that_bjobs_has_forgotten(cluster: FakeCluster, executor: LsfJobExecutor) -> None:
    """The clean period is shorter than the time between two questions, and there is no exit code file."""
    executor.config.initial_queue_polling_delay = executor.config.queue_polling_interval = 3600
    native_id = submitted(executor, 'sleep 60').native_id
    cluster.wait_until(int(str(native_id)), lambda job: job.pid, 'run')
    job = Job()
    executor.attach(job, str(native_id))
    job.wait(timedelta(seconds=20), JobState.ACTIVE)
    os.killpg(cluster.job(int(str(native_id))).pid, signal.SIGKILL)
    cluster.wait_for(int(str(native_id)))
    cluster.set('keep', '0')
    executor._queue_poll_thread.poll_within(0)
    status = final(job)
    assert (status.state, status.exit_code) == (JobState.FAILED, 137)


def test_lost_id_is_found_by_the_name(cluster: FakeCluster, live: LsfJobExecutor) -> None:
    """bsub does not come back, but there is a job; others with the same name are not taken for it."""
    others = [submitted(live, 'true', name='x') for _ in range(2)]
    live._command_timeout = 1.0
    cluster.set('hang_after.bsub')
    job = submitted(live, 'exit 3', name='x')
    cluster.unset('hang_after.bsub')
    assert str(job.native_id) not in {str(other.native_id) for other in others}
    assert final(job).exit_code == 3


def test_others_see_the_beginning_of_the_script_only(cluster: FakeCluster, live: LsfJobExecutor) -> None:
    """It has the mark by which a lost job is found, and none of the secrets with which the script reports."""
    cluster.set('hold_queue')
    job = submitted(live, 'true')
    shown = re.search('Command <(.*)>$', cluster.run('bjobs', '-a', '-UF').stdout, re.MULTILINE)
    assert shown is not None
    assert len(shown[1]) in (4094, 255 - len(WRAPPER))
    assert re.search(rf';# Submission {job.id}-\w+;', shown[1])
    script = (live.work_directory / f'{job.id}.job').read_text()
    tokens = set(re.findall(r'"(?:[A-Z]+ )?\$1 "([0-9a-f]+)', script))
    assert len(tokens) >= 5
    assert not [token for token in tokens if token in shown[1] or token in script[:4094]]
    cluster.unset('hold_queue')
    assert final(job).state is JobState.COMPLETED


def test_daemons_that_are_away_hold_nobody_for_ever(cluster: FakeCluster, live: LsfJobExecutor) -> None:
    job = submitted(live, 'sleep 60')
    live._command_timeout = 0.3
    cluster.set('down', 'lim')
    begin = time.monotonic()
    with pytest.raises(SubmitException, match='did not answer') as caught:
        live.list()
    assert caught.value.transient
    with pytest.raises(SubmitException, match='did not answer'):
        job.cancel()
    assert time.monotonic() - begin < 10
    assert not job.status.final
    cluster.unset('down')
    live._command_timeout = 20.0
    job.cancel()
    assert final(job).state is JobState.CANCELED


def test_job_id_that_is_hidden_in_spite_of_all(cluster: FakeCluster, live: LsfJobExecutor) -> None:
    """A wrapper of bsub may set BSUB_QUIET itself."""
    wrapper = cluster.path / 'wrapped'
    wrapper.mkdir()
    (wrapper / 'bsub').write_text(f'#!/bin/sh\nexport BSUB_QUIET=Y\nexec {cluster.commands}/bsub "$@"\n')
    (wrapper / 'bsub').chmod(0o755)
    os.environ['PATH'] = f'{wrapper}:{os.environ["PATH"]}'
    assert final(submitted(live, 'exit 4')).exit_code == 4
