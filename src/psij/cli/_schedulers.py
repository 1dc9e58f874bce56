"""Looks at schedulers for ``psij doctor``: their commands, whether they answer, and whether a job reports back."""

from __future__ import annotations

import shlex
import shutil
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, Optional

from psij import InvalidJobException, Job, JobAttributes, JobExecutor, JobSpec, JobState, SubmitException
from psij.cli import _output
from psij.cli._finding import Finding
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    Factory = Callable[[], JobExecutor]

_NEVER = 10 * 86400  # seconds: longer than any trial
_REPORT_GRACE = timedelta(seconds=5)  # for a report to arrive, after the scheduler has said that the job has ended

_PBS = {'pbs': 'pbs_version', 'pbs_classic': 'Version:'}
"""What ``qstat --version`` says of those who share all names of commands."""


class Examination(NamedTuple):
    """An executor that may work here.

    Attributes
    ----------
    command
        Its command to submit jobs, if it has one; different schedulers have commands with the same name.
    finding
        Whether it answers.
    """

    command: Optional[str]
    finding: Finding


def examine(executor: JobExecutor) -> Examination:
    """Look for the commands of an executor, and ask it for a list of jobs."""
    command = None
    repair = 'ask the administrators whether it works, and from which machine'
    if isinstance(executor, BatchSchedulerExecutor):
        commands = _commands(executor)
        command = commands[0]
        missing = [name for name in commands if shutil.which(name) is None]
        if missing:
            repair = 'extend PATH, often with "module load"; the commands may only be on login nodes'
            text = f'not on the PATH: {", ".join(missing)}'
            return Examination(command, Finding('problem', executor.name, text, repair))
        repair = f'try "{shlex.join(executor.get_list_command())}"; if that fails too, {repair}'
    try:
        count = len(executor.list())
    except SubmitException as ex:
        return Examination(
            command, Finding('problem', executor.name, f'it does not answer: {_output.explain(ex)}', repair)
        )
    return Examination(
        command, Finding('ok', executor.name, f'it answers, and lists {count} jobs or processes of yours')
    )


def examine_all(factory: Callable[[str], JobExecutor]) -> Iterator[Finding]:
    """Look at all executors, and pass over those of which there is no trace here."""
    from psij import _plugins

    found: list[Examination] = []
    absent: list[str] = []
    for name in dict.fromkeys(plugin.name for plugin in _plugins.executors.plugins()):
        try:
            executor = factory(name)
        except Exception:  # noqa: BLE001 - what it needs is not installed, or it is the broken plugin of somebody else
            absent.append(name)
            continue
        if isinstance(executor, BatchSchedulerExecutor) and not _may_be_here(executor):
            absent.append(name)
        else:
            found.append(examine(executor))
    answering = {examination.command for examination in found if examination.finding.level == 'ok'}
    for command, finding in found:
        if finding.level == 'ok' or command not in answering:
            yield finding
        else:  # the command is that of another scheduler
            absent.append(finding.about)
    if absent:
        yield Finding('ok', 'others', f'not here: {", ".join(absent)}')


def _commands(executor: BatchSchedulerExecutor) -> list[str]:
    """Return the commands that an executor needs, first the one that submits jobs."""
    with tempfile.NamedTemporaryFile() as script:  # some want to see it
        submit = executor.get_submit_command(Job(JobSpec('/bin/true')), Path(script.name))
    others = (executor.get_status_command(['1']), executor.get_cancel_command('1'), executor.get_list_command())
    return list(dict.fromkeys(argv[0] for argv in (submit, *others)))


def _may_be_here(executor: BatchSchedulerExecutor) -> bool:
    from psij._runtime.command import run

    if shutil.which(_commands(executor)[0]) is None:
        return False
    mark = _PBS.get(executor.name)
    return mark is None or mark in run(['qstat', '--version']).output


def try_job(factory: Factory, attributes: JobAttributes, timeout: timedelta) -> Iterator[Finding]:
    """Run a job of one second, and find out whether it reports back.

    The executor that submits it does not ask the scheduler, and so learns only what the job reports. Another one asks.
    """
    executor = factory()
    job = Job(JobSpec('/bin/sleep', ['1'], name='psij-doctor', attributes=attributes))
    observer = None
    if isinstance(executor, BatchSchedulerExecutor):
        observer = factory()
        executor.config.initial_queue_polling_delay = executor.config.queue_polling_interval = _NEVER
    begin = time.monotonic()
    try:
        executor.submit(job)
    except (InvalidJobException, SubmitException) as ex:
        repair = 'do what it says; --queue, --account and --attribute may be needed here'
        yield Finding('problem', 'job', f'it cannot be submitted to {executor.name}: {_output.explain(ex)}', repair)
        return
    observed = job
    if observer is not None:
        observed = Job()
        observer.attach(observed, str(job.native_id))
    try:
        status = observed.wait(timeout)
    finally:  # also after Ctrl-C
        if not observed.status.final:
            job.cancel()
    seconds = time.monotonic() - begin
    if status is None:
        known = job.status if observed.status.state is JobState.NEW else observed.status  # the latter says why
        text = f'job {job.native_id} was {_output.describe(known)} after {seconds:.0f} s, and was canceled'
        yield Finding('warning', 'job', text, 'the queue may be long: try another --queue, or a longer --timeout')
    elif status.state is not JobState.COMPLETED:
        text = f'job {job.native_id}, which just sleeps, is {_output.describe(status)}'
        yield Finding('problem', 'job', text, 'see the message; the work directory may not be shared')
    elif job.wait(_REPORT_GRACE) is None:
        text = f'job {job.native_id} has completed, but its reports have not arrived; {executor.name} is asked instead'
        repair = 'jobs end up to half a minute later than they could; let compute nodes send UDP to this machine'
        yield Finding('warning', 'job', text, repair)
    else:
        yield Finding(
            'ok', 'job', f'job {job.native_id} has completed and reported back, {seconds:.1f} s after submission'
        )
