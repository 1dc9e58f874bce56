"""``qsub`` of Torque: what it accepts and refuses, and in which words."""

from __future__ import annotations

import os
import time

from fakes.commandline import Exit, lose_reply_on_demand, out, refuse_on_demand, unsupported
from fakes.core import Cluster, Job
from fakes.pbs import script
from fakes.torque.jobs import SERVER

OPTIONS = 'a:A:b:c:C:d:D:e:fF:hIj:k:K:l:m:M:nN:o:p:P:q:r:S:t:T:u:v:Vw:W:xXz'
USAGE = '\n\nusage: qsub [-a date_time] [-A account_string] [-b secs]\n'
RESOURCES = {'walltime', 'nodes', 'ncpus', 'procs', 'mem', 'vmem', 'pmem', 'pvmem', 'cput', 'select', 'place', 'advres'}
QUEUES = 'batch long small:1:600 restricted!acl stopped!off'  # name[:nodes:seconds][!what]
LONGEST = 86400  # seconds, of any queue
INFEASIBLE = (
    'cannot locate feasible nodes (nodes file is empty, all systems are busy, or no nodes have the requested feature)'
)


def main(cluster: Cluster, argv: list[str]) -> int:
    given, operands = _getopt(argv)
    name, text = _read(operands)
    request = Request(cluster)
    request.take(given)
    prefix = dict(given).get('C') or os.environ.get('PBS_DPREFIX', '#PBS')
    for words in script.directives(text, prefix):
        request.take(_getopt(words)[0])  # what follows the options is ignored
    refuse_on_demand(cluster)
    job = cluster.submit(request.job(name, ' '.join(argv)), os.fsencode(text), {})
    lose_reply_on_demand(cluster)
    if 'z' not in request.values:
        out(f'{job.id}.{SERVER}\n')
    return 0


