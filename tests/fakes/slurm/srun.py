"""``srun`` of Slurm 22.05 in a job (recording ``srun_exit_codes``); all its tasks run on this machine."""

from __future__ import annotations

import os
import select
import time

from fakes.commandline import Exit, err, getopt, options, out, unsupported
from fakes.core import SIGKILL, SIGTERM, Cluster, Job
from fakes.hosts import compress, ranges
from fakes.slurm.node import repeated

OPTIONS = options(
    'account=A bcast? chdir=D clusters=M comment= cpu-bind= cpus-per-task=c distribution=m error=e exact, '
    'exclusive? export= gpus=G gpus-per-node= gpus-per-task= gres= help,h hint= immediate?I input=i job-name=J '
    'jobid= kill-on-bad-exit?K label,l mem= mem-per-cpu= mpi= multi-prog, nodelist=w nodes=N ntasks=n '
    'ntasks-per-node= output=o overcommit,O overlap, oversubscribe,s partition=p propagate? quiet,Q '
    'quit-on-interrupt, relative=r threads-per-core= time=t unbuffered,u verbose,v version,V wait=W'
)
COVERED = {
    'chdir', 'cpu-bind', 'cpus-per-task', 'distribution', 'exact', 'exclusive', 'export', 'gpus', 'gpus-per-node',
    'gpus-per-task', 'gres', 'hint', 'input', 'job-name', 'kill-on-bad-exit', 'label', 'mem', 'mem-per-cpu',
    'mpi', 'nodes', 'ntasks', 'ntasks-per-node', 'overcommit', 'overlap', 'oversubscribe', 'partition',
    'propagate', 'quiet', 'time', 'unbuffered', 'version',
}  # fmt: skip
OUT_OF_MEMORY = 125 | 0x80
SIGNALS = {
    1: 'Hangup', 2: 'Interrupt', 3: 'Quit', 4: 'Illegal instruction', 6: 'Aborted', 7: 'Bus error',
    8: 'Floating point exception', 9: 'Killed', 10: 'User defined signal 1', 11: 'Segmentation fault',
    12: 'User defined signal 2', 13: 'Broken pipe', 14: 'Alarm clock', 15: 'Terminated',
}  # fmt: skip
MPI = ('pmix', 'none', 'cray_shasta', 'pmi2')


class Task:
    """A process of the step, with the ends of its pipes that are ours (-1: none)."""

    def __init__(self, rank: int, node: str, node_rank: int, local_rank: int) -> None:
        self.rank, self.node, self.node_rank, self.local_rank = rank, node, node_rank, local_rank
        self.pid = 0
        self.stdin = -1
        self.pending = b''
        self.outputs: dict[int, tuple[int, bytes]] = {}  # our end: where it goes, the beginning of a line
        self.status: int | None = None


def main(cluster: Cluster, argv: list[str]) -> int:
    given, command = getopt('srun', argv, OPTIONS, permute=False)
    values = dict(given)
    for name in values:
        if name not in COVERED:
            raise unsupported(cluster, f'--{name}')
    if 'version' in values:
        out('slurm-wlm 22.05.8\n')
        return 0
    _check_mpi(values.get('mpi', 'none'))
    if not command:
        raise Exit(1, 'srun: fatal: No command given to execute.\n')
    job = _job(cluster, values)
    tasks = _layout(values, job)
    number = _begin_step(cluster, job)
    step = _Step(cluster, values, job, f'{job.id}.{number}', tasks)
    step.start(command)
    _record(cluster, job, number, pids=[task.pid for task in tasks])
    step.run()
    _record(cluster, job, number, status=max((task.status or 0 for task in tasks), key=_exit_code))
    return step.report()


