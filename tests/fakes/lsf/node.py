"""What sbatchd does with a job: its environment, directory and files (recordings ``job_env``, ``directives_shell``)."""

from __future__ import annotations

import os

from fakes.core import SIGKILL, SIGTERM, Cluster, Job
from fakes.lsf import jobs
from fakes.runner import Launch

SIGINT, SIGUSR2 = 2, 12


def launch(cluster: Cluster, job: Job, environment: dict[str, str]) -> Launch:
    script = f'{cluster.spool(job)}/{job.script}'
    with open(script, 'rb') as file:
        has_interpreter = file.read(2) == b'#!'
    environment = {**environment, **_variables(cluster, job)}
    files = (
        os.open('/dev/null', os.O_RDONLY),
        _open(job.stdout, job),
        _open(job.stderr or job.stdout, job),
    )
    argv = [script] if has_interpreter else ['/bin/sh', script]
    return Launch(argv, environment, job.cwd, files, lambda ex: (126, f'{ex}\n'))


def kill_signals(job: Job) -> tuple[int, ...]:
    ways = {'timeout': (SIGUSR2,), 'out_of_memory': (SIGKILL,)}  # what follows USR2 comes ten minutes later
    return ways.get(job.kill, (SIGINT, SIGTERM, SIGKILL))


def _open(pattern: str, job: Job) -> int:
    """Open an output file; LSF mails what a job prints without one, and what it cannot write."""
    try:
        return os.open(
            os.path.join(job.cwd, pattern.replace('%J', str(jobs.number(job))) or '/dev/null'),
            os.O_WRONLY | os.O_CREAT | os.O_APPEND,
            0o666 & ~job.umask,
        )
    except OSError:
        return os.open('/dev/null', os.O_WRONLY)


def slots(cluster: Cluster, job: Job) -> list[str]:
    """Return the host of each slot."""
    count, per_host = job.extra['slots'], job.extra['per_host']
    return [host for host in job.nodes for _ in range(per_host)][:count]


def _variables(cluster: Cluster, job: Job) -> dict[str, str]:
    hosts = slots(cluster, job)
    counts = ''.join(f'{host} {hosts.count(host)} ' for host in dict.fromkeys(hosts))
    variables = {
        'HOSTNAME': hosts[0],
        'LSB_EXIT_PRE_ABORT': '99',
        'LSB_JOBEXIT_STAT': '0',
        'LSB_HOSTS': ' '.join(hosts),
        'LSB_JOBFILENAME': f'{cluster.spool(job)}/{job.script}',
        'LSB_JOBID': str(jobs.number(job)),
        'LSB_JOBINDEX': str(max(job.task, 0)),
        'LSB_JOBNAME': job.name,
        'LSB_MCPU_HOSTS': counts,
        'LSB_OUTPUTFILE': job.stdout,
        'LSB_QUEUE': job.queue,
        'LSB_SUB_HOST': 'login01',
        'LSB_TRAPSIGS': 'trap # 15 10 12 2 1',
        'LSF_BINDIR': cluster.bin,
        'LS_EXEC_T': 'START',
        'LS_SUBCWD': job.cwd,
        'PWD': job.cwd,
    }
    if jobs.speaks_lsf(cluster):
        path = f'{cluster.spool(job)}/hosts'
        with open(path, 'w') as file:
            file.write(''.join(f'{host}\n' for host in hosts))
        variables.update(LSB_DJOB_HOSTFILE=path, LSB_DJOB_NUMPROC=str(len(hosts)))
    return variables
