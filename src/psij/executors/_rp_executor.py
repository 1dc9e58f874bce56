"""The RADICAL-Pilot executor. It is found in :mod:`psij.executors.rp`."""

from __future__ import annotations

import importlib
import io
import os
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional

from psij._runtime import environment, job_files
from psij._runtime.staging import staging_context
from psij.exceptions import InvalidJobException, SubmitException
from psij.executors._rp_description import CANCELLED, Pilot, check, description, inherited
from psij.executors._rp_session import Session, close_session, existing_session, open_session, radical_pilot
from psij.executors._rp_task import Task
from psij.executors.batch.script_generator import TemplatedScriptGenerator
from psij.executors.rp import RPJobExecutorConfig
from psij.job import Job
from psij.job_executor import JobExecutor, resources_given
from psij.job_executor_config import JobExecutorConfig
from psij.job_launcher import Launcher
from psij.job_spec import JobSpec
from psij.job_state import JobState
from psij.job_status import JobStatus

_DEFAULT_RESOURCE = 'local.localhost'


class RPJobExecutor(JobExecutor):
    """A :class:`.JobExecutor` that runs jobs as tasks of RADICAL-Pilot.

    The first submission starts a session of RADICAL-Pilot and a pilot, which takes about ten seconds; the pilot itself
    runs some seconds later. Both are shared by all executors with equal settings, and end with the program, and with
    them all jobs.

    Parameters
    ----------
    url
        The resource label: the name of a machine that RADICAL-Pilot knows, ``local.localhost`` by default.
    config
        An :class:`.RPJobExecutorConfig`, or settings that all executors understand.

    Raises
    ------
    ImportError
        If RADICAL-Pilot cannot be imported.
    """

    _NAME_ = 'rp'
    _VERSION_ = '0.0.1'
    __module__ = 'psij.executors.rp'  # where everybody else finds it

    def __init__(self, url: Optional[str] = None, config: Optional[JobExecutorConfig] = None) -> None:
        radical_pilot()
        if not isinstance(config, RPJobExecutorConfig):
            given = config or JobExecutorConfig()
            config = RPJobExecutorConfig(given.launcher_log_file, given.work_directory)
        super().__init__(url=url, config=config)
        self._pilot = _pilot(url, config)
        self._given_session = config.session
        self._node: Optional[int] = None

    def submit(self, job: Job) -> None:
        spec = self._check_job(job)
        try:
            self._submit(job, spec)
        except BaseException:
            self._release_job(job)
            raise

    def _submit(self, job: Job, spec: JobSpec) -> None:
        cores_per_node = self._cores_per_node()
        check(spec, self._pilot, cores_per_node)
        uid = f'psij.{job.id}.{os.urandom(2).hex()}'  # RADICAL-Pilot takes each once, also if the submission fails
        directory = job_files.private_directory(Path(os.path.abspath(self.config.work_directory)) / 'rp')
        script = directory / f'{uid}.job'
        task_description = description(spec, uid, str(script), cores_per_node)
        duration = None if spec.attributes is None else spec.attributes.duration
        task = Task(
            uid,
            script,
            None if duration is None else duration.total_seconds(),
            bool(spec.stage_in or spec.stage_out or spec.cleanup),
        )
        try:
            text = self._render(job, spec, task)
            session = open_session(self._pilot, directory.with_name('rp.sessions'), self._given_session)
            _write(script, text)
            session.submit(task, task_description)
        except BaseException:
            task.discard()
            raise
        job._native_id = uid
        self._set_job_status(job, JobStatus(JobState.QUEUED, metadata={'native_id': uid}))
        self._listen(job, task)

    def _render(self, job: Job, spec: JobSpec, task: Task) -> str:
        launcher = self._get_launcher(spec.launcher or Launcher.DEFAULT_LAUNCHER_NAME)
        variables = inherited(dict(os.environ)) if spec.inherit_environment else {}
        variables.update(spec.environment or {})
        data: Dict[str, object] = {
            'job_id': job.id,
            'uid': task.uid,
            'script': str(task.script),
            'directory': None if spec.directory is None else str(Path.cwd() / spec.directory),
            'launch_command': environment.through_shell(launcher.get_launch_command(job), spec),
            'nodefile_wanted': resources_given(spec),
            'process_count': getattr(spec.resources, 'computed_process_count', 1),
            'staged': task.is_staged,
        }
        if task.is_staged:
            data.update(staging=staging_context(spec, Path.cwd()), stop_file=str(task.stop_file), **task.open_channel())
        context: Dict[str, object] = {
            'job': {'id': task.uid},  # which is what reports are about, here
            'env': [{'name': name, 'value': value} for name, value in environment.for_shell(variables).items()],
            'psij': data,
        }
        generator = TemplatedScriptGenerator(self.config, Path(__file__).with_name('rp.mustache'))
        text = io.StringIO()
        generator.generate_submit_script(job, context, text)
        return text.getvalue()

    def _cores_per_node(self) -> int:
        """Return the size of the nodes of the resource; zero if it is not known.

        Raises
        ------
        SubmitException
            If RADICAL-Pilot does not know the resource.
        """
        if self._node is None:
            label = self._pilot.resource
            resource = _utilities().get_resource_config(label) if label.count('.') == 1 else None
            if resource is None:
                raise SubmitException(
                    f'RADICAL-Pilot knows no resource {label!r}. The url of the executor, or '
                    'RPJobExecutorConfig(resource=...), must be a resource label such as local.localhost; '
                    'docs: https://radicalpilot.readthedocs.io.'
                )
            self._node = int(resource.get('cores_per_node') or 0)
        return self._node

    def cancel(self, job: Job) -> None:
        if job.status.final:
            return
        task, session = self._task_of(job)
        if task is None or session is None:
            raise SubmitException(
                'Cannot cancel job: it was not submitted to, or attached by, a RADICAL-Pilot executor with these '
                'settings.'
            )
        session.end(task, CANCELLED)

    def close(self) -> None:
        """End the pilot, with all jobs in it, those of other executors with equal settings too.

        This happens by itself when the program ends. The next submission starts a new pilot.
        """
        close_session(self._pilot, self._given_session)

    def _task_of(self, job: Job) -> tuple[Optional[Task], Optional[Session]]:
        session = existing_session(self._pilot, self._given_session)
        if session is None or job.native_id is None:
            return None, session
        return session.find(job.native_id), session

    def list(self) -> List[str]:
        """Return the IDs of all tasks that were submitted by this program to the pilot, also of those that have ended.

        RADICAL-Pilot lets nobody know the tasks of another program.
        """
        session = existing_session(self._pilot, self._given_session)
        return [] if session is None else session.uids()

    def attach(self, job: Job, native_id: str) -> None:
        """Make a job stand for a task of the pilot that this program has submitted.

        Parameters
        ----------
        job
            A new job; its specification is not used.
        native_id
            The ID of the task, which may have ended. If there is no such task in the pilot, the job ends ``FAILED``.
        """
        if job.status.state is not JobState.NEW:
            raise InvalidJobException('Job must be in the NEW state')
        self._bind(job)
        job._native_id = str(native_id).strip()
        task, _ = self._task_of(job)
        if task is not None:
            self._listen(job, task)
            return
        message = (
            f'This program has no task {job.native_id} in the pilot. Tasks are known to the program only that has '
            'submitted them, and as long as their pilot exists.'
        )
        self._set_job_status(job, JobStatus(JobState.FAILED, message=message, metadata={'reason': 'lost'}))

    def _listen(self, job: Job, task: Task) -> None:
        task.listen(partial(self._set_job_status, job))


def _pilot(url: Optional[str], config: RPJobExecutorConfig) -> Pilot:
    resource = url or config.resource or _DEFAULT_RESOURCE
    for name in ('cores', 'gpus', 'runtime'):
        value = getattr(config, name)
        if value is not None and not (isinstance(value, int) and value > 0):
            raise ValueError(f'RPJobExecutorConfig: {name} must be a whole number and at least 1, not {value!r}.')
    pilot = Pilot(
        resource,
        config.cores,
        config.gpus,
        config.runtime,
        config.queue,
        config.project,
        config.access_schema,
        None if config.sandbox is None else os.path.abspath(config.sandbox),
    )
    if pilot.cores is None and pilot.is_local:
        return pilot._replace(cores=os.cpu_count())
    return pilot


def _utilities() -> Any:
    return importlib.import_module('radical.pilot.utils')


def _write(script: Path, text: str) -> None:
    try:
        job_files.write_private(script, text)
    except OSError as ex:
        raise SubmitException(f'Cannot write {script}: {ex.strerror}.', ex) from ex
