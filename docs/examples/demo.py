"""A real job on this machine: its states as they happen, its output, its exit code."""

import tempfile
from pathlib import Path

from psij import Job, JobExecutor, JobSpec, JobStatus


def show(job: Job, status: JobStatus) -> None:
    """Print a state that the job has reached."""
    print(f'{status.time:.3f}  {status.state}')


def main() -> None:
    """Run the job."""
    executor = JobExecutor.get_instance('local')
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / 'output.txt'
        job = Job(JobSpec('/bin/sh', ['-c', 'echo "Hello from $(uname -n)"; sleep 1'], stdout_path=output))
        job.set_job_status_callback(show)
        executor.submit(job)
        status = job.wait()
        print(f'Output:    {output.read_text().strip()}')
    print(f'Exit code: {status.exit_code if status else None}')


if __name__ == '__main__':
    main()
