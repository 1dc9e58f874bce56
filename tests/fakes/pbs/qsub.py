"""``qsub`` of OpenPBS: what it accepts and refuses, and in which words."""

from __future__ import annotations

import os
import time

from fakes.commandline import Exit, lose_reply_on_demand, out, refuse_on_demand, unsupported
from fakes.core import Cluster, Job
from fakes.pbs import script
from fakes.pbs.jobs import SERVER

OPTIONS = 'a:A:c:C:e:fhIj:J:k:l:m:M:N:o:p:P:q:r:R:S:u:v:VW:Xz'
USAGE = 'usage: qsub [-a date_time] [-A account_string] [-c interval]\n       qsub --version\n'
NAME_CHARACTERS = set('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-')
RESOURCES = {'walltime', 'select', 'place', 'nodes', 'ncpus', 'mem', 'vmem', 'cput', 'nodect', 'pmem'}
PLACING = {'select', 'place', 'ncpus', 'walltime'}
CHUNK_RESOURCES = {'ncpus', 'mpiprocs', 'ompthreads', 'mem', 'vmem', 'host', 'vnode', 'arch'}
PLACES = {'free', 'pack', 'scatter', 'vscatter', 'excl', 'exclhost', 'shared'}
QUEUES = 'workq long small:4:1:600 restricted!acl stopped!off'  # name[:ncpus:chunks:seconds][!what]
LONGEST = 86400  # seconds, of any queue


def main(cluster: Cluster, argv: list[str]) -> int:
    if argv == ['--version']:
        out('pbs_version = 23.06.06\n')
        return 0
    try:
        given, operands = script.getopt(argv, OPTIONS)
    except script.OptionError as ex:
        raise Exit(2, f'qsub: {ex}\n{USAGE}') from None
    if operands[:1] == ['--']:
        raise unsupported(cluster, 'qsub -- COMMAND')
    if len(operands) > 1:
        raise Exit(2, USAGE)
    name, text = _read(operands)
    if '\r\n' in text and cluster.knob('variant') == 'master':
        raise Exit(1, 'qsub: script contains cr, lf\n')
    request = Request(cluster)
    prefix = dict(given).get('C') or os.environ.get('PBS_DPREFIX', '#PBS')
    request.take(given)
    for words in script.directives(text, prefix):
        shown = ''.join(f'{word} ' for word in words)
        try:
            found, rest = script.getopt(words, OPTIONS)
        except script.OptionError as ex:
            raise Exit(1, f'qsub: {ex}\nqsub: directive error: {shown}\n') from None
        if rest:
            raise Exit(1, f'qsub: directive error: {shown}\n')
        request.take(found)
    refuse_on_demand(cluster)
    job = cluster.submit(request.job(name, ' '.join(argv)), os.fsencode(text), {})
    if any(cluster.load(number) is None for _, number in job.after):
        cluster.end(job.id, 'dependency')  # accepted all the same
    lose_reply_on_demand(cluster)
    if 'z' not in request.values:
        out(f'{job.id}.{SERVER}\n')
    return 0


def _read(operands: list[str]) -> tuple[str, str]:
    try:
        return script.read(operands)
    except FileNotFoundError:
        raise Exit(1, 'qsub: script file:: No such file or directory\n') from None
    except PermissionError:
        raise Exit(8, 'qsub: opening script file:: Permission denied\n') from None


def illegal(letter: str) -> Exit:
    return Exit(2, f'qsub: illegal -{letter} value\n{USAGE}')


def bad_value(what: str = '') -> Exit:
    return Exit(166, f'qsub: Illegal attribute or resource value{" " if what else ""}{what}\n')


