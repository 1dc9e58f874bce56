"""The Flux executor. It is found in :mod:`psij.executors.flux`."""

from __future__ import annotations

import errno
import io
import os
import shutil
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as AnswerTimeout
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, TypeVar

from psij._log import lazy_logger
from psij._runtime import environment as job_environment
from psij._runtime.script_context import own_addresses
from psij._runtime.staging import staging_context
from psij._runtime.status_channel import Report, Secret, StatusChannel, shared_channel
from psij.exceptions import InvalidJobException, SubmitException
from psij.executors._flux_events import Event, History, native_id
from psij.executors._flux_jobspec import LAUNCHER, Request, check, inherited, is_text, process_request, script_request
from psij.executors._flux_session import Listener, Session, SessionClosed, SessionLost, bindings
from psij.executors.batch.script_generator import TemplatedScriptGenerator
from psij.job import Job
from psij.job_executor import JobExecutor, resources_given
from psij.job_executor_config import JobExecutorConfig
from psij.job_launcher import Launcher
from psij.job_spec import JobSpec
from psij.job_state import JobState
from psij.job_status import JobStatus
from psij.launchers.mpirun import MPILauncher
from psij.resource_spec import ResourceSpecV1

logger = lazy_logger(__name__)

Result = TypeVar('Result')

_PATIENCE = 60.0  # seconds for an answer of Flux
_START_PATIENCE = 10.0  # seconds for an instance that has just been started to take jobs
_START_INTERVAL = 0.2  # seconds between attempts
_STAGING_FAILED = 121  # the exit code of the staging functions

_TRANSIENT = (
    errno.EAGAIN,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.ENOSYS,  # the services of the instance are not there yet, or not any more
    errno.ENOTCONN,
    errno.EPIPE,
    errno.ETIMEDOUT,
)