def _check_mpi(name: str) -> None:
    if name == 'list':
        text = ''.join(f'\t{plugin}\n' for plugin in MPI)
        raise Exit(0, out=f'MPI plugin types are...\n{text}specific pmix plugin versions available: pmix_v4\n')
    if name not in MPI:
        raise Exit(1, ''.join(f'srun: error: {line}\n' for line in (
            f"Couldn't find the specified plugin name for mpi/{name} looking at all files",
            f'cannot find mpi plugin for mpi/{name}',
            f'MPI: Cannot create context for mpi/{name}',
            'MPI: Unable to load any plugin',
            f"Invalid MPI type '{name}', --mpi=list for acceptable types",
        )))  # fmt: skip


def _job(cluster: Cluster, values: dict[str, str]) -> Job:
    """Return the job in which we are; outside of one, an allocation of our own."""
    job = cluster.load(int(os.environ.get('SLURM_JOB_ID', '0')))
    if job is not None:
        return job
    partition = values.get('partition', 'debug')
    if partition not in [item.partition(':')[0] for item in cluster.knob('partitions', 'debug:60 long:10080').split()]:
        raise Exit(
            1,
            f'srun: error: invalid partition specified: {partition}\n'
            'srun: error: Unable to allocate resources: Invalid partition name specified\n',
        )
    now = time.time()
    tasks = int(values.get('ntasks', '1'))
    nodes = int(values.get('nodes', '1'))
    return cluster.insert(Job(
        user=cluster.user, uid=cluster.uid, gid=cluster.gid, queue=partition, state='done', wait_status=0,
        submitted=now, started=now, ended=now, nodes=tuple(cluster.hosts()[:nodes]),
        extra={'tasks': tasks, 'cpus_per_task': 1},
    ))  # fmt: skip


