"""Runs jobs as child processes on this machine.

A job that needs no script is started directly; any other runs through one generated script. If starting a job
directly fails, the script is used too, so that errors look the same in both cases: they are the shell's. Processes
are watched by :mod:`psij._runtime.reaper`, for all executors of the program, so that each can attach to the jobs of
any other.
"""

from __future__ import annotations

import errno
import io
import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Dict, List, Optional

from psij._log import lazy_logger
from psij._runtime import environment, job_files, process_tree
from psij._runtime.event_loop import Timer
from psij._runtime.interrupt import DeferredInterrupt
from psij._runtime.outcome import describe_exit, signal_name, without_markers
from psij._runtime.reaper import Process, reaper
from psij._runtime.script_context import submit_directory
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
from psij.launchers.script_based_launcher import LIBRARY, ScriptBasedLauncher
from psij.launchers.single import SingleLauncher
from psij.resource_spec import ResourceSpecV1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from psij.executors.batch.script_generator import TemplatedScriptGenerator

logger = lazy_logger(__name__)

_CANCEL_GRACE = 1.0  # seconds
_STAGE_IN_FAILED = 121  # exit code, see batch_lib.mustache
_STAGING_GRACE = 60.0  # seconds that a canceled job has to stage out and to clean up
STAGED_SUFFIX = '.staged.job'
"""How the names of scripts end that stage files, so that those who attach to such a job know it."""
_SHORTAGES = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # of processes, memory and descriptors


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
        clean up has another minute for that.
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
        self._generator: Optional[TemplatedScriptGenerator] = None  # made for the first job that needs it
        self._private: Optional[Path] = None  # the directory that is known to be there and private

    def submit(self, job: Job) -> None:  # noqa: D102
        with DeferredInterrupt():  # else there could be a process that no job knows
            self._submit(job)

    def _submit(self, job: Job) -> None:
        spec = self._check_job(job)
        run = _Run(self, job)
        try:
            _check_here(spec)
            pid = self._start(job, spec, run)
            run.watch(pid, self._limit(spec))
        except BaseException:
            run.discard()
            self._release_job(job)
            raise
        run.announce()

    def _release_job(self, job: Job) -> None:
        job._executor_state = None
        super()._release_job(job)

    def _limit(self, spec: JobSpec) -> Optional[float]:
        """Return the time in seconds after which a job is to be ended, or None."""
        if self._enforce_walltime and spec.attributes is not None and spec.attributes.duration is not None:
            return spec.attributes.duration.total_seconds()
        return None

    def _start(self, job: Job, spec: JobSpec, run: _Run) -> int:
        """Start the process of a job and return its pid."""
        launcher = self._get_launcher(spec.launcher or Launcher.DEFAULT_LAUNCHER_NAME)
        variables = self._environment(spec, run)
        if not self._needs_no_script(spec, launcher):
            return self._start_script(job, spec, launcher, variables, run)
        argv = [str(spec.executable), *map(str, spec.arguments or ())]
        try:
            with Streams(spec.directory, spec.stdin_path, spec.stdout_path, spec.stderr_path) as streams:
                return spawn(argv, spec.directory, variables, streams)
        except OSError as ex:
            logger.debug('Job %s cannot be started without a script: %s', job.id, ex)
            return self._start_script(job, spec, launcher, variables, run)

    def _needs_no_script(self, spec: JobSpec, launcher: Launcher) -> bool:
        return self._launches_once(launcher) and not (spec.pre_launch or spec.post_launch or _is_staged(spec))

    def _launches_once(self, launcher: Launcher) -> bool:
        """Tell whether all that a launcher does is to run the executable once."""
        return type(launcher) is SingleLauncher and not self.config.launcher_log_file

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
            variables['PSIJ_NODEFILE'] = nodefile
        return variables

    def _write_nodefile(self, spec: JobSpec, run: _Run) -> str:
        assert isinstance(spec.resources, ResourceSpecV1)
        return run.write('.nodefile', 'localhost\n' * spec.resources.computed_process_count)

    def _start_script(
        self, job: Job, spec: JobSpec, launcher: Launcher, variables: Optional[Dict[str, str]], run: _Run
    ) -> int:
        suffix = STAGED_SUFFIX if _is_staged(spec) else '.job'
        script = run.write(suffix, self._render(job, spec, launcher, run))
        logger.debug('Job %s: its script is %s', job.id, script)
        if variables is not None:
            own = spec.environment or {}
            variables = {
                name: value
                for name, value in variables.items()
                if not (name in own and environment.is_shell_variable(name))
            }
        output = run.output()
        try:
            return spawn(['/bin/bash', script], spec.directory, variables, (subprocess.DEVNULL, output, output))
        except OSError as ex:  # the shell exists; resources may be missing
            problem = '/bin/bash cannot be started'
            if spec.directory is not None and ex.filename == spec.directory:
                problem = f'the directory of the job, {spec.directory}, cannot be entered'
            raise SubmitException(
                f'Failed to submit job: {problem}: {ex.strerror}.', ex, transient=ex.errno in _SHORTAGES
            ) from ex
        finally:
            os.close(output)

    def _render(self, job: Job, spec: JobSpec, launcher: Launcher, run: _Run) -> str:
        command = environment.through_shell(launcher.get_launch_command(job), spec)
        staged = _is_staged(spec)
        once = not staged and bool(spec.pre_launch or spec.post_launch) and self._launches_once(launcher)
        data: Dict[str, object] = {
            'staged': staged,
            'once': once and _once(spec, command),
            'launched': not staged and not once,
            'launch_command': command,
            # a script of ours can be sourced, which saves a second shell; of others we do not know
            'launch_in_shell': isinstance(launcher, ScriptBasedLauncher)
            and launcher.is_ours
            and command[0] == '/bin/bash',
            'launch_arguments': command[1:],
        }
        if staged:
            from psij._runtime.staging import staging_context

            data['staging'] = staging_context(spec, submit_directory())
            data.update(run.open_channel())
        text = io.StringIO()
        self._script_generator().generate_submit_script(job, {'job': job, 'psij': data}, text)
        return text.getvalue()

    def _script_generator(self) -> TemplatedScriptGenerator:
        if self._generator is None:
            from psij.executors.batch.script_generator import TemplatedScriptGenerator

            self._generator = TemplatedScriptGenerator(self.config, Path(__file__).with_name('local.mustache'))
        return self._generator

    def _directory(self) -> str:
        """Return the directory for the files of jobs; it is made, or checked, when it is first needed."""
        path = self.config.work_directory.absolute() / 'local'
        if path != self._private:
            self._private = job_files.private_directory(path)
            job_files.remove_old(path)  # of programs that ended before their jobs
        return str(path)

    def cancel(self, job: Job) -> None:  # noqa: D102
        run = job._executor_state
        if job.status.final:  # asked after the line above, because the end of a job takes its state away
            return
        if not isinstance(run, _Run):
            raise SubmitException('Cannot cancel job: it was not submitted to, or attached by, a local executor.')
        if run.is_of_parent():
            raise SubmitException(
                'Cannot cancel job: it is one of the program from which this one was forked. Attach another job to its '
                'native ID, and cancel that.'
            )
        run.stop('cancelled_by_user')

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
        except (TypeError, ValueError) as ex:
            raise InvalidJobException(
                f'Invalid native ID: got {native_id!r}, expected the pid of a process.', ex
            ) from ex
        self._bind(job)
        run = _Run(self, job)
        try:
            run.attach(pid)
        except BaseException:
            run.discard()
            self._release_job(job)
            raise


