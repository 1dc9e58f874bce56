"""``psij status``: the states of jobs, whoever submitted them."""

from __future__ import annotations

from psij.cli import _jobs, _options, _output

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of the command."""
    parser.epilog = """\
Prints "NATIVE_ID STATE" for each job, with the exit code and the reason of one
that has failed. An end of which neither the scheduler nor the work directory
has a trace left is marked as "(assumed)".

exit code: 0 if the states of all jobs are known, 1 if one is assumed, and for
           errors, 124 if the time was over before

example: psij status --executor slurm 4711 4712"""
    _options.add_native_ids(parser, '60s', 'how long to wait for the answer of the scheduler')
    _options.add_executor(parser)
    _options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the states."""
    from psij import JobState

    jobs = _jobs.attach(args)
    known = _jobs.wait(jobs, args.timeout, JobState.QUEUED)
    _jobs.print_statuses(args, jobs)
    return int(any(_output.is_assumed(job.status) for job in jobs)) if known else 124
