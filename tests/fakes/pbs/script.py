"""What ``qsub`` of OpenPBS and of Torque does with a script and its directives, and how both read options."""

from __future__ import annotations

import os

from fakes.commandline import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class OptionError(Exception):
    """An option that there is not, or one without its value."""


def getopt(words: list[str], letters: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Read options of one letter; in `letters` a colon follows those with a value.

    >>> getopt(['-h', '-Nname', '-l', 'x', 'file'], 'hN:l:')
    ([('h', ''), ('N', 'name'), ('l', 'x')], ['file'])
    """
    found: list[tuple[str, str]] = []
    rest = list(words)
    while rest and rest[0].startswith('-') and rest[0] not in ('-', '--'):
        group = rest.pop(0)[1:]
        while group:
            letter, group = group[0], group[1:]
            if letter == ':' or letter not in letters:
                raise OptionError(f"invalid option -- '{letter}'")
            value = ''
            if letters[letters.index(letter) + 1 :][:1] == ':':
                if not group and not rest:
                    raise OptionError(f"option requires an argument -- '{letter}'")
                value, group = group or rest.pop(0), ''
            found.append((letter, value))
    return found, rest


def read(operands: list[str]) -> tuple[str, str]:
    """Return the name and the text of the script: a file, or standard input."""
    if not operands:
        return 'STDIN', _read(0)
    path = operands[0]
    if os.path.isdir(path):
        raise Exit(1, 'qsub: script not a file\n')
    fd = os.open(path, os.O_RDONLY)
    text = _read(fd)
    os.close(fd)
    return os.path.basename(path), text


def _read(fd: int) -> str:
    parts = [b'']
    while len(parts) == 1 or parts[-1]:
        parts.append(os.read(fd, 1 << 20))
    return os.fsdecode(b''.join(parts))


def directives(text: str, prefix: str = '#PBS') -> list[list[str]]:
    """Return the words of each directive, up to the first command.

    >>> directives('#!/bin/sh\\n#PBS -N "a b"\\n# no\\n  #PBS-h\\ntrue\\n#PBS -N c\\n')
    [['-N', 'a b'], ['-h']]
    """
    found = []
    for number, line in enumerate(text.split('\n')):
        stripped = line.strip()
        if stripped.startswith(prefix):
            found.append(split(stripped[len(prefix) :]))
        elif stripped and not stripped.startswith('#') and not (number == 0 and stripped.startswith(':')):
            break
    return found


def split(line: str) -> list[str]:
    """Split at blanks; quotes of either kind hold words together, and there is no other special character.

    >>> split(''' -A "acct x" -N='y' ''')
    ['-A', 'acct x', '-N=y']
    """
    words: list[str] = []
    word, quote, open_word = '', '', False
    for character in line:
        if quote:
            if character == quote:
                quote = ''
            else:
                word += character
        elif character in '"\'':
            quote, open_word = character, True
        elif character.isspace():
            if word or open_word:
                words.append(word)
            word, open_word = '', False
        elif character == '\\':
            raise Exit(98, f'stand-in for qsub: a backslash in a directive is not covered: {line}\n')
        else:
            word += character
    return [*words, word] if word or open_word else words


def seconds(text: str, most_fields: int = 3) -> int:
    """Read a walltime; days may come first in Torque.

    >>> seconds('0:10:0'), seconds('90'), seconds('00:60:00')
    (600, 90, 3600)
    """
    fields = text.partition('.')[0].split(':')
    if len(fields) > most_fields or not all(field.isdigit() for field in fields):
        raise ValueError(text)
    total = 0
    for field, factor in zip(reversed(fields), (1, 60, 3600, 86400)):
        total += int(field) * factor
    return total


def kilobytes(text: str) -> int:
    """Read a size; a bare number is bytes.

    >>> kilobytes('30mb'), kilobytes('1537kb'), kilobytes('2048')
    (30720, 1537, 2)
    """
    number = text.rstrip('bkmgtBKMGT')
    unit = text[len(number) :].lower()
    factors = {'': 1, 'b': 1, 'k': 1 << 10, 'kb': 1 << 10, 'm': 1 << 20, 'mb': 1 << 20, 'g': 1 << 30, 'gb': 1 << 30}
    if not number.isdigit() or unit not in factors:
        raise ValueError(text)
    return -(-int(number) * factors[unit] // 1024)


def resources(text: str) -> list[tuple[str, str]]:
    """Read a list of resources.

    >>> resources('nodes=1:ppn=2,mem=1gb')
    [('nodes', '1:ppn=2'), ('mem', '1gb')]
    """
    return [(name, value) for name, _, value in (item.partition('=') for item in text.split(','))]


def chunks(text: str, refuse: Callable[[], Exit]) -> list[tuple[int, dict[str, str]]]:
    """Read what stands after ``select=`` or ``nodes=``: counts, each with resources.

    >>> chunks('2:ncpus=2+1:ncpus=1', lambda: Exit(1))
    [(2, {'ncpus': '2'}), (1, {'ncpus': '1'})]
    """
    found = []
    for chunk in text.split('+'):
        count, *items = chunk.split(':')
        if not count.isdigit():
            raise refuse()
        found.append((int(count), {name: value for name, _, value in (item.partition('=') for item in items)}))
    return found
