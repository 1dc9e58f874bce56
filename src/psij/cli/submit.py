"""``psij submit``: submits jobs that are described in files."""

from __future__ import annotations

from psij.cli import _jobs, _options, _output

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of the command."""
    parser.epilog = """\
Prints one native ID for each file, in order. All files are read before the
first job is submitted; a job that is refused does not keep the following ones
from being submitted.

exit code: 0 if all jobs were submitted, otherwise 1

example: echo '{"executable": "date", "stdout_path": "/tmp/d.txt"}' > job.json
         psij submit --executor slurm job.json"""
    _options.add_job_file(parser, '+')
    _options.add_executor(parser)
    _options.add_json(parser, 'write a list of objects with file, native_id and error, for programs')


def run(args: argparse.Namespace) -> int:
    """Submit the jobs."""
    from psij import InvalidJobException, Job, SubmitException

    jobs = [(path, Job(_jobs.load(path))) for path in args.files]
    executor = _options.lasting_executor(args)
    results: list[dict[str, object]] = []
    for path, job in jobs:
        error = None
        try:
            executor.submit(job)
        except (InvalidJobException, SubmitException) as ex:
            error = _output.one_line(ex)
            _output.say('submit', f'{path}: {error}')
        results.append({'file': path, 'native_id': job.native_id, 'error': error})
        if error is None and not args.json:
            print(job.native_id, flush=True)  # at once: who loses an ID loses the job
    if args.json:
        _output.print_json(results)
    return int(any(result['error'] is not None for result in results))
