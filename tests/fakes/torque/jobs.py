"""What Torque says about a job of the table: states, exit status, comments, attributes in its order."""

from __future__ import annotations

import time

from fakes.core import Cluster, Job
from fakes.pbs.jobs import clock, plain_exit_status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Union

    Value = Union[str, dict[str, str]]

SERVER = 'torque01'
KILLED_BY = {'timeout': -11, 'out_of_memory': -10}


def state(job: Job) -> str:
    if job.shown:
        return job.shown[0]
    if job.state == 'queued':
        if job.hold or job.after:
            return 'H'
        return 'W' if job.eligible > time.time() and not job.restarts else 'Q'
    if job.state == 'ending':
        return 'R' if job.kill else 'E'
    return {'starting': 'R', 'running': 'R', 'suspended': 'S', 'done': 'C'}[job.state]


def exit_status(job: Job) -> int | None:
    if job.kill and not job.final:
        return None
    return KILLED_BY.get(job.kill) or plain_exit_status(job)


def slots(job: Job) -> list[str]:
    """Return the host of each slot; the last host comes first."""
    counts = [int(items.get('ppn', '1')) for count, items in job.extra['chunks'] for _ in range(count)]
    hosts = list(reversed(job.nodes))
    return [host for host, count in zip(hosts, counts) for _ in range(count)]


def listed(cluster: Cluster, job: Job) -> bool:
    """Tell whether ``qstat`` still knows a job; `keep` stands for ``keep_completed``."""
    return not job.final or job.ended > time.time() - float(cluster.knob('keep', '300'))


def attributes(job: Job) -> dict[str, Value]:
    """Return the attributes as ``qstat -x`` shows them."""
    extra, now, last_part = job.extra, time.time(), job.name.rpartition('/')[2]
    shown: dict[str, Value] = {
        'Job_Id': f'{job.id}.{SERVER}', 'Job_Name': job.name, 'Job_Owner': f'{job.user}@{SERVER}',
    }  # fmt: skip
    if job.wait_status is not None:
        used = max((job.ended or now) - job.started, 0)
        shown['resources_used'] = {
            'cput': '00:00:00', 'vmem': f'{job.max_rss}kb', 'walltime': clock(used), 'mem': f'{job.max_rss}kb',
            'energy_used': '0',
        }  # fmt: skip
    shown.update(job_state=state(job), queue=job.queue, server=SERVER)
    if job.account:
        shown['Account_Name'] = job.account
    shown.update(
        Checkpoint=extra['checkpoint'],
        ctime=str(int(job.submitted)),
        Error_Path=f'{SERVER}:{job.stderr or f"{job.cwd}/{last_part}.e{job.id}"}',
    )
    if job.nodes:
        shown['exec_host'] = '+'.join(f'{host}/{_range(slots(job).count(host))}' for host in dict.fromkeys(slots(job)))
    shown.update(
        Hold_Types='u' if job.hold else 'n',
        Join_Path='n',
        Keep_Files='n',
        Mail_Points='a',
        mtime=str(int(job.ended or job.started or job.submitted)),
        Output_Path=f'{SERVER}:{job.stdout or f"{job.cwd}/{last_part}.o{job.id}"}',
        Priority='0',
        qtime=str(int(job.submitted)),
        Rerunable='True',
        Resource_List=extra['resources'],
    )
    if job.wait_status is not None or job.pid:
        shown['session_id'] = str(job.pid)
    shown['Variable_List'] = ','.join(f'{name}={value}' for name, value in extra['variables'].items())
    shown.update(euser=job.user, egroup=job.user, queue_type='E')
    if not job.extra.get('stageout', 1):
        shown['sched_hint'] = "Unable to copy files back - please see the mother superior's log for exact details."
    if job.nodes:
        shown['comment'] = time.strftime('Job started on %a %b %d at %H:%M', time.localtime(job.started))
    elif job.never:
        shown['comment'] = 'Not Running: Not enough of the right type of nodes are available'
    if not job.hold and not job.after and shown['job_state'] != 'W':
        shown['etime'] = str(int(job.eligible))
    status = exit_status(job)
    if status is not None:
        shown['exit_status'] = str(status)
    shown['submit_args'] = extra['arguments']
    if job.nodes:
        shown.update(start_time=str(int(job.started)), start_count=str(job.restarts + 1))
    shown['fault_tolerant'] = 'False'
    if job.final and job.nodes:
        shown['comp_time'] = str(int(job.ended))
    shown['job_radix'] = '0'
    if job.final and job.nodes:
        shown['total_runtime'] = f'{job.ended - job.started:.6f}'
    if extra['exclusive']:
        shown['node_exclusive'] = 'True'
    shown.update(submit_host=SERVER, init_work_dir=job.cwd, request_version='1')
    return shown


def _range(count: int) -> str:
    return '0' if count == 1 else f'0-{count - 1}'
