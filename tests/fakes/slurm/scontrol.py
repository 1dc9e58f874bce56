"""``scontrol`` of Slurm 22.05: the parts that users of jobs need, and a node that goes down."""

from __future__ import annotations

import os
import time

from fakes.commandline import Exit, err, out, unsupported
from fakes.core import SIGCONT, SIGSTOP, Cluster, Job, signal_group
from fakes.hosts import compress, expand
from fakes.slurm import jobs
from fakes.slurm.node import fill_in
from fakes.slurm.squeue import cpus, option


def main(cluster: Cluster, argv: list[str]) -> int:
    one_line = [word for word in argv if word in ('-o', '--oneliner')]
    words = [word for word in argv if word not in one_line]
    verb, *rest = words or ['']
    if verb == 'show' and rest:
        return _show(cluster, rest, bool(one_line))
    if verb == 'ping':
        out('Slurmctld(primary) at login01 is UP\n')
        return 0
    if verb == 'update' and rest and rest[0].lower().startswith('nodename='):
        return _update_node(cluster, dict(word.lower().split('=', 1) for word in rest))
    if verb in _ACTIONS and rest:
        special = [word for word in rest if word.lower() == 'state=specialexit']
        ids = [number for word in rest if word not in special for number in word.split(',')]
        return max(_act(cluster, 'special' if special else verb, text) for text in ids)
    raise unsupported(cluster, ' '.join(words))


def _show(cluster: Cluster, words: list[str], one_line: bool) -> int:
    entity, operand = words[0], words[1] if len(words) > 1 else ''
    if entity.startswith('hostname') or entity.startswith('hostlist'):
        hosts = operand or os.environ.get('SLURM_JOB_NODELIST', '')
        if not hosts:
            err('scontrol: error: host list is empty\n')
        elif entity.startswith('hostname'):
            out(''.join(f'{host}\n' for host in expand(hosts)))
        else:
            out(f'{compress(expand(hosts))}\n')
        return 0
    if entity != 'job':
        raise unsupported(cluster, f'show {entity}')
    if operand:
        job = cluster.find(int(operand)) if operand.isdigit() else None
        found = [] if job is None else [job]
    else:
        found = list(cluster.jobs())
    if not found:
        if operand:
            raise Exit(1, 'slurm_load_jobs error: Invalid job id specified\n')
        out('No jobs in the system\n')
    for job in found:
        lines = _describe(job)
        out(' '.join(lines) + '\n' if one_line else '\n   '.join(lines) + '\n\n')
    return 0


def _describe(job: Job) -> list[str]:
    """Return the lines of ``show job``; what never differs here is as in the recordings."""
    date = jobs.date
    waits = job.state == 'queued'
    eligible = 'Unknown' if (job.hold and not job.restarts) or 'dependency' in job.blocked else date(job.eligible)
    accrue = eligible if job.started or not (job.blocked or job.final) else 'Unknown'
    nodes, number = jobs.node_list(job), len(job.nodes) or job.node_count
    tasks = job.extra.get('tasks', 1) if job.started or waits else 'N/A'
    memory = job.extra.get('memory', 500)
    total_memory = memory * (number if option(job, 'mem') else cpus(job))
    stdout = fill_in(job.stdout, job)
    return [
        f'JobId={job.id}{_array(job)} JobName={job.name}',
        f'UserId={job.user}({job.uid}) GroupId={job.user}({job.gid}) MCS_label=N/A',
        f'Priority={jobs.priority(job)} Nice={option(job, "nice") or 0} Account={job.account} QOS=normal',
        f'JobState={jobs.long_state(job)} Reason={jobs.reason(job).replace(" ", "_")} Dependency={_dependency(job)}',
        f'Requeue={int(job.may_requeue)} Restarts={job.restarts} BatchFlag=1 Reboot=0 '
        f'ExitCode={jobs.code_and_signal(jobs.exit_code(job))}',
        f'RunTime={jobs.full_elapsed(jobs.run_time(job))} TimeLimit={_time_limit(job)} TimeMin=N/A',
        f'SubmitTime={date(job.submitted)} EligibleTime={eligible}',
        f'AccrueTime={accrue}',
        f'StartTime={date(jobs.start(job), "Unknown")} EndTime={date(jobs.end(job), "Unknown")} Deadline=N/A',
        f'SuspendTime={date(job.extra.get("suspended", 0.0), "None")} SecsPreSuspend=0 '
        f'LastSchedEval={date(job.started or job.submitted)} Scheduler=Main',
        f'Partition={job.queue} AllocNode:Sid=localhost:6980',
        f'ReqNodeList={compress(list(job.node_request)) or "(null)"} ExcNodeList={option(job, "exclude") or "(null)"}',
        f'NodeList={nodes}',
        *([f'BatchHost={job.nodes[0]}'] if job.nodes else []),
        f'NumNodes={number} NumCPUs={cpus(job)} NumTasks={tasks} '
        f'CPUs/Task={job.extra.get("cpus_per_task", 1)} ReqB:S:C:T=0:0:*:*',
        f'TRES=cpu={cpus(job)},mem={total_memory}M,node={number},billing={cpus(job)}',
        'Socks/Node=* NtasksPerN:B:S:C=0:0:*:* CoreSpec=*',
        f'MinCPUsNode=1 MinMemory{"Node" if option(job, "mem") else "CPU"}={memory}M MinTmpDiskNode=0',
        f'Features={option(job, "constraint") or "(null)"} DelayBoot=00:00:00',
        f'OverSubscribe={"NO" if "exclusive" in job.extra.get("options", {}) else "OK"} Contiguous=0 '
        f'Licenses={option(job, "licenses") or "(null)"} Network=(null)',
        'Command=' + ' '.join([job.extra.get('command') or '(null)', *job.argv]),
        f'WorkDir={job.cwd}',
        *([f'Comment={option(job, "comment")} '] if option(job, 'comment') else []),
        f'StdErr={fill_in(job.stderr, job) if job.stderr else stdout}',
        f'StdIn={fill_in(job.stdin, job)}',
        f'StdOut={stdout}',
        'Power=',
        *(['KillOInInvalidDependent=Yes'] if job.kill_if_invalid else []),
        '',
    ]


