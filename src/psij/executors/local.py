"""Runs jobs as child processes on this machine.

A job that needs no script is started directly; any other runs through one generated script. If starting a job
directly fails, the script is used too, so that errors look the same in both cases: they are the shell's. Processes
are watched by :mod:`psij._runtime.reaper`, for all executors of the program, so that each can attach to the jobs of
any other.
"""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path
from typing import Dict, List, Optional

from psij._log import lazy_logger
from psij._runtime import environment, job_files
from psij._runtime.event_loop import Timer
from psij._runtime.outcome import describe_exit, signal_name
from psij._runtime.reaper import Process, reaper
from psij._runtime.spawn import Streams, spawn
from psij._runtime.status_channel import Report, Secret, StatusChannel
from psij.exceptions import InvalidJobException, SubmitException
from psij.job import Job
from psij.job_executor import JobExecutor, resources_given
from psij.job_executor_config import JobExecutorConfig
from psij.job_launcher import Launcher
from psij.job_spec import JobSpec
from psij.job_state import JobState
from psij.job_status import JobStatus

logger = lazy_logger(__name__)

_CANCEL_GRACE = 1.0  # seconds


class LocalJobExecutorConfig(JobExecutorConfig):
    """Settings of the local executor.

    Parameters
    ----------
    launcher_log_file, work_directory
        See :class:`.JobExecutorConfig`.
    enforce_walltime
        Whether jobs are ended when they have run for longer than :attr:`.JobAttributes.duration`. They are not by
        default: on one's own machine nobody waits for the end of a job.
    cancel_grace
        The time in seconds between SIGTERM and SIGKILL when a job is canceled. A job with files to stage out or to
        clean up gets the time for that, up to a minute.
    """

    def __init__(
        self,
        launcher_log_file: Optional[Path] = None,
        work_directory: Optional[Path] = None,
        enforce_walltime: bool = False,
        cancel_grace: float = _CANCEL_GRACE,
    ) -> None:
        super().__init__(launcher_log_file, work_directory)
        self.enforce_walltime = enforce_walltime
        self.cancel_grace = cancel_grace


