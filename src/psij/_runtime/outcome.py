"""How a batch job ended: the rules that weigh the evidence. Everything here is pure.

There are two witnesses. The script of the job records the exit code of the job, and whether it was told to end (by
a signal that the scheduler sends when a job is canceled, or its time is over). The scheduler has a state and often
a reason. An exit code of zero that was recorded without a signal is the best evidence there is: schedulers have
been seen to report a time limit for a job that had ended well during an outage of theirs. After a signal, the
scheduler knows why; without any exit code, it is all there is. Nothing is reported as completed without evidence.
"""

from __future__ import annotations

import signal
from typing import Dict, NamedTuple, Optional

from psij.job_state import JobState
from psij.job_status import JobStatus


class ExitRecord(NamedTuple):
    """What the script of a job has recorded about its end.

    Attributes
    ----------
    code
        The exit code.
    told_to_end
        True if the script got a signal to end before.
    """

    code: int
    told_to_end: bool = False

    @property
    def is_conclusive(self) -> bool:
        """True if nobody needs to ask the scheduler what happened."""
        return not self.told_to_end and signal_name(self.code) is None


def parse_exit_record(text: Optional[str]) -> Optional[ExitRecord]:
    """Return what an exit code file says; None if it is not there, not complete, or not of that form.

    >>> parse_exit_record('3\\n'), parse_exit_record('0\\nTERM\\n').told_to_end
    (ExitRecord(code=3, told_to_end=False), True)
    >>> parse_exit_record('1') is None  # the rest has not arrived yet
    True
    """
    if not text or not text.endswith('\n'):
        return None
    lines = text.split()
    if not lines or not lines[0].isdigit():
        return None
    return ExitRecord(int(lines[0]), 'TERM' in lines[1:])


_MESSAGES = {
    'timeout': 'The job was ended because its walltime was over.',
    'out_of_memory': 'The job was ended because it used more memory than it had.',
    'node_failure': 'A node of the job failed.',
    'preempted': 'The job was ended in favour of another job.',
    'dependency': 'The job cannot run, because a job that it depends on did not end as required.',
}

LOST = (
    'The job has left the queue of the scheduler, and nothing tells how it ended: there is no exit code, and the '
    'scheduler has no record of it.'
)


def final_status(
    verdict: Optional[JobStatus], record: Optional[ExitRecord], output: Optional[str], cancelled: bool
) -> JobStatus:
    """Return the final status of a job.

    Parameters
    ----------
    verdict
        The final status that the scheduler gave, or None if it knows nothing (any more).
    record
        What the script has recorded, or None.
    output
        What the script has printed itself, which is where shells and launchers complain.
    cancelled
        Whether the scheduler was asked to cancel the job, before it had ended for all that was known.
    """
    metadata = dict(verdict.metadata or {}) if verdict is not None else {}
    if record is not None and record.code == 0 and not record.told_to_end:
        metadata.pop('reason', None)
        return JobStatus(JobState.COMPLETED, exit_code=0, metadata=metadata)
    if verdict is not None and verdict.state is JobState.CANCELED:
        metadata.setdefault('reason', 'cancelled_by_user')
        return JobStatus(JobState.CANCELED, message=verdict.message, metadata=metadata)
    if verdict is None and cancelled:
        return JobStatus(JobState.CANCELED, metadata={'reason': 'cancelled_by_user'})
    if verdict is not None and verdict.state is JobState.COMPLETED and (record is None or record.code == 0):
        metadata.pop('reason', None)
        code = verdict.exit_code if record is None else 0
        return JobStatus(JobState.COMPLETED, exit_code=code, message=verdict.message, metadata=metadata)
    return _failed(verdict, record, output, metadata)


def _failed(
    verdict: Optional[JobStatus], record: Optional[ExitRecord], output: Optional[str], metadata: Dict[str, object]
) -> JobStatus:
    told = record is not None and record.told_to_end
    code = record.code if record is not None and (record.code or not told or verdict is not None) else None
    if verdict is not None and verdict.exit_code is not None:
        # After a signal the record may be that of an earlier run, if the scheduler has run the job again. Accounting
        # that subtracts 128 from exit codes (Slurm's) says the same as the record, less exactly.
        earlier = told and verdict.exit_code + 128 != code
        if not code or earlier:
            code = verdict.exit_code
    reason = metadata.get('reason')
    # Plugins of others know no reasons; their messages are all that they say.
    said = verdict.message if verdict is not None and reason is None else None
    if code and reason in (None, 'exit_code', 'signal'):
        reason = 'signal' if signal_name(code) else 'exit_code'
    elif reason is None:
        reason = 'signal' if told else 'lost'
    metadata['reason'] = reason
    message = said or _message(verdict, code, str(reason), output, told)
    return JobStatus(JobState.FAILED, message=message, exit_code=code, metadata=metadata)


def _message(verdict: Optional[JobStatus], code: Optional[int], reason: str, output: Optional[str], told: bool) -> str:
    """Return the text that helps most: what was printed for an exit code, else what the scheduler says."""
    printed = without_markers(output or '')
    if reason in ('exit_code', 'signal') and code:
        return printed or describe_exit(code)
    if verdict is not None and verdict.message:
        return verdict.message
    if reason in _MESSAGES:
        return _MESSAGES[reason]
    if told:
        return 'The job was told to end by a signal, and nothing says why.'
    if verdict is not None:
        return printed or f'The scheduler reports that the job failed{_native(verdict)}, without an exit code.'
    return f'{LOST} Its script has printed: {printed}' if printed else LOST


def _native(verdict: JobStatus) -> str:
    state = (verdict.metadata or {}).get('native_state')
    return f' (state {state})' if state else ''


def without_markers(text: str) -> str:
    """Return what a script printed; those for earlier versions end with a line that says that they are done."""
    for marker in ('_PSIJ_SCRIPT_DONE\n', '_PSI_J_LAUNCHER_DONE\n'):
        text = text.replace(marker, '')
    return text.strip()


def lost_status(attached: bool) -> JobStatus:
    """Return the final status of a job of which there is no evidence at all.

    For a job that was not submitted through the library, the documented assumption is that it has completed.
    """
    if attached:
        message = (
            f'{LOST} It is assumed to have completed, because nothing tells either that this library has submitted it.'
        )
        return JobStatus(JobState.COMPLETED, message=message, metadata={'assumed': True})
    return JobStatus(JobState.FAILED, message=LOST, metadata={'reason': 'lost'})


def signal_name(code: int) -> Optional[str]:
    """Return the name of the signal that an exit code stands for, if it does.

    >>> signal_name(137), signal_name(3)
    ('SIGKILL', None)
    """
    try:
        return signal.Signals(code - 128).name if code > 128 else None
    except ValueError:
        return None


def describe_exit(code: int) -> str:
    """Return a sentence for a person.

    >>> describe_exit(137)
    'The job ended with exit code 137, which stands for the signal SIGKILL.'
    """
    name = signal_name(code)
    return f'The job ended with exit code {code}{f", which stands for the signal {name}" if name else ""}.'
