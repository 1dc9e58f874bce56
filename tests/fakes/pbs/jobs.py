"""What OpenPBS says about a job of the table: states, exit status, comments, attributes in its order."""

from __future__ import annotations

import os
import time

from fakes.core import Cluster, Job
from fakes.pbs.script import kilobytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Union

    Value = Union[str, int, dict[str, Any]]

SERVER = 'pbs01'

STATES = {  # the letter and the substate
    'queued': ('Q', 10),
    'starting': ('R', 41),
    'running': ('R', 42),
    'suspended': ('S', 43),
    'ending': ('E', 51),
}
KILLED_BY = {'timeout': (-29, 'walltime'), 'out_of_memory': (-27, 'mem')}


def state(job: Job) -> tuple[str, int]:
    if job.shown:
        return job.shown[0], int(job.shown[1])
    if job.final:
        if job.kill == 'cancelled':
            return 'F', 91
        return 'F', 92 if exit_status(job) in (0, None) else 93
    if job.state == 'queued':
        if job.hold:
            return 'H', 20
        if job.after:
            return 'H', 22
        return ('W', 30) if job.eligible > time.time() and not job.restarts else STATES['queued']
    if job.state == 'ending' and job.kill:
        return STATES['running']  # until all its processes are gone
    return STATES[job.state]


def exit_status(job: Job) -> int | None:
    if job.kill and not job.final:
        return None
    if job.kill in KILLED_BY:
        return KILLED_BY[job.kill][0]
    return plain_exit_status(job)


def plain_exit_status(job: Job) -> int | None:
    """Return the exit code of the shell above the script, or 256 and its signal."""
    if job.wait_status is None:
        return -1 if job.launch_error else None
    return 256 + (job.wait_status & 0x7F) if job.wait_status & 0x7F else job.wait_status >> 8


def comment(cluster: Cluster, job: Job) -> str:
    text = ''
    if job.nodes:
        when = time.strftime('%a %b %d at %H:%M', time.localtime(job.started))
        text = f'Job run at {when} on {"+".join(vnodes(job))}'
    elif job.never:
        text = 'Not Running: Insufficient amount of resource: ncpus '
    if job.kill == 'cancelled':
        by = f' by {cluster.user if job.killed_by == job.uid else "root"}@{SERVER}' if job.nodes else ''
        return f'{text} and terminated{by}' if text else ''
    if not job.final or not text:
        return text
    if job.kill in KILLED_BY:
        return f'{text} and exceeded resource {KILLED_BY[job.kill][1]}'
    return f'{text} and {"finished" if exit_status(job) == 0 else "failed"}'


def placement(job: Job) -> list[tuple[str, dict[str, str]]]:
    """Return the host of each chunk, with what the chunk has."""
    placed: list[tuple[str, dict[str, str]]] = []
    index = used = 0
    for count, items in job.extra['chunks']:
        for _ in range(count):
            used += int(items['ncpus'])
            if placed and (job.extra['scatter'] or used > 16):
                index, used = index + 1, int(items['ncpus'])
            placed.append((job.nodes[index % len(job.nodes)], items))
    return placed


def vnodes(job: Job) -> list[str]:
    parts = []
    for host, items in placement(job):
        memory = f':mem={kilobytes(items["mem"])}kb' if 'mem' in items else ''
        parts.append(f'({host}:ncpus={items["ncpus"]}{memory})')
    return parts


def exec_host(job: Job) -> str:
    slots: dict[str, int] = {}
    parts = []
    for host, items in placement(job):
        slot = slots[host] = slots.get(host, -1) + 1
        ncpus = int(items['ncpus'])
        parts.append(f'{host}/{slot}' + (f'*{ncpus}' if ncpus > 1 else ''))
    return '+'.join(parts)


def clock(seconds: float) -> str:
    whole = int(seconds)
    return f'{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}'