def _is_staged(spec: JobSpec) -> bool:
    return bool(spec.stage_in or spec.stage_out or spec.cleanup)


def _is_staged_script(pid: int) -> bool:
    """Tell whether a process runs the script of a job with staging, whichever program has submitted it."""
    arguments = process_tree.command_line(pid)
    return len(arguments) == 2 and arguments[0] == '/bin/bash' and arguments[1].endswith(STAGED_SUFFIX)


def _once(spec: JobSpec, command: List[str]) -> str:
    """Return assignments for a script that does what the command of the launcher ``single`` does.

    The names of those that are not for the script itself are the ones that launcher scripts use.
    """
    script, *given = command[1:9]
    names = ('job_id', 'log_file', 'pre_launch', 'post_launch', 'stdin', 'stdout', 'stderr')
    variables = {f'_PSI_J_{name.upper()}': value for name, value in zip(names, given)}
    directory = os.path.join(submit_directory(), spec.directory or '')
    for name, path in zip(names[2:], given[2:]):
        variables[f'_psij_{name}'] = path and os.path.join(directory, path)
    variables['_psij_job_directory'] = directory
    variables['_psij_library'] = os.path.join(os.path.dirname(script), LIBRARY.name)
    variables['_psij_executable'] = str(spec.executable)
    assignments = [f'{name}={shlex.quote(value)}' for name, value in variables.items()]
    return f'{" ".join(assignments)} _psij_command=({shlex.join(command[9:])})'


