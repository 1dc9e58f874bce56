"""``qrls`` of Cobalt 1.0.33."""

from __future__ import annotations

from fakes.cobalt.jobs import own
from fakes.commandline import out
from fakes.core import Cluster


def main(cluster: Cluster, argv: list[str]) -> int:
    released = [job for job in own(cluster, argv) if job.hold]
    for job in released:
        cluster.change(job.id, hold='')
    if released:
        out(f'   Removed user hold on jobs: \n{"".join(f"      {job.id}" for job in released)}\n')
    return 0
