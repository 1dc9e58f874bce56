"""single_launch.sh, and what all launcher scripts have in common."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from unit.launchers.conftest import Launch

SINGLE = 'single_launch.sh'
JOB = 'the-job-id'

ARGUMENTS = ['', ' ', 'a b', '"', "'", '$HOME', '`id`', '*', '~', '\\', 'a\nb', '-n', '--', ':', 'ü', '{a,b}', '!', '#']


def test_runs_the_executable_with_its_arguments(launch: Launch) -> None:
    outcome = launch(SINGLE, '/usr/bin/printf', '<%s>', *ARGUMENTS, check=True)
    assert launch.read('out') == ''.join(f'<{each}>' for each in ARGUMENTS)
    assert outcome.stdout == ''


# What the kernel accepts in an argument: any bytes but NUL.
bytestrings = st.binary(max_size=50).map(lambda data: data.replace(b'\0', b''))
# A file name may have no slash either, nor be a name that is taken.
file_names = (
    st.binary(min_size=1, max_size=50)
    .map(lambda data: data.replace(b'\0', b'').replace(b'/', b''))
    .filter(lambda name: name not in {b'', b'.', b'..', b'bin', b'out', b'err', b'log'})
)
FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FEW
@given(st.lists(bytestrings, max_size=5))
def test_any_argument_arrives_byte_for_byte(launch: Launch, arguments: list[bytes]) -> None:
    launch(SINGLE, '/usr/bin/printf', '%s\\0', *arguments, check=True)
    expected = arguments or [b'']  # printf uses its format once
    assert (launch.directory / 'out').read_bytes() == b''.join(each + b'\0' for each in expected)


@FEW
@given(file_names)
def test_any_path_will_do(launch: Launch, name: bytes) -> None:
    text = os.fsdecode(name)
    directory = launch.directory / f'{text}.d'
    directory.mkdir(exist_ok=True)
    (directory / text).write_bytes(b'data')
    pre = launch.directory / f'{text}.pre'
    pre.write_bytes(b'export SOURCED=yes')
    outcome = launch(
        SINGLE,
        '/bin/sh',
        '-c',
        'cat; echo " $SOURCED"; echo error >&2',
        pre=f'{text}.pre',
        stdin=f'{text}.d/{text}',
        stdout=f'{text}.out',
        stderr=f'{text}.err',
    )
    assert (outcome.code, outcome.stderr) == (0, '')
    assert (launch.directory / f'{text}.out').read_bytes() == b'data yes\n'
    assert (launch.directory / f'{text}.err').read_bytes() == b'error\n'


# --- processes -------------------------------------------------------------------------------------------------------


def test_the_shell_becomes_the_executable(launch: Launch) -> None:
    outcome = launch(SINGLE, '/bin/sh', '-c', 'echo $$', check=True)
    assert launch.read('out') == f'{outcome.pid}\n'


@pytest.mark.parametrize('option', ['pre', 'post', 'log'])
def test_there_is_one_shell_and_the_executable(launch: Launch, option: str) -> None:
    launch.write('empty', '')
    outcome = launch(SINGLE, '/bin/sh', '-c', 'echo $PPID', check=True, **{option: 'empty'})
    assert launch.read('out') == f'{outcome.pid}\n'


def test_no_other_programs_are_run(launch: Launch) -> None:
    launch.environment['PATH'] = '/nonexistent'
    launch.write('pre', ':')
    launch.write('post', ':')
    launch(SINGLE, '/bin/true', log='log', pre='pre', post='post', check=True)


@pytest.mark.parametrize('option', ['', 'pre', 'log'])
def test_the_executable_inherits_no_descriptors(launch: Launch, option: str) -> None:
    launch.write('empty', '')
    more = {option: 'empty'} if option else {}
    launch(SINGLE, '/bin/ls', '/proc/self/fd', check=True, **more)
    assert launch.read('out').split() == ['0', '1', '2', '3']  # 3 is what ls reads


def test_the_executable_sees_no_variables_of_the_launcher(launch: Launch) -> None:
    launch.write('pre', '')
    launch(SINGLE, '/usr/bin/env', pre='pre', log='log', check=True)
    assert not re.search('psi_?j_', launch.read('out'), re.IGNORECASE)


def test_post_launch_inherits_no_streams_of_the_job(launch: Launch) -> None:
    launch.write('post', 'ls -l /proc/self/fd')
    outcome = launch(SINGLE, '/bin/true', post='post', check=True)
    assert str(launch.directory / 'out') not in outcome.stdout


# --- streams ---------------------------------------------------------------------------------------------------------


def test_streams_are_empty_by_default(launch: Launch) -> None:
    outcome = launch(SINGLE, '/bin/sh', '-c', 'cat; echo out; echo err >&2', stdout='', stderr='', check=True)
    assert outcome.stdout == ''


def test_streams(launch: Launch) -> None:
    launch.write('in', 'input\n')
    launch.write('out', 'something that was there before')
    launch(SINGLE, '/bin/sh', '-c', 'cat; echo error >&2', stdin='in', check=True)
    assert launch.read('out') == 'input\n'
    assert launch.read('err') == 'error\n'


@pytest.mark.parametrize('stderr', ['out', './out', 'link', 'hard link'])
def test_one_file_for_stdout_and_stderr(launch: Launch, stderr: str) -> None:
    """Each would overwrite what the other wrote if they had positions of their own."""
    launch.write('out', '')
    (launch.directory / 'link').symlink_to('out')
    os.link(launch.directory / 'out', launch.directory / 'hard link')
    launch(SINGLE, '/bin/sh', '-c', 'echo 1; echo 2 >&2; echo 3; echo 4 >&2', stderr=stderr, check=True)
    assert launch.read('out') == '1\n2\n3\n4\n'


def test_megabytes(launch: Launch) -> None:
    data = os.urandom(3_000_000)
    (launch.directory / 'in').write_bytes(data)
    launch(SINGLE, '/bin/cat', stdin='in', check=True)
    assert (launch.directory / 'out').read_bytes() == data


@pytest.mark.parametrize('field', ['stdin', 'stdout', 'stderr'])
@pytest.mark.parametrize('pre', ['', 'empty'])
@pytest.mark.parametrize('posix', [False, True])
def test_a_file_that_cannot_be_opened_is_reported(launch: Launch, field: str, pre: str, posix: bool) -> None:
    if posix:
        launch.environment['POSIXLY_CORRECT'] = 'yes'
    launch.write('empty', '')
    paths = {field: '/nonexistent/x "y"'}
    outcome = launch(SINGLE, '/bin/touch', 'was run', pre=pre, **paths)  # type: ignore[arg-type]
    assert outcome.code == 1
    message = f'psij: cannot open the job\'s {field}_path "/nonexistent/x "y"": No such file or directory\n'
    assert outcome.stderr == message
    assert not (launch.directory / 'was run').exists()


def test_the_reason_is_told(launch: Launch) -> None:
    outcome = launch(SINGLE, '/bin/true', stdout='.')
    assert (outcome.code, outcome.stderr) == (1, 'psij: cannot open the job\'s stdout_path ".": Is a directory\n')


def test_relative_paths_are_relative_to_the_job_directory(launch: Launch) -> None:
    """Even if pre_launch goes to another directory; there the executable runs, and pre_launch may make directories."""
    launch.write('pre', 'mkdir results; cd /')
    launch.write('post', 'echo post')
    outcome = launch(SINGLE, '/bin/pwd', pre='pre', post='post', stdout='results/out', check=True)
    assert launch.read('results/out') == '/\n'
    assert outcome.stdout == 'post\n'


# --- exit codes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('pre', ['', 'empty'])
@pytest.mark.parametrize('code', [0, 1, 7, 126, 127, 255])
def test_exit_code(launch: Launch, code: int, pre: str) -> None:
    launch.write('empty', '')
    outcome = launch(SINGLE, '/bin/sh', '-c', f'exit {code}', pre=pre)
    assert (outcome.code, outcome.stderr) == (code, '')


def test_a_signal(launch: Launch) -> None:
    launch.write('empty', '')
    assert launch(SINGLE, '/bin/sh', '-c', 'kill -9 $$').code == -signal.SIGKILL
    outcome = launch(SINGLE, '/bin/sh', '-c', 'kill -9 $$', pre='empty')
    assert (outcome.code, outcome.stderr) == (128 + signal.SIGKILL, '')


@pytest.mark.parametrize('pre', ['', 'empty'])
@pytest.mark.parametrize(
    ('executable', 'codes', 'reason'),
    [
        ('no-such-program', {127}, 'command not found'),
        ('./nothing', {127}, 'No such file or directory'),
        ('./text', {126}, 'Permission denied'),
        ('./dir', {126}, 'Is a directory'),
        ('./dos', {126, 127}, "bad interpreter $'/bin/sh\\r'"),  # 126 before bash 5.2
    ],
)
def test_an_executable_that_cannot_be_run(
    launch: Launch, executable: str, codes: set[int], reason: str, pre: str
) -> None:
    """The message reaches the stderr of the script, where executors find it, not only the job's."""
    launch.write('empty', '')
    launch.write('text', 'text')
    launch.write('dos', '#!/bin/sh\r\necho\r\n', 0o755)
    (launch.directory / 'dir').mkdir()
    outcome = launch(SINGLE, executable, pre=pre)
    assert outcome.code in codes
    assert outcome.stderr == f'psij: {executable}: {reason}\n'
    assert executable.lstrip('./') in launch.read('err')


