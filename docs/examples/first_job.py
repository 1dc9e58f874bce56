"""The same job on any scheduler: ``python first_job.py EXECUTOR [QUEUE]``."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from psij import Job, JobAttributes, JobExecutor, JobSpec, JobState, ResourceSpecV1


def say(text: str) -> None:
    """Print a line in one piece: callbacks are on another thread."""
    print(f'{text}\n', end='', flush=True)


if len(sys.argv) not in (2, 3):
    sys.exit('usage: python first_job.py EXECUTOR [QUEUE]')
executor_name = sys.argv[1]
queue_name = sys.argv[2] if len(sys.argv) > 2 else None

job = Job(
    JobSpec(
        '/bin/sh',
        ['-c', 'echo "Hello from $(uname -n)"'],
        stdout_path=Path('hello.txt').absolute(),
        resources=ResourceSpecV1(process_count=2),
        attributes=JobAttributes(duration=timedelta(minutes=5), queue_name=queue_name),
    )
)
job.set_job_status_callback(lambda job, status: say(f'{status.state} {status.message or ""}'))

try:
    executor = JobExecutor.get_instance(executor_name)
except ValueError as ex:  # there is none of that name, or what it needs is not installed
    sys.exit(str(ex))
executor.submit(job)
say(f'submitted as {job.native_id}')
job.wait()

say(Path('hello.txt').read_text().strip())
sys.exit(0 if job.status.state is JobState.COMPLETED else 1)
