"""Lists of host names with ranges in brackets."""

from __future__ import annotations


def expand(text: str) -> list[str]:
    """Return the names of a list of hosts.

    >>> expand('node[01-03,7],gpu7')
    ['node01', 'node02', 'node03', 'node7', 'gpu7']
    """
    hosts: list[str] = []
    for part in _split(text):
        prefix, bracket, rest = part.partition('[')
        ranges, _, suffix = rest.partition(']')
        if not bracket:
            hosts.append(part)
            continue
        for item in ranges.split(','):
            first, _, last = item.partition('-')
            hosts += [
                f'{prefix}{number:0{len(first)}d}{suffix}' for number in range(int(first), int(last or first) + 1)
            ]
    return hosts


def compress(hosts: list[str]) -> str:
    """Return the shortest list that :func:`expand` turns into `hosts`, which share their order.

    >>> compress(['node01', 'node02', 'node04'])
    'node[01-02,04]'
    >>> compress(['login', 'node9'])
    'login,node9'
    """
    groups: dict[tuple[str, int], list[str]] = {}
    for host in hosts:
        prefix = host.rstrip('0123456789')
        digits = host[len(prefix) :]
        groups.setdefault((prefix, len(digits)), []).append(digits)
    parts = []
    for (prefix, width), digits_of in groups.items():
        if not width or len(digits_of) == 1:
            parts += [prefix + digits for digits in digits_of]
        else:
            text = ranges(sorted({int(digits) for digits in digits_of}), width)
            parts.append(f'{prefix}[{text}]')
    return ','.join(parts)


def ranges(numbers: list[int], width: int = 1) -> str:
    """Write increasing numbers as ranges.

    >>> ranges([1, 2, 5, 7, 8, 9])
    '1-2,5,7-9'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ','.join(f'{a:0{width}d}' if a == b else f'{a:0{width}d}-{b:0{width}d}' for a, b in runs)


def _split(text: str) -> list[str]:
    """Split at the commas outside brackets."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character == '[') - (character == ']')
        if character == ',' and not depth:
            parts.append(text[start:position])
            start = position + 1
    return [part for part in [*parts, text[start:]] if part]
