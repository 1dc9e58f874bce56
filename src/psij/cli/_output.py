"""What commands print: messages for people, and facts for people or programs."""

from __future__ import annotations

import json
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from psij import Job, JobStatus


def say(command: str, text: str) -> None:
    """Tell a person something on the standard error, which leaves the standard output to what was asked for."""
    sys.stderr.write(f'psij {command}: {text}\n')  # in one piece, since other threads log to the same place
    sys.stderr.flush()


def one_line(text: object) -> str:
    """Return a text, which may have been written by a scheduler for a screen, as one line.

    >>> one_line(ValueError('sbatch: error: no\\nsbatch: error: sorry'))
    'sbatch: error: no sbatch: error: sorry'
    """
    return ' '.join(str(text).split())


def explain(ex: Exception) -> str:
    """Return what an exception says as one line, for somebody who has options and no Python objects.

    >>> explain(OSError('Choose another one with JobExecutorConfig(work_directory=...).'))
    'Choose another one with --work-directory.'
    """
    return one_line(ex).replace('JobExecutorConfig(work_directory=...)', '--work-directory')


def print_json(value: object) -> None:
    """Write a value for programs."""
    print(json.dumps(value, indent=2), flush=True)


def describe(status: JobStatus) -> str:
    """Return a status as one line for a person.

    >>> from psij import JobState, JobStatus
    >>> describe(JobStatus(JobState.FAILED, message='It was\\nkilled.', exit_code=137))
    'FAILED, exit code 137: It was killed.'
    """
    text = status.state.name
    if status.exit_code:  # that of a job which has completed is zero
        text += f', exit code {status.exit_code}'
    if is_assumed(status):
        text += ' (assumed)'
    return f'{text}: {one_line(status.message)}' if status.message else text


def is_assumed(status: JobStatus) -> bool:
    """Tell whether a status is only the assumption about a job of which there is no trace."""
    return bool((status.metadata or {}).get('assumed'))


def status_tree(job: Job, status: JobStatus) -> dict[str, object]:
    """Return a status for programs."""
    return {
        'native_id': job.native_id,
        'state': status.state.name,
        'final': status.final,
        'time': status.time,
        'exit_code': status.exit_code,
        'message': status.message,
        'metadata': {name: _plain(value) for name, value in (status.metadata or {}).items()},
    }


def print_statuses(jobs: list[Job], as_json: bool) -> None:
    """Print the present states of jobs."""
    if as_json:
        print_json([status_tree(job, job.status) for job in jobs])
        return
    for job in jobs:
        print(f'{job.native_id} {describe(job.status)}')


def _plain(value: object) -> object:
    """Return what JSON has, for whatever an executor tells."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