class LocalJobExecutor(JobExecutor):
    """Runs jobs as child processes on this machine.

    The native ID of a job is the pid of its first process. Jobs start at once, however many there are, in a session
    of their own; they go on when the program that submitted them ends.

    Parameters
    ----------
    url
        Not used.
    config
        A :class:`LocalJobExecutorConfig`, or settings that all executors understand.
    """

    _NAME_ = 'local'
    _VERSION_ = '0.2.0'

    def __init__(self, url: Optional[str] = None, config: Optional[JobExecutorConfig] = None) -> None:
        super().__init__(url=url, config=LocalJobExecutorConfig() if config is None else config)
        self._enforce_walltime: bool = getattr(self.config, 'enforce_walltime', False)
        self._cancel_grace: float = getattr(self.config, 'cancel_grace', _CANCEL_GRACE)

    def submit(self, job: Job) -> None:  # noqa: D102
        spec = self._check_job(job)
        run = _Run(self, job)
        try:
            if not spec.executable:
                raise InvalidJobException('Invalid executable: got None, expected the name or the path of a program.')
            if spec.directory is not None and not spec.directory.is_dir():
                raise SubmitException(
                    f'The directory of the job, {spec.directory}, does not exist or is no directory.'
                )
            pid = self._start(job, spec, run)
        except BaseException:
            run.discard()
            self._release_job(job)
            raise
        job._native_id = pid
        self._set_job_status(job, JobStatus(JobState.QUEUED, metadata={'native_id': str(pid)}))
        if not run.reports:
            self._set_job_status(job, JobStatus(JobState.ACTIVE))
        run.process = reaper().watch_child(pid, run.finish)
        if self._enforce_walltime and spec.attributes is not None and spec.attributes.duration is not None:
            run.limit(spec.attributes.duration.total_seconds())

    def _start(self, job: Job, spec: JobSpec, run: _Run) -> int:
        """Start the process of a job and return its pid."""
        launcher = self._get_launcher(spec.launcher or Launcher.DEFAULT_LAUNCHER_NAME)
        variables = self._environment(spec, run)
        if self._needs_no_script(spec, launcher):
            argv = [str(spec.executable), *map(str, spec.arguments or ())]
            try:
                with Streams(spec.directory, spec.stdin_path, spec.stdout_path, spec.stderr_path) as streams:
                    return spawn(argv, spec.directory, variables, streams)
            except OSError as ex:
                logger.debug('Job %s cannot be started without a script: %s', job.id, ex)
        return self._start_script(job, spec, launcher, variables, run)

    def _needs_no_script(self, spec: JobSpec, launcher: Launcher) -> bool:
        from psij.launchers.single import SingleLauncher

        return type(launcher) is SingleLauncher and not (
            spec.pre_launch
            or spec.post_launch
            or spec.stage_in
            or spec.stage_out
            or spec.cleanup
            or self.config.launcher_log_file
        )

    def _environment(self, spec: JobSpec, run: _Run) -> Optional[Dict[str, str]]:
        """Return the environment of a job, or None if it is the one of this program."""
        own = spec.environment or {}
        nodefile = self._write_nodefile(spec, run) if resources_given(spec) else None
        if spec.inherit_environment and not own and nodefile is None and 'PSIJ_NODEFILE' not in os.environ:
            return None
        variables = dict(os.environ) if spec.inherit_environment else {}
        variables.pop('PSIJ_NODEFILE', None)  # of a job that we run in, not of this one
        variables.update(own)
        if nodefile is not None:
            variables['PSIJ_NODEFILE'] = str(nodefile)
        return variables

    def _write_nodefile(self, spec: JobSpec, run: _Run) -> Path:
        count: int = getattr(spec.resources, 'computed_process_count', 1)
        return run.write('.nodefile', 'localhost\n' * count)

    def _start_script(
        self, job: Job, spec: JobSpec, launcher: Launcher, variables: Optional[Dict[str, str]], run: _Run
    ) -> int:
        script = run.write('.job', self._render(job, spec, launcher, run))
        if variables is None:
            variables = dict(os.environ)
        if spec.environment:
            hidden = {name for name in spec.environment if environment.is_shell_variable(name)}
            variables = {name: value for name, value in variables.items() if name not in hidden}
        with open(run.write('.out', ''), 'ab') as output:
            streams = (subprocess.DEVNULL, output.fileno(), output.fileno())
            try:
                return spawn(['/bin/bash', str(script)], spec.directory, variables, streams)
            except OSError as ex:
                # the shell exists, so what is missing is memory, processes or descriptors
                raise SubmitException(f'Failed to submit job: {ex}', exception=ex, transient=True) from ex

    def _render(self, job: Job, spec: JobSpec, launcher: Launcher, run: _Run) -> str:
        from psij.executors.batch.script_generator import TemplatedScriptGenerator
        from psij.launchers.script_based_launcher import ScriptBasedLauncher

        command = environment.through_shell(launcher.get_launch_command(job), spec)
        staged = bool(spec.stage_in or spec.stage_out or spec.cleanup)
        data: Dict[str, object] = {
            'staged': staged,
            'launch_command': command,
            # a script of ours can be sourced, which saves a second shell; of others we do not know
            'launch_in_shell': type(launcher).__module__.startswith('psij.launchers.')
            and isinstance(launcher, ScriptBasedLauncher)
            and command[0] == '/bin/bash',
            'launch_arguments': command[1:],
        }
        if staged:
            from psij._runtime.staging import staging_context

            data['staging'] = staging_context(spec, Path.cwd())
            data.update(run.open_channel())
        generator = TemplatedScriptGenerator(self.config, Path(__file__).with_name('local.mustache'))
        text = io.StringIO()
        generator.generate_submit_script(job, {'job': job, 'psij': data}, text)
        return text.getvalue()

    def cancel(self, job: Job) -> None:  # noqa: D102
        if job.status.final:
            return
        run = job._executor_state
        if not isinstance(run, _Run):
            raise SubmitException('Cannot cancel job: it was not submitted to, or attached by, a local executor.')
        run.cancel()

    def list(self) -> List[str]:
        """Return the pids of all processes of this user."""
        import psutil

        user = os.geteuid()
        return [
            str(process.pid)
            for process in psutil.process_iter(['uids'])
            if process.info['uids'] is not None and process.info['uids'].effective == user
        ]

    def attach(self, job: Job, native_id: str) -> None:
        """Make a job stand for a process of this user.

        The exit code is known if this program runs or ran the process, on Linux 6.15 or newer for any process, and
        with older systems if its parent is slow enough to take note of its end. Where it cannot be known the job ends
        ``COMPLETED`` without an exit code, and ``metadata['assumed']`` is True.

        Parameters
        ----------
        job
            A new job; its specification is not used.
        native_id
            The pid. If there is no such process, or it is not one of this user, the job ends ``FAILED``.
        """
        if job.status.state is not JobState.NEW:
            raise InvalidJobException('Job must be in the NEW state')
        try:
            pid = int(native_id)
        except ValueError as ex:
            raise InvalidJobException(
                f'Invalid native ID: got {native_id!r}, expected the pid of a process.', ex
            ) from ex
        self._bind(job)
        job._native_id = pid
        run = _Run(self, job)
        self._set_job_status(job, JobStatus(JobState.QUEUED, metadata={'native_id': str(pid)}))
        try:
            if pid <= 0:
                raise ProcessLookupError(3, 'No such process')
            process = reaper().attach(pid, run.finish)
        except OSError as ex:
            reason = 'belongs to another user' if isinstance(ex, PermissionError) else 'does not exist (any more)'
            message = f'Process {pid} {reason}, so it cannot be a job that runs.'
            self._set_job_status(job, JobStatus(JobState.FAILED, message=message, metadata={'reason': 'lost'}))
            return
        run.process = process
        self._set_job_status(job, JobStatus(JobState.ACTIVE))


