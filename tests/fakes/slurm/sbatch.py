"""``sbatch`` of Slurm 22.05: what it accepts and refuses, and in which words."""

from __future__ import annotations

import os
import time

from fakes.commandline import err, getopt, lose_reply_on_demand, options, out, refuse_on_demand, unsupported
from fakes.core import Cluster, Job
from fakes.slurm.directives import directives
from fakes.slurm.jobs import check_cluster
from fakes.slurm.values import (
    CHECKS,
    Refusal,
    gres_count,
    parse_array,
    parse_begin,
    parse_memory,
    parse_nodes,
    parse_time,
    rejected,
    spread,
    valid_gres,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 'slurm-wlm 22.05.8'

OPTIONS = options(
    'account=A acctg-freq= array=a batch= bb= bbf= begin=b chdir=D cluster-constraint= clusters=M comment= '
    'constraint=C container= contiguous, core-spec=S cores-per-socket= cpu-freq= cpus-per-gpu= cpus-per-task=c '
    'deadline= delay-boot= dependency=d distribution=m error=e exclude=x exclusive? export= export-file= '
    'extra-node-info=B get-user-env? gid= gpu-bind= gpu-freq= gpus=G gpus-per-node= gpus-per-socket= '
    'gpus-per-task= gres= gres-flags= help,h hint= hold,H ignore-pbs, input=i job-name=J kill-on-invalid-dep= '
    'licenses=L mail-type= mail-user= mcs-label= mem= mem-bind= mem-per-cpu= mem-per-gpu= mincpus= network= nice? '
    'no-kill?k no-requeue, nodefile=F nodelist=w nodes=N ntasks=n ntasks-per-core= ntasks-per-gpu= '
    'ntasks-per-node= ntasks-per-socket= open-mode= output=o overcommit,O oversubscribe,s parsable, partition=p '
    'power= prefer= priority= profile= propagate? qos=q quiet,Q reboot, requeue, reservation= signal= '
    'sockets-per-node= spread-job, switches= test-only, thread-spec= threads-per-core= time=t time-min= tmp= uid= '
    'usage, use-min-nodes, verbose,v version,V wait,W wait-all-nodes= wckey= wrap='
)

VARIABLES = {
    'SBATCH_ACCOUNT': 'account', 'SBATCH_ARRAY_INX': 'array', 'SBATCH_CLUSTERS': 'clusters',
    'SLURM_CLUSTERS': 'clusters', 'SBATCH_CONSTRAINT': 'constraint', 'SBATCH_DEBUG': 'verbose',
    'SBATCH_DISTRIBUTION': 'distribution', 'SBATCH_EXCLUSIVE': 'exclusive', 'SBATCH_EXPORT': 'export',
    'SBATCH_GET_USER_ENV': 'get-user-env', 'SBATCH_GPUS': 'gpus', 'SBATCH_GPUS_PER_NODE': 'gpus-per-node',
    'SBATCH_GPUS_PER_TASK': 'gpus-per-task', 'SBATCH_GRES': 'gres', 'SBATCH_HINT': 'hint',
    'SBATCH_JOB_NAME': 'job-name', 'SBATCH_MEM_PER_CPU': 'mem-per-cpu', 'SBATCH_MEM_PER_NODE': 'mem',
    'SBATCH_NO_KILL': 'no-kill', 'SBATCH_NO_REQUEUE': 'no-requeue', 'SBATCH_OPEN_MODE': 'open-mode',
    'SBATCH_OVERCOMMIT': 'overcommit', 'SBATCH_PARTITION': 'partition', 'SBATCH_QOS': 'qos',
    'SBATCH_REQUEUE': 'requeue', 'SBATCH_RESERVATION': 'reservation', 'SBATCH_SIGNAL': 'signal',
    'SBATCH_TIMELIMIT': 'time', 'SBATCH_WAIT': 'wait', 'SBATCH_WCKEY': 'wckey',
}  # fmt: skip

MAX_SCRIPT = 4 << 20
DEFAULT_MEMORY_PER_CPU = 500  # MiB


def main(cluster: Cluster, argv: list[str]) -> int:
    given, operands = getopt('sbatch', argv, OPTIONS, permute=False, usage_code=255)
    names = [name for name, _ in given]
    if 'version' in names:
        out(f'{VERSION}\n')
        return 0
    if 'help' in names or 'usage' in names:
        raise unsupported(cluster, '--help')
    wrapped = dict(given).get('wrap')
    if wrapped is not None:
        name, path, text, arguments = (
            'wrap',
            '',
            f'#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{wrapped}\n',
            [],
        )
    else:
        name, path, text = _read_script(operands[0] if operands else '')
        arguments = operands[1:]
    _check_script(text)
    request = Request(cluster)
    in_script, left_over = getopt('sbatch', directives(text, path or 'stdin'), OPTIONS, usage_code=255)
    if left_over:
        raise Refusal(f'Invalid directive found in batch script: {left_over[0]}', code=255)
    in_environment = [(option, os.environ[key]) for key, option in VARIABLES.items() if key in os.environ]
    for option, value in [*in_script, *in_environment, *given]:
        request.set(option, value)
    if len(text) > MAX_SCRIPT:
        raise rejected('Pathname of a file, directory or other parameter too long')
    if 'verbose' in request.values:
        request.describe()
    refuse_on_demand(cluster)
    if 'test-only' in request.values:
        raise unsupported(cluster, '--test-only')
    job = request.job(name, path, arguments)
    cluster.submit(job, os.fsencode(text), request.environment())
    lose_reply_on_demand(cluster)
    _print_id(cluster, job, request)
    return _wait(cluster, job) if 'wait' in request.values else 0


def _read_script(operand: str) -> tuple[str, str, str]:
    """Return the name that the job gets, the path and the text."""
    if not operand:
        return 'sbatch', '', _read(0)
    path = os.path.abspath(operand)
    if not os.path.exists(path):
        raise Refusal(f'Unable to open file {operand}')
    try:
        fd = os.open(path, os.O_RDONLY)
        text = '' if os.path.isdir(path) else _read(fd)
        os.close(fd)
    except OSError as ex:
        raise Refusal(f'Unable to open file {path}') from ex
    return os.path.basename(path), path, text


def _read(fd: int) -> str:
    parts = [b'']
    while len(parts) == 1 or parts[-1]:
        parts.append(os.read(fd, 1 << 20))
    return os.fsdecode(b''.join(parts))


def _check_script(text: str) -> None:
    if not text:
        raise Refusal('Batch script is empty!')
    if not text.startswith('#!'):
        raise Refusal(
            'This does not look like a batch script.  The first',
            'line must start with #! followed by the path to an interpreter.',
            'For instance: #!/bin/sh',
        )
    if '\r\n' in text:
        raise Refusal('Batch script contains DOS line breaks (\\r\\n)', 'instead of expected UNIX line breaks (\\n).')


def _print_id(cluster: Cluster, job: Job, request: Request) -> None:
    cluster_name = request.values.get('clusters', '') or cluster.knob('id_suffix').strip()
    if 'parsable' in request.values:
        out(f'{job.id};{cluster_name}\n' if cluster_name else f'{job.id}\n')
    elif 'quiet' not in request.values:
        out(
            f'Submitted batch job {job.id} on cluster {cluster_name}\n'
            if cluster_name
            else f'Submitted batch job {job.id}\n'
        )


def _wait(cluster: Cluster, job: Job) -> int:
    while not job.final:
        time.sleep(0.02)
        job = cluster.load(job.id) or job
    status = job.wait_status or 0
    return status >> 8 or status & 0x7F


class Request:
    """The options of one submission: what they mean, and whether this cluster can do it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.values: dict[str, str] = {}

    def set(self, option: str, value: str) -> None:
        """Take an option. A later one replaces an earlier one; values that cannot be read are refused at once."""
        self.values[option] = value
        if option == 'requeue':
            self.values.pop('no-requeue', None)
        if option == 'no-requeue':
            self.values.pop('requeue', None)
        check = CHECKS.get(option)
        if check is not None:
            check(value)

    def describe(self) -> None:
        rule = '-------------------- --------------------'
        lines = ['defined options', rule]
        shown = {**self.values, 'verbose': '1'}
        for option in ('output', 'error'):
            if option in shown:
                shown[option] = os.path.join(os.getcwd(), shown[option])
        lines += [f'{name:20}: {shown[name] or "set"}' for name in sorted(shown)]
        err(''.join(f'sbatch: {line}\n' for line in [*lines, rule, 'end of defined options']))

    def job(self, script_name: str, path: str, arguments: list[str]) -> Job:
        """Return the job to be submitted, or refuse it."""
        values = self.values
        partition, limit, state = self._partition()
        account = self._account()
        check_cluster('sbatch', values.get('clusters', 'test'))
        self._check_names()
        layout = self._layout(limit)
        if state in ('inactive', 'drain'):
            raise rejected('Required partition not available (inactive or drain)')
        self._check_number_of_jobs()
        indices, at_once = parse_array(values['array']) if 'array' in values else ([], 0)
        minutes = self._minutes()
        job = Job(
            name=values.get('job-name') or script_name,
            queue=partition,
            account=account,
            hold='user' if 'hold' in values or values.get('priority') == '0' else '',
            blocked=layout['blocked'] or ('PartitionDown' if state == 'down' else ''),
            after=self._after(),
            kill_if_invalid=values.get('kill-on-invalid-dep') == 'yes',
            eligible=parse_begin(values['begin']) if 'begin' in values else 0.0,
            walltime=60.0 * (minutes or 0),
            may_requeue='no-requeue' not in values,
            cwd=os.path.abspath(values.get('chdir') or '.'),
            stdin=values.get('input', '/dev/null'),
            stdout=values.get('output') or ('slurm-%A_%a.out' if indices else 'slurm-%j.out'),
            stderr=values.get('error', ''),
            umask=_umask(),
            script='slurm_script',
            argv=tuple(arguments),
            node_count=layout['nodes'],
            node_request=tuple(self._hosts('nodelist')),
            array=tuple(sorted(indices)),
            array_limit=at_once,
            extra={
                **layout, 'options': values, 'command': path, 'array': _describe_array(indices),
                'submit_dir': os.getcwd(), 'submit_host': os.environ.get('SLURMD_NODENAME', 'login01'),
            },
        )  # fmt: skip
        job.never = bool(job.blocked)
        if job.after:
            job.blocked = job.blocked or 'dependency'
        elif job.eligible > time.time():
            job.blocked = job.blocked or 'begin'
        return job

    def environment(self) -> dict[str, str]:
        """Return what of the environment of sbatch goes with the job; see ``node.launch`` for what is added there."""
        export = self.values.get('export', 'ALL').split(',')
        given = dict(os.environ)
        environment = given if 'ALL' in export else {name: given[name] for name in export if name in given}
        environment.update({item.partition('=')[0]: item.partition('=')[2] for item in export if '=' in item})
        return environment

    def _partition(self) -> tuple[str, int, str]:
        """Return the name, time limit in minutes and state of the partition asked for: knob ``partitions``."""
        known = {}
        for item in self.cluster.knob('partitions', 'debug:60 long:10080').split():
            fields = item.split(':')
            name, limit, state = fields + ['60', 'up'][len(fields) - 1 :]
            known[name] = (int(limit), state)
        names = self.values['partition'].split(',') if 'partition' in self.values else [next(iter(known))]
        for name in names:
            if name not in known:
                if '*' in known:
                    return name, known['*'][0], known['*'][1]
                raise rejected('Invalid partition name specified', f'invalid partition specified: {name or "(null)"}')
        return ','.join(names), min(known[name][0] for name in names), known[names[0]][1]

    def _account(self) -> str:
        accounts = self.cluster.knob('accounts', 'proj1 proj2').split()
        account = self.values.get('account') or accounts[0]
        if account not in accounts and '*' not in accounts:
            raise rejected('Invalid account or account/partition combination specified')
        return account

    def _minutes(self) -> int | None:
        return parse_time(self.values['time']) if 'time' in self.values else 10

    def _check_number_of_jobs(self) -> None:
        most = int(self.cluster.knob('max_submit', '0'))
        if most and sum(job.uid == self.cluster.uid and not job.final for job in self.cluster.jobs()) >= most:
            raise rejected(
                "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
                'AssocMaxSubmitJobLimit',
            )

    def _check_names(self) -> None:
        """Refuse reservations, features, licences and nodes that this cluster does not have."""
        values, knob = self.values, self.cluster.knob
        if 'reservation' in values and values['reservation'] not in knob('reservations').split():
            raise rejected('Requested reservation is invalid')
        if 'constraint' in values and values['constraint'] not in knob('features').split():
            raise rejected('Invalid feature specification')
        licences = dict(item.split(':') for item in knob('licenses', 'foo:2').split())
        for item in filter(None, values.get('licenses', '').split(',')):
            name, _, count = item.partition(':')
            if int(licences.get(name, 0)) < int(count or 1):
                raise rejected('Invalid license specification')
        for option in ('nodelist', 'exclude'):
            if not set(self._hosts(option)) <= set(self.cluster.hosts()):
                self.cluster.burn_id()
                raise rejected('Invalid node name specified')

    def _hosts(self, option: str) -> list[str]:
        from fakes.hosts import expand

        return expand(self.values[option]) if self.values.get(option) else []

    def _layout(self, limit: int) -> dict[str, Any]:
        """Spread tasks over nodes; refuse what no node can do, and tell why a job that waits for ever does so."""
        values = self.values
        cpus = int(self.cluster.knob('cpus', '32'))
        hosts = len(self.cluster.hosts())
        per_task = int(values.get('cpus-per-task', '1'))
        per_node = int(values.get('ntasks-per-node', '0'))
        least, _ = parse_nodes(values['nodes']) if 'nodes' in values else (0, 0)
        if 'nodes' in values and not least:
            raise self._ghost('Node count specification invalid')
        tasks = int(values['ntasks']) if 'ntasks' in values else per_node * max(least, 1) or max(least, 1)
        if per_node * per_task > cpus:
            raise self._ghost(
                'Requested node configuration is not available', 'CPU count per node can not be satisfied'
            )
        fit = per_node or max(cpus // per_task, 1)
        nodes = max(least, -(-tasks // fit), len(self._hosts('nodelist')), 1)
        if 'ntasks' in values and nodes > tasks:
            err(f"sbatch: Warning: can't run {tasks} processes on {nodes} nodes, setting nnodes to {tasks}\n")
            nodes = tasks
        memory = self._memory(per_task)
        minutes = self._minutes()
        gpus = self._gpus(tasks, nodes)
        blocked = ''
        enforced = self.cluster.knob('enforce_limits') in ('ALL', 'ANY')
        if 'nodes' in values and least > hosts:
            blocked, refusal = 'PartitionNodeLimit', 'Node count specification invalid'
        elif per_task > cpus or nodes > hosts:
            blocked, refusal = 'PartitionConfig', 'More processors requested than permitted'
        elif minutes is None or not 0 < minutes <= limit:
            blocked = 'PartitionTimeLimit'
            refusal = 'Requested time limit is invalid (missing or exceeds some limit)'
        if blocked and enforced:
            raise rejected(refusal)
        return {
            'blocked': blocked, 'nodes': nodes, 'tasks': tasks, 'cpus_per_task': per_task, 'gpus': gpus,
            'memory': memory, 'tasks_per_node': spread(tasks, nodes, fit),
        }  # fmt: skip

    def _memory(self, cpus_per_task: int) -> int:
        """Return MiB per node or per cpu, whichever was asked for."""
        values = self.values
        per_node, per_cpu = (parse_memory(values.get(option, '0')) or 0 for option in ('mem', 'mem-per-cpu'))
        if (per_node or per_cpu * cpus_per_task) > int(self.cluster.knob('memory', '32000')):
            raise self._ghost(
                'Requested node configuration is not available', 'Memory specification can not be satisfied'
            )
        return per_node or per_cpu or DEFAULT_MEMORY_PER_CPU

    def _gpus(self, tasks: int, nodes: int) -> int:
        """Return the number of GPUs on each node."""
        values = self.values
        if 'gpus-per-task' in values and not ('ntasks' in values or 'gpus' in values):
            raise Refusal(
                'Failed to validate job spec. --gpus-per-task used without either --gpus or -n/--ntasks '
                'is not allowed.',
                'Invalid generic resource (gres) specification',
            )
        if not valid_gres(values.get('gres', '')):
            raise Refusal('Invalid generic resource (gres) specification')
        gpus = gres_count(values.get('gpus-per-node', '0')) or gres_count(values.get('gres', '0').rpartition('gpu:')[2])
        total = gres_count(values.get('gpus', '0')) or tasks * gres_count(values.get('gpus-per-task', '0'))
        gpus = gpus or -(-total // nodes)
        have = int(self.cluster.knob('gpus', '2'))
        if gpus > have and (total == 0 or total > have * len(self.cluster.hosts())):
            raise self._ghost('Requested node configuration is not available')
        return min(gpus, have)

    def _ghost(self, words: str, *before: str) -> Refusal:
        """Refuse as the scheduler does late: the submission leaves a FAILED job."""
        now = time.time()
        cluster = self.cluster
        cluster.insert(Job(
            state='done', kill='rejected', user=cluster.user, uid=cluster.uid, gid=cluster.gid, submitted=now,
            ended=now, queue=self._partition()[0], name=self.values.get('job-name', 'sbatch'),
        ))  # fmt: skip
        return rejected(words, *before)

    def _after(self) -> tuple[tuple[str, int], ...]:
        after = []
        for item in filter(None, self.values.get('dependency', '').split(',')):
            kind, *ids = item.split(':')
            if kind not in _DEPENDENCIES or not ids or not all(number.isdigit() for number in ids):
                self.cluster.burn_id()
                raise rejected('Job dependency problem')
            after += [(_DEPENDENCIES[kind], int(number)) for number in ids]
        return tuple(after)


_DEPENDENCIES = {'afterok': 'ok', 'afternotok': 'notok', 'afterany': 'any'}


def _describe_array(indices: list[int]) -> dict[str, int]:
    """Return what the tasks of an array are told about it."""
    if not indices:
        return {}
    step = indices[1] - indices[0] if len(indices) > 2 else 1
    return {'COUNT': len(indices), 'MIN': min(indices), 'MAX': max(indices), 'STEP': step}


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
