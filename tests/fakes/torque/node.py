"""What the execution daemon of Torque does with a script (recordings ``job_environment``, ``job_nodefile``)."""

from __future__ import annotations

from fakes.core import Cluster, Job
from fakes.pbs.node import WAITS_FOR_ALL, ended, launch_with
from fakes.runner import Launch
from fakes.torque.jobs import SERVER, slots

__all__ = ['WAITS_FOR_ALL', 'ended', 'launch']


def launch(cluster: Cluster, job: Job, environment: dict[str, str]) -> Launch:
    lines = slots(job)
    spool = cluster.spool(job)
    return launch_with(
        cluster, job, SERVER, lines,
        {'HOSTNAME': SERVER, 'PBS_GPUFILE': f'{spool}/gpus', 'PBS_MICFILE': f'{spool}/mics', 'PBS_NP': str(len(lines)),
         'PBS_NUM_NODES': str(len(job.nodes)), 'PBS_NUM_PPN': job.extra['chunks'][0][1].get('ppn', '1'),
         'PBS_VERSION': 'TORQUE-6.1-dev', 'PBS_VNODENUM': '0', 'PBS_WALLTIME': str(int(job.walltime))},
    )  # fmt: skip
