"""``psij list``: the native IDs of the user's jobs."""

from __future__ import annotations

from psij.cli import _options, _output

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of the command."""
    parser.epilog = """\
Prints one native ID on each line. Which of the jobs that have ended are among
them depends on the scheduler. The executor "local" lists all your processes.

exit code: 0, or 1 if the scheduler does not answer

example: psij list --executor slurm | xargs psij status --executor slurm"""
    _options.add_executor(parser)
    _options.add_json(parser, 'write a list of strings, for programs')


def run(args: argparse.Namespace) -> int:
    """Print the IDs."""
    native_ids = _options.executor(args).list()
    if args.json:
        _output.print_json(native_ids)
    else:
        for native_id in native_ids:
            print(native_id)
    return 0
