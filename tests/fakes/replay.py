"""Do the steps of a recording of a real scheduler again with its stand-in, and compare."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any, Callable

from fakes.harness import FakeCluster

RECORDINGS = Path(__file__).resolve().parent.parent / 'recordings'

Step = dict[str, Any]
Answer = tuple[int, str, str]


def recording(scheduler: str, scenario: str) -> list[Step]:
    """Return the steps of a scenario."""
    content: dict[str, Any] = json.loads((RECORDINGS / scheduler / f'{scenario}.json').read_text())
    steps: list[Step] = content['steps']
    return steps


class Replay:
    """Steps of a recording on a pretended cluster.

    Parameters
    ----------
    cwd
        Where the commands run; it stands for `home` in the recording.
    normalise
        Takes from what a command printed that which differs from run to run, given its argument list.
    env
        The environment of all commands, besides what leads to the cluster.
    """

    def __init__(
        self,
        cluster: FakeCluster,
        cwd: Path,
        home: str,
        normalise: Callable[[list[str], str], str],
        env: dict[str, str],
    ) -> None:
        self.cluster, self.cwd, self.home, self.normalise, self.env = cluster, cwd, home, normalise, env
        cwd.mkdir(exist_ok=True)

    def run(self, step: Step) -> Answer:
        """Do what a step did; return exit code, stdout and stderr, with the names that the recording has."""
        env = {**self.env, **step.get('env', {})}
        if 'as' in step:
            env['PSIJ_FAKE_USER'] = f'{step["as"]}:0'
        argv = [self._here(word) for word in step['argv']]
        done = self.cluster.run(*argv, stdin=self._here(step.get('stdin', '')), env=env, cwd=self.cwd, inherit=False)
        return done.returncode, self._as_recorded(step, done.stdout), self._as_recorded(step, done.stderr)

    def expected(self, step: Step) -> Answer:
        return (
            step['exit_code'],
            self._as_recorded(step, step.get('stdout', '')),
            self._as_recorded(step, step.get('stderr', '')),
        )

    def write_file(self, step: Step) -> None:
        (self.cwd / step['file']).write_text(self._here(step['content']))

    def check(self, step: Step, *, patience: float = 0.0) -> None:
        """Do a step and compare; an answer that depends on the progress of a job gets some time to become right."""
        deadline = time.monotonic() + patience
        answer, expected = self.run(step), self.expected(step)
        while answer != expected and time.monotonic() < deadline:
            answer = self.run(step)
        if answer != expected:  # an `assert` would show less of it
            raise AssertionError(
                f'{step["argv"]} with input {step.get("stdin")!r}:\nexpected {expected}\ngot      {answer}'
            )

    def _here(self, text: str) -> str:
        return text.replace(self.home, str(self.cwd))

    def _as_recorded(self, step: Step, text: str) -> str:
        return self.normalise(step['argv'], text.replace(str(self.cwd), self.home))


def blank_columns(text: str, separator: str, names: list[str], blank: set[str]) -> str:
    """Replace the values of some columns, those that are dates or durations, by their kind."""
    lines = []
    for line in text.splitlines():
        cells = line.split(separator)
        if len(cells) == len(names):
            cells = [kind(cell) if name in blank else cell for name, cell in zip(names, cells)]
        lines.append(separator.join(cells))
    return '\n'.join(lines)


def kind(text: str) -> str:
    """Tell what a value is.

    >>> kind('2026-11-22T14:10:09'), kind('1:21'), kind('N/A')
    ('DATE', 'TIME', 'N/A')
    """
    if re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d', text):
        return 'DATE'
    return 'TIME' if re.fullmatch(r'(\d+-)?(\d+:)?\d+:\d\d', text) else text


def numbers(text: str) -> list[int]:
    """Return the numbers of a list with ranges.

    >>> numbers('1,3-5')
    [1, 3, 4, 5]
    """
    found: list[int] = []
    for part in text.split(','):
        first, _, last = part.partition('-')
        found += range(int(first), int(last or first) + 1)
    return found
