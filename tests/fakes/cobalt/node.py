"""What Cobalt does on the first node of a job: it runs the script itself, not a copy.

The real one does so below a login shell. Here the profiles of the machine are not read: they are not part of the test.
"""

from __future__ import annotations

import os
import sys
import time

from fakes.cobalt import log
from fakes.cobalt.qsub import expand
from fakes.core import SIGKILL, SIGTERM, Cluster, Job
from fakes.runner import Launch

LOGIN_PATH = '/usr/local/bin:/usr/bin:/bin'


def launch(cluster: Cluster, job: Job, environment: dict[str, str]) -> Launch:
    while not job.extra['log']:  # qsub has not said yet where it is
        time.sleep(0.001)
        job = cluster.load(job.id) or job
    variables = {'PATH': LOGIN_PATH, **environment, **_variables(cluster, job)}
    log.add(job, '', f'Command: {job.extra["command"]!r}', '', 'Environment:')
    log.add(job, *(f'{name}={value}' for name, value in variables.items()), '')
    log.add(job, *(f'Info: {stream} {path}' for stream, path in (
        ('stdin received from', job.stdin), ('stdout sent to', _path(job.stdout, job)),
        ('stderr sent to', _path(job.stderr, job)))), '')  # fmt: skip
    files = (_open(job.stdin, os.O_RDONLY), _output(job.stdout, job), _output(job.stderr, job))
    argv = [variables['SHELL'], '-c', 'exec "$0" "$@"', job.extra['command'], *job.argv]
    return Launch(argv, variables, job.cwd, files, lambda ex: (127, f'[Errno {ex.errno}] {ex.strerror}\n'))


def kill_signals(job: Job) -> tuple[int, ...]:
    """Log why the job is ended, unless qdel has done that, and return what it gets."""
    if job.kill == 'timeout':
        log.add(job, 'Info: maximum execution time exceeded; initiating job terminiation')
    return SIGTERM, SIGKILL


def ended(cluster: Cluster, job: Job, launch: Launch) -> dict[str, object]:
    """Log the exit code, which cqm does for those jobs only that it has not ended itself."""
    status = job.wait_status or 0
    code = 128 + (status & 0x7F) if status & 0x7F else status >> 8
    if job.kill not in ('cancelled', 'timeout'):
        log.add(job, f'Info: task completed normally with an exit code of {code}; initiating job cleanup and removal')
    return {}


def _variables(cluster: Cluster, job: Job) -> dict[str, str]:
    node_file = f'{cluster.spool(job)}/cobalt.{job.id}'
    with open(node_file, 'w') as file:
        file.writelines(f'{node}\n' for node in job.nodes)
    scale = float(cluster.live_knob('time_scale', '1'))
    return {
        'COBALT_CONFIG_FILES': '/usr/local/cobalt/etc/cobalt.conf',
        'COBALT_JOBID': str(job.id),
        'COBALT_PARTNAME': job.nodes[0],
        'COBALT_PARTSIZE': str(len(job.nodes)),
        'COBALT_JOBSIZE': str(job.extra['processes']),
        'COBALT_STARTTIME': str(int(job.started)),
        'COBALT_ENDTIME': str(int(job.started + job.walltime * scale)),
        'COBALT_NODEFILE': node_file,
        'HOME': os.environ.get('HOME', '/'),
        'LOGNAME': job.user,
        'SHELL': '/bin/bash',
        'USER': job.user,
    }


def _path(pattern: str, job: Job) -> str:
    return os.path.join(job.cwd, expand(pattern, job))


def _output(pattern: str, job: Job) -> int:
    try:
        return _open(_path(pattern, job), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError as ex:
        print(ex, file=sys.stderr)
        return _open('/dev/null', os.O_WRONLY)


def _open(path: str, flags: int) -> int:
    return os.open(path, flags, 0o644)