_channel: Optional[StatusChannel] = None


def _local_channel() -> StatusChannel:
    """Return the channel for reports of scripts on this machine, which ends with the reaper after a fork."""
    global _channel
    if _channel is None or _channel._loop is not reaper().loop:
        _channel = StatusChannel(reaper().loop, '127.0.0.1')
    return _channel


def _check_here(spec: JobSpec) -> None:
    """Check what depends on this machine and this executor."""
    if spec.directory is not None and not os.path.isdir(spec.directory):
        reason = 'does not exist, is no directory, or is in one that cannot be entered'
        raise SubmitException(f'The directory of the job, {spec.directory}, {reason}.')
    if not isinstance(spec.resources, ResourceSpecV1):
        raise InvalidJobException(
            f'Invalid resources: got {spec.resources!r}, expected a ResourceSpecV1, the only version that the local '
            'executor knows.'
        )


class _Run:
    """One job in the care of a local executor: its files, its reports, its end."""

    __slots__ = (
        '_channel',
        '_executor',
        '_files',
        '_job',
        '_output',
        '_process',
        '_reaper',
        '_staged',
        '_stop_reason',
        '_timer',
    )

    def __init__(self, executor: LocalJobExecutor, job: Job) -> None:
        self._executor = executor
        self._job = job
        self._process: Optional[Process] = None
        self._reaper = reaper()
        self._staged = False  # whether the process is a script that has files to care for
        self._channel: Optional[StatusChannel] = None  # if the script reports its states
        self._files: List[str] = []
        self._output: Optional[str] = None
        self._timer: Optional[Timer] = None
        self._stop_reason: Optional[str] = None
        job._executor_state = self

    def create(self, suffix: str) -> int:
        """Create a file that exists as long as the job, and return a descriptor to write to it."""
        path = f'{self._executor._directory()}/{self._job.id}{suffix}'
        try:
            try:
                fd = job_files.create_private(path)
            except FileNotFoundError:
                self._executor._private = None  # somebody has removed the directory
                self._executor._directory()
                fd = job_files.create_private(path)
        except OSError as ex:
            raise _not_written(path, ex) from ex
        self._files.append(path)
        return fd

    def write(self, suffix: str, text: str) -> str:
        """Write a file that exists as long as the job, and return its path."""
        fd = self.create(suffix)
        path = self._files[-1]
        try:
            job_files.write_text(fd, text)
        except OSError as ex:
            raise _not_written(path, ex) from ex
        finally:
            os.close(fd)
        return path

    def output(self) -> int:
        """Create the file for what the script of the job prints, and return a descriptor to write to it."""
        fd = self.create('.out')
        self._output = self._files[-1]
        return fd

    def open_channel(self) -> Dict[str, object]:
        """Accept reports of the script, and return what it needs to send them."""
        secret = Secret()
        channel = _local_channel()
        port = channel.register(self._job.id, secret, self._on_report)
        if port is not None:
            self._channel = channel
        self._staged = True
        return {'us_port': port, 'us_addr_list': ['127.0.0.1'], 'us_tokens': secret.tokens()}

    def _on_report(self, report: Report) -> None:
        if report.state is not None:
            self._executor._set_job_status(self._job, JobStatus(report.state))

    def watch(self, pid: int, limit: Optional[float]) -> None:
        """Take care of the process of the job, which was just started, and end it after a time if there is a limit."""
        self._job._native_id = pid
        try:
            if limit is not None:
                self._timer = self._reaper.loop.call_later(limit, self._on_limit)
            self._process = self._reaper.watch_child(pid, self._finish)
        except BaseException as ex:
            _undo(pid)
            if isinstance(ex, RuntimeError):
                raise SubmitException(f'The process of the job cannot be watched: {ex}.', ex, transient=True) from ex
            raise
        if self._stop_reason is not None:
            self.stop(self._stop_reason)

    def attach(self, pid: int) -> None:
        """Take care of a process that exists already."""
        self._job._native_id = pid
        try:
            if pid <= 0:
                raise ProcessLookupError
            self._staged = _is_staged_script(pid)
            self._process = self._reaper.attach(pid, self._finish)
        except (OSError, OverflowError) as ex:
            reason = 'belongs to another user' if isinstance(ex, PermissionError) else 'does not exist (any more)'
            message = f'Process {pid} {reason}, so it cannot be a job that runs.'
            self._end(JobStatus(JobState.FAILED, message=message, metadata={'reason': 'lost'}))
            return
        self.announce()
        if self._stop_reason is not None:
            self.stop(self._stop_reason)

    def announce(self) -> None:
        """Give the job the states that follow from the fact that its process exists."""
        self._executor._set_job_status(
            self._job,
            # earlier versions of the library had the number
            JobStatus(JobState.QUEUED, metadata={'native_id': self._job.native_id, 'nativeId': self._job._native_id}),
        )
        if self._channel is None:
            self._executor._set_job_status(self._job, JobStatus(JobState.ACTIVE))

    def _on_limit(self) -> None:
        self.stop('timeout')

    def stop(self, reason: str) -> None:
        """End the job; if it is just being started, as soon as it is."""
        self._stop_reason = reason
        if self._process is None:
            return
        grace = self._executor._cancel_grace
        if not self._staged:
            self._reaper.stop(self._process, reason, grace)
        elif self._reaper.stop(self._process, reason, grace, grace + _STAGING_GRACE):
            self._reaper.loop.call_later(grace, self._end_executable)

    def is_of_parent(self) -> bool:
        """Tell whether this program is a forked child of the one that has the job."""
        return self._reaper is not reaper()

    def _end_executable(self) -> None:
        """End what a stopped job runs, if that did not end when asked; then its script gets on with its files."""
        if self._process is not None and not self._is_past_executable(self._process):
            self._reaper.kill_descendants(self._process)

    def _is_past_executable(self, process: Process) -> bool:
        """Tell whether what the script of the job runs are not the executable any more, but the tools for its files."""
        if self._channel is not None:
            self._channel.drain()
        state = self._job.status.state
        if self._channel is None or state is JobState.QUEUED:  # there are no reports, but this can be seen as well:
            return process_tree.ignores(process.pid, signal.SIGTERM)
        return bool(state.is_greater_than(JobState.ACTIVE))

    def _finish(self, process: Process) -> None:
        """Give the job its final status; called when its process has ended."""
        if self._channel is not None:
            self._channel.drain()  # what the script has sent is here before the end of the script is
        if self._job.status.state in (JobState.NEW, JobState.QUEUED):
            self.announce()  # the end of a process can be noted before submit() or attach() is done
        if self._job.status.state is JobState.QUEUED and _has_run(process):  # the reports of the script were lost
            self._executor._set_job_status(self._job, JobStatus(JobState.ACTIVE))
        self._end(final_status(process, self._read_output(process)))

    def _read_output(self, process: Process) -> Optional[str]:
        """Return what the script has printed, if it is needed."""
        text = None if self._output is None or process.exit_code == 0 else job_files.read_end(self._output)
        return text and without_markers(text)

    def _end(self, status: JobStatus) -> None:
        self.discard()
        self._executor._set_job_status(self._job, status)
        self._job._executor_state = None  # the last of all, see cancel()

    def discard(self) -> None:
        """Give back all that the job took."""
        if self._timer is not None:
            self._timer.cancel()
        if self._channel is not None:
            self._channel.unregister(self._job.id)
        job_files.remove(self._files)
        self._files = []


def _has_run(process: Process) -> bool:
    """Tell whether the script of a job that has ended came to its executable, as far as its exit code tells."""
    return process.stop_reason is None and process.exit_code not in (None, _STAGE_IN_FAILED)


def _not_written(path: str, ex: OSError) -> SubmitException:
    return SubmitException(f'Cannot write {path}: {ex.strerror}.', ex, transient=ex.errno in _SHORTAGES)


def _undo(pid: int) -> None:
    """End a process that was just started, because nobody would take note of its end."""
    process_tree.send_to_group(signal.SIGKILL, pid)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # the application ignores SIGCHLD


def final_status(process: Process, output: Optional[str]) -> JobStatus:
    """Return how a job ended, from the end of its process and the output of its script, if it has one."""
    pid, code = process.pid, process.exit_code
    text = output.strip() if output else ''
    if process.stop_reason == 'timeout':
        message = 'The job was ended because its walltime was over.'
        return JobStatus(JobState.FAILED, message=message, exit_code=code, metadata={'reason': 'timeout'})
    if process.stop_reason is not None:
        return JobStatus(JobState.CANCELED, message=text or None, metadata={'reason': process.stop_reason})
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