class FluxJobExecutor(JobExecutor):
    """A :class:`.JobExecutor` for the Flux resource manager, which is used through its Python bindings.

    Custom attributes that begin with ``flux.`` become parts of the jobspec: see the page about this executor.

    Parameters
    ----------
    url
        The Flux instance: an URI such as ``local:///run/flux/local`` or ``ssh://host/path``; what ``flux uri``
        resolves, such as ``jobid:f2B2k5ZCK``; or ``..`` and ``/`` for an enclosing instance. By default it is the
        instance that the environment variable ``FLUX_URI`` names, or else that of the system.
    config
        Settings that all executors understand. The work directory must be on a file system that all nodes share.

    Raises
    ------
    ImportError
        If Flux's Python bindings cannot be imported.
    """

    _NAME_ = 'flux'
    _VERSION_ = '0.0.1'
    __module__ = 'psij.executors.flux'  # where everybody else finds it

    def __init__(self, url: Optional[str] = None, config: Optional[JobExecutorConfig] = None) -> None:
        super().__init__(url=url, config=JobExecutorConfig() if config is None else config)
        self._bindings = bindings()
        self._lock = threading.Lock()
        self._session: Optional[Session] = None

    def submit(self, job: Job) -> None:
        spec = self._check_job(job)
        run = _Run(self, job)
        try:
            self._submit(self._request(job, spec, run), run)
        except BaseException:
            run.discard()
            self._release_job(job)
            raise

    def _submit(self, request: Request, run: _Run) -> None:
        deadline = time.monotonic() + _START_PATIENCE
        while True:
            try:
                self._ask(lambda session: session.submit(request.text, request.urgency, run), 'submit the job')
                return
            except OSError as ex:
                if ex.errno != errno.ENOSYS or time.monotonic() > deadline:
                    lost = ex.errno in (errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN, errno.EPIPE)
                    what = 'There is no connection to Flux' if lost else 'Flux refuses the job'
                    raise SubmitException(f'{what}: {ex.strerror or ex}', ex, ex.errno in _TRANSIENT) from ex
            time.sleep(_START_INTERVAL)

    def _request(self, job: Job, spec: JobSpec, run: _Run) -> Request:
        check(spec)
        variables = inherited(os.environ) if spec.inherit_environment else {}
        name = spec.launcher or Launcher.DEFAULT_LAUNCHER_NAME
        if name.lower() == LAUNCHER:
            _check_directory(spec)
            return process_request(spec, {**variables, **(spec.environment or {})}, Path.cwd())
        # variables that are not text in UTF-8 cannot be in a jobspec, but in a script
        for_flux = {key: value for key, value in variables.items() if is_text(key) and is_text(value)}
        rest = {key: value for key, value in variables.items() if is_text(key) and key not in for_flux}
        script = self._render(job, spec, self._get_launcher(name), rest, run)
        return script_request(spec, script, for_flux, Path.cwd())

    def _render(self, job: Job, spec: JobSpec, launcher: Launcher, inherited_rest: Mapping[str, str], run: _Run) -> str:
        resources = spec.resources
        assert isinstance(resources, ResourceSpecV1)  # was checked
        staged = bool(spec.stage_in or spec.stage_out or spec.cleanup)
        variables = job_environment.for_shell({**inherited_rest, **(spec.environment or {})})
        data: Dict[str, object] = {
            'directory': None if spec.directory is None else str(Path.cwd() / spec.directory),
            'flux_command': shutil.which('flux') or 'flux',
            'launch_command': job_environment.through_shell(launcher.get_launch_command(job), spec),
            'mpirun': isinstance(launcher, MPILauncher),
            'nodefile_wanted': resources_given(spec),
            'processes_per_node': resources.computed_processes_per_node,
            'several_nodes': resources.computed_node_count > 1,
            'staged': staged,
            'staging': staging_context(spec, Path.cwd()),
        }
        if staged:
            data.update(run.open_channel())
        generator = TemplatedScriptGenerator(self.config, Path(__file__).with_name('flux.mustache'))
        text = io.StringIO()
        context = {
            'job': job,
            'env': [{'name': name, 'value': value} for name, value in variables.items()],
            'psij': data,
        }
        generator.generate_submit_script(job, context, text)
        return text.getvalue()

    def cancel(self, job: Job) -> None:
        run = job._executor_state
        if job.status.final:  # asked after the line above, because the end of a job takes its state away
            return
        if not isinstance(run, _Run) or run.job_id is None:
            raise SubmitException('Cannot cancel job: it was not submitted to, or attached by, a Flux executor.')
        job_id = run.job_id
        try:
            self._ask(lambda session: session.cancel(job_id), 'cancel the job')
        except FileNotFoundError as ex:
            logger.debug('Job %s cannot be cancelled any more: %s', job.id, ex)
        except OSError as ex:
            raise SubmitException(
                f'Flux does not cancel the job: {ex.strerror or ex}', ex, ex.errno in _TRANSIENT
            ) from ex

    def list(self) -> List[str]:
        """Return the IDs of all jobs of this user that are waiting or running in the instance."""
        try:
            ids = self._ask(lambda session: session.list(), 'list the jobs')
        except OSError as ex:
            raise SubmitException(f'Flux does not list the jobs: {ex.strerror or ex}', ex, True) from ex
        return [native_id(job_id) for job_id in ids]

    def attach(self, job: Job, native_id: str) -> None:
        """Make a job stand for one that the Flux instance has, or had and remembers.

        Flux tells everything that has happened to the job, also if it has ended. A job that Flux does not know, or
        does not let this user see, ends ``FAILED``.

        Parameters
        ----------
        job
            A new job; its specification is not used.
        native_id
            The ID of the job in any form that Flux knows: ``f2B2k5ZCK``, ``ƒ2B2k5ZCK``, ``2589814947840``, ...
        """
        if job.status.state is not JobState.NEW:
            raise InvalidJobException('Job must be in the NEW state')
        try:
            job_id = int(self._bindings.job.JobID(str(native_id).strip()))
        except (OSError, ValueError) as ex:
            raise InvalidJobException(
                f'Invalid native ID: got {native_id!r}, expected the ID of a Flux job, such as f2B2k5ZCK or its '
                'decimal form.',
                ex,
            ) from ex
        self._bind(job)
        run = _Run(self, job)
        try:
            self._ask(lambda session: session.watch(job_id, run), 'watch the job')
        except BaseException:
            self._release_job(job)
            raise

    def _ask(self, question: Callable[[Session], Future[Result]], what: str) -> Result:
        """Ask Flux something, and return the answer.

        Raises
        ------
        OSError
            If Flux refuses.
        SubmitException
            If there is no answer.
        """
        while True:
            try:
                return _answer(question(self._open_session()), what)
            except SessionClosed:
                continue  # it ended just now
            except SessionLost as ex:
                raise SubmitException(str(ex), ex, transient=True) from ex

    def _open_session(self) -> Session:
        with self._lock:
            session = self._session
            if session is not None and session.pid != os.getpid():
                _of_parent.append(session)  # if it was collected, the connection of the parent would be disturbed
            elif session is not None and session.is_open:
                return session
            self._session = Session(self.url)
            return self._session


