"""``bsub`` of volclava 2.2, or of LSF 10.1: what it accepts and refuses, and in which words."""

from __future__ import annotations

import os
import re

from fakes.commandline import Exit, err, lose_reply_on_demand, out, refuse_on_demand
from fakes.core import Cluster, Job
from fakes.lsf.directives import directives
from fakes.lsf.jobs import speaks_lsf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

FLAGS = {'x', 'H', 'r', 'N', 'B', 'h', 'V', 'K', 'I', 'Ip', 'Is'}
WITH_VALUE = {*'LcFWkPqRmnJbtuioeMDSfwEpavCT', 'Jd', 'is', 'Ep', 'sp', 'Zs', 'pack'}
OF_LSF = {'env', 'cwd', 'nnodes', 'gpu', 'G', 'U', 'app', 'g', 'oo', 'eo', 'core_isolation', 'alloc_flags', 'ti', 'hl'}
SLOTS_OF_A_HOST = 8
WRAPPER = '( cat <<_USER_\\SCRIPT_\n'  # volclava puts a script into a here document


class Refusal(Exit):
    """An error as bsub tells it; the job IDs that refused jobs use up do not matter here."""

    def __init__(self, text: str) -> None:
        super().__init__(255, f'{text} Job not submitted.\n')


def main(cluster: Cluster, argv: list[str]) -> int:
    given, command = parse(argv, speaks_lsf(cluster), in_script=False)
    if command:
        script, shown = f'#!/bin/sh\n{" ".join(command)}\n', ' '.join(command)
    else:
        script = _read_script()
        shown = _shown(script, speaks_lsf(cluster))
        in_script, _ = parse(directives(script), speaks_lsf(cluster), in_script=True)
        given = {**in_script, **given}
    refuse_on_demand(cluster)
    job = _job(cluster, given, shown)
    cluster.submit(job, os.fsencode(script), dict(os.environ))
    lose_reply_on_demand(cluster)
    if 'BSUB_QUIET' not in os.environ:
        kind = 'queue' if 'q' in given or 'LSB_DEFAULTQUEUE' in os.environ else 'default queue'
        (err if 'BSUB_STDERR' in os.environ else out)(f'Job <{job.id}> is submitted to {kind} <{job.queue}>.\n')
    return 0


def parse(words: list[str], lsf: bool, *, in_script: bool) -> tuple[dict[str, str], list[str]]:
    """Return the options, of which the last counts, and the command.

    volclava takes what follows the letter of an option for its value: ``-env none`` is ``-e nv`` there.
    """
    flags, with_value = FLAGS, WITH_VALUE | OF_LSF if lsf else WITH_VALUE
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith('-') or word.startswith('--'):
            if in_script:
                continue
            return found, [word, *rest]
        name, value = word[1:], ''
        if name in flags:
            found[name] = ''
            continue
        if name not in with_value:
            if name[:1] not in with_value:
                _usage(f'illegal option -- {name}')
            name, value = name[0], name[1:]
        if not value and not rest:
            _usage(f'option requires an argument -- {name}')
        found[name] = value or rest.pop(0)
    return found, []


def _usage(text: str) -> NoReturn:
    raise Exit(255, f'bsub: {text}\nUsage: bsub [-h] [-V] ...\n')


def _read_script() -> str:
    parts = [b'']
    while len(parts) == 1 or parts[-1]:
        parts.append(os.read(0, 1 << 20))
    text = os.fsdecode(b''.join(parts))
    if not any(line.strip() and not line.lstrip().startswith('#') for line in text.splitlines()):
        raise Refusal('No command is specified in the script file.')
    return text


def _shown(script: str, lsf: bool) -> str:
    """Return what is shown as the command: the beginning of the script, in volclava less what it is wrapped in."""
    length = 4094 if lsf else 255 - len(WRAPPER)
    return os.fsdecode(os.fsencode(script.rstrip('\n').replace('\n', ';'))[:length])


