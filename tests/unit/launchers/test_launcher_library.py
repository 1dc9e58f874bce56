"""What launcher scripts of other packages find in launcher_lib.sh, which they source with ``$(dirname "$0")``."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from unit.launchers.conftest import Launch

HEAD = """#!/bin/bash
source $(dirname "$0")/launcher_lib.sh
count=$1
shift
"""

THIRD_PARTY = (
    HEAD
    + """
pre_launch
set +e
log "Starting $count"
"$@" 1>$_PSI_J_STDOUT 2>$_PSI_J_STDERR <$_PSI_J_STDIN
_PSI_J_EC=$?
log "Ended"
echo "from the script" >&3
echo "a line" | ts
set -e
post_launch
exit $_PSI_J_EC
"""
)


@pytest.fixture
def launch(launch: Launch) -> Launch:
    """A launcher of another package in a directory with a copy of the library, as it is deployed."""
    scripts = launch.directory.parent / 'deployed'
    shutil.copytree(launch.scripts, scripts)
    launch.scripts = scripts
    (scripts / 'third.sh').write_text(THIRD_PARTY)
    return launch


def test_a_launcher_of_another_package(launch: Launch) -> None:
    launch.write('in', 'data')
    launch.write('pre', 'export A=1; f() { echo "f $A"; }; export -f f; echo pre')
    launch.write('post', 'echo "post $_PSI_J_EC"')
    outcome = launch(
        'third.sh', '2', '/bin/bash', '-c', 'f; cat; exit 3', stdin='in', pre='pre', post='post', log='log'
    )
    assert (outcome.code, outcome.stderr) == (3, '')
    assert launch.read('out') == 'f 1\ndata'
    stamp = r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d the-job-id '
    assert re.fullmatch(f'pre\n{stamp}a line\npost 3\n', outcome.stdout)
    log = launch.read('log')
    assert re.search(f'^{stamp}Starting 2\n', log, re.MULTILINE)
    assert re.search(f'^{stamp}Ended\nfrom the script\n', log, re.MULTILINE)


def test_without_log_and_scripts(launch: Launch) -> None:
    outcome = launch('third.sh', '2', '/bin/echo', 'job')
    assert (outcome.code, outcome.stderr, launch.read('out')) == (0, '', 'job\n')
    assert outcome.stdout.endswith('a line\n')


def test_variables(launch: Launch) -> None:
    names = ['JOB_ID', 'LOG_FILE', 'PRE_LAUNCH', 'POST_LAUNCH', 'STDIN', 'STDOUT', 'STDERR']
    (launch.scripts / 'third.sh').write_text(HEAD + ''.join(f'echo "${{_PSI_J_{name}}}"\n' for name in names))
    outcome = launch('third.sh', '1', 'x', pre='p', post='q', stdin='i', stdout='o', stderr='e', log='l')
    assert outcome.stdout.split() == ['the-job-id', 'l', 'p', 'q', 'i', 'o', 'e']
    outcome = launch('third.sh', '1', 'x', stdin='', stdout='', stderr='')
    assert outcome.stdout.split('\n') == ['the-job-id', '/dev/null', '', '', *['/dev/null'] * 3, '']


def test_errors_end_the_script(launch: Launch) -> None:
    (launch.scripts / 'third.sh').write_text(HEAD + 'false\necho never\n')
    outcome = launch('third.sh', '1', 'x')
    assert (outcome.code, outcome.stdout) == (1, '')


@pytest.mark.parametrize(('text', 'code'), [('exit 7', 7), ('false', 1)])
@pytest.mark.parametrize('phase', ['pre', 'post'])
def test_failing_scripts(launch: Launch, phase: str, text: str, code: int) -> None:
    launch.write('failing', text)
    outcome = launch('third.sh', '1', '/bin/true', **{phase: 'failing'})  # type: ignore[arg-type]
    assert outcome.code == code
    assert outcome.stderr == f'psij: the {phase}_launch script "failing" ended the job with exit code {code}\n'
    assert (launch.directory / 'out').exists() == (phase == 'post')


def test_launcher_exit(launch: Launch) -> None:
    (launch.scripts / 'third.sh').write_text(HEAD + 'launcher_exit 5\n')
    assert launch('third.sh', '1', 'x').code == 5
