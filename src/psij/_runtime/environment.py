"""The environment of a job, byte for byte, also through a shell.

bash sets some variables itself (``PWD``, ``SHLVL``, ``_``), keeps others for its own use (``IFS``, ``RANDOM``), and
obeys some (``BASH_ENV``, ``SHELLOPTS``). A job must get what it was given, and the shells of our scripts must not
obey what is meant for the job. So these variables travel in the command line, which ``env`` turns into the
environment.
"""

from __future__ import annotations

import os
import re
from typing import Container, List, Mapping, Optional, Sequence

from psij.executors.batch.escape_functions import bash_escape
from psij.job_spec import JobSpec

_SHELL_VARIABLES = frozenset(
    (
        # changed by bash on the way, as found by experiment with bash 5.2
        *('COMP_WORDBREAKS', 'EPOCHREALTIME', 'EPOCHSECONDS', 'HISTCMD', 'IFS', 'LINENO', 'OLDPWD', 'OPTERR'),
        *('PIPESTATUS', 'SECONDS'),
        *('OPTIND', 'PPID', 'PS1', 'PS2', 'PS4', 'PWD', 'RANDOM', 'SHELLOPTS', 'SHLVL', 'SRANDOM', '_'),
        # obeyed by bash when it runs a script
        *('CDPATH', 'ENV', 'EXECIGNORE', 'FUNCNEST', 'GLOBIGNORE', 'POSIXLY_CORRECT', 'TMOUT'),
        *('DIRSTACK', 'EUID', 'FUNCNAME', 'GROUPS', 'UID'),
    )
)
_SET_BY_SHELLS = ('OLDPWD', 'PWD', 'SHLVL', '_')


def is_shell_variable(name: str) -> bool:
    """Tell whether a variable has a meaning of its own for bash, or for our scripts."""
    return name in _SHELL_VARIABLES or name.startswith(('BASH', '_PSI'))


def for_shell(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that can be given to a job by way of a shell."""
    return {name: value for name, value in environment.items() if not is_shell_variable(name)}


def exports(prefix: str, of_the_job: Container[str], variables: Optional[Mapping[str, str]] = None) -> str:
    """Return commands that give a job the environment of this program, where the scheduler passes none on.

    Parameters
    ----------
    prefix, of_the_job
        The beginning of the names, and the names, of variables that the scheduler sets for each job: what this program
        has there tells in which job it runs itself.
    variables
        The environment of this program.

    Examples
    --------
    >>> exports('PBS_', {'HOME'}, {'A': "it's", 'PBS_JOBID': '1.x', 'HOME': '/root', 'BASH_ENV': 'x', 'a-b': ''})
    'export A=\\'it\\'"\\'"\\'s\\''
    """
    return '\n'.join(
        f'export {name}={bash_escape(value)}'
        for name, value in for_shell(os.environ if variables is None else variables).items()
        if re.fullmatch(r'[A-Za-z_]\w*', name, re.ASCII) and not name.startswith(prefix) and name not in of_the_job
    )


def through_shell(command: Sequence[str], spec: JobSpec) -> List[str]:
    """Return a launch command whose executable gets the variables that a shell would not pass on.

    Parameters
    ----------
    command
        A launch command that ends with the executable and its arguments.
    spec
        The specification with the environment of the job.
    """
    environment = spec.environment or {}
    settings = [f'{name}={value}' for name, value in environment.items() if is_shell_variable(name)]
    removals: List[str] = []
    if not spec.inherit_environment:
        removals = [f'--unset={name}' for name in _SET_BY_SHELLS if name not in environment]
    own = [str(spec.executable), *map(str, spec.arguments or ())]
    if not (settings or removals) or list(command[-len(own) :]) != own:
        return list(command)
    if '=' in own[0]:
        own = ['/bin/sh', '-c', 'exec "$0" "$@"', *own]  # env would take the executable for one more variable
    return [*command[: len(command) - len(spec.arguments or ()) - 1], '/usr/bin/env', *removals, *settings, *own]
