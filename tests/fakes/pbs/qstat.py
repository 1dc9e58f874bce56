"""``qstat`` of OpenPBS: the short table, and ``-f -F json`` as the release and the development version print it.

The knob ``variant`` chooses: ``release`` (the default) or ``master``. Only that of the release is not always JSON, and
only that of the other leaves out all but the first of several jobs.
"""

from __future__ import annotations

import time

from fakes.commandline import Exit, err, out, unsupported
from fakes.core import Cluster, Job
from fakes.pbs.jobs import SERVER, attributes, clock, escaped, number, state
from fakes.pbs.script import OptionError, getopt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fakes.pbs.jobs import Value

USAGE = 'usage: \nqstat [-f] [-J] [-p] [-t] [-x]\n'


def main(cluster: Cluster, argv: list[str]) -> int:
    if argv == ['--version']:
        out('pbs_version = 23.06.06\n')
        return 0
    try:
        options, words = getopt(argv, 'fF:D:wxu:astQBqniHr1JpE')
    except OptionError as ex:
        raise Exit(2, f'qstat: {ex}\n{USAGE}') from None
    given = dict(options)
    if given.get('F', 'json') not in ('json', 'dsv'):
        raise Exit(2, USAGE)
    if 'F' in given and 'f' not in given:
        raise Exit(2, f'qstat: conflicting options.\n{USAGE}')
    if set(given) - set('fFx') or ('f' in given) != (given.get('F') == 'json'):
        raise unsupported(cluster, f'qstat {" ".join(argv)}')
    cluster.kick_if_due()
    if 'x' in given and cluster.knob('history', 'on') == 'off':
        found: list[Job] = []
        code = 0
        for word in words or ['']:
            err(f'qstat: PBS is not configured to maintain job history {word}\n')
    else:
        found, code = _find(cluster, words, finished_too='x' in given)
    if 'F' in given:
        out(document(cluster, found[:1] if len(words) > 1 and _variant(cluster) == 'master' else found))
    elif found:
        out(table(found))
    return code


def _variant(cluster: Cluster) -> str:
    return cluster.knob('variant', 'release').strip()


def _find(cluster: Cluster, words: list[str], *, finished_too: bool) -> tuple[list[Job], int]:
    """Return the jobs that are meant, and the exit code, which is that of the last error."""
    if not words:
        return [job for job in cluster.jobs() if finished_too or not job.final], 0
    found: list[Job] = []
    code = 0
    remembers = cluster.knob('history', 'on') != 'off'
    for word in words:
        if not word:
            found += [job for job in cluster.jobs() if not job.final]
            continue
        if word == 'workq':
            found += [job for job in cluster.jobs() if not job.final and job.queue == word]
            continue
        if not word[0].isdigit():
            err(f'qstat: Unknown queue destination {word}\n')
            code = 170
            continue
        wanted = number(word, SERVER)
        if wanted is None:
            err(f'qstat: illegally formed job identifier: {word}\n')
            code = 1
            continue
        job = cluster.find(wanted, keep=14 * 86400)
        if job is None or (job.final and not remembers):
            err(f'qstat: Unknown Job Id {wanted}.{SERVER}\n')
            code = 153
        elif job.final and not finished_too:
            err(f'qstat: {wanted}.{SERVER} Job has finished, use -x or -H to obtain historical job information\n')
            code = 35
        else:
            found.append(job)
    return found, code


def table(jobs: list[Job]) -> str:
    lines = [
        'Job id            Name             User              Time Use S Queue',
        '----------------  ---------------- ----------------  -------- - -----',
    ]
    for job in jobs:
        used = '0' if job.wait_status is None else clock(0)
        lines.append(
            f'{f"{job.id}.{SERVER}":16}  {job.name:16} {job.user:16}  {used:>8} {state(job)[0]} {job.queue:16}'
        )
    return ''.join(f'{line}\n' for line in lines)


def document(cluster: Cluster, jobs: list[Job]) -> str:
    variant = _variant(cluster)
    indent, colon = ('\t', ':\t') if variant == 'master' else ('    ', ':')
    lines = []

    def member(depth: int, name: str, value: Value, last: bool) -> None:
        start = f'{indent * depth}"{name}"{colon}'
        comma = '' if last else ','
        if not isinstance(value, dict):
            bare = depth == 4 or variant == 'release'
            lines.append(f'{start}{_scalar(value, variant, bare)}{comma}')
            return
        lines.append(f'{start}{{')
        for index, (key, item) in enumerate(value.items()):
            member(depth + 1, key, item, index == len(value) - 1)
        lines.append(f'{indent * depth}}}{comma}')

    head: dict[str, Value] = {'timestamp': int(time.time()), 'pbs_version': '23.06.06', 'pbs_server': SERVER}
    for index, (key, value) in enumerate(head.items()):
        member(1, key, value, not jobs and index == len(head) - 1)
    if jobs:
        lines.append(f'{indent}"Jobs"{colon}{{')
        for job in jobs:  # one that is asked for twice is there twice
            member(2, f'{job.id}.{SERVER}', attributes(cluster, job), job is jobs[-1])
        lines.append(f'{indent}}}')
    return '\n'.join(['{', *lines, '}']) + ('\n' if jobs or variant == 'master' else '')


def _scalar(value: str | int, variant: str, may_be_bare: bool) -> str:
    """Write a value; what C's strtod() takes is a number to the release, wherever it stands."""
    if isinstance(value, int):
        return str(value)
    if may_be_bare and _is_number(value, variant):
        return value
    return escaped(value, variant)


def _is_number(text: str, variant: str) -> bool:
    stripped = text.strip()
    if not stripped or '_' in stripped:
        return False
    try:
        float(stripped)
    except ValueError:
        return False
    digits = stripped.lstrip('+-')
    return not (digits[:1] == '0' and digits[1:2].isdigit()) and (variant == 'release' or digits[0].isdigit())