class Request:
    """The options of one submission."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.values: dict[str, str] = {}
        self.resources: dict[str, str] = {}
        self._queue_in_script = False

    def take(self, options: list[tuple[str, str]]) -> None:
        """Take options: first those of the command line, then those of one directive after the other.

        What comes first counts, but for a queue it is the last directive.
        """
        for letter, value in options:
            if letter == 'l':
                self._take_resources(value)
            elif letter in 'JIXu':
                raise unsupported(self.cluster, f'qsub -{letter}')
            elif letter == 'q' and self._queue_in_script:
                self.values['q'] = value
            else:
                self._check(letter, value)
                self.values.setdefault(letter, value)
        self._queue_in_script = self._queue_in_script or 'q' not in self.values

    def _take_resources(self, text: str) -> None:
        for name, amount in script.resources(text):
            if name not in RESOURCES:
                raise Exit(187, f'qsub: Unknown resource Resource_List.{name}\n')
            self.resources.setdefault(name, amount)

    def _check(self, letter: str, value: str) -> None:
        if letter == 'N':
            if not value or not set(value) <= NAME_CHARACTERS:
                raise illegal('N')
            if len(value) > 230:
                raise Exit(2, 'qsub: Job name is too long \n')
        if letter == 'a' and not value.replace('.', '').isdigit():
            raise illegal('a')
        if letter == 'j' and value not in ('oe', 'eo', 'n'):
            raise illegal('j')
        if letter == 'W':
            self._check_attribute(value)
        if letter == 'p' and not (value.lstrip('-').isdigit() and abs(int(value)) < 1024):
            raise illegal('p')

    def _check_attribute(self, value: str) -> None:
        name, _, text = value.partition('=')
        if name == 'depend':
            if not text.startswith(('afterok:', 'afterany:', 'afternotok:')):
                raise illegal('W')
        elif name not in ('umask', 'block', 'group_list'):
            raise Exit(154, 'qsub: Error (15002) submitting job\n')

    def _after(self) -> tuple[tuple[str, int], ...]:
        kind, _, ids = self.values.get('W', '').removeprefix('depend=').partition(':')
        numbers = [int(word.partition('.')[0]) for word in ids.split(':') if word]
        return tuple((kind.removeprefix('after'), number) for number in numbers)

    def job(self, name: str, arguments: str) -> Job:
        """Return the job, or refuse it."""
        values = self.values
        chunks, free = self._chunks()
        try:
            seconds = script.seconds(self.resources.get('walltime', '') or '1:00:00')
        except ValueError:
            raise bad_value('Resource_List.walltime') from None
        queue = self._queue(chunks, seconds)
        scatter = 'scatter' in self.resources.get('place', '') or 'nodes' in self.resources
        hosts = sum(count for count, _ in chunks) if scatter else -(-self._ncpus(chunks) // 16)
        return Job(
            name=values.get('N') or name,
            queue=queue,
            account=values.get('A', ''),
            hold='user' if 'h' in values else '',
            eligible=time.time() + 86400 if 'a' in values else 0.0,
            after=self._after(),
            kill_if_invalid=True,
            walltime=float(seconds),
            may_requeue=values.get('r') != 'n',
            cwd=os.getcwd(),
            stdout=_path(values.get('o', '')),
            stderr=_path(values.get('e', '')),
            umask=0o77,
            node_count=max(hosts, 1),
            extra={
                'resources': {name: text for name, text in self.resources.items() if name not in PLACING},
                'arguments': arguments, 'chunks': chunks, 'scatter': scatter,
                'place': self.resources.get('place', free),
                'walltime': seconds, 'variables': self._variables(queue), 'project': values.get('P', ''),
                'checkpoint': values.get('c', 'u'), 'priority': int(values.get('p', '0')),
                'join': values.get('j', 'n'),
                'select': '+'.join(_chunk(count, items) for count, items in chunks),
            },
        )  # fmt: skip

    def _chunks(self) -> tuple[list[tuple[int, dict[str, str]]], str]:
        """Return what was asked for, and where it goes if nobody said."""
        names = set(self.resources)
        if 'nodes' in names and names & {'select', 'place'}:
            raise Exit(6, 'qsub: Cannot be used with select or place: nodes\n')
        if 'ncpus' in names and names & {'select', 'place'}:
            raise Exit(5, 'qsub: "-lresource=" cannot be used with "select" or "place", resource is: ncpus\n')
        if not set(self.resources.get('place', 'free').split(':')) <= PLACES:
            raise bad_value('Resource_List.place')
        if 'nodes' in names:
            asked = script.chunks(self.resources['nodes'], lambda: Exit(241, 'qsub: node(s) specification error\n'))
            if any(set(items) - {'ppn'} for _, items in asked):
                raise Exit(241, 'qsub: node(s) specification error\n')
            return [
                (count, {'ncpus': items.get('ppn', '1'), 'mpiprocs': items.get('ppn', '1')}) for count, items in asked
            ], 'scatter'
        if 'select' not in names:
            return [(1, {'ncpus': self.resources.get('ncpus', '1')})], 'pack'
        asked = script.chunks(self.resources['select'] or 'x', lambda: bad_value('Resource_List.select'))
        known = CHUNK_RESOURCES | set(self.cluster.knob('resources').split())
        for count, items in asked:
            if not count:
                raise bad_value()
            for name, amount in items.items():
                if name not in known:
                    raise Exit(187, f'qsub: Unknown resource: {name}\n')
                _check_amount(name, amount)
        return [(count, {'ncpus': '1', **items}) for count, items in asked], 'free'

    @staticmethod
    def _ncpus(chunks: list[tuple[int, dict[str, str]]]) -> int:
        return sum(count * int(items['ncpus']) for count, items in chunks)

    def _queue(self, chunks: list[tuple[int, dict[str, str]]], seconds: int) -> str:
        name, _, server = (self.values.get('q') or 'workq').partition('@')
        if server not in ('', SERVER):
            shown = SERVER if self.cluster.knob('variant') == 'master' else server[:7]
            raise Exit(160, f'Unknown Host.\nqsub: cannot connect to server {shown} (errno=15008)\n')
        for item in self.cluster.knob('queues', QUEUES).split():
            limits, _, closed = item.partition('!')
            known, *rest = limits.split(':')
            if known not in (name, '*'):
                continue
            if closed == 'acl':
                raise Exit(159, 'qsub: Unauthorized Request \n')
            if closed == 'off':
                raise Exit(173, 'qsub: Queue is not enabled\n')
            ncpus, count, longest = (int(limit) for limit in rest) if rest else (10**6, 10**6, LONGEST)
            asked = (self._ncpus(chunks), sum(count for count, _ in chunks), seconds)
            memory = sum(count * script.kilobytes(items.get('mem', '0')) for count, items in chunks)
            if any(a > b for a, b in zip(asked, (ncpus, count, longest))) or (
                rest and (memory > 1 << 20 or seconds < 60)
            ):
                raise Exit(188, 'qsub: Job violates queue and/or server resource limits\n')
            return name
        raise Exit(170, 'qsub: Unknown queue\n')

    def _variables(self, queue: str) -> dict[str, str]:
        """Return what goes with the job. -V has no effect in the release that was recorded."""
        here = os.environ
        given = [item.partition('=') for item in self.values.get('v', '').split(',') if item]
        if any('"' in value or "'" in value for _, _, value in given):
            raise unsupported(self.cluster, 'quotes in -v')
        inherited = dict(here) if 'V' in self.values and self.cluster.knob('variant') == 'master' else {}
        return {
            **inherited,
            'PBS_O_HOME': here.get('HOME', '/'), 'PBS_O_LANG': here.get('LANG', ''),
            'PBS_O_LOGNAME': self.cluster.user, 'PBS_O_PATH': here.get('PATH', ''),
            'PBS_O_MAIL': f'/var/mail/{self.cluster.user}', 'PBS_O_SHELL': here.get('SHELL', '/bin/sh'),
            'PBS_O_WORKDIR': os.getcwd(), 'PBS_O_SYSTEM': 'Linux',
            **{name: value for name, _, value in given if not name.startswith('PBS_O_')},
            'PBS_O_QUEUE': queue, 'PBS_O_HOST': SERVER,
        }  # fmt: skip


def _check_amount(name: str, amount: str) -> None:
    try:
        script.kilobytes(amount) if name in ('mem', 'vmem') else name not in ('ncpus', 'mpiprocs') or int(amount)
    except ValueError:
        raise bad_value(f'select.{name}') from None


def _chunk(count: int, items: dict[str, str]) -> str:
    return ':'.join([str(count), *(f'{name}={amount}' for name, amount in items.items())])


def _path(text: str) -> str:
    return text.rpartition(':')[2]