def test_a_script_without_interpreter_line_is_run_by_the_shell(launch: Launch) -> None:
    launch.write('script', 'echo "$1"\n', 0o755)
    launch(SINGLE, './script', 'argument', check=True)
    assert launch.read('out') == 'argument\n'


def test_names_are_looked_for_on_the_path_and_not_among_functions_and_builtins(launch: Launch) -> None:
    launch.program('echo', '#!/bin/sh\nprintf program')
    launch.write('pre', 'echo() { printf function; }')
    launch(SINGLE, 'echo', pre='pre', check=True)
    assert launch.read('out') == 'program'


# --- pre_launch and post_launch --------------------------------------------------------------------------------------


def test_both_are_sourced_once_around_the_executable(launch: Launch) -> None:
    launch.write('pre', 'echo pre >>order; mine=1')
    launch.write('post', 'echo "post $mine $_PSI_J_EC $_PSI_J_JOB_ID $_PSI_J_STDOUT" >>order')
    outcome = launch(SINGLE, '/bin/sh', '-c', 'echo job >>order; exit 3', pre='pre', post='post')
    assert (outcome.code, outcome.stderr) == (3, '')
    assert launch.read('order') == 'pre\njob\npost 1 3 the-job-id out\n'


def test_their_output_is_not_that_of_the_job(launch: Launch) -> None:
    launch.write('pre', 'echo pre')
    launch.write('post', 'echo post; echo error >&2')
    outcome = launch(SINGLE, '/bin/echo', 'job', pre='pre', post='post')
    assert (outcome.stdout, outcome.stderr, launch.read('out')) == ('pre\npost\n', 'error\n', 'job\n')