_channel: Optional[StatusChannel] = None


def _local_channel() -> StatusChannel:
    """Return the channel for reports of scripts on this machine, which ends with the reaper after a fork."""
    global _channel
    if _channel is None or _channel._loop is not reaper().loop:
        _channel = StatusChannel(reaper().loop, '127.0.0.1')
    return _channel


class _Run:
    """One job in the care of a local executor: its files, its reports, its end."""

    def __init__(self, executor: LocalJobExecutor, job: Job) -> None:
        self.executor = executor
        self.job = job
        self.process: Optional[Process] = None
        self.reports = False
        self._files: List[Path] = []
        self._timed_out = False
        self._timer: Optional[Timer] = None
        job._executor_state = self

    def write(self, suffix: str, text: str) -> Path:
        """Write a file that exists as long as the job."""
        directory = job_files.private_directory(self.executor.config.work_directory / 'local')
        path = directory / f'{self.job.id}{suffix}'
        self._files.append(path)
        try:
            return job_files.write_private(path, text)
        except OSError as ex:
            raise SubmitException(f'Cannot write {path}: {ex.strerror}.', ex) from ex

    def open_channel(self) -> Dict[str, object]:
        """Accept reports of the script, and return what it needs to send them."""
        secret = Secret()
        port = _local_channel().register(self.job.id, secret, self._on_report)
        self.reports = port is not None
        return {'us_port': port, 'us_addr_list': ['127.0.0.1'], 'us_tokens': secret.tokens()}

    def _on_report(self, report: Report) -> None:
        if report.state is not None:
            self.executor._set_job_status(self.job, JobStatus(report.state))

    def limit(self, seconds: float) -> None:
        """End the job after a time."""
        self._timer = reaper().loop.call_later(seconds, self._on_limit)

    def _on_limit(self) -> None:
        self._timed_out = True
        self._stop()

    def cancel(self) -> None:
        """End the job."""
        self._stop()

    def _stop(self) -> None:
        if self.process is not None:
            spec = self.job.spec
            staged = spec is not None and bool(spec.stage_out or spec.cleanup)
            grace = self.executor._cancel_grace
            reaper().stop(self.process, max(grace, 60.0) if staged and self._files else grace)

    def finish(self, process: Process) -> None:
        """Give the job its final status; called when its process has ended."""
        if self.reports:
            _local_channel().drain()  # what the script has sent is here before the end of the script is
        output = self._output()
        self.discard()
        if self._timer is not None:
            self._timer.cancel()
        status = final_status(process, output, self._timed_out)
        if self.job.status.state.is_greater_than(JobState.STAGE_IN) is False and not self.reports:
            # the end of a process can be noted before submit() or attach() says that it runs
            self.executor._set_job_status(self.job, JobStatus(JobState.ACTIVE))
        self.executor._set_job_status(self.job, status)
        self.job._executor_state = None

    def _output(self) -> Optional[str]:
        for path in self._files:
            if path.suffix == '.out':
                return job_files.read_end(path)
        return None

    def discard(self) -> None:
        """Remove the files, and expect no more reports."""
        if self.reports:
            _local_channel().unregister(self.job.id)
        job_files.remove(self._files)
        self._files = []


def final_status(process: Process, output: Optional[str], timed_out: bool) -> JobStatus:
    """Return how a job ended, from the end of its process and the output of its script."""
    pid, code = process.pid, process.exit_code
    text = output.strip() if output else ''
    if process.stopped and timed_out:
        message = 'The job was ended because its walltime was over.'
        return JobStatus(JobState.FAILED, message=message, exit_code=code, metadata={'reason': 'timeout'})
    if process.stopped:
        return JobStatus(JobState.CANCELED, metadata={'reason': 'cancelled_by_user'})
    if code == 0:
        return JobStatus(JobState.COMPLETED, exit_code=0)
    if code is not None:
        reason = 'signal' if signal_name(code) else 'exit_code'
        return JobStatus(
            JobState.FAILED, message=text or describe_exit(code), exit_code=code, metadata={'reason': reason}
        )
    if process.child:
        message = (
            f'The exit code of process {pid} is lost: another part of this program waits for any child, or has '
            'SIGCHLD ignored.'
        )
        return JobStatus(JobState.FAILED, message=message, metadata={'reason': 'lost'})
    message = f'Process {pid} has ended; its exit code cannot be known, because it is not a child of this program.'
    return JobStatus(JobState.COMPLETED, message=message, metadata={'assumed': True})
