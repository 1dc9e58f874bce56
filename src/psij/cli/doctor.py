"""``psij doctor``: what works on this machine, what does not, and how to repair it."""

from __future__ import annotations

from psij.cli import _options, _output

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from psij.cli._finding import Finding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of the command."""
    parser.epilog = """\
Prints a line for each finding: "ok", "warning" (it may matter) or "problem" (it
does not work), and after an arrow what to do about it.

exit code: 0 if there is no problem, otherwise 1

example: psij doctor --executor slurm --run-job --queue debug"""
    parser.add_argument(
        '--executor', '-e', metavar='NAME', help='look at this executor (default: all that may be here)'
    )
    _options.add_executor_details(parser)
    parser.add_argument('--run-job', action='store_true', help='run a real job of one second (default executor: local)')
    _options.add_timeout(parser, '5m', 'how long to wait for this job')
    _options.add_json(parser, 'write a list of objects with level, about, text and repair, for programs')
    _options.add_attributes(parser)


def run(args: argparse.Namespace) -> int:
    """Look at everything, and print what was found."""
    findings = []
    for finding in _examine(args):
        findings.append(finding)
        if not args.json:
            print(finding, flush=True)
    if args.json:
        _output.print_json([finding._asdict() for finding in findings])
    return int(any(finding.level == 'problem' for finding in findings))


def _examine(args: argparse.Namespace) -> Iterator[Finding]:
    from psij.cli import _machine, _schedulers
    from psij.cli._finding import Finding

    _options.start_logging(args.verbose)
    yield from _machine.python()
    if args.executor is None:
        schedulers = list(_schedulers.examine_all(lambda name: _options.instance(args, name)))
    else:
        try:
            schedulers = [_schedulers.examine(_options.instance(args, args.executor)).finding]
        except ValueError as ex:  # there is no such executor, or what it needs is not installed
            yield Finding(
                'problem', args.executor, str(ex), 'install what is missing; "psij plugins" lists what there is'
            )
            return
    yield from schedulers
    for_cluster = any(finding.about not in ('local', 'others') for finding in schedulers)
    yield from _machine.work_directory(_options.work_directory(args), for_cluster)
    yield from _machine.launchers()
    yield from _machine.mpi()
    if args.run_job:
        name = args.executor or 'local'
        yield from _schedulers.try_job(lambda: _options.instance(args, name), _options.attributes(args), args.timeout)
