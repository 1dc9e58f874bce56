"""The command line: ``psij COMMAND``, the same as ``python -m psij COMMAND``.

Each command is a module of :mod:`psij.cli` with two functions: ``add_arguments(parser)`` and ``run(args)``, which
returns the exit code. Only the module of the command that is asked for is imported.
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
    'plugins': 'list the executors and launchers, and say which of them cannot be loaded, and why',
    'render': 'print the submit script that a batch executor would write for a job, without submitting it',
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
    words = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(prog='psij', description='Submit jobs to any HPC scheduler.')
    parser.add_argument('--version', action='version', version=f'psij {VERSION}')
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', dest='command')
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f'{summary[0].upper()}{summary[1:]}.')
        if name in words:
            module = import_module(f'psij.cli.{name}')
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    args = parser.parse_args(words)
    if args.command is None:
        parser.print_help()
        return 0
    try:
        exit_code: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads the output, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python itself flushes at exit
        return 128 + signal.SIGPIPE
    return exit_code


if __name__ == '__main__':
    sys.exit(main())
