"""The environment of a job, byte for byte, also through a shell.

bash sets some variables itself (``PWD``, ``SHLVL``, ``_``), keeps others for its own use (``IFS``, ``RANDOM``), and
obeys some (``BASH_ENV``, ``SHELLOPTS``). A job must get what it was given, and the shells of our scripts must not
obey what is meant for the job. So these variables travel in the command line, which ``env`` turns into the
environment.
"""

from __future__ import annotations

from typing import List, Mapping, Sequence

from psij.job_spec import JobSpec

_SHELL_VARIABLES = frozenset(
    (
        # changed by bash on the way, as found by experiment with bash 5.2
        *('COMP_WORDBREAKS', 'EPOCHREALTIME', 'EPOCHSECONDS', 'HISTCMD', 'IFS', 'LINENO', 'OLDPWD', 'OPTERR'),
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
