"""Scripts before and after the executable: the script of the executor does what the launcher's script does.

For jobs without staging and log, the executor itself writes what the launcher ``single`` does into its script, because
reading the library of the launchers takes longer than running a small program. Here both are asked.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Callable, Dict, Tuple

import pytest

from psij import Job, JobSpec, JobState, JobStatus, StageOut

from .conftest import Local, final

Run = Callable[..., JobStatus]


@pytest.fixture(params=['executor', 'launcher'])
def run(request: pytest.FixtureRequest, local: Local) -> Run:
    """Return what runs a job in a directory, with scripts of the given text before and after it."""
    place = local.directory / 'the job'
    place.mkdir()
    settings = {'launcher_log_file': local.directory / 'log'} if request.param == 'launcher' else {}
    executor = local.new_executor(**settings)

    def submit(*command: str, pre: str = '', post: str = '', **fields: object) -> JobStatus:
        spec = JobSpec(command[0], list(command[1:]), directory=place, stdout_path='out', stderr_path='err')
        for name, text in (('pre', pre), ('post', post)):
            (place / f'{name} script').write_text(text)
            setattr(spec, f'{name}_launch', Path(f'{name} script'))
        for field, value in fields.items():
            setattr(spec, field, value)
        job = Job(spec)
        executor.submit(job)
        return final(job)

    return submit


def read(local: Local, name: str) -> str:
    return (local.directory / 'the job' / name).read_text()


OPTIONS = ['', 'set -euo pipefail', 'set +e', 'set -f', 'set -C', 'set -a', 'IFS=/', 'set -o posix', 'cd /', 'set -- x']


@pytest.mark.parametrize('options', OPTIONS)
def test_nothing_that_a_script_sets_for_itself_harms_the_job(local: Local, run: Run, options: str) -> None:
    (local.directory / 'the job' / 'out').write_text('old and much longer than what is new')
    post = f'echo "$_PSI_J_EC $mine $#" > "{local.directory}/the job/after"'
    status = run('/bin/sh', '-c', 'echo "$1"; echo error >&2; exit 3', 'sh', 'a b', pre=f'mine=1; {options}', post=post)
    assert (status.state, status.exit_code) == (JobState.FAILED, 3)
    assert status.message == 'The job ended with exit code 3.'
    assert (read(local, 'out'), read(local, 'err')) == ('a b\n', 'error\n')
    assert read(local, 'after').startswith('3 1 ')


ENDS: Dict[str, Tuple[str, int]] = {
    'false; echo not here': ('exit code 1', 1),
    'exit 7': ('exit code 7', 7),
    'return 4': ('exit code 4', 4),
    'echo "no module" >&2; exit 9': ('no module\npsij: ', 9),
    'nonsense': ('nonsense: command not found\npsij: ', 127),
    'source ./missing': ('missing: No such file or directory\npsij: ', 1),
}


@pytest.mark.parametrize('text', ENDS)
@pytest.mark.parametrize('which', ['pre', 'post'])
def test_a_script_that_fails(local: Local, run: Run, which: str, text: str) -> None:
    said, code = ENDS[text]
    status = run('/bin/sh', '-c', 'touch ran; exit 3', **{which: text})
    assert (status.state, status.exit_code) == (JobState.FAILED, code)
    assert said in str(status.message)
    last = f'psij: the {which}_launch script "{which} script" ended the job with exit code {code}'
    assert str(status.message).splitlines()[-1] == last
    assert (local.directory / 'the job' / 'ran').exists() == (which == 'post')


def test_a_script_that_ends_the_job_well(run: Run) -> None:
    assert run('/bin/sh', '-c', 'exit 3', post='exit 0').state is JobState.COMPLETED


def test_a_first_script_that_ends_the_job(local: Local, run: Run) -> None:
    """Whatever its exit code: a job whose executable has not run has not completed."""
    status = run('/bin/sh', '-c', 'touch ran', pre='echo bye; exit 0')
    assert (status.state, status.exit_code) == (JobState.FAILED, 1)
    said = 'psij: the pre_launch script "pre script" ended the job before the executable was started'
    assert str(status.message).splitlines() == ['bye', said]
    assert not (local.directory / 'the job' / 'ran').exists()


@pytest.mark.parametrize('staged', [False, True])
@pytest.mark.parametrize('option', ['errexit', 'nounset'])
def test_options_of_a_shell_around_the_program(
    local: Local, run: Run, monkeypatch: pytest.MonkeyPatch, option: str, staged: bool
) -> None:
    """Some shells export them to all that they start."""
    monkeypatch.setenv('SHELLOPTS', option)
    results = {StageOut('out', local.directory / 'delivered')} if staged else None
    status = run('/bin/sh', '-c', 'echo result; exit 3', pre=': $nothing', stage_out=results)
    assert status.exit_code == 3
    assert (local.directory / 'delivered').exists() == staged


def test_traps_and_children_of_the_first_script(local: Local, run: Run) -> None:
    """They outlast the executable."""
    status = run('/bin/sh', '-c', 'exit 3', pre='trap "echo trap > trap" EXIT', post_launch=None)
    assert status.exit_code == 3
    assert read(local, 'trap') == 'trap\n'
    status = run(
        '/bin/sh', '-c', 'exit 4', pre='mkfifo go; (read line < go; echo child > child) &', post='echo > go; wait'
    )
    assert status.exit_code == 4
    assert read(local, 'child') == 'child\n'


def test_the_log_can_be_written_to(run: Run) -> None:
    """There is one, or what is written is dropped."""
    text = 'echo line >&3; log line; echo line | ts >&3'
    assert run('/bin/true', pre=text, post=text).state is JobState.COMPLETED


def test_exports_and_functions(local: Local, run: Run) -> None:
    pre = 'export A="a b"; declare -x B=c; f() { echo "f: $A $B"; }; export -f f'
    assert run('/bin/bash', '-c', 'f', pre=pre).state is JobState.COMPLETED
    assert read(local, 'out') == 'f: a b c\n'


def test_output_of_scripts_is_not_that_of_the_job(local: Local, run: Run) -> None:
    assert run('/bin/echo', 'job', pre='echo pre; echo pre >&2', post='echo post').state is JobState.COMPLETED
    assert (read(local, 'out'), read(local, 'err')) == ('job\n', '')


@pytest.mark.parametrize('stderr', ['out', './out', 'link', 'hard link'])
def test_one_file_for_both_streams(local: Local, run: Run, stderr: str) -> None:
    place = local.directory / 'the job'
    (place / 'out').write_text('')
    (place / 'link').symlink_to('out')
    os.link(place / 'out', place / 'hard link')
    assert run('/bin/sh', '-c', 'echo 1; echo 2 >&2; echo 3', stderr_path=Path(stderr)).state is JobState.COMPLETED
    assert read(local, 'out') == '1\n2\n3\n'


@pytest.mark.parametrize('options', ['', 'set -o posix', 'set -u', 'cd /'])
@pytest.mark.parametrize('field', ['stdin_path', 'stdout_path', 'stderr_path'])
def test_streams_that_cannot_be_opened(local: Local, run: Run, field: str, options: str) -> None:
    status = run('/bin/sh', '-c', 'touch ran', pre=options, **{field: Path('no such/it\'s "here"')})
    assert (status.state, status.exit_code) == (JobState.FAILED, 1)
    assert status.message == f'psij: cannot open the job\'s {field} "no such/it\'s "here"": No such file or directory'
    assert not (local.directory / 'the job' / 'ran').exists()


@pytest.mark.parametrize('options', ['', 'set -o posix', 'set -u', 'cd /'])
def test_executables_that_cannot_be_run(local: Local, run: Run, options: str) -> None:
    status = run('/no such/program', pre=options)
    assert (status.state, status.exit_code) == (JobState.FAILED, 127)
    assert status.message == 'psij: /no such/program: No such file or directory'
    assert re.search('/no such/program', read(local, 'err'))
    assert run('/bin/sh', '-c', 'exit 127', pre=options).message == 'The job ended with exit code 127.'


def test_signals(local: Local, run: Run) -> None:
    """What ends the executable is not remarked on by a shell."""
    for pre in ('', 'set -m'):
        status = run('/bin/sh', '-c', 'kill -9 $$', pre=pre)
        assert (status.exit_code, read(local, 'err')) == (137, '')
        assert status.message == 'The job ended with exit code 137, which stands for the signal SIGKILL.'


def test_only_the_standard_streams_are_open_in_the_executable(local: Local, run: Run) -> None:
    assert run('/bin/ls', '/proc/self/fd', pre='exec 7< /dev/null; exec 7<&-').state is JobState.COMPLETED
    assert read(local, 'out').split() == ['0', '1', '2', '3']  # 3 is what ls reads


def test_the_executable_sees_no_variables_of_the_scripts(local: Local, run: Run) -> None:
    assert run('/usr/bin/env').state is JobState.COMPLETED
    assert not re.search('psi_?j_', read(local, 'out'), re.IGNORECASE)


def test_variables_of_launchers(local: Local, run: Run) -> None:
    """Scripts that are sourced see what launcher scripts see."""
    names = 'JOB_ID', 'PRE_LAUNCH', 'POST_LAUNCH', 'STDIN', 'STDOUT', 'STDERR', 'EC'
    post = ''.join(f'echo "{name} $_PSI_J_{name}" >> seen\n' for name in names)
    assert run('/bin/true', post=post).state is JobState.COMPLETED
    seen = dict(line.split(' ', 1) for line in read(local, 'seen').splitlines())
    assert re.fullmatch('[0-9a-f-]{36}', seen.pop('JOB_ID'))
    assert seen == {
        'PRE_LAUNCH': 'pre script',
        'POST_LAUNCH': 'post script',
        'STDIN': '/dev/null',
        'STDOUT': 'out',
        'STDERR': 'err',
        'EC': '0',
    }


def test_scripts_that_are_not_there(run: Run) -> None:
    for field in ('pre_launch', 'post_launch'):
        status = run('/bin/true', **{field: Path('no script')})
        assert status.exit_code == 1
        assert f'psij: the {field} script "no script" ended the job with exit code 1' in str(status.message)


def test_the_log(local: Local) -> None:
    """With a log, the launcher's own script is run, which writes it."""
    executor = local.new_executor(launcher_log_file=local.directory / 'the log')
    assert local.run(local.shell('exit 3'), executor).exit_code == 3
    lines = (local.directory / 'the log').read_text().splitlines()
    assert [line.split(' ', 3)[3] for line in lines][-1] == 'Command done: 3'