def attributes(cluster: Cluster, job: Job) -> dict[str, Value]:
    """Return the attributes as ``qstat -f`` shows them."""
    letter, substate = state(job)
    directory = job.cwd
    waits_for_others = substate == 22 or job.kill == 'dependency'
    shown: dict[str, Any] = {'Job_Name': job.name, 'Job_Owner': f'{job.user}@{SERVER}'}
    if job.wait_status is not None:
        used = max((job.ended or time.time()) - job.started, 0)
        shown['resources_used'] = {
            'cpupercent': 0, 'cput': '00:00:00', 'mem': f'{job.max_rss}kb', 'ncpus': _ncpus(job),
            'vmem': f'{job.max_rss}kb', 'walltime': clock(used),
        }  # fmt: skip
    shown.update(job_state=letter, queue=job.queue, server=SERVER)
    if job.account:
        shown['Account_Name'] = job.account
    shown.update(
        Checkpoint=job.extra['checkpoint'],
        ctime=_date(job.submitted),
        Error_Path=f'{SERVER}:{job.stderr or f"{directory}/{job.name}.e{job.id}"}',
    )
    if job.nodes:
        shown.update(exec_host=exec_host(job), exec_vnode='+'.join(vnodes(job)))
    shown.update(
        Hold_Types='u' if job.hold else 's' if waits_for_others else 'n',
        Join_Path=job.extra['join'],
        Keep_Files='n',
        Mail_Points='a',
        mtime=_date(job.ended or job.started or job.submitted),
        Output_Path=f'{SERVER}:{job.stdout or f"{directory}/{job.name}.o{job.id}"}',
        Priority=job.extra['priority'],
        qtime=_date(job.submitted),
        Rerunable='True' if job.may_requeue else 'False',
        Resource_List=_resource_list(job),
    )  # fmt: skip
    if job.nodes:
        shown['stime'] = _date(job.started)
    if job.nodes and job.final:
        shown['obittime'] = _date(job.ended)
    if job.wait_status is not None:
        shown['jobdir'] = job.extra['variables']['PBS_O_HOME']
    shown.update(substate=substate, Variable_List=job.extra['variables'])
    text = comment(cluster, job)
    if text:
        shown['comment'] = text
    if letter != 'W' and not job.hold and not waits_for_others:
        shown['etime'] = _date(job.eligible)
    if job.nodes:
        shown['run_count'] = job.restarts + 1
    status = exit_status(job) if not job.past else (exit_status(job) or -11)
    if job.nodes and job.final:
        shown['Stageout_status'] = job.extra.get('stageout', 1)
    if status is not None:
        shown['Exit_status'] = status
    shown['Submit_arguments'] = job.extra['arguments']
    if job.final:
        shown['history_timestamp'] = int(job.ended)
    shown.update(project=job.extra['project'] or '_pbs_project_default', Submit_Host=SERVER)
    return shown


def _resource_list(job: Job) -> dict[str, Value]:
    chunks, shown = job.extra['chunks'], dict(job.extra['resources'])
    shown.update(
        ncpus=_ncpus(job),
        nodect=sum(count for count, _ in chunks),
        place=job.extra['place'],
        select=job.extra['select'],
        walltime=clock(job.extra['walltime']),
    )
    if any('mpiprocs' in items for _, items in chunks):
        shown['mpiprocs'] = sum(count * int(items.get('mpiprocs', 1)) for count, items in chunks)
    memory = [items['mem'] for count, items in chunks for _ in range(count) if 'mem' in items]
    if memory:
        shown['mem'] = memory[0] if len(memory) == 1 else f'{sum(map(kilobytes, memory))}kb'
    return {name: shown[name] for name in sorted(shown)}


def _ncpus(job: Job) -> int:
    return sum(count * int(items['ncpus']) for count, items in job.extra['chunks'])


def _date(moment: float) -> str:
    return time.strftime('%a %b %d %H:%M:%S %Y', time.localtime(moment))


# --- names of jobs --------------------------------------------------------------------------------------------------


def number(text: str, server: str) -> int | None:
    """Return the number that an ID has, with or without the name of the server; None if it is no ID."""
    digits, dot, host = text.partition('.')
    if not digits.isdigit() or (dot and host.lower() != server):
        return None
    return int(digits)


def escaped(text: str, variant: str) -> str:
    """Write a string as JSON, the way a version of ``qstat`` does it."""
    if variant == 'master':
        import json

        return json.dumps(text, ensure_ascii=False)
    shown = ''
    for byte in os.fsencode(text):
        plain = {34: '\\"', 9: '\\t', 10: '\\n', 13: '\\r'}.get(byte)
        if plain is not None:
            shown += plain
        elif byte < 32 or byte >= 128:
            shown += os.fsdecode(bytes((94, (byte + 64) & 255)))
        else:
            shown += chr(byte)  # a backslash too
    return f'"{shown}"'
