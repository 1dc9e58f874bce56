"""What slurmd does with a batch script: its environment, directory and files (recordings ``job_environment``,
``bad_directories``)."""

from __future__ import annotations

import os

from fakes.core import SIGKILL, Cluster, Job
from fakes.runner import Launch, LaunchError
from fakes.slurm import jobs

LOGIN_PATH = '/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games'


def launch(cluster: Cluster, job: Job, environment: dict[str, str]) -> Launch:
    node = job.nodes[0]
    error = f'slurmstepd-{node}: error:'
    directory, complaint = job.cwd, ''
    try:
        os.chdir(directory)
    except OSError as ex:  # slurmd does not mind
        complaint = f"{error} couldn't chdir to `{directory}': {ex.strerror}: going to /tmp instead\n" * 2
        directory = '/tmp'
    files = _open_files(job)
    os.write(files[2], os.fsencode(complaint))
    export = job.extra['options'].get('export', 'ALL')
    if export != 'ALL':  # what every srun of the job will export, too
        environment['SLURM_EXPORT_ENV'] = export
    if 'ALL' not in export.split(','):
        environment = {**login_environment(cluster, job), **environment, 'SLURM_GET_USER_ENV': '1'}
    environment.update(batch_environment(cluster, job))
    argv = [f'{cluster.spool(job)}/{job.script}', *job.argv]
    os.chdir('/')
    return Launch(
        argv, environment, directory, files, lambda ex: (ex.errno or 1, f'{error} execve(): {argv[0]}: {ex.strerror}\n')
    )


def ended(cluster: Cluster, job: Job, launch: Launch) -> dict[str, object]:
    """Record the steps whose srun was killed with the script."""
    steps = [
        step if 'status' in step else {**step, 'status': (job.wait_status or 0) & 0x7F or SIGKILL} for step in job.steps
    ]
    return {'steps': tuple(steps)}


def _open_files(job: Job) -> tuple[int, int, int]:
    flags = (
        os.O_WRONLY | os.O_CREAT | (os.O_APPEND if job.extra['options'].get('open-mode') == 'append' else os.O_TRUNC)
    )
    try:
        stdin = os.open(fill_in(job.stdin, job), os.O_RDONLY)
        stdout = os.open(fill_in(job.stdout, job), flags, 0o666 & ~job.umask)
        stderr = os.open(fill_in(job.stderr, job), flags, 0o666 & ~job.umask) if job.stderr else os.dup(stdout)
    except OSError as ex:
        raise LaunchError(str(ex)) from ex
    return stdin, stdout, stderr


def fill_in(pattern: str, job: Job) -> str:
    """Replace ``%j`` and the like in the name of a file, and make it absolute."""
    if pattern.startswith('\\'):
        text = pattern[1:]
    else:
        text, rest = '', pattern
        while rest:
            plain, percent, rest = rest.partition('%')
            text += plain
            digits = rest[: len(rest) - len(rest.lstrip('0123456789'))]
            letter, rest = (rest[len(digits) :][:1], rest[len(digits) + 1 :]) if percent else ('', '')
            values = {
                'j': str(job.id), 'J': str(job.id), 'A': str(job.array_id or job.id),
                'a': str(job.task if job.task >= 0 else 2**32 - 2),
                'x': job.name, 'u': job.user, 'N': ''.join(job.nodes[:1]), 'n': '0', 't': '0', 's': 'batch', '%': '%',
            }  # fmt: skip
            text += values.get(letter, percent + digits + letter).rjust(int(digits or 0), '0')
    return os.path.join(job.cwd, text)


def login_environment(cluster: Cluster, job: Job) -> dict[str, str]:
    """Return what a login shell of the user would have; the stand-in's commands are on every node's PATH."""
    import pwd

    try:
        home, shell = pwd.getpwnam(job.user)[5:7]
    except KeyError:  # pretended
        home, shell = os.environ.get('HOME', '/'), os.environ.get('SHELL', '/bin/sh')
    pretended = {key: value for key, value in os.environ.items() if key.startswith('PSIJ_FAKE_')}
    return {
        'HOME': home, 'SHELL': shell, 'USER': job.user, 'LOGNAME': job.user, 'MAIL': f'/var/mail/{job.user}',
        'PATH': f'{cluster.bin}:{LOGIN_PATH}', **pretended,
    }  # fmt: skip


