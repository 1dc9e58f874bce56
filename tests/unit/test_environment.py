"""The environment of a job through a shell; ``local/test_text.py`` does the same with whole jobs."""

from __future__ import annotations

import subprocess
from typing import Dict, List, Optional, Union

import pytest

from psij import JobSpec
from psij._runtime import environment
from psij._runtime.environment import for_shell, is_shell_variable, through_shell

COMMAND = ['/bin/bash', 'launch.sh', 'id', '', '']


def bash_variables() -> List[str]:
    """Return all variables that the bash of this machine sets or knows by itself."""
    out = subprocess.run(['/bin/bash', '-c', 'compgen -v'], env={}, capture_output=True, text=True, check=True)
    return out.stdout.split()


def passed_on(name: str, value: str, assign: bool) -> Optional[str]:
    """Return a variable as a program sees it that is run by a bash that got it, or in which a script sets it."""
    script = f'{f"export {name}={value!r}; " if assign else ""}exec /usr/bin/env -0'
    out = subprocess.run(
        ['/bin/bash', '-c', script], env={} if assign else {name: value}, capture_output=True, text=True, check=False
    ).stdout
    variables = dict(item.split('=', 1) for item in out.split('\0') if item)
    return variables.get(name)


@pytest.mark.parametrize('assign', [False, True])
def test_all_variables_that_bash_changes_are_known(assign: bool) -> None:
    """Whatever version of bash it is; others can go through it."""
    changed = [name for name in bash_variables() if passed_on(name, 'a:b=c', assign) != 'a:b=c']
    assert [name for name in changed if not is_shell_variable(name)] == []
    assert ('SECONDS' if assign else 'PWD') in changed


@pytest.mark.parametrize('name', ['HOME', 'PATH', 'LANG', 'LC_ALL', 'TERM', 'A', 'MY_VARIABLE', 'PSIJ_NODEFILE'])
def test_other_variables_go_through_the_shell(name: str) -> None:
    """So that scripts that are run before the job see them."""
    assert not is_shell_variable(name)
    assert for_shell({name: 'x', 'IFS': 'y', 'BASH_ENV': 'z', '_PSI_J_JOB_ID': ''}) == {name: 'x'}


def through(variables: Dict[str, Union[str, int]], inherit: bool, executable: str = '/a', *arguments: str) -> List[str]:
    spec = JobSpec(executable, list(arguments), environment=variables, inherit_environment=inherit)
    return through_shell([*COMMAND, executable, *arguments], spec)


def test_commands_that_need_no_help_stay_as_they_are() -> None:
    assert through({'A': 'x'}, True, '/a', 'b') == [*COMMAND, '/a', 'b']


def test_variables_of_the_shell_travel_in_the_command() -> None:
    command = through({'IFS': ':', 'A': 'x'}, True, '/a', 'b')
    assert command == [*COMMAND, '/usr/bin/env', 'IFS=:', '/a', 'b']


def test_what_the_shell_adds_is_taken_away_where_nothing_is_inherited() -> None:
    unset = [f'--unset={name}' for name in environment._SET_BY_SHELLS if name != 'PWD']
    assert through({'PWD': '/x'}, False, '/a') == [*COMMAND, '/usr/bin/env', *unset, 'PWD=/x', '/a']


def test_an_executable_that_looks_like_a_variable() -> None:
    """``env`` would take it for one."""
    command = through({'IFS': ':'}, True, './a=b', 'c')
    assert command == [*COMMAND, '/usr/bin/env', 'IFS=:', '/bin/sh', '-c', 'exec "$0" "$@"', './a=b', 'c']


def test_a_launcher_with_another_order_of_arguments_is_left_alone() -> None:
    """Only what ends with the executable and its arguments can be changed."""
    spec = JobSpec('/a', ['b'], environment={'IFS': ':'})
    assert through_shell(['launch', '/a', 'b', '--end'], spec) == ['launch', '/a', 'b', '--end']
