"""``psij cancel``: cancels jobs, whoever submitted them."""

from __future__ import annotations

from psij.cli import _jobs, _options, _output

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of the command."""
    parser.epilog = """\
Asks the scheduler to cancel the jobs, waits until they have ended, and prints
what "psij status" prints. A job that had ended before is what it was, which is
no error.

exit code: 0 if all jobs have ended, 124 if one has not in time, 1 if the
           scheduler refuses

example: psij cancel --executor slurm 4711 4712"""
    _options.add_native_ids(parser, '60s', 'how long to wait for the end of the jobs')
    _options.add_executor(parser)
    _options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Cancel the jobs, and print how they ended."""
    from psij import SubmitException

    jobs = _jobs.attach(args)
    refused = False
    for job in jobs:
        try:
            job.cancel()
        except SubmitException as ex:
            refused = True
            _output.say('cancel', f'{job.native_id}: {_output.one_line(ex)}')
    if refused:
        return 1
    ended = _jobs.wait(jobs, args.timeout)
    _output.print_statuses(jobs, args.json)
    return 0 if ended else 124
