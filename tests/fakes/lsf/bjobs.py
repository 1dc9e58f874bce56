"""``bjobs``: with ``-o`` as text or JSON, and the first line that ``-UF`` has for each job."""

from __future__ import annotations

import re

from fakes.commandline import Exit, err, out, unsupported
from fakes.core import Cluster, Job
from fakes.lsf import jobs

FLAGS = ('-a', '-json', '-UF', '-w')
WITH_VALUE = ('-o', '-J', '-u')

FIELDS = (
    *('jobid', 'user', 'stat', 'queue', 'from_host', 'exec_host', 'job_name', 'proj_name', 'pids'),
    *('start_time', 'finish_time'),
)
FIELDS_OF_LSF = ('jobindex', 'exit_code', 'exit_reason', 'kill_reason', 'suspend_reason', 'pend_reason')


def main(cluster: Cluster, argv: list[str]) -> int:
    cluster.kick_if_due()
    values, ids = _parse(cluster, argv)
    fields = values.get('-o', '').lower().split()
    for field in fields:
        if field not in FIELDS and not (jobs.speaks_lsf(cluster) and field in FIELDS_OF_LSF):
            raise Exit(99, f'<{field.upper()}> in the format string is not a valid field name.\n')
    found, missing = _select(cluster, values, ids)
    if '-json' in values:
        records = [_record(job, fields) for job in found]
        records += [
            f'\t\t\t"JOBID":\t"{native_id}",\n\t\t\t"ERROR":\t"Job <{native_id}> is not found"' for native_id in missing
        ]
        _print_json(records)
        return 0 if found else 255
    if '-UF' in values:
        out(''.join(_long(job) for job in found))
    elif not fields:
        raise unsupported(cluster, 'the table for people')
    elif found:
        lines = [' '.join(map(str.upper, fields)), *(' '.join(_text(job, field) for field in fields) for job in found)]
        out(''.join(f'{line}\n' for line in lines))
    err(''.join(f'Job <{native_id}> is not found\n' for native_id in missing))
    if not found and not missing:
        if '-J' in values:
            raise Exit(254, f'Job <{values["-J"]}> is not found\n')
        raise Exit(254, 'No job found\n' if '-a' in values else 'No unfinished job found\n')
    return 255 if missing else 0


def _parse(cluster: Cluster, argv: list[str]) -> tuple[dict[str, str], list[str]]:
    values, ids, rest = {}, [], list(argv)
    while rest:
        word = rest.pop(0)
        if word in WITH_VALUE:
            values[word] = rest.pop(0)
        elif word in FLAGS:
            values[word] = ''
        elif word.startswith('-'):
            raise unsupported(cluster, word)
        else:
            ids.append(word)
    for word in ids:
        if not re.fullmatch(r'\d+(\[\d+\])?', word):
            raise Exit(255, f'{word}: Illegal job ID.\n')
    return values, ids


def _select(cluster: Cluster, values: dict[str, str], ids: list[str]) -> tuple[list[Job], list[str]]:
    """Return the jobs to show, and the IDs that nobody knows."""
    shown = list(jobs.elements(cluster))
    if ids and ids != ['0']:
        known = {f'{jobs.number(job)}[{job.task}]' for job in shown} | {str(jobs.number(job)) for job in shown}
        chosen = [job for job in shown if {f'{jobs.number(job)}[{job.task}]', str(jobs.number(job))} & set(ids)]
        return chosen, [native_id for native_id in ids if native_id not in known]
    user = values.get('-u', cluster.user)
    return [
        job
        for job in shown
        if user in ('all', job.user)
        and ('-a' in values or not job.final)
        and values.get('-J', job.name) in (job.name, jobs.name(job))
    ], []


def _value(job: Job, field: str) -> str:
    code = jobs.exit_code(job) if job.final else None
    values = {
        'jobid': str(jobs.number(job)),
        'user': job.user,
        'stat': jobs.state(job),
        'queue': job.queue,
        'from_host': 'login01',
        'exec_host': job.nodes[0] if job.nodes else '   -   ' if job.final else '',
        'job_name': jobs.name(job),
        'proj_name': job.account,
        'start_time': jobs.date(job.started),
        'finish_time': jobs.date(job.ended if job.final else 0),
        'jobindex': str(max(job.task, 0)),
        'exit_code': str(code or ''),
        'exit_reason': jobs.exit_reason(job),
        'suspend_reason': 'The job was suspended by the user' if jobs.state(job) == 'USUSP' else '',
        'pend_reason': 'Not enough job slots' if job.never else '',
    }
    return values.get(field, '')


def _text(job: Job, field: str) -> str:
    return _value(job, field) or ('' if field == 'job_name' else '-')


def _record(job: Job, fields: list[str]) -> str:
    lines = []
    for field in fields:
        value = _value(job, field).replace('\\', '\\\\').replace('"', '\\"')
        lines.append(f'\t\t\t"{field.upper()}":\t"{value}"')
    return ',\n'.join(lines)


def _print_json(records: list[str]) -> None:
    body = '[{\n' + '\n\t\t}, {\n'.join(records) + '\n\t\t}]' if records else '[]'
    out(f'{{\n\t"COMMAND":\t"bjobs",\n\t"JOBS":\t{len(records)},\n\t"RECORDS":\t{body}\n}}\n')


def _long(job: Job) -> str:
    name = f'Job Name <{jobs.name(job)}>, ' if 'J' in job.extra['options'] else ''
    return (
        f'\nJob <{jobs.number(job)}>, {name}User <{job.user}>, Project <{job.account}>, Status <{jobs.state(job)}>, '
        f'Queue <{job.queue}>, Command <{job.extra["command"]}>\n'
    )
