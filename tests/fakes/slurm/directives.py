"""``#SBATCH`` lines, read as sbatch reads them (notes on quoting: recording ``sbatch_directive_quoting``)."""

from __future__ import annotations

from fakes.commandline import Exit


def words(line: str, place: str) -> list[str]:
    r"""Split the rest of an ``#SBATCH`` line; these are not the rules of the shell.

    A backslash takes the next character literally, inside quotes as well, but ``\ `` does not join two words.
    An ``#`` outside quotes begins a comment, wherever it stands.

    >>> words('--comment="a \\"b\\" $c" -n 2 # two', 'line 2')
    ['--comment=a "b" $c', '-n', '2']
    >>> words('--comment=a\\ b', 'line 2')
    ['--comment=a', 'b']
    """
    found: list[str] = []
    word, begun, quote, escaped = '', False, '', False
    for character in line:
        if character.isspace() and not quote:
            if word or begun:
                found.append(word)
            word, begun, escaped = '', False, False
        elif escaped:
            word += character
            escaped = False
        elif character == '\\':
            escaped = True
        elif quote:
            if character == quote:
                quote = ''
            else:
                word += character
        elif character in '"\'':
            quote, begun = character, True
        elif character == '#':
            break
        else:
            word += character
    if quote:
        raise Exit(1, f'sbatch: fatal: {place}: Unmatched `{quote}` in [{line.lstrip()}]\n')
    return [*found, word] if word or begun else found


def directives(script: str, name: str) -> list[str]:
    """Return the words of all ``#SBATCH`` lines before the first command."""
    found: list[str] = []
    for number, line in enumerate(script.splitlines(), 1):
        if line.startswith('#SBATCH') and line[7:8].isspace():
            found += words(line[7:], f'{name}: line {number}')
        elif line.strip() and not line.lstrip().startswith('#'):
            break
    return found
