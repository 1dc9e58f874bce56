"""Options that several commands have, and what becomes of them."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Optional

    from psij import JobAttributes, JobExecutor, JobSpec

DEFAULT_EXECUTOR = 'PSIJ_EXECUTOR'
"""The environment variable that names the executor where no option does."""


# --- options ---------------------------------------------------------------------------------------------------------


def add_executor(parser: argparse.ArgumentParser) -> None:
    """Define the options that choose an executor."""
    default = os.environ.get(DEFAULT_EXECUTOR) or 'local'
    parser.add_argument(
        '--executor',
        '-e',
        metavar='NAME',
        default=default,
        help=f'the executor, such as local, slurm or pbs (default: ${DEFAULT_EXECUTOR} if it is set, otherwise local)',
    )
    add_executor_details(parser)


def add_executor_details(parser: argparse.ArgumentParser) -> None:
    """Define the options that go with the choice of an executor."""
    parser.add_argument('--url', help='where the backend is, for executors that can use one elsewhere')
    parser.add_argument(
        '--work-directory', metavar='DIR', help='where psij keeps files of jobs (default: ~/.psij/work)'
    )
    parser.add_argument(
        '--verbose',
        '-v',
        action='count',
        default=0,
        help='log the life of the jobs on the standard error; twice: the commands of the scheduler too',
    )


def add_json(parser: argparse.ArgumentParser, what: str = 'write JSON, for programs') -> None:
    """Define the option for output that programs read."""
    parser.add_argument('--json', action='store_true', help=what)


def add_job_file(parser: argparse.ArgumentParser, nargs: Optional[str] = None) -> None:
    """Define the files that describe jobs."""
    parser.add_argument(
        'files' if nargs else 'file',
        metavar='JOB.json',
        nargs=nargs,
        help='a file with a specification, as psij.serialize.JSONSerializer writes it; - is the standard input',
    )


def add_native_ids(parser: argparse.ArgumentParser, timeout: Optional[str], meaning: str) -> None:
    """Define the jobs that a command is about, and how long it may take."""
    parser.add_argument('native_ids', metavar='NATIVE_ID', nargs='+', help='the ID that the scheduler gave the job')
    add_timeout(parser, timeout, meaning)


def add_timeout(parser: argparse.ArgumentParser, default: Optional[str], meaning: str) -> None:
    """Define how long the command may take."""
    parser.add_argument(
        '--timeout',
        metavar='TIME',
        type=waiting_time,
        default=default,
        help=f'{meaning}, such as 30 (seconds), 10m or 1:30:00 (default: {default or "no limit"})',
    )


def add_spec(parser: argparse.ArgumentParser) -> None:
    """Define the options that describe a job, all but its command."""
    job = parser.add_argument_group(
        'job',
        'Relative paths in options are relative to the current directory. A COMMAND\n'
        'with a slash in it, such as ./simulate, is relative to the directory in which\n'
        'the job runs; one without a slash is looked for on the PATH of the job.',
    )
    job.add_argument('--name', help='a name to show to people')
    job.add_argument('--launcher', metavar='NAME', help='what starts the processes: single (default), mpirun, srun ...')
    job.add_argument('--directory', metavar='DIR', default='.', help='where it runs (default: the current directory)')
    job.add_argument('--env', metavar='K=V', type=_variable, action='append', help='an environment variable')
    job.add_argument(
        '--no-inherit-environment',
        dest='inherit_environment',
        action='store_false',
        help='the job sees only the environment that --env gives it',
    )
    job.add_argument('--stdin', metavar='FILE', help='the standard input (default: nothing)')
    job.add_argument('--stdout', metavar='FILE', help='a file for the standard output')
    job.add_argument('--stderr', metavar='FILE', help='a file for the standard error')
    job.add_argument('--pre-launch', metavar='FILE', help='a shell script to be sourced before the command is launched')
    job.add_argument('--post-launch', metavar='FILE', help='a shell script to be sourced after the command has ended')
    resources = parser.add_argument_group('resources', 'One process, if none of these is given.')
    for option, what in (
        ('--nodes', 'nodes'),
        ('--processes', 'processes on all nodes together'),
        ('--processes-per-node', 'processes on each node'),
        ('--cores-per-process', 'CPU cores of each process'),
    ):
        resources.add_argument(option, metavar='N', type=count, help=what)
    resources.add_argument('--gpus-per-process', metavar='N', type=count_or_zero, help='GPUs of each process')
    resources.add_argument('--memory', metavar='SIZE', type=memory, help='of the whole job: bytes, or such as 512M, 4G')
    resources.add_argument('--exclusive', action='store_true', help='no other job may run on the nodes')
    add_attributes(parser)


def add_attributes(parser: argparse.ArgumentParser) -> None:
    """Define the options that say how a job is to be run."""
    attributes = parser.add_argument_group('attributes')
    attributes.add_argument(
        '--duration', metavar='TIME', type=walltime, help='the walltime: 90m, 1:30:00 (default: 10m)'
    )
    attributes.add_argument('--queue', help='the queue or partition')
    attributes.add_argument('--account', help='the account or project to charge')
    attributes.add_argument('--reservation', metavar='ID', help='a reservation in which the job is to run')
    attributes.add_argument(
        '--attribute',
        metavar='NAME.OPTION[=VALUE]',
        type=_attribute,
        action='append',
        help='an attribute for one executor, such as slurm.constraint=gpu',
    )


# --- types of values -------------------------------------------------------------------------------------------------


def walltime(text: str) -> timedelta:
    """Return a time that was given as a walltime: a number means minutes, as with the commands of schedulers."""
    time = _time(text)
    if not time:
        raise argparse.ArgumentTypeError(f'got {text!r}, expected more than no time')
    return time


def waiting_time(text: str) -> timedelta:
    """Return how long somebody is ready to wait: a number means seconds, as with other commands that wait.

    >>> waiting_time('3'), waiting_time('1.5'), waiting_time('2m')
    (datetime.timedelta(seconds=3), datetime.timedelta(seconds=1, microseconds=500000), datetime.timedelta(seconds=120))
    """
    return _time(f'{text}s' if re.fullmatch(r'\d*\.?\d+', text, re.ASCII) else text)


def _time(text: str) -> timedelta:
    from psij import JobAttributes

    try:
        return JobAttributes.parse_walltime(text)
    except ValueError as ex:
        if isinstance(ex.__cause__, OverflowError):
            raise argparse.ArgumentTypeError(str(ex)) from ex
        raise argparse.ArgumentTypeError(
            f'{text!r} is no time; expected hh:mm:ss, hh:mm, or a number with one of the units '
            'ms, s, m, h, d, M (months) and y, such as 90m'
        ) from ex


def count(text: str) -> int:
    """Return a positive number."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f'got {text!r}, expected a positive number')
    return int(text)