def test_exports_of_pre_launch_reach_the_executable(launch: Launch) -> None:
    """`declare` as well, which `export -p` prints; and functions."""
    launch.write('pre', 'export A="1 2"; declare -x B=3; f() { echo "$A $B $1"; }; export -f f; declare -fx f')
    launch(SINGLE, '/bin/bash', '-c', 'f 4', pre='pre', check=True)
    assert launch.read('out') == '1 2 3 4\n'


def test_pre_launch_sees_no_arguments(launch: Launch) -> None:
    """Set-up scripts take arguments, if there are any, for theirs."""
    launch.write('pre', 'echo $#; set -- a b')
    outcome = launch(SINGLE, '/bin/echo', 'job', pre='pre', check=True)
    assert (outcome.stdout, launch.read('out')) == ('0\n', 'job\n')


@pytest.mark.parametrize(
    'options', ['set -euo pipefail', 'set +e', 'set -f', 'set -C', 'set -a', 'IFS=/', 'set -o posix']
)
def test_shell_options_that_pre_launch_sets_do_no_harm(launch: Launch, options: str) -> None:
    launch.write('pre', options)
    launch.write('post', 'echo "$_PSI_J_EC"')
    launch.write('out', 'old')
    outcome = launch(SINGLE, '/bin/sh', '-c', 'echo "$1"; exit 3', 'sh', 'a b', pre='pre', post='post', log='log')
    assert (outcome.code, outcome.stdout, outcome.stderr) == (3, '3\n', '')
    assert launch.read('out') == 'a b\n'


