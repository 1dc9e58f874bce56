"""``qsub`` of Cobalt 1.0.33 on a cluster: what it accepts and refuses, and in which words."""

from __future__ import annotations

import os

from fakes.cobalt import log
from fakes.cobalt.optparse import QSUB_USAGE, error, parse
from fakes.commandline import Exit, err, lose_reply_on_demand, options, out, refuse_on_demand, unsupported
from fakes.core import Cluster, Job

OPTIONS = options(
    'nodecount=n time=t proccount= queue=q project=A cwd= jobname= env= output=o error=e inputfile=i outputprefix=O '
    'debuglog= dependencies= attrs= mode= held,h umask=u notify=M run_users= disable_preboot, preemptable, '
    'interactive,I'
)
NOT_COVERED = {'attrs', 'interactive', 'outputprefix', 'run_users', 'umask'}
NOISE = 'No handlers could be found for logger "Proxy"\n'
MARKER = '#COBALT '
MINIMUM = 5  # minutes


def main(cluster: Cluster, argv: list[str]) -> int:
    given, operands = parse('qsub', QSUB_USAGE, argv, OPTIONS, permute=False)
    if not operands:
        raise Exit(1, 'No executable or script specified\n\n', f'{QSUB_USAGE}\n')
    values = dict(given)
    path = _path(operands[0], values.get('cwd', ''))
    with open(path, encoding='utf-8', errors='surrogateescape') as file:
        words = directives(file.read())
    in_script, left_over = parse('qsub', QSUB_USAGE, words, OPTIONS, permute=False)
    if left_over:  # it is taken for the script, and what follows it for its arguments
        given = []
    values = {**dict(in_script), **dict(given)}
    for name in NOT_COVERED & set(values):
        raise unsupported(cluster, f'--{name}')
    seconds = _check(cluster, values)
    refuse_on_demand(cluster)
    job = _job(cluster, values, seconds, path, operands[1:])
    cluster.submit(job, b'', dict(_environment(given, in_script)))
    command_line = ' '.join(['qsub', *(['--mode script'] if words else []), *words, *argv])
    _make_log(cluster, job, values.get('debuglog', ''), command_line)
    lose_reply_on_demand(cluster)
    remark = cluster.knob('site_message').strip()
    out(f'{job.id} {remark}\n' if remark else f'{job.id}\n')
    return 0


def directives(script: str) -> list[str]:
    r"""Return the words of the directives: from line 2 on, without a gap, split at blanks and nothing else.

    >>> directives('#!/bin/sh\n#COBALT -t 10 --jobname="a b"\n\n#COBALT -n 1\n')
    ['-t', '10', '--jobname="a', 'b"']
    """
    found: list[str] = []
    lines = script.split('\n')
    if not lines[0].startswith('#!'):
        return found
    for line in lines[1:]:
        if not line.startswith(MARKER):
            break
        found += line[len(MARKER) :].split()
    return found


def _path(operand: str, cwd: str) -> str:
    """Return the path of the script, from which qsub removes all blanks."""
    path = os.path.join(cwd or os.getcwd(), operand).replace(' ', '')
    if not os.path.isfile(path):
        raise Exit(1, f'command {path} not found, or is not a file\n')
    if not os.stat(path).st_mode & 0o100 or not os.access(path, os.R_OK):
        raise Exit(1, f'command {path} is not executable\n')
    return path