def _job(cluster: Cluster, given: dict[str, str], shown: str) -> Job:
    queue, limit, most = _queue(cluster, given)
    slots = _slots(given, most)
    per_host = _per_host(given.get('R', ''), slots)
    minutes = _minutes(given.get('W'), limit)
    name, array = _name(given.get('J', shown))
    if not re.fullmatch(r'(\d+:)?\d+', given.get('c', '1')):
        raise Refusal(f'{given["c"]}: Bad CPULIMIT specification.')
    _check_memory(given.get('M', '1'), speaks_lsf(cluster))
    if 'x' in given and not cluster.has_knob('exclusive'):
        raise Refusal(f'{queue}: Queue does not accept EXCLUSIVE jobs.')
    if 'm' in given and given['m'] not in cluster.hosts():
        raise Refusal(f'{given["m"]}: Bad host name, host group name or cluster name.')
    never = slots > SLOTS_OF_A_HOST * len(cluster.hosts())
    return Job(
        name=name,
        queue=queue,
        account=given.get('P', 'default'),
        hold='user' if 'H' in given else '',
        never=never,
        walltime=60.0 * minutes if minutes else 0.0 if minutes is None else 0.001,
        cwd=os.getcwd(),
        stdout=given.get('o', ''),
        stderr=given.get('e', ''),
        umask=_umask(),
        node_count=-(-slots // per_host),
        array=array,
        extra={'slots': slots, 'per_host': per_host, 'command': shown, 'options': given},
    )


def _queue(cluster: Cluster, given: dict[str, str]) -> tuple[str, int, int]:
    """Return name, run limit in minutes and most slots of the queue: knob ``queues``; ``*`` takes any."""
    known = {}
    for item in cluster.knob('queues', 'normal short:10:4 admins:0:-1').split():
        name, limit, most = [*item.split(':'), '0', '0'][:3]
        known[name] = int(limit), int(most)
    wanted = given.get('q') or os.environ.get('LSB_DEFAULTQUEUE') or next(iter(known))
    if wanted not in known and '*' not in known:
        raise Refusal(f'{wanted}: No such queue.')
    minutes, slots = known.get(wanted, (0, 0))
    if slots < 0:
        raise Refusal(f'{wanted}: User cannot use the queue.')
    return wanted, minutes, slots


def _slots(given: dict[str, str], most: int) -> int:
    text = given.get('n', '1')
    if not text.lstrip('-').isdigit():
        raise Refusal('Bad argument for option -n.')
    if int(text) < 1:
        raise Refusal('The number of processors must be a positive integer.')
    if int(text) > (most or 10000):
        raise Refusal('Too many processors requested.')
    return int(text)


def _per_host(requirement: str, slots: int) -> int:
    if not requirement:
        return SLOTS_OF_A_HOST
    match = re.fullmatch(r'span\[(?:ptile=([1-9]\d*)|(hosts=1))\]', requirement)
    if match is None:
        raise Refusal('Bad resource requirement syntax.')
    return slots if match[2] else int(match[1])


def _minutes(text: str | None, limit: int) -> int | None:
    """Return the run limit. Zero is one."""
    if text is None:
        return None
    match = re.fullmatch(r'(?:(\d+):)?(\d+)', text)
    if match is None:
        raise Refusal(f'{text}: Bad RUNLIMIT specification.')
    minutes = int(match[1] or 0) * 60 + int(match[2])
    if minutes > 35791394:
        raise Refusal(f'{text}: RUNLIMIT value is too big.')
    if limit and minutes > limit:
        raise Refusal("RUNLIMIT: Cannot exceed queue's hard limit(s).")
    return minutes


def _name(text: str) -> tuple[str, tuple[int, ...]]:
    """Return the name, and the indices if it makes an array."""
    if len(os.fsencode(text.partition(';')[0])) > 254:
        raise Refusal('Bad job name.')
    match = re.fullmatch(r'[^\[]+\[(\d+)-(\d+)\](%\d+)?', text)
    return text, tuple(range(int(match[1]), int(match[2]) + 1)) if match else ()


def _check_memory(text: str, lsf: bool) -> None:
    if not re.fullmatch(r'[1-9]\d*(KB|MB|GB|TB)?' if lsf else r'[1-9]\d*', text):
        raise Refusal(f'{text}: MEMLIMT value should be a positive integer.')


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
