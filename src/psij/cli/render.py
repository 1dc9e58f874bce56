"""``psij render``: the submit script that a batch executor would write for a job, without submitting anything."""

from __future__ import annotations

import sys

from psij.cli import _jobs, _options

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of the command."""
    parser.epilog = """\
Needs no scheduler. The port and the secrets with which a job reports its states
are made for each submission; here they are zero.

exit code: 0, or 1 if the job is not valid or the executor has no scripts

example: echo '{"executable": "/bin/date"}' | psij render --executor pbs -"""
    _options.add_executor(parser)
    parser.add_argument(
        '--environment',
        action='store_true',
        help='show also what the job inherits from the environment, if it is part of the script; it may hold secrets',
    )
    _options.add_job_file(parser)


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    from psij import Job, SubmitException
    from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutor
    from psij.launchers.script_based_launcher import nothing_deployed

    job = Job(_jobs.load(args.file))
    executor = _options.executor(args)
    if not isinstance(executor, BatchSchedulerExecutor):
        raise ValueError(f'the executor "{args.executor}" does not use submit scripts')
    try:
        script = executor.render_submit_script(job, environment=args.environment)
    except SubmitException:  # there is no place for the scripts of the launcher, which only a job would need
        with nothing_deployed():
            script = executor.render_submit_script(job, environment=args.environment)
    sys.stdout.write(script)
    return 0
