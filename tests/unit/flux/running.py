"""What tests of the Flux executor share."""

from __future__ import annotations

from datetime import timedelta

from psij import Job, JobExecutor, JobSpec, JobState, JobStatus

_PATIENCE = timedelta(seconds=30)


def submit(executor: JobExecutor, spec: JobSpec) -> Job:
    """Submit a job and return it."""
    job = Job(spec)
    executor.submit(job)
    return job


def finish(job: Job) -> JobStatus:
    """Wait for the end of a job, and return its status."""
    status = job.wait(_PATIENCE)
    assert status is not None, f'{job} does not end'
    return status


def reach(job: Job, state: JobState) -> JobStatus:
    """Wait for a state, and return the status."""
    status = job.wait(_PATIENCE, state)
    assert status is not None, f'{job} does not become {state}'
    return status


def run(executor: JobExecutor, spec: JobSpec) -> JobStatus:
    """Run a job, and return its final status."""
    return finish(submit(executor, spec))
