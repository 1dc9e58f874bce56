"""``qhold`` of Cobalt 1.0.33."""

from __future__ import annotations

from fakes.cobalt.jobs import own
from fakes.commandline import out
from fakes.core import Cluster


def main(cluster: Cluster, argv: list[str]) -> int:
    held = own(cluster, argv)
    for job in held:
        cluster.change(job.id, hold='user')
    if held:
        out(f'Placed user hold on jobs: \n{"".join(f"      {job.id}" for job in held)}\n')
    return 0
