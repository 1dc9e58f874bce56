"""The command line: ``psij COMMAND``, the same as ``python -m psij COMMAND``.

Each command is a module of :mod:`psij.cli` with two functions: ``add_arguments(parser)`` and ``run(args)``, which
returns the exit code. Only the module of the command that is asked for is imported. Whatever a command raises becomes
one line on the standard error, here and nowhere else.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib import import_module

from psij.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Sequence

COMMANDS = {
    'run': 'run a command as a job, follow it, and exit with its exit code',
    'submit': 'submit jobs that are described in files, and print their native IDs',
    'status': 'print the states of jobs',
    'wait': 'wait until jobs have ended, and print how',
    'cancel': 'cancel jobs, and print how they ended',
    'list': 'print the native IDs of your jobs, whoever submitted them',
    'render': 'print the submit script that a batch executor would write for a job, without submitting it',
    'validate': 'check files that describe jobs, without submitting them',
    'plugins': 'list the executors and launchers, and say which of them cannot be loaded, and why',
    'doctor': 'check what works on this machine and what does not, and say how to repair it',
}
"""The modules of :mod:`psij.cli` and what ``psij --help`` says about them."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run a command and return its exit code.

    Parameters
    ----------
    argv
        The arguments of the command line, without the name of the program; those of this process by default.

    Raises
    ------
    SystemExit
        With exit code 2 and usage on the standard error, if the arguments are wrong.
    """
    _open_missing_streams()
    args = _parse(sys.argv[1:] if argv is None else list(argv))
    if args is None:
        return 0
    try:
        exit_code: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads the output, `head` for example, has seen enough
        exit_code = 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        _complain(args.command, 'interrupted')
        exit_code = 128 + signal.SIGINT
    except Exception as ex:  # noqa: BLE001 - whatever it is, a person wants to read one line, and programs an exit code
        if args.debug:
            import traceback

            traceback.print_exc()
        else:
            _complain(args.command, _explain(ex))
        exit_code = args.exit_code_of_errors
    _give_up_unwritten_output()
    return exit_code


def _open_missing_streams() -> None:
    """Put the null device in the place of standard streams with which a shell did not start us, as after ``>&-``."""
    for name, mode in (('stdin', 'r'), ('stdout', 'w'), ('stderr', 'w')):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding='utf-8'))  # noqa: SIM115 - it stays open


def _give_up_unwritten_output() -> None:
    """Throw output away that cannot be written, and was complained about: Python would do so again at its exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(words: list[str]) -> Optional[argparse.Namespace]:
    """Return the arguments; None if there are none, and help was printed."""
    parser = argparse.ArgumentParser(
        prog='psij',
        description='Submit jobs to any HPC scheduler.',
        epilog='"psij COMMAND --help" explains a command, with an example.',
    )
    parser.add_argument('--version', action='version', version=f'psij {VERSION}')
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', dest='command')
    wanted = next((word for word in words if not word.startswith('-')), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=f'{summary[0].upper()}{summary[1:]}.',
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == wanted:
            module = import_module(f'psij.cli.{name}')
            command.set_defaults(run=module.run, exit_code_of_errors=1)
            command.add_argument('--debug', action='store_true', help='show where in the code an error comes from')
            module.add_arguments(command)
    args = parser.parse_args(words)
    if args.command is None:
        parser.print_help()
        return None
    return args


def _explain(ex: Exception) -> str:
    """Return one line about an error; the class of one that is not meant for users says more than its text."""
    from psij.cli._output import explain
    from psij.exceptions import InvalidJobException, SubmitException

    text = explain(ex)
    if isinstance(ex, FileNotFoundError) and not _has_current_directory():
        return f'the current directory ({os.environ.get("PWD", "its name is not known")}) does not exist any more'
    if isinstance(ex, (InvalidJobException, SubmitException, OSError, ValueError)) and text:
        return text
    return f'{type(ex).__name__}: {text} (--debug shows where it comes from)'


def _has_current_directory() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _complain(command: str, text: str) -> None:
    from psij.cli._output import say

    say(command, text)


if __name__ == '__main__':
    sys.exit(main())