def count_or_zero(text: str) -> int:
    """Return a number that is not negative."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f'got {text!r}, expected a number')
    return int(text)


def memory(text: str) -> int:
    """Return a number of bytes.

    >>> memory('4096'), memory('1.5k'), memory('2 GiB')
    (4096, 1536, 2147483648)
    """
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*(?:([kmgt])(?:i?b)?)?', text.strip(), re.IGNORECASE | re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f'{text!r} is no size; expected bytes, or a number with K, M, G or T')
    number, unit = match.groups()
    size = int(float(number) * 1024 ** ' kmgt'.index((unit or ' ').lower()))
    if size == 0:
        raise argparse.ArgumentTypeError(f'got {text!r}, expected more than no memory')
    return size


def _variable(text: str) -> tuple[str, str]:
    name, separator, value = text.partition('=')
    if not separator:
        raise argparse.ArgumentTypeError(f'{text!r} has no value; expected NAME=VALUE')
    if not re.fullmatch(r'[A-Za-z_]\w*', name, re.ASCII):
        raise argparse.ArgumentTypeError(f'{name!r} is not the name of a variable; expected NAME=VALUE')
    return name, value


def _attribute(text: str) -> tuple[str, object]:
    name, separator, value = text.partition('=')
    scheduler, _, option = name.partition('.')
    if not scheduler or not option:
        raise argparse.ArgumentTypeError(
            f'{name!r} names no option of a scheduler; expected NAME.OPTION[=VALUE], such as slurm.constraint=gpu'
        )
    return name, value if separator else True


# --- what becomes of them --------------------------------------------------------------------------------------------


def executor(args: argparse.Namespace) -> JobExecutor:
    """Return the executor that was chosen, and begin to log."""
    start_logging(args.verbose)
    return instance(args, args.executor)


def instance(args: argparse.Namespace, name: str) -> JobExecutor:
    """Return the executor with a name, with the details that were given."""
    from psij import JobExecutor, JobExecutorConfig

    given = args.work_directory is not None
    config = JobExecutorConfig(work_directory=work_directory(args)) if given else None
    return JobExecutor.get_instance(name, url=args.url, config=config)


def work_directory(args: argparse.Namespace) -> Path:
    """Return the directory for the files of jobs."""
    from psij import JobExecutorConfig

    return Path(args.work_directory or JobExecutorConfig.DEFAULT.work_directory)


def lasting_executor(args: argparse.Namespace) -> JobExecutor:
    """Return the executor that was chosen, for jobs that several programs look at, one after the other.

    It does not remove the files of jobs that have ended, which are all that tells later how they did.
    """
    chosen = executor(args)
    if hasattr(chosen.config, 'keep_files'):  # only executors for batch schedulers have such files
        chosen.config.keep_files = True
    return chosen


def start_logging(verbose: int) -> None:
    """Let the library tell on the standard error what it does, or only what goes wrong."""
    import logging

    handler = logging.StreamHandler()
    logger = logging.getLogger('psij')
    if verbose:
        handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(name)s: %(message)s'))
        logger.setLevel(logging.INFO if verbose == 1 else logging.DEBUG)
    else:
        handler.setFormatter(logging.Formatter('psij: %(message)s'))
    logger.addHandler(handler)


def spec(args: argparse.Namespace, command: list[str]) -> JobSpec:
    """Return the specification that the options describe."""
    from psij import JobSpec, ResourceSpecV1

    resources = {
        'node_count': args.nodes,
        'process_count': args.processes,
        'processes_per_node': args.processes_per_node,
        'cpu_cores_per_process': args.cores_per_process,
        'gpu_cores_per_process': args.gpus_per_process,
        'memory': args.memory,
    }
    given = args.exclusive or any(value is not None for value in resources.values())
    return JobSpec(
        executable=command[0],
        arguments=command[1:],
        directory=_absolute(args.directory),
        name=args.name,
        inherit_environment=args.inherit_environment,
        environment=dict(args.env) if args.env else None,
        stdin_path=_absolute(args.stdin),
        stdout_path=_absolute(args.stdout),
        stderr_path=_absolute(args.stderr),
        resources=ResourceSpecV1(exclusive_node_use=args.exclusive, **resources) if given else None,
        attributes=attributes(args),
        pre_launch=_absolute(args.pre_launch),
        post_launch=_absolute(args.post_launch),
        launcher=args.launcher,
    )


def attributes(args: argparse.Namespace) -> JobAttributes:
    """Return the attributes that the options describe."""
    from psij import JobAttributes

    result = JobAttributes(queue_name=args.queue, account=args.account, reservation_id=args.reservation)
    if args.duration is not None:
        result.duration = args.duration
    for name, value in args.attribute or ():
        result.set_custom_attribute(name, value)
    return result


def _absolute(path: Optional[str]) -> Optional[str]:
    return None if path is None else os.path.abspath(path)
