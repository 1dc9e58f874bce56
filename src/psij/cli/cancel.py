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

exit code: 0 if all jobs have ended, 1 if the scheduler refuses to cancel one,
           124 if one has not ended in time

example: psij cancel --executor slurm 4711 4712"""
    _options.add_native_ids(parser, '60s', 'how long to wait for the end of the jobs')
    _options.add_executor(parser)
    _options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Cancel the jobs, and print how they ended."""
    from psij import SubmitException

    jobs = _jobs.attach(args)
    canceled = []
    for job in jobs:
        try:
            job.cancel()
            canceled.append(job)
        except SubmitException as ex:
            _output.say('cancel', f'{job.native_id}: {_output.explain(ex)}')
    ended = _jobs.wait(canceled, args.timeout)
    _jobs.print_statuses(args, canceled)
    if len(canceled) < len(jobs):
        return 1
    return 0 if ended else 124
