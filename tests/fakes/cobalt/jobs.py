"""The words that Cobalt has for a job, and the jobs that it knows: one that has ended vanishes at once."""

from __future__ import annotations

from fakes.commandline import Exit
from fakes.core import Cluster, Job

SHORT = {
    'queued': 'Q', 'starting': 'R', 'running': 'R', 'killing': 'K', 'preempting': 'P', 'preempted': 'P',
    'exiting': 'E', 'done': 'E',
}  # fmt: skip


def known(cluster: Cluster) -> list[Job]:
    return [job for job in cluster.everything() if not job.final]


def own(cluster: Cluster, words: list[str]) -> list[Job]:
    """Return those of the jobs with these IDs that the caller may change; of others nothing is said."""
    for word in words:
        if not word.isdigit():
            raise Exit(1, f'jobid must be an integer: {word}\n')
    jobs = {job.id: job for job in known(cluster) if cluster.may_change(job)}
    return [jobs[int(word)] for word in words if int(word) in jobs]


def state(job: Job) -> str:
    if job.shown:
        return job.shown[0]
    if job.state == 'queued':
        if job.hold:
            return f'{job.hold}_hold'
        if job.after and job.blocked != 'dependency_failed':
            return 'dep_hold'
        return 'dep_fail' if job.after else 'queued'
    if job.kill:
        return 'preempting' if job.kill == 'preempted' else 'killing'
    return {'suspended': 'running', 'ending': 'exiting'}.get(job.state, job.state)


def short_state(job: Job) -> str:
    return SHORT.get(state(job), 'H')
