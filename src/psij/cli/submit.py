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

exit code: 0 if all jobs were submitted, otherwise 1; also 1 if an ID could not
           be printed, which is then told on the standard error

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
    printed = True
    try:
        for path, job in jobs:
            error = None
            try:
                executor.submit(job)
            except (InvalidJobException, SubmitException) as ex:
                error = _output.explain(ex)
                _output.say('submit', f'{path}: {error}')
            results.append({'file': path, 'native_id': job.native_id, 'error': error})
            if not args.json:
                printed = _print(results[-1:], False) and printed
    finally:  # also if somebody presses Ctrl-C
        if args.json:
            printed = _print(results, True)
    return int(not printed or any(result['error'] is not None for result in results))


def _print(results: list[dict[str, object]], as_json: bool) -> bool:
    """Print native IDs at once, on the standard error if that fails, because who loses an ID loses the job."""
    submitted = [result for result in results if result['error'] is None]
    try:
        if as_json:
            _output.print_json(results)
        else:
            for result in submitted:
                print(result['native_id'], flush=True)
    except OSError as ex:
        for result in submitted:
            text = f'{result["file"]} was submitted as {result["native_id"]}, which cannot be printed: {ex.strerror}'
            _output.say('submit', text)
        return False
    return True
