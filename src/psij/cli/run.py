"""``psij run``: runs a command as a job, or as several, and follows it to its end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path

from psij.cli import _options

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from psij import Job, JobSpec, JobStatus
    from psij.cli._display import Lines

_FAILED = 125  # what docker and timeout end with if it is they who have failed, and not the command
_CANCELED = 128 + signal.SIGINT

_OUTPUTS = {'stdout': '.out', 'stderr': '.err'}
"""The streams of a job, and how the names of files for them end."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of the command."""
    parser.usage = 'psij run [OPTION ...] [--] COMMAND [ARGUMENT ...]'
    parser.epilog = f"""\
States are shown on the standard error. What a job writes goes to the standard
output and error of psij if it runs on this machine (executor "local");
otherwise it goes to files in the directory of the job, whose names are shown.
Ctrl-C cancels the job, and so do SIGTERM and SIGHUP; a second one leaves
without waiting for that.

exit code: that of the job (128+n if signal n ended it, 1 if it failed without
           one, {_CANCELED} if it was canceled); with several copies that of the first
           one that has not completed; {_FAILED} if psij itself has failed, for
           example because the submission was refused; 2 for wrong usage

example: psij run --executor slurm --nodes 2 --processes-per-node 8 \\
             --launcher mpirun --duration 1h -- ./simulate --steps 1000"""
    parser.set_defaults(exit_code_of_errors=_FAILED, parser=parser)
    parser.add_argument('words', metavar='COMMAND', nargs='...', help='the program to run, and its arguments')
    _options.add_executor(parser)
    parser.add_argument(
        '--copies',
        '-n',
        metavar='N',
        type=_options.count,
        default=1,
        help='submit N jobs; then the names of output files have the number of the copy at the end',
    )
    _options.add_json(
        parser, 'write changes of states as JSON objects, one on each line; what jobs write goes to files'
    )
    _options.add_spec(parser)


def run(args: argparse.Namespace) -> int:
    """Run the jobs and return the exit code."""
    command = args.words[1:] if args.words[:1] == ['--'] else args.words
    if not command:
        args.parser.error('there is no COMMAND to run')
    from psij import Job
    from psij.cli._display import display
    from psij.cli._session import Session

    executor = _options.executor(args)
    jobs = [Job() for _ in range(args.copies)]
    pass_on = executor.name == 'local' and not args.json
    with contextlib.ExitStack() as stack:
        shown = stack.enter_context(display(len(jobs), args.json, args.verbose > 0))
        directory = stack.enter_context(_private_directory(jobs, shown)) if pass_on else args.directory
        unnamed = _name_outputs(args, os.path.join(directory, f'{_file_name(args, command)}-{os.urandom(3).hex()}'))
        for number, job in enumerate(jobs, 1):
            job.spec = _spec(args, command, number)
        session = Session(executor, jobs, shown)
        if pass_on:
            session.pass_on(unnamed)
        elif unnamed:
            names = ' and '.join(_of_copy(os.path.abspath(getattr(args, stream)), 'N', args) for stream in unnamed)
            session.remark = f'what the job writes goes to {names}'
        left = session.run()
    return _CANCELED if left else next(filter(None, (_exit_code(job.status) for job in jobs)), 0)


def _file_name(args: argparse.Namespace, command: list[str]) -> str:
    return re.sub(r'[^\w.-]+', '_', args.name or os.path.basename(command[0]))


def _name_outputs(args: argparse.Namespace, base: str) -> list[str]:
    """Give names to the files for the streams that have none, and return these streams."""
    unnamed = [stream for stream in _OUTPUTS if getattr(args, stream) is None]
    for stream in unnamed:
        setattr(args, stream, base + _OUTPUTS[stream])
    return unnamed


def _spec(args: argparse.Namespace, command: list[str], number: int) -> JobSpec:
    spec = _options.spec(args, command)
    spec.stdout_path = Path(_of_copy(str(spec.stdout_path), number, args))
    spec.stderr_path = Path(_of_copy(str(spec.stderr_path), number, args))
    return spec


def _of_copy(path: str, number: object, args: argparse.Namespace) -> str:
    """Return the path of an output file for a copy; what is no file, ``/dev/null`` for example, is that of all."""
    shared = os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))
    return path if args.copies == 1 or shared else f'{path}.{number}'


@contextlib.contextmanager
def _private_directory(jobs: list[Job], shown: Lines) -> Iterator[str]:
    """Make a directory for what the jobs write, and remove it unless one of them still runs."""
    import shutil
    import tempfile

    directory = tempfile.mkdtemp(prefix='psij-run-')
    try:
        yield directory
    finally:
        if any(job.executor is not None and not job.status.final for job in jobs):
            shown.tell(f'what the job writes goes to files in {directory}')
        else:
            shutil.rmtree(directory)


def _exit_code(status: JobStatus) -> int:
    from psij import JobState

    if status.state is JobState.COMPLETED:
        return 0
    if status.state is JobState.FAILED:
        return status.exit_code or 1
    return _CANCELED  # also if a Ctrl-C came before the job was submitted
