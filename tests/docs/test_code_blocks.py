"""Every Python and shell block of README.md and the documentation does what it says, or says why it is not run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Optional

import pytest

from docs.blocks import CODE, TEXT, Block, blocks, marks
from docs.session import same
from docs.stand_ins import STAND_INS

TOP = Path(__file__).resolve().parents[2]
DOCS = TOP / 'docs'
SESSION = Path(__file__).with_name('session.py')
PAGES = ['README.md', *sorted(str(path.relative_to(TOP)) for path in DOCS.rglob('*.rst') if '_build' not in path.parts)]

ELSEWHERE = {
    ('README.md', 'make demo'): 'not run: test_demo runs the demo, and `make tests` would run this test',
    ('README.md', 'python3 -m venv environment'): 'not run: .ci/package installs the package in new environments',
    ('docs/executors/rp.rst', 'python3 -m venv rp-environment'): 'not run: it installs RADICAL-Pilot from the network',
    ('docs/executors/rp.rst', 'from datetime import timedelta'): 'with rp',
}
"""What is said about blocks whose pages say nothing: the page, and how the block begins."""


class Reader:
    """Somebody who types in what is on a page, in a new home directory.

    Parameters
    ----------
    directory
        The home directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._environments: dict[str, Mapping[str, str]] = {}
        self._program: list[tuple[Block, Optional[str]]] = []
        self._stack = contextlib.ExitStack()

    def read(self, page: Sequence[Block]) -> None:
        """Run all blocks of a page."""
        with self._stack:
            for block in page:
                self._read(block)
            self._run_program()

    def _read(self, block: Block) -> None:
        where = f'{block.page}:{block.line}'
        if 'output' in block.marks:
            assert self._program, f'{where}: no Python block comes before this output'
            code, _ = self._program[-1]
            self._program[-1] = (code, block.text)
        elif 'not run' in block.marks or block.language in TEXT:
            return
        elif 'compile' in block.marks:
            compile(block.text, where, 'exec')
        elif block.language == 'python':
            if self._program and ('new program' in block.marks or self._differs(block, self._program[-1][0])):
                self._run_program()
            self._program.append((block, None))
        else:
            assert block.language in CODE, f'{where}: nobody knows how to run {block.language!r}'
            self._run_program()
            self._run_shell(block)

    @staticmethod
    def _differs(block: Block, other: Block) -> bool:
        return block.marks.get('with') != other.marks.get('with')

    def _run_program(self) -> None:
        if self._program:
            program, self._program = self._program, []
            plan = [(block.page, block.line, block.text, output) for block, output in program]
            done = self._run([sys.executable, str(SESSION)], program[0][0], json.dumps(plan))
            assert done.returncode == 0, done.stderr

    def _run_shell(self, block: Block) -> None:
        if block.language == 'shell':
            done = self._run(['bash', '-eu', '-c', block.text], block)
            assert done.returncode == 0, f'{block.page}:{block.line}: {done.stdout}{done.stderr}'
            return
        for command, expected in _dialogue(block.text):
            done = self._run(['bash', '-u', '-c', command], block)
            printed = done.stdout + done.stderr
            assert same(expected, printed), f'{block.page}:{block.line}: {command!r} printed\n{printed}'

    def _run(self, argv: Sequence[str], block: Block, stdin: str = '') -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            input=stdin,
            cwd=self._directory,
            env=self._environment(block.marks.get('with', '')),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _environment(self, name: str) -> dict[str, str]:
        """Return the environment of a user for whom a scheduler is there."""
        if name not in self._environments:
            self._environments[name] = self._stack.enter_context(STAND_INS[name](self._directory)) if name else {}
        mine = {
            'HOME': str(self._directory),
            'LANG': 'C.UTF-8',
            'OMPI_ALLOW_RUN_AS_ROOT': '1',
            'OMPI_ALLOW_RUN_AS_ROOT_CONFIRM': '1',
            'PYTHONWARNINGS': 'error',
            'COLUMNS': '100',
            **self._environments[name],
        }
        path = mine.get('PATH', os.environ['PATH'])
        python_path = [mine.get('PYTHONPATH', ''), str(TOP / 'src')]
        return {
            **mine,
            'PATH': f'{Path(sys.executable).parent}:{path}',
            'PYTHONPATH': os.pathsep.join(filter(None, python_path)),
        }


def _dialogue(text: str) -> Iterator[tuple[str, str]]:
    """Yield the commands after the prompts of a console, and what they print."""
    command, printed = '', ''
    for line in text.splitlines(keepends=True):
        if line.startswith('$ '):
            if command:
                yield command, printed
            command, printed = line[2:], ''
        elif line.startswith('> '):
            command += line[2:]
        else:
            printed += line
    yield command, printed


def _with_marks_from_elsewhere(block: Block) -> Block:
    for (page, beginning), comment in ELSEWHERE.items():
        if block.page == page and block.text.startswith(beginning):
            return dataclasses.replace(block, marks=marks(f'{page}:{block.line}', comment))
    return block


@pytest.mark.parametrize('page', PAGES)
def test_code_of_page(page: str, tmp_path: Path) -> None:
    """What is on a page can be typed in, and does what the page says."""
    found = blocks(page, (TOP / page).read_text(encoding='utf-8'))
    Reader(tmp_path).read([_with_marks_from_elsewhere(block) for block in found])


@pytest.mark.parametrize(
    ('text', 'problem'),
    [
        ('.. code-block:: python\n\n   1 / 0\n', 'ZeroDivisionError'),
        ('.. code-block:: shell\n\n   false\n', 'page.rst:3'),
        ('.. code-block:: console\n\n   $ echo a\n   b\n', "'echo a"),
        ('.. code-block:: python\n\n   print(1)\n\n.. run: output\n\n.. code-block:: text\n\n   2\n', 'prints'),
        ('.. code-block:: python\n\n   x = 1\n\n.. code-block:: python\n\n   import os\n   print(x)\n', 'NameError'),
        ('.. code-block:: ruby\n\n   puts 1\n', 'ruby'),
        ('.. run: skip\n\n.. code-block:: python\n\n   1 / 0\n', 'skip'),
        ('.. run: not run\n\n.. code-block:: python\n\n   1 / 0\n', 'reason'),
    ],
)
def test_bad_blocks_are_found(text: str, problem: str, tmp_path: Path) -> None:
    """A block that does not do what it says fails, and so does one that is left out without a reason."""
    with pytest.raises(AssertionError, match=problem):
        Reader(tmp_path).read(blocks('page.rst', text))
