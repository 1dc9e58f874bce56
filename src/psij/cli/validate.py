"""``psij validate``: everything that is wrong with files that describe jobs."""

from __future__ import annotations

import json

from psij.cli import _jobs, _options, _output

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import Any, Callable, Optional

    Tree = dict[str, Any]
    Path = tuple[str, ...]
    Values = dict[Path, object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of the command."""
    parser.epilog = """\
Prints a line for each problem, and "FILE: ok" for a file without any. With
--executor the rules of that scheduler are checked too, as far as they are known
without asking it. Nothing is submitted.

exit code: 0 if there is no problem, otherwise 1

example: psij validate --executor slurm *.json"""
    _options.add_job_file(parser, '+')
    parser.add_argument('--executor', '-e', metavar='NAME', help='check the rules of this executor too')
    _options.add_executor_details(parser)
    _options.add_json(parser, 'write a list of objects with file and problems, for programs')


def run(args: argparse.Namespace) -> int:
    """Check the files."""
    check = _checker(args)
    results = [(path, _problems_of_file(path, check)) for path in args.files]
    if args.json:
        _output.print_json([{'file': path, 'problems': problems} for path, problems in results])
    else:
        for path, problems in results:
            for problem in problems or ['ok']:
                print(f'{path}: {problem}')
    return int(any(problems for _, problems in results))


def _checker(args: argparse.Namespace) -> Callable[[Tree], Optional[str]]:
    """Return a function that tells the first problem with a specification, or None if there is none."""
    from psij import InvalidJobException, Job, JobSpec, Launcher
    from psij._spec_check import check_spec
    from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutor
    from psij.serialize import JSONSerializer

    executor = None if args.executor is None else _options.executor(args)

    def check_job(spec: JobSpec) -> None:
        if isinstance(executor, BatchSchedulerExecutor):
            executor.render_submit_script(Job(spec))
        else:
            check_spec(spec)
            Launcher.get_instance(spec.launcher or Launcher.DEFAULT_LAUNCHER_NAME)

    def first_problem(tree: Tree) -> Optional[str]:
        try:
            check_job(JSONSerializer().loads(json.dumps(tree)))
        except (InvalidJobException, ValueError, TypeError) as ex:
            return _output.one_line(ex)
        return None

    return first_problem


def _problems_of_file(path: str, check: Callable[[Tree], Optional[str]]) -> list[str]:
    try:
        tree = json.loads(_jobs.read(path))
    except (OSError, ValueError) as ex:
        return [str(ex)]
    if not isinstance(tree, dict):
        return [f'expected a JSON object that describes a job, got {type(tree).__name__}']
    return find_problems(tree, check)


def find_problems(tree: Tree, check: Callable[[Tree], Optional[str]]) -> list[str]:
    """Return everything that is wrong with a specification.

    A check ends with the first problem. If that comes from one value alone, it is noted and the value is taken away,
    until no further problem is found.

    Parameters
    ----------
    tree
        The specification, as it stands in a file.
    check
        Tells the first problem with a specification.

    Examples
    --------
    >>> def check(tree):
    ...     return next((f'bad {name}' for name, value in tree.items() if value == 'bad'), None)
    >>> find_problems({'name': 'bad', 'executable': '/bin/true', 'launcher': 'bad'}, check)
    ['bad name', 'bad launcher']
    """
    values = dict(_values(tree))
    problems: list[str] = []
    problem = check(tree)
    while problem is not None and problem not in problems:
        problems.append(problem)
        culprit = _culprit(values, problem, check)
        if culprit is not None:
            values.pop(culprit, None)
            if culprit in _NEEDED:
                values[culprit] = _NEEDED[culprit]
            problem = check(_tree(values))
    return problems


_NEEDED: Values = {('executable',): '/bin/true', ('resources', '__version'): 1}
"""What cannot be left out, with values that are right."""


def _culprit(values: Values, problem: str, check: Callable[[Tree], Optional[str]]) -> Optional[Path]:
    """Return where the value stands, or should stand, that is a problem by itself."""
    for path, value in values.items():
        needed = {other: right for other, right in _NEEDED.items() if not _collide(other, path)}
        if check(_tree({**needed, path: value})) == problem:
            return path
    for path, right in _NEEDED.items():
        missing = not any(_collide(path, other) for other in values)
        if missing and check(_tree({**values, path: right})) != problem:
            return path
    return None


def _collide(path: Path, other: Path) -> bool:
    """Tell whether values at two places are the same one, or one is in the other."""
    return path[: len(other)] == other[: len(path)]


def _values(tree: Tree, above: Path = ()) -> Iterator[tuple[Path, object]]:
    """Yield the values of a tree, each with the keys that lead to it."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _values(value, (*above, key))
        else:
            yield (*above, key), value


def _tree(values: Values) -> Tree:
    """Return the tree that has these values.

    >>> tree = {'name': 'a', 'resources': {'__version': 1, 'memory': 5}}
    >>> _tree(dict(_values(tree))) == tree
    True
    """
    tree: Tree = {}
    for path, value in values.items():
        branch = tree
        for key in path[:-1]:
            branch = branch.setdefault(key, {})
        branch[path[-1]] = value
    return tree