def _answer(future: Future[Result], what: str) -> Result:
    """Wait for an answer."""
    try:
        return future.result(_PATIENCE)
    except AnswerTimeout as ex:
        if not future.cancel():
            return future.result()  # it came just now
        raise SubmitException(
            f'Flux did not answer within {_PATIENCE:g} seconds when it was asked to {what}.', transient=True
        ) from ex
    except KeyboardInterrupt:
        future.cancel()
        raise


_of_parent: List[Session] = []


def _check_directory(spec: JobSpec) -> None:
    if spec.directory is not None and not spec.directory.is_dir():
        raise SubmitException(
            f'The directory of the job, {spec.directory}, does not exist or is no directory; Flux would not complain, '
            'but use another.'
        )


class _Run(Listener):
    """One job in the care of a Flux executor: its events, its reports, its end."""

    def __init__(self, executor: FluxJobExecutor, job: Job) -> None:
        self.job_id: Optional[int] = None
        self._executor = executor
        self._job = job
        self._history = History()
        self._is_staged = False
        self._channel: Optional[StatusChannel] = None  # if the script can report its states
        self._concluded = False
        job._executor_state = self

    def open_channel(self) -> Dict[str, object]:
        """Accept reports of the script, and return what it needs to send them."""
        self._is_staged = True
        secret = Secret()
        channel = shared_channel()
        port = channel.register(self._job.id, secret, self._on_report)
        if port is not None:
            self._channel = channel
        return {'us_port': port, 'us_addr_list': own_addresses(), 'us_tokens': secret.tokens()}

    def discard(self) -> None:
        """Expect no more reports."""
        if self._channel is not None:
            self._channel.unregister(self._job.id)
        self._job._executor_state = None

    def _on_report(self, report: Report) -> None:
        if report.state is not None:
            self._set(JobStatus(report.state))

    def on_accepted(self, job_id: int) -> None:
        self.job_id = job_id
        self._job._native_id = native_id(job_id)
        self._set(JobStatus(JobState.QUEUED, metadata={'native_id': self._job.native_id}))

    def on_event(self, event: Event, session: Session) -> bool:
        status = self._history.add(event)
        if status is not None:
            # a script that stages files says itself when the executable starts
            self._set(JobStatus(JobState.STAGE_IN, status.time) if self._is_staged else status)
        if not self._history.ended:
            return False
        if not self._concluded:
            self._concluded = True
            if self._history.is_unexplained and self.job_id is not None:
                session.read_output(self.job_id, self._conclude)
            else:
                self._conclude('')
        return True

    def on_unknown(self, reason: str) -> None:
        self._give_up(f'{reason} ({self._job.native_id}).')

    def on_lost(self, reason: str) -> None:
        self._give_up(f'{reason} What became of the job is not known.')

    def _give_up(self, message: str) -> None:
        if not self._concluded:
            self._concluded = True
            self._end(JobStatus(JobState.FAILED, message=message, metadata={'reason': 'lost'}))

    def _conclude(self, printed: str) -> None:
        """Give the job its final status."""
        if self._channel is not None:
            self._channel.drain()  # what the script has sent is here before Flux tells of its end
        if self._is_staged and self._history.exit_code is not None and not self._failed_to_stage_in():
            self._set(JobStatus(JobState.ACTIVE))
        self._end(self._history.final_status(printed))

    def _end(self, status: JobStatus) -> None:
        status.metadata = {'native_id': self._job.native_id, **(status.metadata or {})}
        self.discard()
        self._set(status)

    def _failed_to_stage_in(self) -> bool:
        """Tell whether the executable was never started, although the script has run."""
        return self._history.exit_code == _STAGING_FAILED and not self._job.status.state.is_greater_than(
            JobState.STAGE_IN
        )

    def _set(self, status: JobStatus) -> None:
        self._executor._set_job_status(self._job, status)
