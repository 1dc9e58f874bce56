"""Scripts of batch jobs, run by a real bash as a scheduler would, and text that must not disturb them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hypothesis import strategies as st

from psij import Job, JobSpec
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutor


def is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


TEXT = st.text(st.characters(exclude_characters='\0'), max_size=30).filter(is_encodable)


def hostile(*more: str) -> st.SearchStrategy[str]:
    """Return text that a shell or a template would obey, and more that a scheduler would."""
    return st.sampled_from(['$(touch pwned)', '`touch pwned`', "'; touch pwned; '", '{{job.id}}', '"\'', *more])


def write(executor: BatchSchedulerExecutor, spec: JobSpec, directory: Path) -> Path:
    """Write the script of a job, and return its path."""
    executor.work_directory.mkdir(parents=True, exist_ok=True)
    script = directory / 'script'
    script.write_bytes(executor.render_submit_script(Job(spec)).encode('utf-8', 'surrogateescape'))
    return script


def start(
    executor: BatchSchedulerExecutor, spec: JobSpec, directory: Path, **variables: str
) -> subprocess.Popen[bytes]:
    """Start the script of a job with the variables that the scheduler sets."""
    environment = {'PATH': '/usr/bin:/bin', 'HOME': str(directory), **variables}
    return subprocess.Popen(['/bin/bash', str(write(executor, spec, directory))], env=environment, cwd=directory)


def run(executor: BatchSchedulerExecutor, spec: JobSpec, directory: Path, native_id: str, **variables: str) -> str:
    """Run the script of a job, and return what the script itself has printed."""
    start(executor, spec, directory, **variables).wait()
    return (executor.work_directory / f'{native_id}.out').read_text()