def _array(job: Job) -> str:
    return f' ArrayJobId={job.array_id} ArrayTaskId={jobs.task_indices(job)}' if job.array_id else ''


def _dependency(job: Job) -> str:
    text = option(job, 'dependency')
    return (
        f'{text}(failed)'
        if job.blocked == 'dependency_failed'
        else f'{text}(unfulfilled)'
        if job.blocked == 'dependency'
        else '(null)'
    )


def _time_limit(job: Job) -> str:
    return jobs.full_elapsed(int(job.walltime)) if job.walltime else 'UNLIMITED'


# --- changing jobs ---------------------------------------------------------------------------------------------------

_ACTIONS = ('hold', 'release', 'requeue', 'requeuehold', 'suspend', 'resume')
_DENIED = 'Access/permission denied'


def _act(cluster: Cluster, verb: str, text: str) -> int:
    job = cluster.find(int(text)) if text.isdigit() else None
    if job is None:
        return _fail(verb, text, 'Invalid job id specified')
    if not cluster.may_change(job) or (verb in ('suspend', 'resume') and cluster.uid):
        return _fail(verb, text, _DENIED)
    if verb == 'hold':
        cluster.change(job.id, hold='user' if cluster.uid else 'admin')
    elif verb == 'release':
        if job.hold == 'admin' and cluster.uid:
            return _fail(verb, text, _DENIED)
        cluster.change(job.id, hold='')
    elif verb in ('requeue', 'requeuehold', 'special'):
        if job.state == 'queued':
            return _fail(verb, text, 'Job is pending execution')
        if verb != 'requeue':
            cluster.change(job.id, hold='special' if verb == 'special' else 'requeued')
        cluster.requeue(job.id, cluster.uid)
    elif not job.pid:
        return _fail(verb, text, 'Job is pending execution' if job.state == 'queued' else 'Job has already finished')
    else:
        signal_group(job.pid, SIGSTOP if verb == 'suspend' else SIGCONT)
        state = 'suspended' if verb == 'suspend' else 'running'
        cluster.change(job.id, state=state, extra={**job.extra, 'suspended': time.time()})
    return 0


def _fail(verb: str, number: str, words: str) -> int:
    err(f'{words} for job {number}\n')
    if verb in ('hold', 'release'):
        err(f'slurm_suspend error: {words}\n')
    return 1


def _update_node(cluster: Cluster, values: dict[str, str]) -> int:
    if cluster.uid:
        raise Exit(1, 'slurm_update error: Invalid user id\n')
    if values.get('state') != 'down':
        raise unsupported(cluster, f'update of a node to {values.get("state")!r}')
    down = set(expand(values['nodename']))
    for job in cluster.jobs():
        if job.active and down & set(job.nodes):
            cluster.end(job.id, 'node_failure')
    return 0
