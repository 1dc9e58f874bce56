"""The values of options of sbatch: what they mean, and in which words those are refused that mean nothing."""

from __future__ import annotations

import os
import time

from fakes.commandline import Exit, err

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[str], object]

MAX_ARRAY = 10000


class Refusal(Exit):
    """sbatch does not submit. Options that it cannot read end it with 255, what the controller rejects with 1."""

    def __init__(self, *lines: str, code: int = 1) -> None:
        if code == 1:
            code = int(os.environ.get('SLURM_EXIT_ERROR', '1'))
        super().__init__(code, ''.join(f'sbatch: error: {line}\n' for line in lines))


def rejected(words: str, *before: str) -> Refusal:
    return Refusal(*before, f'Batch job submission failed: {words}')


def parse_time(text: str) -> int | None:
    """Return minutes, rounded up; None for no limit at all.

    >>> parse_time('5'), parse_time('0:0:1'), parse_time('1-2'), parse_time('90:30'), parse_time('UNLIMITED')
    (5, 1, 1560, 91, None)
    """
    if text.upper() in ('UNLIMITED', 'INFINITE') or (text.startswith('-') and text[1:].isdigit()):
        return None
    days, dash, rest = text.rpartition('-')
    fields = rest.split(':')
    if len(fields) > 3 or not all(field.isdigit() for field in [*fields, *([days] if dash else [])]):
        raise Refusal('Invalid --time specification', code=255)
    numbers = [int(field) for field in fields]
    if dash:  # days-hours[:minutes[:seconds]]
        hours, minutes, seconds = numbers + [0] * (3 - len(numbers))
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:  # minutes[:seconds]
        hours, minutes, seconds = [0, *numbers, 0][:3]
    return int(days or 0) * 1440 + hours * 60 + minutes - (-seconds // 60)


def parse_begin(text: str) -> float:
    """Return the time that ``now+1hour``, ``2030-01-31`` or ``2030-01-31T12:00`` means."""
    units = {'': 1, 'seconds': 1, 'second': 1, 'minutes': 60, 'minute': 60, 'hours': 3600, 'hour': 3600, 'days': 86400}
    if text == 'now' or text.startswith('now+'):
        amount = text[4:]
        digits = amount[: len(amount) - len(amount.lstrip('0123456789'))]
        if amount[len(digits) :] in units:
            return time.time() + int(digits or 0) * units[amount[len(digits) :]]
    elif text[:4].isdigit():
        date, _, clock = text.partition('T')
        year, month, day = (int(field) for field in date.split('-'))
        hour, minute, second = [int(field) for field in f'{clock or 0}:0:0'.split(':')][:3]
        return time.mktime((year, month, day, hour, minute, second, 0, 0, -1))
    err(f'Invalid time specification (pos=0): {text}\n')
    raise Refusal('Invalid --begin specification', code=255)


def parse_memory(text: str) -> int | None:
    """Return MiB, or None if it is not an amount of memory.

    >>> parse_memory('10T'), parse_memory('50M'), parse_memory('100'), parse_memory('-5')
    (10485760, 50, 100, None)
    """
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, 'M')
    if not number.isdigit() or unit not in 'KMGT':
        return None
    kibibytes = int(number) << 10 * 'KMGT'.index(unit)
    return -(-kibibytes // 1024)


def parse_nodes(text: str) -> tuple[int, int]:
    least, dash, most = text.partition('-')
    if not least.isdigit() or (dash and not most.isdigit()):
        raise Refusal(f'"{text}" is not a valid node count', 'Invalid --nodes specification', code=255)
    if dash and int(most) < int(least):
        raise Refusal(f'Maximum node count {most} is less than minimum node count {least}', code=255)
    return int(least), int(most or least)


def parse_array(text: str) -> tuple[list[int], int]:
    items, _, limit = text.partition('%')
    indices: list[int] = []
    try:
        for item in items.split(','):
            span, _, step = item.partition(':')
            first, _, last = span.partition('-')
            indices += range(int(first), int(last or first) + 1, int(step or 1))
        most = int(limit or 0)
    except ValueError as ex:
        raise rejected('Invalid job array specification') from ex
    if not indices or max(indices) > MAX_ARRAY:
        raise rejected('Invalid job array specification')
    return indices, most


def spread(tasks: int, nodes: int, fit: int) -> list[int]:
    """Fill one node after the other, but leave a task for each of the rest.

    >>> spread(4, 2, 32), spread(40, 2, 32)
    ([3, 1], [32, 8])
    """
    counts = []
    for rest in range(nodes - 1, -1, -1):
        counts.append(min(fit, max(tasks - rest, 1)) if rest else tasks)
        tasks -= counts[-1]
    return counts


def valid_gres(text: str) -> bool:
    return all(item.split(':')[0] == 'gpu' for item in text.split(',') if item)


def gres_count(text: str) -> int:
    """``2``, ``a100:2``, or a name alone, which is one of it."""
    last = text.rpartition(':')[2]
    return int(last) if last.isdigit() else int(bool(last))


def _positive(option: str) -> Check:
    def check(value: str) -> None:
        if not value.isdigit() or int(value) == 0:
            raise Refusal(f'Invalid numeric value "{value}" for --{option}.')

    return check


def _one_of(option: str, *choices: str) -> Check:
    def check(value: str) -> None:
        if not {item.upper() for item in value.split(',')} <= {choice.upper() for choice in choices}:
            raise Refusal(f'Invalid --{option} specification', code=255)

    return check


def _memory(option: str) -> Check:
    def check(value: str) -> None:
        if parse_memory(value) is None:
            raise Refusal(f'Invalid --{option} specification', code=255)

    return check


def _nice(value: str) -> None:
    if value.startswith('-'):
        raise rejected('Invalid --nice value')


def _only_root(option: str) -> Check:
    def check(value: str) -> None:
        if os.geteuid() or 'PSIJ_FAKE_USER' in os.environ:
            raise Refusal(f'--{option} only permitted by root user', code=255)

    return check


CHECKS = {
    'time': parse_time,
    'begin': parse_begin,
    'nodes': parse_nodes,
    'array': parse_array,
    'mem': _memory('mem'),
    'mem-per-cpu': _memory('mem-per-cpu'),
    'ntasks': _positive('ntasks'),
    'ntasks-per-node': _positive('ntasks-per-node'),
    'cpus-per-task': _positive('cpus-per-task'),
    'exclusive': _one_of('exclusive', '', 'user', 'mcs'),
    'mail-type': _one_of('mail-type', 'NONE', 'BEGIN', 'END', 'FAIL', 'REQUEUE', 'ALL', 'STAGE_OUT', 'TIME_LIMIT',
                         'TIME_LIMIT_90', 'TIME_LIMIT_80', 'TIME_LIMIT_50', 'ARRAY_TASKS', 'INVALID_DEPEND'),
    'nice': _nice,
    'uid': _only_root('uid'),
    'gid': _only_root('gid'),
}  # fmt: skip
