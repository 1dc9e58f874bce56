"""An executor for the toy scheduler, driven through its command ``toy``."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from datetime import timedelta
from pathlib import Path

from psij import InvalidJobException, Job, JobSpec, JobState, JobStatus, ResourceSpecV1, SubmitException
from psij.executors.batch._templated_executor import TemplatedBatchExecutor, job_name, one_line
from psij.executors.batch.batch_scheduler_executor import InvalidJobStateError, check_status_exit_code

STATES = {  # what `toy status` prints
    'R': JobStatus(JobState.ACTIVE),
    'D': JobStatus(JobState.COMPLETED),  # a file that the script leaves tells the exit code
    'K': JobStatus(JobState.CANCELED, metadata={'reason': 'cancelled_by_user'}),
    'T': JobStatus(JobState.FAILED, metadata={'reason': 'timeout'}),
}

# What jobs may ask for that this scheduler does not have:
ABSENT = ('gpu_cores_per_process', 'memory', 'exclusive_node_use', 'queue_name', 'account', 'reservation_id')


class ToyJobExecutor(TemplatedBatchExecutor):
    """A :class:`~psij.JobExecutor` for the toy scheduler. Custom attributes ``toy.OPTION`` become directives."""

    template = str(Path(__file__).with_name('toy.mustache'))

    def directives(self, job: Job, spec: JobSpec) -> Iterator[str]:
        """Return the text of each directive, what follows ``#TOY``."""
        resources, attributes = spec.resources, spec.attributes
        if isinstance(resources, ResourceSpecV1) and resources.computed_node_count > 1:
            raise InvalidJobException(f'Invalid node_count {resources.node_count}: there is one node.')
        for name in ABSENT:
            if getattr(resources, name, None) or getattr(attributes, name, None):
                raise InvalidJobException(f'Invalid {name}: the toy scheduler has no such thing.')
        yield f'name={one_line("toy", "name", job_name(spec))}'
        if attributes is not None and attributes.duration is not None:
            yield f'minutes={math.ceil(attributes.duration / timedelta(minutes=1))}'
        for option, value in ((attributes and attributes.custom_attributes) or {}).items():
            if option.startswith('toy.'):
                yield one_line('toy', option, f'{option[len("toy.") :]}={value}')

    def get_submit_command(self, job: Job, submit_file_path: Path) -> list[str]:
        """Return the command that submits a script."""
        return ['toy', 'submit', str(submit_file_path)]

    def job_id_from_submit_output(self, out: str) -> str:
        """Return the native ID that the command has printed."""
        return parse_submit(out)

    def get_status_command(self, native_ids: Collection[str]) -> list[str]:
        """Return the command that asks about all jobs at once."""
        return ['toy', 'status', *native_ids]

    def parse_status_output(self, exit_code: int, out: str) -> dict[str, JobStatus]:
        """Return the status of each job that the command has printed."""
        check_status_exit_code('toy status', exit_code, out)
        return parse_status(out)

    def get_cancel_command(self, native_id: str) -> list[str]:
        """Return the command that cancels a job."""
        return ['toy', 'kill', native_id]

    def process_cancel_command_output(self, exit_code: int, out: str) -> None:
        """Say what it means that the command has failed."""
        if 'does not run' in out:
            raise InvalidJobStateError(out)  # the job has ended: no error for the user
        raise SubmitException(f'The job cannot be canceled: {out.strip()}')

    def get_list_command(self) -> list[str]:
        """Return the command that lists the native IDs of all jobs, one on each line."""
        return ['toy', 'list']


def parse_submit(out: str) -> str:
    """Return the native ID.

    >>> parse_submit('job 42 accepted')
    '42'
    """
    match = re.search(r'^job (\d+) accepted', out, re.MULTILINE)
    if match is None:
        raise SubmitException(f'toy submit printed no job ID: {out!r}')
    return match[1]


def parse_status(out: str) -> dict[str, JobStatus]:
    """Return the status of each job. A state that is not known is taken as one of a job that waits.

    >>> parse_status('42 R')['42'].state
    ACTIVE
    """
    rows = (line.split() for line in out.splitlines())
    return {row[0]: STATES.get(row[1], JobStatus(JobState.QUEUED)) for row in rows if len(row) == 2}