def test_an_exit_trap_of_pre_launch_is_run(launch: Launch) -> None:
    launch.write('pre', 'trap "echo trap" EXIT')
    outcome = launch(SINGLE, '/bin/true', pre='pre', check=True)
    assert outcome.stdout == 'trap\n'


@pytest.mark.parametrize(
    ('text', 'code'), [('false; echo not here', 1), ('exit 7', 7), ('return 4', 4), ('(exit 9)', 9), ('nonsense', 127)]
)
def test_a_failing_pre_launch_fails_the_job(launch: Launch, text: str, code: int) -> None:
    launch.write('pre', text)
    launch.write('post', 'echo post')
    outcome = launch(SINGLE, '/bin/touch', 'was run', pre='pre', post='post')
    assert (outcome.code, outcome.stdout) == (code, '')
    assert outcome.stderr.endswith(f'psij: the pre_launch script "pre" ended the job with exit code {code}\n')
    assert not (launch.directory / 'was run').exists()


@pytest.mark.parametrize('posix', [False, True])
def test_a_missing_pre_launch(launch: Launch, posix: bool) -> None:
    if posix:
        launch.environment['POSIXLY_CORRECT'] = 'yes'
    outcome = launch(SINGLE, '/bin/true', pre='nothing')
    assert outcome.code == 1
    assert f'{launch.directory}/nothing: No such file or directory\n' in outcome.stderr
    assert 'psij: the pre_launch script "nothing" ended the job with exit code 1\n' in outcome.stderr


def test_pre_launch_is_not_looked_for_on_the_path(launch: Launch) -> None:
    launch.program('pre', 'echo wrong')
    launch.write('pre', 'echo right')
    assert launch(SINGLE, '/bin/true', pre='pre', check=True).stdout == 'right\n'


@pytest.mark.parametrize(('text', 'code'), [('exit 9', 9), ('exit 0', 0), ('false', 1), ('true', 3)])
def test_post_launch_can_change_the_exit_code(launch: Launch, text: str, code: int) -> None:
    launch.write('post', text)
    outcome = launch(SINGLE, '/bin/sh', '-c', 'exit 3', post='post')
    assert outcome.code == code
    message = f'psij: the post_launch script "post" ended the job with exit code {code}\n'
    assert outcome.stderr == (message if code in {1, 9} else '')


# --- log -------------------------------------------------------------------------------------------------------------


