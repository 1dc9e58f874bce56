"""``#BSUB`` lines, read as bsub reads them (recording ``directives``)."""

from __future__ import annotations

import re


def directives(script: str) -> list[str]:
    r"""Return the words of all ``#BSUB`` lines, wherever they stand.

    >>> directives('#!/bin/sh\n#BSUB -J "a b" -q short # comment\n true\n # BSUB -o /dev/null\n##BSUB -x\n')
    ['-J', 'a b', '-q', 'short', '-o', '/dev/null']
    """
    found: list[str] = []
    text = script.replace('\r\n', '\n').replace('\\\n', ' ')
    for line in text.split('\n'):
        match = re.match(r'\s*#\s*BSUB\s+(.*)', line)
        if match is not None:
            found += words(match[1])
    return found


def words(line: str) -> list[str]:
    r"""Split a line at blanks. The first quote on it is the only kind that counts; there are no escapes.

    What is in quotes and begins with ``#``, and a quote without its partner, are dropped.

    >>> words('-J "it\'s" -P x'), words(r'-J "a\"b"'), words('-J "#hash"'), words('-J "open'), words('-J un"ended')
    (['-J', "it's", '-P', 'x'], ['-J', 'a\\'], ['-J'], ['-J'], ['-J', 'un"ended'])
    """
    quote = next((character for character in line if character in '"\''), '"')
    found = []
    while line.strip():
        line = line.lstrip()
        if line.startswith('#'):
            break
        if line.startswith(quote):
            word, partner, line = line[1:].partition(quote)
            if not partner or word.startswith('#'):
                break
            found.append(word.strip().replace('\t', ' '))
            line = line.lstrip(quote) if not line[:1].isspace() else line
            if line and not line[0].isspace():  # what follows at once is dropped, up to the next blank
                line = line[len(line.split(maxsplit=1)[0]) :]
        else:
            word = line.split(maxsplit=1)[0]
            found.append(word)
            line = line[len(word) :]
    return found
