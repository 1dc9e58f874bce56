"""Finds the code blocks of a page, reStructuredText or Markdown, and what is said about how to run them.

A block is run as a reader would run it: Python and shell code, in the order of the page. A comment just before a block
says otherwise, with one or several of these, separated by semicolons:

| | |
|---|---|
| ``with NAME`` | with the stand-in for this scheduler; see ``STAND_INS`` in ``test_code_blocks.py`` |
| ``new program`` | in a new Python process; otherwise the Python blocks that follow each other share one |
| ``output`` | not code, but what the Python block before it prints; ``...`` stands for anything |
| ``compile: REASON`` | only compiled |
| ``not run: REASON`` | not run |

In reStructuredText the comment is ``.. run: with slurm``, in Markdown ``<!-- run: with slurm -->``.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

CODE = ('python', 'shell', 'console')
"""The languages of blocks that are run."""

TEXT = ('text', 'mustache', 'toml', 'json', 'none')
"""The languages of blocks that are not, unless a comment says so."""

_KEYS = ('with', 'new program', 'output', 'compile', 'not run')


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes
    ----------
    page, line
        Where its first line is.
    language, text
        What it is.
    marks
        What the comment before it says.
    """

    page: str
    line: int
    language: str
    text: str
    marks: Mapping[str, str] = field(default_factory=dict)


def blocks(page: str, text: str) -> list[Block]:
    """Return the blocks of a page in their order."""
    found = _markdown(text) if Path(page).suffix == '.md' else _restructured(text)
    return [
        Block(page, line, language, textwrap.dedent(code), marks(f'{page}:{line}', comment))
        for line, language, code, comment in found
    ]


def marks(where: str, comment: str) -> dict[str, str]:
    """Return what a comment says, with the name or reason for each key."""
    said = {}
    for part in filter(None, (part.strip() for part in comment.split(';'))):
        key = next((key for key in _KEYS if part.startswith(key)), None)
        assert key is not None, f'{where}: {part!r} is not one of {_KEYS}'
        said[key] = part[len(key) :].strip(': ')
        assert said[key] or key in ('new program', 'output'), f'{where}: {key!r} needs a name or a reason'
    return said


def _restructured(text: str) -> Iterator[tuple[int, str, str, str]]:
    lines = text.splitlines()
    language_of_literals = 'none'
    comment = ''
    for number, line in enumerate(lines):
        directive = re.fullmatch(r'( *)\.\. (code-block|highlight|run):+ *(.*)', line)
        if directive is not None and directive[2] == 'highlight':
            language_of_literals = directive[3]
        elif directive is not None and directive[2] == 'run':
            comment = ' '.join([directive[3], *_body(lines, number + 1, len(directive[1]))[1].split()])
        elif directive is not None:
            begin, code = _body(lines, number + 1, len(directive[1]))
            yield begin, directive[3] or 'none', code, comment
            comment = ''
        elif line.endswith('::') and not line.lstrip().startswith('.. '):
            begin, code = _body(lines, number + 1, len(line) - len(line.lstrip()))
            yield begin, language_of_literals, code, comment
            comment = ''
        elif comment and line and not line.startswith(' '):
            raise AssertionError(f'line {number + 1}: no block follows the comment {comment!r}')


def _body(lines: list[str], begin: int, indent: int) -> tuple[int, str]:
    """Return the number of the first line of an indented body, and its text without options."""
    end = begin
    while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > indent):
        end += 1
    while begin < end and (not lines[begin].strip() or re.match(r' *:[\w-]+:', lines[begin])):
        begin += 1
    return begin + 1, '\n'.join(lines[begin:end]).rstrip() + '\n'


def _markdown(text: str) -> Iterator[tuple[int, str, str, str]]:
    pattern = re.compile(r'(?:<!-- run: (.*?) -->\n\s*)?^```(\w*)\n(.*?)^```', re.MULTILINE | re.DOTALL)
    for match in pattern.finditer(text):
        yield text.count('\n', 0, match.start(3)) + 1, match[2] or 'shell', match[3], match[1] or ''