def test_log(launch: Launch) -> None:
    launch.environment['TZ'] = 'Asia/Tokyo'
    launch.write('pre', 'echo from pre_launch >&3; echo "$TZ"')
    launch.write('post', '')
    launch.write('log', 'what was there\n')
    outcome = launch(SINGLE, '/bin/sh', '-c', 'exit 3', log='log', pre='pre', post='post')
    assert (outcome.code, outcome.stdout) == (3, 'Asia/Tokyo\n')
    lines = launch.read('log').splitlines()
    assert lines.pop(0) == 'what was there'
    assert lines.pop(4) == 'from pre_launch'
    stamp = re.compile(rf'^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d {JOB} ')
    assert all(stamp.match(line) for line in lines)
    assert [stamp.sub('', line) for line in lines] == [
        f'Launcher: {launch.scripts / SINGLE}',
        'Pre-launch: "pre"',
        'Post-launch: "post"',
        'Running pre-launch',
        'Command done: 3',
        'Running post-launch',
    ]


def test_log_times_are_utc(launch: Launch) -> None:
    launch.environment['TZ'] = 'Asia/Tokyo'
    before = time.gmtime()
    launch(SINGLE, '/bin/true', log='log', check=True)
    after = time.gmtime()
    for line in launch.read('log').splitlines():
        stamp = time.strptime(line[:19], '%Y-%m-%d %H:%M:%S')
        assert before[:6] <= stamp[:6] <= after[:6]


def test_a_log_that_cannot_be_written_does_not_fail_the_job(launch: Launch) -> None:
    outcome = launch(SINGLE, '/bin/echo', 'job', log='/nonexistent/log')
    assert (outcome.code, launch.read('out')) == (0, 'job\n')
    assert outcome.stderr == 'psij: cannot open the launcher log "/nonexistent/log", so nothing is logged\n'


# --- sourced by another script ---------------------------------------------------------------------------------------


def test_a_script_can_source_the_launcher(launch: Launch) -> None:
    """An executor saves a shell in this way; the executable replaces it."""
    launch.write(
        'job', f'source "{launch.scripts}/{SINGLE}" id "" "" "" "" out err /bin/sh -c \'echo $$ "$@"\' sh "a b"'
    )
    outcome = launch.run(['/bin/bash', 'job', 'argument of job'])
    assert (outcome.code, launch.read('out')) == (0, f'{outcome.pid} a b\n')


@pytest.mark.parametrize(
    ('pre', 'command', 'code'),
    [('', 'exit 5', 5), ('true', 'exit 5', 5), ('exit 6', 'exit 5', 6), ('', 'kill -9 $$', 137)],
)
def test_the_script_learns_of_the_end(launch: Launch, pre: str, command: str, code: int) -> None:
    launch.write('pre', pre)
    launch.write(
        'job',
        '_psij_launcher_done() { echo "done $1"; }\n'
        f'source "{launch.scripts}/{SINGLE}" id "" pre "" "" out err /bin/sh -c "$1"\necho never\n',
    )
    outcome = launch.run(['/bin/bash', 'job', command])
    assert (outcome.code, outcome.stdout) == (code, f'done {code}\n')


def test_the_script_learns_of_a_stream_that_cannot_be_opened(launch: Launch) -> None:
    launch.write(
        'job',
        '_psij_launcher_done() { echo "done $1"; }\n'
        f'source "{launch.scripts}/{SINGLE}" id "" "" "" "" /nonexistent/out err /bin/true\n',
    )
    outcome = launch.run(['/bin/bash', 'job'])
    assert (outcome.code, outcome.stdout) == (1, 'done 1\n')


@pytest.mark.parametrize('executable', ['/bin/true', './nothing'])
def test_a_subshell_can_source_the_launcher(launch: Launch, executable: str) -> None:
    launch.write('job', f'(source "{launch.scripts}/{SINGLE}" id "" "" "" "" out err {executable}) & wait $!')
    outcome = launch.run(['/bin/bash', 'job'])
    expected = (0, '') if executable == '/bin/true' else (127, 'psij: ./nothing: No such file or directory\n')
    assert (outcome.code, outcome.stderr) == expected


def test_the_scripts_may_be_anywhere(launch: Launch, tmp_path: Path) -> None:
    launch.scripts = Path(shutil.copytree(launch.scripts, tmp_path / 'a "b" $c'))
    launch(SINGLE, '/bin/true', check=True)