def _getopt(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    try:
        return script.getopt(words, OPTIONS)
    except script.OptionError as ex:
        raise Exit(2, f'qsub: {ex}\n[exiting]{USAGE}') from None


def _read(operands: list[str]) -> tuple[str, str]:
    try:
        return script.read(operands)
    except FileNotFoundError:
        raise Exit(1, f"qsub: script file '{operands[0]}' cannot be loaded - No such file or directory\n") from None
    except PermissionError:
        raise Exit(2, f'[qsub: opening script file:]{USAGE}') from None


def refused(code: int, text: str) -> Exit:
    return Exit(code, f'qsub: submit error ({text})\n')


class Request:
    """The options of one submission; the first of several values counts, but the last queue in a script."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.values: dict[str, str] = {}
        self.resources: dict[str, str] = {}
        self._queue_in_script = False

    def take(self, options: list[tuple[str, str]]) -> None:
        for letter, value in options:
            if letter == 'l':
                for name, amount in script.resources(value):
                    self.resources.setdefault(name, amount)
            elif letter == 'q' and self._queue_in_script:
                self.values['q'] = value
            elif letter in 'tIXuf':
                raise unsupported(self.cluster, f'qsub -{letter}')
            else:
                if letter == 'N' and (len(value) > 237 or not all('!' <= character <= '~' for character in value)):
                    raise Exit(2, f'[qsub: illegal -N value]{USAGE}')
                if letter == 'a' and not value.replace('.', '').isdigit():
                    raise Exit(2, f'[qsub: illegal -a value]{USAGE}')
                if letter == 'p' and not -1024 <= int(value) <= 1023:
                    raise Exit(2, f'[qsub: illegal -p value]{USAGE}')
                self.values.setdefault(letter, value)
        self._queue_in_script = self._queue_in_script or 'q' not in self.values

    def job(self, name: str, arguments: str) -> Job:
        """Return the job, or refuse it."""
        values = self.values
        queue, nodes, longest = self._queue()
        chunks = self._chunks(nodes)
        seconds = self._check_resources(longest)
        count = sum(number for number, _ in chunks)
        listed = {key: value for key, value in self.resources.items() if key != 'walltime'}
        return Job(
            name=values.get('N', name) or 'none',
            queue=queue,
            account=values.get('A', ''),
            hold='user' if 'h' in values else '',
            eligible=time.time() + 86400 if 'a' in values else 0.0,
            walltime=float(seconds),
            cwd=os.getcwd(),
            stdout=values.get('o', '').rpartition(':')[2],
            stderr=values.get('e', '').rpartition(':')[2],
            umask=0o77,
            node_count=count,
            extra={
                'arguments': arguments, 'chunks': chunks, 'scatter': True, 'exclusive': 'n' in values,
                'checkpoint': values.get('c', 'u'),
                'resources': {'nodes': '1', **listed, 'nodect': str(count), 'walltime': _clock(seconds)},
                'variables': self._variables(queue),
            },
        )  # fmt: skip

    def _queue(self) -> tuple[str, int, int]:
        """Return the queue with the numbers of nodes and seconds that it allows."""
        name = self.values.get('q') or 'batch'
        for item in self.cluster.knob('queues', QUEUES).split():
            limits, _, closed = item.partition('!')
            known, *rest = limits.split(':')
            if known not in (name, '*'):
                continue
            who = f'user {self.cluster.user}@{SERVER}, queue {name}'
            if closed == 'acl':
                raise refused(159, f'Unauthorized Request  MSG=user ACL rejected the submitting user: {who}')
            if closed == 'off':
                raise refused(175, f'Queue is not enabled MSG=queue is disabled: {who}')
            return name, int(rest[0]) if rest else 10**6, int(rest[1]) if rest else LONGEST
        raise refused(172, 'Unknown queue MSG=requested queue not found')

    def _check_resources(self, longest: int) -> int:
        for name in self.resources:
            if name not in RESOURCES or (name == 'advres' and not self.cluster.has_knob('moab')):
                raise refused(189, f'Unknown resource type  Resource_List.{name}')
        try:
            seconds = script.seconds(self.resources.get('walltime') or '1:00:00', 4)
        except ValueError:
            raise refused(168, 'Illegal attribute or resource value for Resource_List.walltime') from None
        try:
            memory = script.kilobytes(self.resources.get('mem', '0'))
        except ValueError:
            raise refused(168, 'Illegal attribute or resource value for Resource_List.mem') from None
        limited = longest < LONGEST
        too_long = 'walltime' in self.resources and seconds > longest
        for is_too_much, what in ((too_long, 'walltime'), (limited and memory > 1 << 20, 'mem')):
            if is_too_much:
                raise refused(190, f'Job exceeds queue resource limits MSG=cannot satisfy queue max {what} requirement')
        return seconds

    def _chunks(self, most: int) -> list[tuple[int, dict[str, str]]]:
        text = self.resources.get('nodes', '1')
        syntax = refused(27, 'Command syntax invalid MSG=Invalid Syntax')
        infeasible = refused(190, f'Job exceeds queue resource limits MSG={INFEASIBLE}')
        chunks = script.chunks(text, lambda: infeasible)
        count = sum(number for number, _ in chunks)
        if not count or any(
            not items.get('ppn', '1').isdigit() or set(items) & {'mem', 'walltime'} for _, items in chunks
        ):
            raise syntax
        if count > most:
            raise refused(190, 'Job exceeds queue resource limits MSG=cannot satisfy queue max nodect requirement')
        gpus = int(self.cluster.knob('gpus', '0'))
        for _, items in chunks:
            if set(items) - {'ppn', 'gpus'} or int(items.get('ppn', '1')) > 16 or int(items.get('gpus', '0')) > gpus:
                raise infeasible
        if count > len(self.cluster.hosts()):
            raise infeasible
        return chunks

    def _variables(self, queue: str) -> dict[str, str]:
        here = os.environ
        given = [item.partition('=') for item in self.values.get('v', '').split(',') if item]
        return {
            **(dict(here) if 'V' in self.values else {}),
            'PBS_O_QUEUE': queue, 'PBS_O_HOME': here.get('HOME', '/'), 'PBS_O_LOGNAME': self.cluster.user,
            'PBS_O_PATH': here.get('PATH', ''), 'PBS_O_MAIL': f'/var/mail/{self.cluster.user}',
            'PBS_O_SHELL': here.get('SHELL', '/bin/sh'), 'PBS_O_LANG': here.get('LANG', ''),
            **{name: value for name, _, value in given},
            'PBS_O_WORKDIR': os.getcwd(), 'PBS_O_HOST': SERVER, 'PBS_O_SERVER': SERVER,
        }  # fmt: skip


def _clock(seconds: int) -> str:
    from fakes.pbs.jobs import clock

    return clock(seconds)