def _layout(values: dict[str, str], job: Job) -> list[Task]:
    """Spread the tasks over the nodes of the job, in blocks."""
    nodes = job.nodes[: int(values['nodes'].partition('-')[0])] if 'nodes' in values else job.nodes
    tasks = int(
        values.get('ntasks')
        or int(values.get('ntasks-per-node', '0')) * len(nodes)
        or os.environ.get('SLURM_NTASKS')
        or len(nodes)
    )
    cpus = job.extra.get('tasks', 1) * job.extra.get('cpus_per_task', 1)
    if tasks * int(values.get('cpus-per-task', '1')) > cpus and 'overcommit' not in values:
        raise Exit(
            1, f'srun: error: Unable to create step for job {job.id}: More processors requested than permitted\n'
        )
    nodes = nodes[:tasks]
    per_node = [tasks // len(nodes) + (index < tasks % len(nodes)) for index in range(len(nodes))]
    given = job.extra.get('tasks_per_node')
    if given and len(given) == len(nodes) and sum(given) == tasks:
        per_node = given
    return [
        Task(sum(per_node[:index]) + local, node, index, local)
        for index, node in enumerate(nodes) for local in range(per_node[index])
    ]  # fmt: skip


def _begin_step(cluster: Cluster, job: Job) -> int:
    with cluster.lock:
        current = cluster.load(job.id) or job
        current.steps = (*current.steps, {})
        cluster.save(current)
    return len(current.steps) - 1


def _record(cluster: Cluster, job: Job, number: int, **fields: object) -> None:
    with cluster.lock:
        current = cluster.load(job.id) or job
        current.steps = tuple(
            {**step, **fields} if index == number else step for index, step in enumerate(current.steps)
        )
        cluster.save(current)


class _Step:
    """The processes of one srun, and what flows to and from them."""

    def __init__(self, cluster: Cluster, values: dict[str, str], job: Job, step_id: str, tasks: list[Task]) -> None:
        self.cluster, self.values, self.job, self.id, self.tasks = cluster, values, job, step_id, tasks
        self.input: int | None = 0  # None: at its end

    # --- starting ------------------------------------------------------------------------------------------------

    def start(self, command: list[str]) -> None:
        label, source = 'label' in self.values, self.values.get('input', 'all')
        if source not in ('all', 'none') and not source.isdigit():
            self.input = os.open(source, os.O_RDONLY)
        environment = self._environment()
        for task in self.tasks:
            child_input, task.stdin = os.pipe()
            os.set_blocking(task.stdin, False)
            streams = [os.pipe() for _ in (1, 2)] if label else []
            task.pid = os.fork()
            if task.pid == 0:
                os.dup2(child_input, 0)
                for fd, (_, end) in zip((1, 2), streams):
                    os.dup2(end, fd)
                self._become(command, task, environment)
            os.close(child_input)
            for fd, (end, other) in zip((1, 2), streams):
                os.close(other)
                task.outputs[end] = (fd, b'')
            if source == 'none' or (source.isdigit() and int(source) != task.rank):
                self._close_input(task)

    def _environment(self) -> dict[str, str]:
        """Return the environment of the script, or nothing of it but Slurm's own variables."""
        export = self.values.get('export') or os.environ.get('SLURM_EXPORT_ENV', 'ALL')
        names = export.split(',')
        environment = {
            key: value for key, value in os.environ.items()
            if 'ALL' in names or key in names or key.startswith(('SLURM', 'PSIJ_FAKE_'))
        }  # fmt: skip
        environment.update({name.partition('=')[0]: name.partition('=')[2] for name in names if '=' in name})
        return environment

    def _become(self, command: list[str], task: Task, environment: dict[str, str]) -> None:
        nodes = sorted({(other.node_rank, other.node) for other in self.tasks})
        counts = [sum(other.node_rank == rank for other in self.tasks) for rank, _ in nodes]
        total = str(len(self.tasks))
        environment.update(
            SLURMD_NODENAME=task.node, SLURM_PROCID=str(task.rank), SLURM_LOCALID=str(task.local_rank),
            SLURM_NODEID=str(task.node_rank), SLURM_NTASKS=total, SLURM_NPROCS=total, SLURM_NNODES=str(len(nodes)),
            SLURM_GTIDS=','.join(str(other.rank) for other in self.tasks if other.node == task.node),
            SLURM_TASKS_PER_NODE=repeated(counts), SLURM_STEP_ID=self.id.partition('.')[2],
            SLURM_STEPID=self.id.partition('.')[2], SLURM_STEP_NODELIST=compress([node for _, node in nodes]),
            SLURM_STEP_NUM_NODES=str(len(nodes)), SLURM_STEP_NUM_TASKS=total,
            SLURM_STEP_TASKS_PER_NODE=repeated(counts), SLURM_JOB_ID=str(self.job.id),
            SLURM_JOBID=str(self.job.id), SLURM_TASK_PID=str(os.getpid()),
            SLURM_LAUNCH_NODE_IPADDR='127.0.0.1', SLURM_DISTRIBUTION='cyclic', SLURM_UMASK='0022',
        )  # fmt: skip
        error = f'slurmstepd-{task.node}: error:'
        try:
            if 'chdir' in self.values:
                self._change_directory(error)
            os.execve(_which(command[0], environment), command, environment)
        except OSError as ex:
            err(f'{error} execve(): {command[0]}: {ex.strerror}\n')
            os._exit(ex.errno or 1)
        except BaseException:  # noqa: BLE001 - nothing may return from here
            os._exit(70)

    def _change_directory(self, error: str) -> None:
        directory = self.values['chdir']
        try:
            os.chdir(directory)
        except OSError as ex:
            err(f"{error} couldn't chdir to `{directory}': {ex.strerror}: going to /tmp instead\n" * 2)
            os.chdir('/tmp')

    # --- running -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Hand input and output on until the last task has ended."""
        ends = {_pidfd(task.pid): task for task in self.tasks}
        while any(task.status is None for task in self.tasks):
            full = any(len(task.pending) > 1 << 16 for task in self.tasks)
            alive = [fd for fd, task in ends.items() if fd >= 0 and task.status is None]
            readers = [fd for task in self.tasks for fd in task.outputs] + alive
            if self.input is not None and not full and any(task.stdin >= 0 for task in self.tasks):
                readers.append(self.input)
            writers = [task.stdin for task in self.tasks if task.pending and task.stdin >= 0]
            readable, _, _ = select.select(readers, writers, [], None if alive else 0.01)
            if self.input in readable:
                self._read_input()
            for task in self.tasks:
                self._feed(task)
                for fd in [fd for fd in task.outputs if fd in readable]:
                    self._pass_on(task, fd)
                self._reap(task)
        for task in self.tasks:
            while task.outputs:
                self._pass_on(task, next(iter(task.outputs)))

    def _read_input(self) -> None:
        data = os.read(self.input or 0, 1 << 16)
        if not data:
            self.input = None
        for task in self.tasks:
            task.pending += data if task.stdin >= 0 else b''

    def _feed(self, task: Task) -> None:
        try:
            while task.pending and task.stdin >= 0:
                task.pending = task.pending[os.write(task.stdin, task.pending) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._close_input(task)
        if self.input is None and not task.pending:
            self._close_input(task)

    def _close_input(self, task: Task) -> None:
        if task.stdin >= 0:
            os.close(task.stdin)
        task.stdin, task.pending = -1, b''

    def _pass_on(self, task: Task, fd: int) -> None:
        """Write whole lines with the number of the task before them."""
        target, rest = task.outputs[fd]
        data = os.read(fd, 1 << 16)
        *lines, rest = (rest + data).split(b'\n')
        if not data:
            os.close(fd)
            del task.outputs[fd]
            lines += [rest] if rest else []
        else:
            task.outputs[fd] = (target, rest)
        os.write(target, b''.join(b'%d: %s\n' % (task.rank, line) for line in lines))

    def _reap(self, task: Task) -> None:
        if task.status is None:
            pid, status = os.waitpid(task.pid, os.WNOHANG)
            if pid:
                task.status = OUT_OF_MEMORY if status == SIGKILL and self._out_of_memory() else status
                self._close_input(task)
                if status and 'kill-on-bad-exit' in self.values:
                    self._terminate()

    def _out_of_memory(self) -> bool:
        """Was it for its memory that a task was killed? Then that is a matter of the step, and no longer of the job."""
        with self.cluster.lock:
            job = self.cluster.load(self.job.id) or self.job
            killed, job.out_of_memory = job.out_of_memory, False
            if killed:
                self.cluster.save(job)
        return killed

    def _terminate(self) -> None:
        for task in self.tasks:
            if task.status is None:
                os.kill(task.pid, SIGTERM)

    # --- ending --------------------------------------------------------------------------------------------------

    def report(self) -> int:
        """Say which tasks ended badly, and return the exit code of srun: the largest one."""
        groups: dict[tuple[str, int], list[int]] = {}
        for task in self.tasks:
            if task.status:
                groups.setdefault((task.node, task.status), []).append(task.rank)
        for (node, status), numbers in groups.items():
            tasks = f'task {numbers[0]}' if len(numbers) == 1 else f'tasks {ranges(numbers)}'
            err(f'srun: error: {node}: {tasks}: {_how_it_ended(status)}\n')
            if status == OUT_OF_MEMORY:
                err(
                    f'slurmstepd-{node}: error: Detected 1 oom-kill event(s) in StepId={self.id}. Some of your '
                    'processes may have been killed by the cgroup out-of-memory handler.\n'
                )
        if any(status in (SIGKILL, SIGTERM) for _, status in groups):
            err(f'srun: Force Terminated StepId={self.id}\n')
        return max(_exit_code(task.status or 0) for task in self.tasks)


def _how_it_ended(status: int) -> str:
    if status == OUT_OF_MEMORY:
        return 'Out Of Memory'
    if status & 0x7F:
        return SIGNALS.get(status & 0x7F, f'Signal {status & 0x7F}')
    return f'Exited with exit code {status >> 8}'


def _exit_code(status: int) -> int:
    if status == OUT_OF_MEMORY:
        return 1
    return 128 + (status & 0x7F) if status & 0x7F else status >> 8


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


def _which(name: str, environment: dict[str, str]) -> str:
    """Find a program; without a PATH there is none."""
    if '/' in name:
        return name
    for directory in filter(None, environment.get('PATH', '').split(':')):
        if os.access(f'{directory}/{name}', os.X_OK):
            return f'{directory}/{name}'
    return name
