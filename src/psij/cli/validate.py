"""``psij validate``: everything that is wrong with files that describe jobs."""

from __future__ import annotations

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
    from psij.launchers.script_based_launcher import nothing_deployed

    executor = None if args.executor is None else _options.executor(args)

    def check_job(spec: JobSpec) -> None:
        if isinstance(executor, BatchSchedulerExecutor):
            executor.render_submit_script(Job(spec))
            return
        check_spec(spec)
        name = spec.launcher or Launcher.DEFAULT_LAUNCHER_NAME
        if executor is None:
            Launcher.get_instance(name)
        elif name != executor.name:  # Flux is a launcher itself
            Launcher.get_instance(name, config=executor.config).get_launch_command(Job(spec))

    def first_problem(tree: Tree) -> Optional[str]:
        try:
            with nothing_deployed():
                check_job(_jobs.specification(tree))
        except (InvalidJobException, ValueError, TypeError) as ex:
            return _output.explain(ex)
        return None

    return first_problem


def _problems_of_file(path: str, check: Callable[[Tree], Optional[str]]) -> list[str]:
    try:
        tree = _jobs.read(path)
    except ValueError as ex:
        return [str(ex)]
    return find_problems(tree, check)


def find_problems(tree: Tree, check: Callable[[Tree], Optional[str]]) -> list[str]:
    """Return everything that is wrong with a specification.

    A check ends with the first problem. It is noted and what it comes from is taken away, until no further problem is
    found: one value, or if several together are the problem, all that stands under a key of the specification.

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
            values = _without(values, culprit)
            problem = check(_tree(values))
    return problems


_NEEDED: Values = {('executable',): '/bin/true', ('resources', '__version'): 1}
"""What cannot be left out, with values that are right."""


def _culprit(values: Values, problem: str, check: Callable[[Tree], Optional[str]]) -> Optional[Path]:
    """Return where the value stands, or should stand, that is a problem by itself; otherwise a key above several."""
    for path, value in values.items():
        needed = {other: right for other, right in _NEEDED.items() if not _collide(other, path)}
        if check(_tree({**needed, path: value})) == problem:
            return path
    for path, right in _NEEDED.items():
        missing = not any(_collide(path, other) for other in values)
        if missing and check(_tree({**values, path: right})) != problem:
            return path
    tops = dict.fromkeys(path[:1] for path in values)
    return next((top for top in tops if check(_tree(_without(values, top))) != problem), None)


def _without(values: Values, place: Path) -> Values:
    """Return values without those at a place or below, but with all that is needed.

    >>> _without({('name',): 'a', ('resources', 'memory'): 5, ('resources', 'node_count'): 2}, ('resources',))
    {('name',): 'a'}
    """
    left = {path: value for path, value in values.items() if path[: len(place)] != place}
    return {**left, **{path: right for path, right in _NEEDED.items() if place[: len(path)] == path}}


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
