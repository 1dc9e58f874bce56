"""``psij render``: the submit script that a batch executor would write for a job, without submitting anything."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of the command."""
    parser.add_argument('--executor', '-e', required=True, help='the name of the batch executor, such as slurm')
    parser.add_argument('job', metavar='JOB.json', help='a file with the specification, or - for the standard input')


def run(args: argparse.Namespace) -> int:
    """Print the script; exit code 1 and a line on the standard error if that is not possible."""
    from psij import InvalidJobException, Job, JobExecutor, SubmitException
    from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutor
    from psij.serialize import JSONSerializer

    try:
        if args.job == '-':
            spec = JSONSerializer().load(sys.stdin)
        else:
            with open(args.job, encoding='utf-8') as file:
                spec = JSONSerializer().load(file)
        executor = JobExecutor.get_instance(args.executor)
        if not isinstance(executor, BatchSchedulerExecutor):
            raise ValueError(f'The executor "{args.executor}" does not use submit scripts.')
        sys.stdout.write(executor.render_submit_script(Job(spec)))
    except (OSError, ValueError, InvalidJobException, SubmitException) as ex:
        print(f'psij render: {ex}', file=sys.stderr)
        return 1
    return 0
