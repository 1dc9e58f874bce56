"""Recordings of the commands of real schedulers: what was run, and what it printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent


class Step(NamedTuple):
    """One command of a recording."""

    scenario: str
    argv: list[str]
    exit_code: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f'{self.scenario}: {" ".join(self.argv)[:60]}'


def steps(scheduler: str, command: str, scenario: str = '*') -> Iterator[Step]:
    """Yield the recorded runs of a command, in the order of the files and in each file in that of time."""
    for path in sorted((HERE / scheduler).glob(f'{scenario}.json')):
        content: dict[str, Any] = json.loads(path.read_text())
        for step in content['steps']:
            argv = step.get('argv') or ['']
            if argv[0].rpartition('/')[2] == command and step.get('exit_code') is not None:
                yield Step(path.stem, argv, step['exit_code'], step.get('stdout', ''), step.get('stderr', ''))
