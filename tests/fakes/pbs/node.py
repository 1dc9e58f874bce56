"""What the execution daemon of OpenPBS does with a script: a login shell runs it, in the home directory of the user
(recordings ``job_environment``, ``job_nodefile``). Torque does nearly the same."""

from __future__ import annotations

import os

from fakes.core import Cluster, Job
from fakes.pbs.jobs import SERVER, placement
from fakes.runner import Launch
from fakes.slurm.node import login_environment

WAITS_FOR_ALL = True  # a job that is being killed ends when all its processes have ended


def launch(cluster: Cluster, job: Job, environment: dict[str, str]) -> Launch:
    spool = cluster.spool(job)
    first = job.extra['chunks'][0][1]
    node_file = [host for host, items in placement(job) for _ in range(int(items.get('mpiprocs', '1')))]
    threads = first.get('ompthreads') or (first['mpiprocs'] if first.get('mpiprocs') == '0' else first['ncpus'])
    return launch_with(
        cluster, job, SERVER, node_file,
        {'NCPUS': threads, 'OMP_NUM_THREADS': threads, 'PBS_JOBDIR': job.extra['variables']['PBS_O_HOME'],
         'TMPDIR': f'{spool}/tmp', 'TZ': 'UTC'},
    )  # fmt: skip


def launch_with(cluster: Cluster, job: Job, server: str, node_file: list[str], more: dict[str, str]) -> Launch:
    """Return what runs a job with some variables, and a node file with these lines."""
    spool = cluster.spool(job)
    os.makedirs(f'{spool}/tmp', exist_ok=True)
    with open(f'{spool}/nodes', 'w') as file:
        file.writelines(f'{host}\n' for host in node_file)
    home = job.extra['variables']['PBS_O_HOME']
    environment = {
        **job.extra['variables'], **login_environment(cluster, job), 'HOME': home, 'ENVIRONMENT': 'BATCH',
        'PBS_ENVIRONMENT': 'PBS_BATCH', 'PBS_JOBCOOKIE': '0', 'PBS_JOBID': f'{job.id}.{server}',
        'PBS_JOBNAME': job.name, 'PBS_MOMPORT': '15003', 'PBS_NODEFILE': f'{spool}/nodes', 'PBS_NODENUM': '0',
        'PBS_QUEUE': job.queue, 'PBS_TASKNUM': '1', **more,
    }  # fmt: skip
    files = (os.open('/dev/null', os.O_RDONLY), _spooled(spool, 'OU'), _spooled(spool, 'ER'))
    # the shell stays above the script, as the one of a login does
    argv = ['/bin/bash', '--noprofile', '--norc', '-c', '"$0"; exit $?', f'{spool}/{job.script}']
    return Launch(argv, environment, home, files, lambda ex: (254, f'{ex}\n'))


def _spooled(spool: str, name: str) -> int:
    return os.open(f'{spool}/{name}', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def ended(cluster: Cluster, job: Job, launch: Launch) -> dict[str, object]:
    """Bring the output to where it is wanted; a directory that is missing does the job no harm."""
    spool = cluster.spool(job)
    stageout = 1
    if job.kill == 'timeout':
        with open(f'{spool}/ER', 'a') as file:
            file.write(f'=>> PBS: job killed: walltime {int(job.walltime) + 1} exceeded limit {int(job.walltime)}\n')
    for name, path, letter in (('OU', job.stdout, 'o'), ('ER', job.stderr, 'e')):
        try:
            with (
                open(f'{spool}/{name}', 'rb') as source,
                open(os.path.join(job.cwd, path or f'{job.name}.{letter}{job.id}'), 'wb') as target,
            ):
                target.write(source.read())
        except OSError:
            stageout = 0
    return {'extra': {**job.extra, 'stageout': stageout}}
