"""The same job on any scheduler: ``python first_job.py EXECUTOR [QUEUE]``."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from psij import Job, JobAttributes, JobExecutor, JobSpec, JobState, ResourceSpecV1

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
job.set_job_status_callback(lambda job, status: print(status.state, status.message or ''))

executor = JobExecutor.get_instance(executor_name)
executor.submit(job)
print('submitted as', job.native_id)
job.wait()

print(Path('hello.txt').read_text().strip())
sys.exit(0 if job.status.state is JobState.COMPLETED else 1)
