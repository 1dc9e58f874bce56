"""``jsrun`` of IBM's Job Step Manager: what its manual allows, with all processes on this machine.

Reads stdin into the first task only, and returns the highest exit status.
"""

from __future__ import annotations

import os
import re

from fakes.commandline import Exit, err
from fakes.core import Cluster

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

LONG = {
    'nrs': 'n',
    'tasks_per_rs': 'a',
    'cpu_per_rs': 'c',
    'gpu_per_rs': 'g',
    'rs_per_host': 'r',
    'np': 'p',
    'bind': 'b',
}
NUMBERS = 'nacgrp'


def main(cluster: Cluster, argv: list[str]) -> int:
    if 'LSB_JOBID' not in os.environ:
        _refuse('it has to run in an allocation of LSF')
    values, command = _parse(argv)
    if not command:
        _refuse('there is no program')
    if 'p' in values and {'n', 'a'} & values.keys():
        _refuse('-p does not go with resource sets')
    hosts = os.environ['LSB_MCPU_HOSTS'].split()[::2]
    if int(values.get('r', '0')) * len(hosts) < int(values.get('n', '0')) and 'r' in values:
        _refuse(f'{values["n"]} resource sets, at most {values["r"]} on each of {len(hosts)} hosts')
    count = int(values.get('p', '0')) or int(values.get('n', '1')) * int(values.get('a', '1'))
    pids = [_start(command, rank, count) for rank in range(count)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return max(128 - code if code < 0 else code for code in codes)


def _parse(argv: list[str]) -> tuple[dict[str, str], list[str]]:
    values: dict[str, str] = {}
    rest = list(argv)
    while rest and rest[0].startswith('-'):
        word = rest.pop(0)
        name = LONG.get(word[2:].partition('=')[0], '') if word.startswith('--') else word[1:2]
        value = word.partition('=')[2] if word.startswith('--') else word[2:]
        value = value or (rest.pop(0) if rest else '')
        if not name or name not in LONG.values():
            _refuse(f'unknown option {word}')
        if name in values:
            _refuse(f'option {word} is given twice')
        if not re.fullmatch(r'\d+' if name in NUMBERS else r'none|rs|packed:\d+', value):
            _refuse(f'{value!r} is no value for {word}')
        values[name] = value
    return values, rest


def _start(command: list[str], rank: int, count: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        if rank:
            os.dup2(os.open('/dev/null', os.O_RDONLY), 0)
        os.environ.update(JSM_NAMESPACE_RANK=str(rank), JSM_NAMESPACE_SIZE=str(count))
        os.execvp(command[0], command)
    except OSError as ex:
        err(f'Error: {command[0]}: {ex.strerror}\n')
    os._exit(1)


def _refuse(text: str) -> NoReturn:
    raise Exit(2, f'Error: {text}\n')
