"""``psij wait``: waits until jobs have ended, whoever submitted them."""

from __future__ import annotations

from psij.cli import _jobs, _options, _output

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of the command."""
    parser.epilog = """\
Prints what "psij status" prints, once all jobs have ended or the time is over.
Ctrl-C ends the waiting, and leaves the jobs alone.

exit code: 0 if all jobs have completed, 1 if one has failed or was canceled, or
           nobody knows how it ended, 124 if the time was over before

example: psij wait --executor slurm --timeout 2h 4711 4712 && echo done"""
    _options.add_native_ids(parser, None, 'the longest time to wait')
    _options.add_executor(parser)
    _options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Wait, and print the states."""
    from psij import JobState

    jobs = _jobs.attach(args)
    ended = _jobs.wait(jobs, args.timeout)
    _jobs.print_statuses(args, jobs)
    if not ended:
        return 124
    return int(any(job.status.state is not JobState.COMPLETED or _output.is_assumed(job.status) for job in jobs))
