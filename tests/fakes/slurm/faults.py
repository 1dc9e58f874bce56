"""What the commands of Slurm print when its daemons are away (recording ``daemons_down``).

Kinds of ``down``: ``stopped`` (slurmctld; the default), ``frozen`` (slurmctld takes the connection and never answers),
``munge``, ``dbd`` (slurmdbd: sacct alone notices) and ``config`` (no slurm.conf). Real commands need 2 to 60 seconds to
find out; these know it at once.
"""

from __future__ import annotations

import os
import sys

from fakes.commandline import Exit
from fakes.core import Cluster

_WORDS = {
    'stopped': 'Unable to contact slurm controller (connect failure)',
    'frozen': 'Socket timed out on send/recv operation',
    'munge': 'Protocol authentication error',
}
_SCANCEL_CODES = {'stopped': 8, 'frozen': 140, 'munge': 239}

_MUNGE = (
    '{0}: error: If munged is up, restart with --num-threads=10\n'
    '{0}: error: Munge encode failed: Failed to access "{2}/munge/munge.socket": No such file or directory '
    '(Did you start munged?)\n'
    '{0}: error: slurm_send_node_msg: auth_g_create: {1} has authentication error\n'
)
_REQUESTS = {
    'sbatch': ['REQUEST_SUBMIT_BATCH_JOB'],
    'scancel': ['REQUEST_KILL_JOB'],
    'squeue': ['REQUEST_FED_INFO', 'REQUEST_JOB_USER_INFO'],
    'squeue -j': ['REQUEST_FED_INFO', 'REQUEST_JOB_INFO_SINGLE'],
    'scontrol': ['REQUEST_FED_INFO', 'REQUEST_JOB_INFO_SINGLE'],
    'sacct': ['REQUEST_PERSIST_INIT'],
    'srun': ['REQUEST_JOB_STEP_CREATE'],
}


def down(cluster: Cluster, kind: str) -> None:
    """Fail as the command does when a daemon is away, or return if it does not need that daemon."""
    command, kind = cluster.command, kind or 'stopped'
    if command == 'sacct' and kind in ('stopped', 'frozen'):
        return
    if kind == 'dbd':
        if command == 'sacct':
            _database_error('Connection refused', 'slurm_persist_conn_open_without_init: failed to open persistent '
                            'connection to host:127.0.0.1:16801: Connection refused')  # fmt: skip
        return
    if kind == 'config':
        config = os.environ.get('SLURM_CONF', f'{cluster.dir}/slurm.conf')
        raise Exit(1, f'{command}: error: s_p_parse_file: cannot stat file {config}: No such file or '
                   f'directory, retrying in 1sec up to 60sec\n{command}: error: ClusterName needs to be specified\n'
                   f'{command}: fatal: Unable to process configuration file\n')  # fmt: skip
    if command == 'scontrol' and sys.argv[1:] == ['ping']:
        raise Exit(1, out='Slurmctld(primary) at login01 is DOWN\n')
    if command == 'scontrol' and sys.argv[1:2] == ['show'] and 'job' not in sys.argv:
        return  # expanding host names needs no daemon
    if command == 'sbatch' and kind == 'frozen':
        cluster.loses_reply = True  # the job is made all the same
        return
    noise = ''
    if kind == 'munge':
        requests = _REQUESTS['squeue -j' if command == 'squeue' and '-j' in sys.argv else command]
        noise = ''.join(_MUNGE.format(command, request, cluster.dir) for request in requests)
    if command == 'sacct':
        _database_error(_WORDS[kind], noise=noise)
    if command == 'scancel':
        ids = [word for word in sys.argv[1:] if word[:1].isdigit()]
        raise Exit(_SCANCEL_CODES[kind], ''.join(
            f'{noise}scancel: error: Kill job error on job id {number}: {_WORDS[kind]}\n' for number in ids
        ))  # fmt: skip
    prefix = {
        'sbatch': 'sbatch: error: Batch job submission failed',
        'srun': 'srun: error: Unable to create step for job',
    }.get(command, 'slurm_load_jobs error')
    raise Exit(1, f'{noise}{prefix}: {_WORDS[kind]}\n')


def _database_error(words: str, detail: str = '', noise: str = '') -> None:
    lines = [detail] if detail else []
    if noise:
        lines.append('slurm_persist_conn_open: failed to send persistent connection init message to 127.0.0.1:16801')
    lines += [f'Sending PersistInit msg: {words}', f'Problem talking to the database: {words}']
    raise Exit(1, noise + ''.join(f'sacct: error: {line}\n' for line in lines))


def lost_reply(cluster: Cluster) -> None:
    """Fail as sbatch does when the controller answers too late (recording ``sbatch_lost_reply``)."""
    raise Exit(1, f'sbatch: error: Batch job submission failed: {_WORDS["frozen"]}\n')
