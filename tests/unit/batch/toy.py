"""A scheduler of which the tests say what it answers, and an executor for it that asks when the tests say so."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path
from typing import IO, Callable, Collection, Dict, List, Optional, Union

from psij import Job, JobSpec, JobState, JobStatus
from psij._runtime.command import CommandResult
from psij.exceptions import SubmitException
from psij.executors.batch._queue_poller import QueuePoller
from psij.executors.batch.batch_scheduler_executor import (
    BatchSchedulerExecutor,
    BatchSchedulerExecutorConfig,
    InvalidJobStateError,
    check_status_exit_code,
)
from psij.executors.batch.script_generator import expand_partials

Answer = Union[str, CommandResult, Callable[[List[str]], CommandResult]]

STATES = {
    'q': JobState.QUEUED,
    'r': JobState.ACTIVE,
    'd': JobState.COMPLETED,
    'f': JobState.FAILED,
    'c': JobState.CANCELED,
}


def result(stdout: str = '', exit_code: Optional[int] = 0, stderr: str = '', timed_out: bool = False) -> CommandResult:
    """Return what a command comes to."""
    error = (
        '' if exit_code is not None else ('"toy" did not answer' if timed_out else 'the command "toy" was not found')
    )
    return CommandResult(('toy',), exit_code, stdout, stderr, error, timed_out)


class ToyExecutor(BatchSchedulerExecutor):
    """Its status output has lines ``ID letter [reason [message]]``."""

    _NAME_ = 'toy'
    _VERSION_ = '1.0'

    def __init__(
        self, directory: Path, url: Optional[str] = None, keep_files: bool = False, lines: bool = True
    ) -> None:
        self.answers: Dict[str, Answer] = {'submit': '1\n', 'status': '', 'cancel': '', 'list': ''}
        self.asked: List[List[str]] = []
        self.parsed = 0
        self.by_lines = lines
        config = BatchSchedulerExecutorConfig(work_directory=directory, keep_files=keep_files)
        super().__init__(url=url, config=config)

    def _start_queue_poll_thread(self) -> QueuePoller:
        return QueuePoller(self.name, self.config, self)  # not started: the tests call poll()

    def poll(self) -> None:
        """Ask about the queue now."""
        self._queue_poll_thread._poll()

    def _run(self, argv: List[str], c_locale: bool = True, stdin_path: Optional[Path] = None) -> CommandResult:
        self.asked.append(argv)
        answer = self.answers[argv[0]]
        if callable(answer):
            return answer(argv)
        return answer if isinstance(answer, CommandResult) else result(answer)

    def generate_submit_script(self, job: Job, context: Dict[str, object], submit_file: IO[str]) -> None:
        import pystache

        from psij.executors.batch.escape_functions import bash_escape

        template = expand_partials('#!/bin/bash\n_PSIJ_NATIVE_ID=1\n{{> run_job}}\n')
        submit_file.write(pystache.Renderer(escape=bash_escape).render(template, context))

    def get_submit_command(self, job: Job, submit_file_path: Path) -> List[str]:
        return ['submit', str(submit_file_path)]

    def job_id_from_submit_output(self, out: str) -> str:
        return out.rsplit(maxsplit=1)[-1]

    def get_cancel_command(self, native_id: str) -> List[str]:
        return ['cancel', native_id]

    def process_cancel_command_output(self, exit_code: int, out: str) -> None:
        if 'over' in out:
            raise InvalidJobStateError
        raise SubmitException(out)

    def get_status_command(self, native_ids: Collection[str]) -> List[str]:
        return ['status']

    def _status_lines(self, exit_code: int, out: str) -> Optional[List[str]]:
        return out.splitlines() if self.by_lines and exit_code == 0 else None

    def parse_status_output(self, exit_code: int, out: str) -> Dict[str, JobStatus]:
        check_status_exit_code('status', exit_code, out)
        statuses = {}
        for line in out.splitlines():
            self.parsed += 1
            native_id, letter, reason, message = [*line.split(None, 3), '', ''][:4]
            metadata: Dict[str, object] = {'native_state': letter}
            if reason not in ('', '-'):
                metadata['reason'] = reason
            statuses[native_id] = JobStatus(STATES[letter], message=message or None, metadata=metadata)
        return statuses

    def _get_history_command(self, native_ids: List[str]) -> Optional[List[str]]:
        return ['history', *native_ids] if 'history' in self.answers else None

    def _parse_history_output(self, exit_code: int, out: str) -> Optional[Dict[str, JobStatus]]:
        return self.parse_status_output(exit_code, out)

    def _get_lookup_command(self, job: Job, submit_file_path: Path) -> Optional[List[str]]:
        return ['lookup'] if 'lookup' in self.answers else None

    def _parse_lookup_output(self, job: Job, submit_file_path: Path, out: str) -> Optional[str]:
        return out.strip() or None

    def get_list_command(self) -> List[str]:
        return ['list']

    # what the script of the job would do

    def record(self, text: str, native_id: str = '1') -> None:
        """Write the exit code file."""
        (self.work_directory / f'{native_id}.ec').write_text(text)

    def print(self, text: str, native_id: str = '1') -> None:
        """Write the output file."""
        (self.work_directory / f'{native_id}.out').write_text(text)

    def reported(self, job: Job) -> object:
        """Return what the script has reported about its end."""
        return self._progress(job).reported

    def eventually(self, condition: Callable[[], object]) -> None:
        """Wait for what a report does; no status tells of it."""
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def script(self, job: Job) -> str:
        """Return the text of the submitted script."""
        return (self.work_directory / f'{job.id}.job').read_text()

    def files(self) -> List[str]:
        """Return the names of the files in the work directory, besides those of the directory itself."""
        return sorted(path.name for path in self.work_directory.iterdir() if path.name not in ('.lock', '.cleaned'))


def submitted(executor: ToyExecutor, spec: Optional[JobSpec] = None) -> Job:
    """Return a job that was submitted."""
    job = Job(JobSpec('/bin/true') if spec is None else spec)
    executor.submit(job)
    return job


def token(script: str, word: str) -> str:
    """Return the token with which a script reports a state."""
    end = word in ('DONE', 'SIGNAL')
    pattern = rf'{word} \$1 "([0-9a-f]+)' if end else rf'{word}\) _psij_send "\$1 "([0-9a-f]+)'
    match = re.search(pattern, script)
    assert match is not None, script
    return match[1]


def send(script: str, text: str) -> None:
    """Send a report to where a script would send it."""
    match = re.search(r'/dev/udp/127\.0\.0\.1/(\d+)', script)
    assert match is not None, script
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), ('127.0.0.1', int(match[1])))