def batch_environment(cluster: Cluster, job: Job) -> dict[str, str]:
    """Return the variables that Slurm sets for a batch script, those that depend on options included."""
    extra, options = job.extra, job.extra['options']
    nodes = len(job.nodes)
    tasks_per_node = extra['tasks_per_node']
    cpus = [count * extra['cpus_per_task'] for count in tasks_per_node]
    node_list = jobs.node_list(job)
    variables = {
        'ENVIRONMENT': 'BATCH',
        'HOSTNAME': job.nodes[0],
        'TMPDIR': '/tmp',
        'SLURMD_NODENAME': job.nodes[0],
        'SLURM_CLUSTER_NAME': 'test',
        'SLURM_CONF': f'{cluster.dir}/slurm.conf',
        'SLURM_CPUS_ON_NODE': str(cpus[0]),
        'SLURM_GTIDS': '0',
        'SLURM_JOBID': str(job.id),
        'SLURM_JOB_ACCOUNT': job.account,
        'SLURM_JOB_CPUS_PER_NODE': repeated(cpus),
        'SLURM_JOB_GID': str(job.gid),
        'SLURM_JOB_ID': str(job.id),
        'SLURM_JOB_NAME': job.name,
        'SLURM_JOB_NODELIST': node_list,
        'SLURM_JOB_NUM_NODES': str(nodes),
        'SLURM_JOB_PARTITION': job.queue,
        'SLURM_JOB_QOS': 'normal',
        'SLURM_JOB_UID': str(job.uid),
        'SLURM_JOB_USER': job.user,
        'SLURM_LOCALID': '0',
        'SLURM_NNODES': str(nodes),
        'SLURM_NODEID': '0',
        'SLURM_NODELIST': node_list,
        'SLURM_NODE_ALIASES': '(null)',
        'SLURM_PRIO_PROCESS': '0',
        'SLURM_PROCID': '0',
        'SLURM_SUBMIT_DIR': extra['submit_dir'],
        'SLURM_SUBMIT_HOST': extra['submit_host'],
        'SLURM_TASKS_PER_NODE': repeated(tasks_per_node),
        'SLURM_TASK_PID': '0',
        'SLURM_TOPOLOGY_ADDR': job.nodes[0],
        'SLURM_TOPOLOGY_ADDR_PATTERN': 'node',
        'SLURM_WORKING_CLUSTER': 'test:127.0.0.1:16800:9728:109',
    }
    if 'ntasks' in options or 'ntasks-per-node' in options:
        variables.update(SLURM_NTASKS=str(extra['tasks']), SLURM_NPROCS=str(extra['tasks']))
    if 'ntasks-per-node' in options:
        variables['SLURM_NTASKS_PER_NODE'] = options['ntasks-per-node']
    if 'cpus-per-task' in options:
        variables['SLURM_CPUS_PER_TASK'] = options['cpus-per-task']
    if 'mem' in options:
        variables['SLURM_MEM_PER_NODE'] = str(extra['memory'])
    else:
        variables['SLURM_MEM_PER_CPU'] = str(extra['memory'])
    if extra['gpus']:
        devices = ','.join(str(index) for index in range(extra['gpus']))
        variables.update(CUDA_VISIBLE_DEVICES=devices, GPU_DEVICE_ORDINAL=devices, SLURM_JOB_GPUS=devices,
                         SLURM_GPUS_ON_NODE=str(extra['gpus']))  # fmt: skip
    if 'gpus-per-node' in options:
        variables['SLURM_GPUS_PER_NODE'] = options['gpus-per-node']
    if job.task >= 0:
        variables.update(SLURM_ARRAY_JOB_ID=str(job.array_id), SLURM_ARRAY_TASK_ID=str(job.task))
        variables.update({f'SLURM_ARRAY_TASK_{name}': str(value) for name, value in extra['array'].items()})
    if job.restarts:
        variables['SLURM_RESTART_COUNT'] = str(job.restarts)
    return variables


def repeated(counts: list[int]) -> str:
    """Write counts per node.

    >>> repeated([2, 2, 1])
    '2(x2),1'
    """
    runs: list[list[int]] = []
    for count in counts:
        if runs and runs[-1][0] == count:
            runs[-1][1] += 1
        else:
            runs.append([count, 1])
    return ','.join(f'{count}(x{times})' if times > 1 else str(count) for count, times in runs)