def _check(cluster: Cluster, values: dict[str, str]) -> float:
    """Refuse what Cobalt refuses; return the walltime in seconds."""
    for name in ('time', 'nodecount'):
        if name not in values:
            raise Exit(1, f"'{name}' not provided\n")
    seconds = _seconds(values['time'])
    for name, option in (('nodecount', '-n'), ('proccount', '--proccount')):
        if not values.get(name, '1').isdigit():
            raise error('qsub', QSUB_USAGE, f'option {option}: invalid integer value: {values[name]!r}')
    if not 1 <= int(values['nodecount']) <= len(cluster.hosts()):
        raise Exit(1, 'node count out of realistic range\n')
    for name in ('output', 'error', 'debuglog'):
        path = values.get(name, '')
        if path and not os.path.isdir(os.path.dirname(os.path.abspath(path))):
            raise Exit(1, f'directory {path} does not exist\n')
    if 'env' in values and '=' not in values['env']:
        raise Exit(1, f'Improperly formatted argument to env : {[values["env"]]}\n')
    queue, queues = values.get('queue', 'default'), cluster.knob('queues', 'default short admin').split()
    if queue not in queues and '*' not in queues:
        raise Exit(1, f'{NOISE}<Fault 1001: "trying to add job to non-existent queue {queue!r}">\n')
    if queue == 'admin':
        raise Exit(1, f'{NOISE}<Fault 1001: "You are not allowed to submit to the {queue!r} queue\\n">\n')
    if 0 < seconds < 60 * MINIMUM:
        words = "component error: XMLRPC failure <Fault 1004: 'Walltime less than minimum'> in system.validate_job"
        raise Exit(1, f'{NOISE}{words}\n\n')
    return seconds


def _seconds(text: str) -> float:
    """Read a walltime.

    >>> _seconds('90'), _seconds('1:75'), _seconds('0:5:30'), _seconds('1:0:0:0')
    (5400.0, 8100.0, 330.0, 86400.0)
    """
    if not text:
        raise Exit(
            1, '*** FATAL EXCEPTION: string index out of range ***\nTraceback (most recent call last):\n', '{}\n'
        )
    parts = text.split(':')
    if len(parts) > 4:
        raise Exit(1, 'invalid time specification: time may be specified as minutes, HH:MM, HH:MM:SS, or DD:HH:MM:SS\n')
    for part in parts:
        if not part.isdigit():
            raise Exit(1, f'invalid time specification: illegal value {part!r} for minutes\n')
    units = {1: (60,), 2: (3600, 60), 3: (3600, 60, 1), 4: (86400, 3600, 60, 1)}[len(parts)]
    return float(sum(int(part) * unit for part, unit in zip(parts, units)))


def _job(cluster: Cluster, values: dict[str, str], seconds: float, path: str, arguments: list[str]) -> Job:
    after = tuple(('ok', int(number)) for number in values.get('dependencies', '').split(':') if number)
    unknown = [str(number) for _, number in after if cluster.find(number, keep=0.0) is None]
    if unknown:
        err(f'WARNING: dependencies {" ".join(unknown)} do not match jobs currently in the queue\n')
    return Job(
        name=values.get('jobname') or os.path.basename(values.get('output', '')) or 'N/A',
        queue=values.get('queue', 'default'),
        account=values.get('project', ''),
        hold='user' if 'held' in values else '',
        after=after,
        walltime=seconds,
        cwd=os.path.abspath(values.get('cwd') or '.'),
        stdin=values.get('inputfile', '/dev/null'),
        stdout=values.get('output', '$jobid.output'),
        stderr=values.get('error', '$jobid.error'),
        argv=tuple(arguments),
        node_count=int(values['nodecount']),
        extra={
            'command': path, 'processes': int(values.get('proccount', values['nodecount'])), 'log': '',
        },
    )  # fmt: skip


def _make_log(cluster: Cluster, job: Job, path: str, command_line: str) -> None:
    """Begin the log, then tell the job where it is; in its path, the ID of the job may stand."""
    log_file = os.path.abspath(expand(path or '$jobid.cobaltlog', job))
    log.create(log_file, job, command_line)
    with cluster.lock:
        now = cluster.load(job.id) or job  # it may run by now
        now.extra = {**now.extra, 'log': log_file}
        now.name = expand(now.name, now)
        cluster.save(now)


def expand(text: str, job: Job) -> str:
    return text.replace('$jobid', str(job.id)).replace('$COBALT_JOBID', str(job.id))


def _environment(*sources: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return what ``--env`` gives; nothing else of the environment of qsub reaches the job."""
    texts = [value for source in sources for name, value in source if name == 'env']
    variables: list[tuple[str, str]] = []
    for part in ':'.join(texts).replace('\\:', '\0').split(':'):
        name, equals, value = part.partition('=')
        if equals and name.replace('_', 'a').isalnum():
            variables.append((name, value.replace('\0', ':').replace('\\=', '=')))
        elif variables:
            variables[-1] = (variables[-1][0], f'{variables[-1][1]}:{part}')
    return variables
