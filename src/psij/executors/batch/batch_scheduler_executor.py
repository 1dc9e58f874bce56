"""The base class of executors for batch schedulers: the order of the steps, and what they mean for a job.

Changes of a job are learned from three sources: reports that its script sends, the exit code file that it leaves, and
the queue of the scheduler. Reports arrive on the thread ``psij-status``, answers about the queue on
``psij-poll-<name>``; whichever comes first decides, and :meth:`BatchSchedulerExecutor._set_job_status` is the one way
to a new status. What the sources mean when a job has ended is weighed in :mod:`psij._runtime.outcome`.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import threading
import time
from abc import abstractmethod
from datetime import timedelta
from pathlib import Path
from typing import IO, Collection, Dict, Iterable, List, Optional, Set, Tuple

from psij._log import lazy_logger
from psij._runtime import job_files
from psij._runtime.command import CommandResult, client_environment, run
from psij._runtime.outcome import ExitRecord, final_status, lost_status, parse_exit_record
from psij._runtime.script_context import (
    Reporting,
    custom_attributes,
    own_addresses,
    script_context,
    submit_directory,
)
from psij._runtime.status_channel import SIGNAL, Report, Secret, shared_channel
from psij.exceptions import InvalidJobException, SubmitException
from psij.executors.batch._queue_poller import NoAnswer, QueuePoller, asked_about, chunks
from psij.executors.batch.template_function_library import ALL as FUNCTION_LIBRARY
from psij.job import Job
from psij.job_executor import JobExecutor
from psij.job_executor_config import JobExecutorConfig
from psij.job_launcher import Launcher
from psij.job_spec import JobSpec
from psij.job_state import JobState
from psij.job_status import JobStatus

__all__ = [
    'FUNCTION_LIBRARY',
    'UNKNOWN_ERROR',
    'BatchSchedulerExecutor',
    'BatchSchedulerExecutorConfig',
    'InvalidJobStateError',
    'check_status_exit_code',
]

logger = lazy_logger(__name__)

UNKNOWN_ERROR = 'PSIJ: Unknown error'
"""Stands for the output of a command that failed without a word."""

_QueuePollThread = QueuePoller  # the name by which plugins know it

_FILE_GRACE = 3.0  # seconds for an exit code file to become visible, when the scheduler says that a job has ended
_LOST_GRACE = 5.0  # seconds for any evidence, when a job is not listed
_LISTING_GRACE = 10.0  # seconds for a new job to be listed
_SIGNAL_GRACE = 900.0  # seconds for the scheduler to say why the script got a signal; epilogs can take minutes
_HISTORY_GRACE = 900.0  # seconds for a history that does not answer
_EAGER = 0.25  # seconds until the next question, when an answer is expected
_ATTACH_DELAY = 0.1  # seconds; jobs that are attached together share one command
_TOLD_TO_END = 143  # what scripts report after a signal; see run_job.mustache
_UNSURE = 'unsure'  # in the note about a cancellation of which nobody knows whether it reached the scheduler
_STAGING_FAILED = 121  # the exit code of the staging functions
_HISTORY_TIME = 2.0  # seconds of a round for questions about jobs that have left the queue
_LOOKUPS = (0.5, 2.0, 5.0)  # seconds before each attempt to find a job whose submission had no clear result


_LOOK_FIRST = 'Look into the queue before you submit it again.'


class InvalidJobStateError(Exception):
    """A job cannot be cancelled because of its state: it has ended, or ends just now."""


def check_status_exit_code(command: str, exit_code: int, out: str) -> None:
    """Check the exit code of a command that asks for the status of jobs.

    Raises
    ------
    RuntimeError
        If the exit code is not zero.
    """
    if exit_code != 0:
        raise RuntimeError(f'status command {command!r} exited with {exit_code} and output {out!r}')


class BatchSchedulerExecutorConfig(JobExecutorConfig):
    """Settings of executors for batch schedulers.

    Parameters
    ----------
    launcher_log_file, work_directory
        See :class:`.JobExecutorConfig`.
    queue_polling_interval
        The longest time, in seconds, between two questions about the queue.
    initial_queue_polling_delay
        The time, in seconds, between a submission and the first question after it. The time between questions grows
        from there to `queue_polling_interval`.
    queue_polling_error_threshold
        The number of answers in a row that may be incomprehensible; at the next one the jobs are given up as
        ``FAILED``. A scheduler that does not answer is not counted.
    keep_files
        Whether to keep scripts and other files of jobs that have ended. The environment variable
        ``PSIJ_BATCH_KEEP_FILES`` turns this on as well.
    """

    def __init__(
        self,
        launcher_log_file: Optional[Path] = None,
        work_directory: Optional[Path] = None,
        queue_polling_interval: int = 30,
        initial_queue_polling_delay: int = 2,
        queue_polling_error_threshold: int = 2,
        keep_files: bool = False,
    ) -> None:
        super().__init__(launcher_log_file, work_directory)
        self.queue_polling_interval = queue_polling_interval
        self.initial_queue_polling_delay = initial_queue_polling_delay
        self.queue_polling_error_threshold = queue_polling_error_threshold
        self.keep_files = keep_files or 'PSIJ_BATCH_KEEP_FILES' in os.environ

    @classmethod
    def _from_config(cls, config: JobExecutorConfig) -> BatchSchedulerExecutorConfig:
        result = cls()
        result.work_directory = config.work_directory
        result.launcher_log_file = config.launcher_log_file
        return result


class _Progress:
    """What is known about one job, besides its status."""

    def __init__(self, attached: bool) -> None:
        self.attached = attached
        self.since = time.monotonic()
        self.listed = False  # whether the scheduler has ever listed the job
        self.unlisted_since: Optional[float] = None
        self.ended_since: Optional[float] = None  # when the scheduler said that it has ended, or the script did
        self.cancelled_since: Optional[float] = None  # when we have cancelled it
        self.reported: Optional[ExitRecord] = None
        self.was_signalled = False  # whether the script has reported that it was ended by a signal, in whichever run
        self.has_reported = False
        self.can_report = False  # whether its script is expected to report its end, and there is a port for that
        self.final: Optional[JobStatus] = None  # the status that it is given at its end
        self.secret = Secret()
        self.attempt = os.urandom(4).hex()
        self._lock = threading.Lock()
        self._early: Optional[List[Report]] = []  # until the native ID is known
        self._concluded = False

    def postpone(self, report: Report) -> bool:
        """Keep a report that comes before the submission is complete; tell whether it does."""
        with self._lock:
            if self._early is None:
                return False
            self._early.append(report)
            return True

    @property
    def early(self) -> List[Report]:
        """The reports that came before the submission was complete, if it is not yet."""
        with self._lock:
            return list(self._early or ())

    def submitted(self) -> List[Report]:
        """Return the reports that came before the submission was complete, which it is now."""
        with self._lock:
            early, self._early = self._early, None
            return early or []

    def conclude(self) -> bool:
        """Tell whether the job has still to be given its final status, which the caller then must do."""
        with self._lock:
            concluded, self._concluded = self._concluded, True
            return not concluded


class BatchSchedulerExecutor(JobExecutor):
    """The base class of executors for batch schedulers.

    Subclasses implement the abstract methods; :class:`.TemplatedBatchExecutor` is the short way to do so. They may
    override, and rely on, the protected methods ``_check_spec``, ``_create_script_context``, ``_format_duration``,
    ``_clean_submit_script``, ``_delete_aux_file``, ``_read_aux_file``, ``_read_aux_files``,
    ``_current_user``, ``_run_command``, ``_get_launcher_from_job``, ``_set_job_status``, ``_start_queue_poll_thread``,
    ``_status_lines``, ``_must_ask_differently``, ``_get_submit_input``, ``_has_no_jobs``,
    ``_may_have_submitted``, ``_is_transient``, ``_get_lookup_command``, ``_parse_lookup_output``,
    ``_get_history_command`` and ``_parse_history_output``, and the attributes ``_dropped_variables``,
    ``_kept_variables`` and ``_command_timeout``.

    Parameters
    ----------
    url
        Where the scheduler is, for executors that can use it.
    config
        A :class:`BatchSchedulerExecutorConfig`, or settings that all executors understand.
    """

    _dropped_variables: Tuple[str, ...] = ()
    """Prefixes of environment variables that change what the commands of the scheduler do."""

    _kept_variables: Tuple[str, ...] = ()
    """Variables with such a prefix that the commands need, because they say where the scheduler is."""

    _command_timeout = 90.0
    """The seconds after which a command is given up; Slurm's may take a minute to find that nobody answers."""

    def __init__(self, url: Optional[str] = None, config: Optional[JobExecutorConfig] = None) -> None:
        self.config: BatchSchedulerExecutorConfig
        super().__init__(url=url, config=self._get_config(config))
        self.work_directory = Path(os.path.abspath(self.config.work_directory)) / self.name
        self._queue_poll_thread = self._start_queue_poll_thread()
        self._cleaned = False
        self._history_silent_since: Optional[float] = None

    def _get_config(self, config: Optional[JobExecutorConfig]) -> BatchSchedulerExecutorConfig:
        if config is None:
            return BatchSchedulerExecutorConfig()
        if isinstance(config, BatchSchedulerExecutorConfig):
            return config
        return BatchSchedulerExecutorConfig._from_config(config)

    def _start_queue_poll_thread(self) -> QueuePoller:
        """Return what asks about the queue; it has a thread only while there are jobs."""
        return QueuePoller(self.name, self.config, self).start()

    # --- what a scheduler needs to say ---------------------------------------------------------------------------

    @abstractmethod
    def generate_submit_script(self, job: Job, context: Dict[str, object], submit_file: IO[str]) -> None:
        """Write the submit script of a job.

        Parameters
        ----------
        job
            The job.
        context
            The data for the script.
        submit_file
            The open text file to write to.
        """

    @abstractmethod
    def get_submit_command(self, job: Job, submit_file_path: Path) -> List[str]:
        """Return the command that submits a script.

        Parameters
        ----------
        job
            The job.
        submit_file_path
            The absolute path of its script.
        """

    def _get_submit_input(self, job: Job, submit_file_path: Path) -> Optional[Path]:
        """Return the file that the submit command reads as its standard input, or None if it reads nothing."""
        return None

    @abstractmethod
    def job_id_from_submit_output(self, out: str) -> str:
        """Return the native ID that the submit command has printed.

        Parameters
        ----------
        out
            The standard output of the command, which has ended with exit code zero.
        """

    @abstractmethod
    def get_cancel_command(self, native_id: str) -> List[str]:
        """Return the command that cancels a job.

        Parameters
        ----------
        native_id
            The native ID of the job.
        """

    @abstractmethod
    def process_cancel_command_output(self, exit_code: int, out: str) -> None:
        """Say what it means that the cancel command has failed.

        Parameters
        ----------
        exit_code
            Its exit code, which is not zero.
        out
            What it has printed.

        Raises
        ------
        InvalidJobStateError
            If the job has ended; this is no error for the user.
        SubmitException
            For other errors.
        """

    @abstractmethod
    def get_status_command(self, native_ids: Collection[str]) -> List[str]:
        """Return the command that asks for the status of jobs.

        Parameters
        ----------
        native_ids
            The native IDs. A command that does not contain them is taken to ask about all jobs of the user;
            otherwise there are never more than fit into a command.
        """

    @abstractmethod
    def parse_status_output(self, exit_code: int, out: str) -> Dict[str, JobStatus]:
        """Return the status of each job that the status command has listed.

        Parameters
        ----------
        exit_code
            The exit code of the command.
        out
            Its standard output, and with it the standard error if it has failed.

        Raises
        ------
        Exception
            If the output is not that of a scheduler that works. A part of it that is not understood must not keep
            the rest from being used.
        """

    @abstractmethod
    def get_list_command(self) -> List[str]:
        """Return the command that lists the native IDs of the user's jobs."""

    # --- what a scheduler may say --------------------------------------------------------------------------------

    def parse_list_output(self, out: str) -> List[str]:
        """Return the native IDs that the list command has printed: one on each line, by default."""
        return [line.strip() for line in out.splitlines() if line.strip()]

    def _has_no_jobs(self, result: CommandResult) -> bool:
        """Tell whether the list command has failed only because there are no jobs."""
        return False

    def _check_spec(self, job: Job, spec: JobSpec) -> None:
        """Refuse what the scheduler cannot do.

        Raises
        ------
        InvalidJobException
            With the name of the field and the rule of the scheduler.
        """

    def _status_lines(self, exit_code: int, out: str) -> Optional[List[str]]:
        """Split the output of the status command into lines that can be parsed one by one.

        If there are such lines, only those that have changed since the last time are parsed, which matters with
        thousands of jobs; so each must tell all about the jobs in it. None, the default, means that the output can only
        be parsed as a whole.
        """
        return None

    def _must_ask_differently(self, answer: CommandResult) -> bool:
        """Look at an answer to the status command before it is parsed.

        Return True if the scheduler turns out to need another command, which :meth:`get_status_command` returns from
        now on.
        """
        return False

    def _is_transient(self, result: CommandResult) -> bool:
        """Tell whether a submission that failed may succeed later."""
        return result.timed_out

    def _may_have_submitted(self, result: CommandResult) -> bool:
        """Tell whether there may be a job although the submit command has failed."""
        return result.timed_out

    def _get_lookup_command(self, job: Job, submit_file_path: Path) -> Optional[List[str]]:
        """Return a command that finds out whether a submission succeeded, or None if there is none."""
        return None

    def _parse_lookup_output(self, job: Job, submit_file_path: Path, out: str) -> Optional[str]:
        """Return the native ID of a job that the lookup command has found, or None if there is no such job."""
        return None

    def _get_history_command(self, native_ids: List[str]) -> Optional[List[str]]:
        """Return a command that asks about jobs which have left the queue, or None if there is none.

        If some of the IDs are arguments of the command, it is taken to ask about these, and is followed by a command
        about the others; otherwise it asks about all.
        """
        return None

    def _parse_history_output(self, exit_code: int, out: str) -> Optional[Dict[str, JobStatus]]:
        """Return the status of each job that the history command has found, or None if there is no history.

        Raises
        ------
        Exception
            If the history does not answer at present.
        """
        return None

    # --- submission ----------------------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:  # noqa: D102
        spec = self._check_job(job)
        progress = _Progress(attached=False)
        job._executor_state = progress
        try:
            self._check_spec(job, spec)
            job_files.private_directory(self.work_directory)
            self._clean_up_once()
            native_id = self._submit(job, self._write_script(job, progress))
        except BaseException:
            shared_channel().unregister(job.id)
            job_files.remove([self._file(f'{job.id}.job')])
            job._executor_state = None
            self._release_job(job)
            raise
        self._forget_earlier(job, native_id)
        job._native_id = native_id
        if not progress.can_report:
            job_files.follow(self._followed(job), self._follower(job))  # the files are all that tells how it ends
        logger.info('Job %s: submitted to %s as %s', job.id, self.name, native_id)
        self._set_job_status(job, JobStatus(JobState.QUEUED, metadata={'native_id': native_id}))
        try:
            self._queue_poll_thread.register_job(job)
        except (OSError, RuntimeError) as ex:  # the job is there all the same; the next one brings the thread back
            logger.warning('Cannot start the thread that asks about jobs: %s', ex)
        for report in progress.submitted():
            self._on_report(job, report)

    def _forget_earlier(self, job: Job, native_id: str) -> None:
        """Remove files of an earlier job with the same ID, for schedulers that begin to count anew."""
        names = [f'{native_id}{suffix}' for suffix in ('.ec', '.out', '.nodefile', '.cancelled', '.followed')]
        job_files.remove_older([self._file(name) for name in names], self._file(f'{job.id}.job'))

    def render_submit_script(self, job: Job, environment: bool = True) -> str:
        """Return the submit script that :meth:`submit` would write for a job, without submitting it.

        This needs no scheduler. The port and the secrets for the reports of the script, which are made for each
        submission, are zero.

        Parameters
        ----------
        job
            A job that was not submitted.
        environment
            Whether to show what the job inherits from the environment of this program, which may hold secrets. It is
            part of the script where the scheduler does not pass it on.

        Raises
        ------
        InvalidJobException
            As :meth:`submit` does.
        """
        spec = self._check_job(job)
        self._release_job(job)
        self._check_spec(job, spec)
        context = self._create_script_context(job)
        psij = context.get('psij')
        if not environment and isinstance(psij, dict) and psij.get('inherited'):
            psij['inherited'] = '# (not shown)'
        text = io.StringIO()
        self.generate_submit_script(job, context, text)
        self._check_script(job, text.getvalue())
        return text.getvalue()

    def _create_script_context(self, job: Job) -> Dict[str, object]:
        """Return the data for the script of a job."""
        command = self._get_launcher_from_job(job).get_launch_command(job)
        progress = job._executor_state
        reporting, attempt = Reporting(), '0'
        if isinstance(progress, _Progress):
            attempt = progress.attempt
            port = shared_channel().register(job.id, progress.secret, lambda report: self._on_report(job, report))
            if port is not None:
                progress.can_report = True
                reporting = Reporting(own_addresses(), port, progress.secret.tokens())
        context = script_context(
            job, command, self.work_directory, submit_directory(), reporting, attempt, self._format_duration
        )
        context['psij']['keep_files'] = self.config.keep_files  # type: ignore[index]
        return context

    def _write_script(self, job: Job, progress: _Progress) -> Path:
        text = io.StringIO()
        self.generate_submit_script(job, self._create_script_context(job), text)
        self._check_script(job, text.getvalue())
        if self._revocation(job).name not in text.getvalue():
            progress.can_report = False  # it is not run_job, which is what reports the end of a job
        path = self._file(f'{job.id}.job')
        logger.debug('Job %s: its script is %s', job.id, path)
        try:
            return job_files.write_private(path, text.getvalue())
        except OSError as ex:
            raise SubmitException(f'Cannot write the submit script {path}: {ex.strerror}.', ex) from ex

    def _check_script(self, job: Job, text: str) -> None:
        """Look at what a template, maybe of somebody else, makes of a job."""
        for field in ('stage_in', 'stage_out', 'cleanup'):
            partial = field.replace('_', '')
            if getattr(job.spec, field) and not re.search(rf'\b_psij_do_{partial}[ \t]+\S', text):
                raise InvalidJobException(
                    f'The executor {self.name} cannot do what {field} asks for: its template includes neither the '
                    f'partial "{partial}" nor "run_job".'
                )

    def _submit(self, job: Job, path: Path) -> str:
        """Run the submit command and return the native ID."""
        try:
            return self._try_to_submit(job, path)
        except (KeyboardInterrupt, SystemExit):
            self._revoke(job)  # the scheduler may have got it
            raise

    def _try_to_submit(self, job: Job, path: Path) -> str:
        argv = self.get_submit_command(job, path)
        result = self._execute(argv, c_locale=False, stdin_path=self._get_submit_input(job, path))
        if result.exit_code == 0:
            try:
                return str(self.job_id_from_submit_output(result.stdout)).strip()
            except SubmitException:
                raise
            except Exception as ex:
                found = self._look_up(job, path)
                if found is not None:
                    return found
                said = f'"{argv[0]}" succeeded, but printed no job ID that could be understood: {result.output!r}.'
                raise self._explain_unclear(job, said, transient=False) from ex
        if result.exit_code is None and not result.timed_out:
            raise SubmitException(f'Cannot submit the job: {result.error}.')
        was_killed = result.exit_code is not None and result.exit_code < 0
        if not was_killed and not self._may_have_submitted(result):
            raise SubmitException(result.output.strip() or UNKNOWN_ERROR, transient=self._is_transient(result))
        found = self._look_up(job, path)
        if found is not None:
            return found
        if was_killed:
            said = f'"{argv[0]}" was ended by signal {-(result.exit_code or 0)}. {result.output}'.strip()
        else:
            said = result.output.strip() or UNKNOWN_ERROR
        raise self._explain_unclear(job, said, transient=True)

    def _look_up(self, job: Job, path: Path) -> Optional[str]:
        """Find out whether a submission succeeded that had no clear result."""
        for delay in _LOOKUPS:
            argv = self._get_lookup_command(job, path)
            if argv is None or self._was_withdrawn(job):
                return None
            time.sleep(delay)
            result = self._execute(argv)
            if result.timed_out:  # to try again would take minutes, and tell as little
                return None
            if result.exit_code == 0:
                try:
                    native_id = self._parse_lookup_output(job, path, result.stdout)
                except Exception as ex:  # noqa: BLE001 - parsers, also of plugins, meet text that nobody has seen before
                    logger.warning('Cannot understand what %s says: %s', argv[0], ex)
                    continue
                if native_id is not None:
                    return native_id
        return None

    def _was_withdrawn(self, job: Job) -> bool:
        """Tell whether there was an earlier attempt, whose script cannot be told from the present one."""
        return next(self.work_directory.glob(f'{job.id}-*.revoked'), None) is not None

    def _revoke(self, job: Job) -> bool:
        """Leave a note that keeps a job from running that may have been accepted although its submission failed.

        Returns False if that is not possible.
        """
        try:
            job_files.write_private(self._revocation(job), '')
        except FileExistsError:
            pass
        except OSError as ex:
            logger.warning('Job %s cannot be withdrawn: %s', job.id, ex)
            return False
        return True

    def _revocation(self, job: Job) -> Path:
        return self._file(f'{job.id}-{self._progress(job).attempt}.revoked')

    def _explain_unclear(self, job: Job, said: str, transient: bool) -> SubmitException:
        """Say what is known about a job that may have been accepted although its submission failed."""
        was_noted = self._revoke(job)
        script = self._file(f'{job.id}.job')
        early = self._progress(job).early
        # scripts remove themselves at their end
        if not script.exists() or any(report.state is None for report in early):
            return SubmitException(f'{said}\nThe scheduler has the job all the same, and it has ended. {_LOOK_FIRST}')
        if early:
            return SubmitException(f'{said}\nThe scheduler has the job all the same, and it runs. {_LOOK_FIRST}')
        if was_noted and self._revocation(job).name in script.read_text(errors='replace'):
            chance = 'will end without running anything, unless it has begun just now: it is safe to submit it again.'
        else:  # templates of others do not look for the note
            chance = f'will run. {_LOOK_FIRST}'
        return SubmitException(f'{said}\nIf the scheduler has the job all the same, it {chance}', transient=transient)

    def _get_launcher_from_job(self, job: Job) -> Launcher:
        """Return the launcher of a job."""
        return self._get_launcher((job.spec and job.spec.launcher) or Launcher.DEFAULT_LAUNCHER_NAME)

    def _format_duration(self, d: timedelta) -> str:
        """Return a walltime as the scheduler wants it: ``H:M:S`` by default, rounded up to a full second."""
        seconds = -(-d // timedelta(seconds=1))
        return f'{seconds // 3600}:{seconds // 60 % 60}:{seconds % 60}'

    def _current_user(self) -> str:
        """Return the name of the user that this program runs as."""
        import pwd

        try:
            return pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            return str(os.geteuid())

    # --- commands ------------------------------------------------------------------------------------------------

    def _run_command(self, cmd: List[str]) -> str:
        """Run a command and return its standard output.

        Raises
        ------
        subprocess.CalledProcessError
            If it fails; ``output`` is all that it has written.
        """
        result = self._run(cmd)
        if result.exit_code is None:
            raise SubmitException(f'Cannot run the command: {result.error}.', transient=result.timed_out)
        if result.exit_code:
            raise subprocess.CalledProcessError(result.exit_code, cmd, result.output or UNKNOWN_ERROR)
        return result.stdout

    def _run(self, argv: List[str], c_locale: bool = True, stdin_path: Optional[Path] = None) -> CommandResult:
        environment = client_environment(self._dropped_variables, self._kept_variables, c_locale)
        return run(argv, environment, self._command_timeout, stdin_path)

    @property
    def _runs_commands_elsewhere(self) -> bool:
        """True if somebody has overridden ``_run_command``, for all executors of a class or for this one."""
        return getattr(self._run_command, '__func__', None) is not BatchSchedulerExecutor._run_command

    def _execute(self, argv: List[str], c_locale: bool = True, stdin_path: Optional[Path] = None) -> CommandResult:
        """Run a command of the scheduler, in the way of a subclass if it has overridden ``_run_command``.

        A command that has a file for its standard input is always run in the usual way.
        """
        if stdin_path is not None or not self._runs_commands_elsewhere:
            return self._run(argv, c_locale, stdin_path)
        command = tuple(argv)
        try:
            return CommandResult(command, 0, self._run_command(argv), '')
        except subprocess.CalledProcessError as ex:
            return CommandResult(command, ex.returncode, str(ex.output or ''), '')
        except (OSError, SubmitException) as ex:
            return CommandResult(command, None, '', '', str(ex), timed_out=bool(getattr(ex, 'transient', False)))

    # --- cancel, list, attach ------------------------------------------------------------------------------------

    def cancel(self, job: Job) -> None:  # noqa: D102
        if job.status.final:
            return
        native_id = job.native_id
        if native_id is None:
            raise SubmitException('Job does not have a native ID.')
        # Noted first, because the script may report its end before the command returns.
        note = made = self._note_cancellation(job)
        try:
            result = self._execute(self.get_cancel_command(native_id))
            if result.timed_out:  # it may have been done
                note = [path for path in note if not job_files.rewrite(path, _UNSURE)]
            if result.exit_code is None:
                raise SubmitException(f'Cannot cancel the job: {result.error}.', transient=result.timed_out)
            if result.exit_code == 0:
                job_files.rewrite(self._job_file(job, '.cancelled'), '')  # an earlier attempt may have been unsure
            if result.exit_code:
                self.process_cancel_command_output(result.exit_code, result.output or UNKNOWN_ERROR)
                note = [
                    path for path in note if not job_files.rewrite(path, _UNSURE)
                ]  # it is no error, but maybe no success
        except InvalidJobStateError as ex:
            logger.debug('Job %s cannot be cancelled any more: %s', job.id, ex)
            job_files.remove(note)
        except BaseException:
            job_files.remove(note)
            raise
        finally:
            if job.status.final:  # so its files have been removed, maybe before the note was there
                job_files.remove(made)
        if isinstance(job._executor_state, _Progress):
            job._executor_state.cancelled_since = time.monotonic()
        self._queue_poll_thread.watch(job)
        self._queue_poll_thread.poll_within(_EAGER)

    def _note_cancellation(self, job: Job) -> List[Path]:
        """Leave a note for all who follow a job, here and in other programs, that somebody has cancelled it.

        Not every scheduler tells later who has ended a job. There is no note about a job that had already recorded its
        exit code: such a job has ended by itself. Returns what is to be removed if the cancelling fails.
        """
        record = self._exit_record(job)
        if record is not None and record.is_conclusive:
            return []
        note = self._job_file(job, '.cancelled')
        try:
            job_files.private_directory(self.work_directory)
            job_files.write_private(note, '')
        except FileExistsError:
            return []
        except (OSError, SubmitException) as ex:
            logger.debug('Others will not know that job %s was cancelled: %s', job.native_id, ex)
            return []
        return [note]

    def _was_cancelled(self, job: Job) -> bool:
        """Tell whether somebody has cancelled a job through this library."""
        note = job_files.read_end(self._job_file(job, '.cancelled'))
        if note != _UNSURE:
            return note is not None
        record = self._exit_record(job)
        return record is None or not record.is_conclusive

    def list(self) -> List[str]:  # noqa: D102
        result = self._execute(self.get_list_command())
        if result.exit_code is None:
            raise SubmitException(f'Cannot list the jobs: {result.error}.', transient=result.timed_out)
        if result.exit_code and not self._has_no_jobs(result):
            raise SubmitException(f'Cannot list the jobs: {result.output.strip() or UNKNOWN_ERROR}', transient=True)
        try:
            return [native_id for native_id in self.parse_list_output(result.stdout) if native_id]
        except Exception as ex:
            message = f'Cannot list the jobs: what "{result.argv[0]}" printed is not understood: {result.output!r}.'
            raise SubmitException(message, ex) from ex

    def attach(self, job: Job, native_id: str) -> None:
        """Make a job stand for one that the scheduler has already.

        The scheduler is asked at once. If it knows nothing about the job, and there are no files of the job in the
        work directory, the job was not submitted by this library, or was finished long ago; it is then assumed to have
        completed, and ``status.metadata['assumed']`` is True.

        Parameters
        ----------
        job
            A new job; its specification is not used.
        native_id
            The ID that the scheduler gave the job when it was submitted.
        """
        if job.status.state is not JobState.NEW:
            raise InvalidJobException('Job must be in the NEW state')
        identifier = str(native_id).strip()
        if not identifier or identifier.startswith('-') or len(identifier.split()) > 1 or '/' in identifier:
            raise InvalidJobException(f'Invalid native ID: got {native_id!r}, expected the ID of a job.')
        self._bind(job)
        job._native_id = identifier
        progress = _Progress(attached=True)
        progress.submitted()
        job._executor_state = progress
        job_files.follow(self._followed(job), self._follower(job))
        self._queue_poll_thread.register_job(job)
        self._queue_poll_thread.poll_within(_ATTACH_DELAY)

    # --- what the sources say ------------------------------------------------------------------------------------

    def _on_report(self, job: Job, report: Report) -> None:
        """Take note of what the script of a job reports."""
        progress = job._executor_state
        if not isinstance(progress, _Progress) or progress.postpone(report):
            return
        progress.has_reported = True
        if report.state is not None:
            progress.reported = progress.ended_since = None  # if there was an end, the scheduler runs the job again
            self._set_job_status(job, JobStatus(report.state))
            return
        code = report.exit_code or 0
        # The second time it may come from somebody who has seen the first, of a run that was not the last: files and
        # scheduler tell as much.
        if report.word != SIGNAL or not progress.was_signalled:
            progress.reported = ExitRecord(code, told_to_end=code == _TOLD_TO_END)
        progress.was_signalled = progress.was_signalled or report.word == SIGNAL
        if progress.reported is not None and (progress.reported.is_conclusive or self._was_cancelled(job)):
            self._conclude(job, None)
        else:
            self._queue_poll_thread.watch(job)
            self._queue_poll_thread.poll_within(_EAGER)

    def _on_listed(self, job: Job, status: JobStatus) -> None:
        """Take note of what the scheduler says about a job."""
        if job.status.final:
            return  # the script has said so meanwhile
        progress = self._progress(job)
        progress.listed = True
        progress.unlisted_since = None
        if status.final:
            self._on_end(job, progress, status)
            return
        if status.state is JobState.ACTIVE and job.spec is not None and job.spec.stage_in:
            # the scheduler sees that the script runs; only the script knows when the files are there
            status = JobStatus(JobState.STAGE_IN, message=status.message, metadata=status.metadata)
        if status.state.is_greater_than(job.status.state):
            self._set_job_status(job, _copy(job, status))
        elif status.message != job.status.message:
            job._annotate(status.message, _copy(job, status).metadata)
        if status.state is JobState.QUEUED:
            progress.reported = None  # what the script has reported was the end of a run, and another one will follow
        elif not progress.has_reported and progress.can_report:
            progress.can_report = False  # nothing gets through
            job_files.follow(self._followed(job), self._follower(job))
            if job.status.final:  # a report has come meanwhile
                self._remove_files(job)
        if progress.reported is None:
            progress.ended_since = None
            if progress.cancelled_since is None:
                self._queue_poll_thread.relax(job)
            else:  # its end is near
                self._poll_patiently(progress.cancelled_since)
        elif self._has_waited(progress, _SIGNAL_GRACE):
            self._conclude(job, None)
        else:
            self._poll_patiently(progress.ended_since)

    def _on_end(self, job: Job, progress: _Progress, verdict: JobStatus) -> None:
        """Conclude, once there is an exit code, or there has been time enough for one to arrive."""
        needs_record = verdict.state is not JobState.CANCELED and (not progress.attached or self._is_ours(job))
        if needs_record and self._exit_record(job) is None and not self._has_waited(progress, _FILE_GRACE):
            self._queue_poll_thread.watch(job)
            self._queue_poll_thread.poll_within(_EAGER)
        else:
            self._conclude(job, verdict)

    def _on_absent(self, jobs: Iterable[Job]) -> None:
        """Find out about jobs that the scheduler does not list."""
        unknown: List[Job] = []
        absent_since = 0.0
        for job in jobs:
            if job.status.final:
                continue
            progress = self._progress(job)
            now = time.monotonic()
            if progress.unlisted_since is None:
                progress.unlisted_since = now
            record = self._exit_record(job)
            if record is not None and (record.is_conclusive or self._was_cancelled(job)):
                self._conclude(job, None)
            elif (
                record is None and not (progress.listed or progress.attached) and now - progress.since < _LISTING_GRACE
            ):
                self._queue_poll_thread.poll_within(4 * _EAGER)  # it was submitted just now
            else:
                unknown.append(job)
                absent_since = max(absent_since, progress.unlisted_since)
        if unknown:
            self._look_into_history(unknown)
            self._poll_patiently(absent_since, 4 * _EAGER)

    def _look_into_history(self, jobs: List[Job]) -> None:
        try:
            history, unasked = self._history([str(job.native_id) for job in jobs])
            self._history_silent_since = None
        except NoAnswer as ex:
            history, unasked = {}, set()
            if self._history_silent_since is None:
                self._history_silent_since = time.monotonic()
                logger.warning('The history of %s does not answer: %s', self.name, ex)
        for job in jobs:
            progress = self._progress(job)
            verdict = history.get(str(job.native_id))
            if verdict is not None and verdict.final:
                self._on_end(job, progress, verdict)
            elif verdict is not None:
                if verdict.state.is_greater_than(job.status.state):
                    self._set_job_status(job, _copy(job, verdict))
            elif job.native_id not in unasked and self._is_lost(job, progress):
                self._conclude(job, None)

    def _is_lost(self, job: Job, progress: _Progress) -> bool:
        """Tell whether there has been time enough for any sign of a job that neither queue nor history know."""
        grace = _LOST_GRACE
        if self._history_silent_since is not None:
            grace = _HISTORY_GRACE
        elif progress.attached and not (progress.listed or self._is_ours(job)):
            grace = _LISTING_GRACE  # it may have been submitted just now, by another program
        return time.monotonic() - (progress.unlisted_since or 0) >= grace

    def _history(self, native_ids: List[str]) -> Tuple[Dict[str, JobStatus], Set[str]]:
        """Return what the scheduler remembers about jobs, and those about which there was no time to ask it."""
        found: Dict[str, JobStatus] = {}
        deadline = time.monotonic() + _HISTORY_TIME
        unasked = set(native_ids)
        while unasked and time.monotonic() < deadline:
            ids = next(chunks(sorted(unasked)))
            argv = self._get_history_command(ids)
            if argv is None:
                return found, set()
            result = self._execute(argv)
            if result.exit_code is None and result.timed_out:
                raise NoAnswer(result.error)
            if result.exit_code is None:
                return found, set()  # there is no such command here
            try:
                answer = self._parse_history_output(
                    result.exit_code, result.stdout if not result.exit_code else result.output
                )
            except Exception as ex:
                raise NoAnswer(str(ex)) from ex
            if answer is None:
                return found, set()
            found.update(answer)
            unasked.difference_update(asked_about(unasked, argv) or ids)
        return found, unasked

    def _on_silence(self, jobs: Iterable[Job]) -> None:
        """Make do without the scheduler for jobs whose script has recorded an exit code."""
        for job in jobs:
            record = self._exit_record(job)
            if record is not None and (record.is_conclusive or self._was_cancelled(job)):
                self._conclude(job, None)

    def _on_refusal(self, jobs: Collection[Job]) -> None:
        """Find out about jobs when the command that asks about them fails again and again.

        It may fail because one of them is gone. If the scheduler lists the jobs of the user, it is there, and those
        that were submitted here and are not listed are gone. Jobs that one has attached to may be listed by other
        names, or belong to others.
        """
        try:
            listed = {str(native_id) for native_id in self.list()}
        except Exception as ex:  # noqa: BLE001 - of a plugin, or because the scheduler is away
            logger.debug('%s', ex)
            return
        absent = []
        for job in jobs:
            progress = self._progress(job)
            if str(job.native_id) in listed:
                progress.unlisted_since = None
            elif not progress.attached:
                absent.append(job)
        self._on_absent(absent)

    def _on_incomprehensible(self, jobs: Iterable[Job], message: str) -> None:
        """Give up on jobs: their scheduler says things that cannot be understood."""
        for job in jobs:
            self._conclude(job, JobStatus(JobState.FAILED, message=message, metadata={'reason': 'lost'}))

    def _poll_patiently(self, since: Optional[float], soon: float = _EAGER) -> None:
        """Ask again: soon at first, and less and less often."""
        waited = 0.0 if since is None else time.monotonic() - since
        self._queue_poll_thread.poll_within(max(soon, waited / 4))

    @staticmethod
    def _has_waited(progress: _Progress, seconds: float) -> bool:
        now = time.monotonic()
        if progress.ended_since is None:
            progress.ended_since = now
        return now - progress.ended_since >= seconds

    def _progress(self, job: Job) -> _Progress:
        """Return what is known about a job; plugins may register jobs that they have started in their own way."""
        if not isinstance(job._executor_state, _Progress):
            progress = _Progress(attached=False)
            progress.submitted()
            job._executor_state = progress
            return progress
        return job._executor_state

    # --- the end -------------------------------------------------------------------------------------------------

    def _set_job_status(self, job: Job, status: JobStatus) -> None:
        """Give a job a new status; a final one is weighed against what the script has recorded."""
        if status.state.is_greater_than(job.status.state) is False:
            return
        progress = job._executor_state
        concluded = isinstance(progress, _Progress) and progress.final is status
        if status.final and not concluded:
            self._conclude(job, status)
        else:
            super()._set_job_status(job, status)

    def _conclude(self, job: Job, verdict: Optional[JobStatus]) -> None:
        """Give a job its final status, and remove its files."""
        progress = self._progress(job)
        if not progress.conclude():
            return
        record, output, cancelled = self._exit_record(job), self._output(job), self._was_cancelled(job)
        if verdict is None and record is None and not cancelled:
            status = lost_status(attached=progress.attached and not self._is_ours(job))
        else:
            status = final_status(verdict, record, output, cancelled)
        status.metadata = {'native_id': job.native_id, **(status.metadata or {})}
        shared_channel().unregister(job.id)
        self._queue_poll_thread.unregister_job(job)
        removed = False
        try:
            self._read_aux_files(job, status)
            removed = self._remove_files(job)
        except Exception as ex:  # noqa: BLE001 - of a plugin; the job must come to its end all the same
            logger.warning('Job %s: its files cannot be read or removed: %s', job.id, ex)
        if record is not None and not self._failed_to_stage_in(job, record):
            self._set_job_status(job, JobStatus(JobState.ACTIVE))
        progress.final = status
        self._set_job_status(job, status)
        job._executor_state = None
        if removed:  # somebody may have cancelled it since; later ones see that it has ended
            job_files.remove([self._job_file(job, '.cancelled')])

    @staticmethod
    def _failed_to_stage_in(job: Job, record: ExitRecord) -> bool:
        """Tell whether the executable was never started, although the script has run."""
        staged = job.spec is not None and bool(job.spec.stage_in)
        return staged and record.code == _STAGING_FAILED and not job.status.state.is_greater_than(JobState.STAGE_IN)

    def _exit_record(self, job: Job) -> Optional[ExitRecord]:
        """Return what the script of a job has recorded about its end."""
        if job.native_id is None:
            return None
        record = parse_exit_record(job_files.read_end(self._job_file(job, '.ec')))
        progress = job._executor_state
        if record is None and isinstance(progress, _Progress):
            return progress.reported
        return record

    def _output(self, job: Job) -> Optional[str]:
        return None if job.native_id is None else job_files.read_end(self._job_file(job, '.out'))

    def _is_ours(self, job: Job) -> bool:
        """Tell whether there are files which show that a job was submitted by this library."""
        return any(os.path.exists(self._job_file(job, suffix)) for suffix in ('.out', '.ec'))

    # --- files ---------------------------------------------------------------------------------------------------

    def _file(self, name: str) -> Path:
        return self.work_directory / name

    def _job_file(self, job: Job, suffix: str) -> Path:
        """Return the path of a file whose name its script makes of the native ID."""
        return self._file(f'{job.native_id}{suffix}')

    def _files(self, job: Job) -> List[Path]:
        """Return the files that a job may have, besides its script."""
        suffixes = ('.ec', '.out', '.nodefile', '.cancelled')
        return [self._file(f'{job.id}_launcher.log'), *(self._job_file(job, suffix) for suffix in suffixes)]

    def _remove_files(self, job: Job) -> bool:
        """Remove the files of a job, unless others still follow it, who need them to learn how it ended.

        Returns whether they were removed.
        """
        is_last = job_files.unfollow(self._followed(job), self._follower(job))
        if is_last:
            job_files.remove([self._followed(job)])
        if self.config.keep_files:
            return False
        self._clean_submit_script(job)
        if is_last:
            job_files.remove(self._files(job))
        return is_last

    def _followed(self, job: Job) -> Path:
        return self._job_file(job, '.followed')

    def _follower(self, job: Job) -> Path:
        return self._job_file(job, f'-{job.id}.followed')

    def _touch_files(self, jobs: Iterable[Job]) -> None:
        """Mark the files of live jobs as used, so that they are not taken for left-overs."""
        for job in jobs:
            job_files.touch([self._file(f'{job.id}.job'), self._followed(job), *self._files(job)])

    def _clean_submit_script(self, job: Job) -> None:
        """Remove the script of a job; subclasses remove other files that they have written for it."""
        if not self.config.keep_files:
            job_files.remove([self._file(f'{job.id}.job')])

    def _read_aux_files(self, job: Job, status: JobStatus) -> None:
        """Complete the final status of a job from files that a subclass knows of, before they are removed."""

    def _aux_path(self, job: Optional[Job], suffix: Optional[str], path: Optional[Path]) -> Path:
        if path is not None:
            return path
        if job is None or suffix is None:
            raise ValueError('Either a path or a job and a suffix is needed.')
        return self._job_file(job, suffix)

    def _read_aux_file(
        self, job: Optional[Job] = None, suffix: Optional[str] = None, path: Optional[Path] = None
    ) -> Optional[str]:
        """Return the text of a file of a job, and remove it."""
        file = self._aux_path(job, suffix, path)
        text = job_files.read_end(file)
        self._delete_aux_file(path=file)
        return text

    def _delete_aux_file(
        self,
        job: Optional[Job] = None,
        suffix: Optional[str] = None,
        path: Optional[Path] = None,
        force: bool = False,
    ) -> None:
        """Remove a file of a job, unless files are to be kept."""
        if force or not self.config.keep_files:
            job_files.remove([self._aux_path(job, suffix, path)])

    def _clean_up_once(self) -> None:
        """Remove what programs that died have left long ago."""
        if not self._cleaned:
            self._cleaned = True
            job_files.remove_old(self.work_directory)


def _env_to_mustache(job: Job) -> List[Dict[str, str]]:
    """Return the environment of a job as templates need it; kept for plugins that build their own context."""
    environment = (job.spec and job.spec.environment) or {}
    return [{'name': name, 'value': value} for name, value in environment.items()]


def _attrs_to_mustache(job: Job) -> Dict[str, object]:
    """Return the custom attributes of a job as templates need them; kept for plugins that build their own context."""
    return {} if job.spec is None else custom_attributes(job.spec)


def _copy(job: Job, status: JobStatus) -> JobStatus:
    """Return a status for one job of what the scheduler said, maybe about several."""
    metadata = {'native_id': job.native_id, **(status.metadata or {})}
    return JobStatus(status.state, message=status.message, exit_code=status.exit_code, metadata=metadata)
