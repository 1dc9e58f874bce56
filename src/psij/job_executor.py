"""The interface of executors, which run jobs."""

from __future__ import annotations

from abc import ABC, abstractmethod

from psij._log import lazy_logger
from psij.exceptions import InvalidJobException
from psij.job import _lock, as_callback
from psij.job_executor_config import JobExecutorConfig
from psij.job_launcher import Launcher
from psij.job_spec import JobSpec
from psij.job_state import JobState
from psij.resource_spec import ResourceSpecV1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Optional, Set, Union

    from packaging.version import Version

    from psij._plugins import Registry
    from psij.descriptor import Descriptor
    from psij.job import Job, JobStatusCallback
    from psij.job_status import JobStatus

logger = lazy_logger(__name__)


class JobExecutor(ABC):
    """The base class of all executors.

    Subclasses implement :meth:`submit`, :meth:`cancel`, :meth:`list` and :meth:`attach`. They may use, and rely on,
    ``_check_job``, ``_release_job``, ``_get_launcher`` and ``_set_job_status``. The attributes ``_NAME_`` and
    ``_VERSION_`` of the class are set when it is loaded as a plugin, unless it sets them itself.

    Parameters
    ----------
    url
        Where the backend is, if an executor can use one elsewhere.
    config
        Settings. Subclasses must give one to this constructor, also if they are created without.
    """

    def __init__(self, url: Optional[str] = None, config: Optional[JobExecutorConfig] = None) -> None:
        if config is None:
            raise AssertionError(f'{type(self).__name__} must pass a JobExecutorConfig to its base class')
        self.url = url
        self.config = config
        self._cb: Optional[JobStatusCallback] = None
        self._launchers: Dict[tuple[str, Optional[str]], Launcher] = {}

    @property
    def name(self) -> str:
        """The name of the executor, in lower case."""
        return _registry().identity(type(self))[0]

    @property
    def version(self) -> Version:
        """The version of the executor."""
        return _registry().identity(type(self))[1]

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Submit a job.

        When this returns, the job has a status that is at least ``QUEUED``, and with most executors a native ID.
        When it raises, the job is as it was before, and can be submitted again.

        Parameters
        ----------
        job
            A job that was not submitted before.

        Raises
        ------
        InvalidJobException
            If the specification is wrong, or asks for what this executor does not have.
        SubmitException
            If the submission failed for another reason.
        """

    @abstractmethod
    def cancel(self, job: Job) -> None:
        """Cancel a job that was submitted to, or attached by, this executor.

        Returns when the backend has been asked; the job is canceled when its status says so. Nothing happens if
        the job has ended.

        Parameters
        ----------
        job
            The job.

        Raises
        ------
        SubmitException
            If the job was not submitted, or the backend refused.
        """

    @abstractmethod
    def list(self) -> List[str]:
        """Return the native IDs of the jobs of this user that the backend knows, whoever submitted them."""

    @abstractmethod
    def attach(self, job: Job, native_id: str) -> None:
        """Make a job stand for one that the backend has already.

        Parameters
        ----------
        job
            A new job; its specification is not used.
        native_id
            The ID that the backend gave the job when it was submitted, by whatever means.
        """

    def set_job_status_callback(self, cb: Union[JobStatusCallback, Callable[[Job, JobStatus], None], None]) -> None:
        """Set the callback to be told about changes of the status of all jobs of this executor.

        Parameters
        ----------
        cb
            A :class:`.JobStatusCallback`, or a function with the parameters `job` and `job_status`, or None to
            remove the present callback.
        """
        self._cb = as_callback(cb)

    @staticmethod
    def get_instance(
        name: str,
        version_constraint: Optional[str] = None,
        url: Optional[str] = None,
        config: Optional[JobExecutorConfig] = None,
    ) -> JobExecutor:
        """Create an executor.

        Parameters
        ----------
        name
            The name of the executor or an alias, in any case.
        version_constraint
            The versions that are acceptable, such as ``>=0.2,<1``; the highest one is taken.
        url
            Where the backend is, if the executor can use one elsewhere.
        config
            Settings for the executor.

        Raises
        ------
        ValueError
            If there is no such executor, or it cannot be loaded.
        """
        executor: JobExecutor = _registry().load(name, version_constraint)(url=url, config=config)
        return executor

    @staticmethod
    def register_executor(desc: Descriptor, root: str) -> None:
        """Register an executor, whose class is in a module under the directory `root`.

        Raises
        ------
        ValueError
            If another file has registered the same name and version.
        """
        registry = _registry()
        registry.plugins()  # those that are there already come first
        registry.register(desc, root)

    @staticmethod
    def get_executor_names() -> Set[str]:
        """Return the names of all executors, aliases included, in lower case."""
        return _registry().names()

    def _check_job(self, job: Job) -> JobSpec:
        """Check a job that is to be submitted, and bind it to this executor.

        After an error later in the submission, call ``_release_job``.

        Raises
        ------
        InvalidJobException
            If the job was submitted before, or something is wrong with its specification.
        """
        if job.status.state is not JobState.NEW:
            raise InvalidJobException('Job must be in NEW state')
        spec = job.spec
        if not spec:
            raise InvalidJobException('Missing specification')
        if not isinstance(spec, JobSpec):
            raise InvalidJobException(f'Invalid specification: got {spec!r}, expected a JobSpec.')
        if not spec.resources:
            spec.resources = DefaultResources()
        from psij._spec_check import check_spec

        check_spec(spec)
        self._bind(job)
        return spec

    def _bind(self, job: Job) -> None:
        with _lock:
            bound = job.executor is not None
            if not bound:
                job.executor = self
        if bound:
            raise InvalidJobException('Job is already associated with an executor')

    def _release_job(self, job: Job) -> None:
        """Undo ``_check_job``, so that a job whose submission failed can be submitted again."""
        job.executor = None
        job._native_id = None

    def _get_launcher(self, name: str, version_constraint: Optional[str] = None) -> Launcher:
        """Return a launcher; the same one each time."""
        key = (name, version_constraint)
        launcher = self._launchers.get(key)
        if launcher is None:
            launcher = Launcher.get_instance(name, version_constraint, self.config)
            launcher = self._launchers.setdefault(key, launcher)
        return launcher

    def _set_job_status(self, job: Job, status: JobStatus) -> None:
        """Give a job a new status."""
        job.status = status

    def _notify_callback(self, job: Job, status: JobStatus) -> None:
        """Tell the callback of this executor about a new status of a job."""
        cb = self._cb
        if cb is not None:
            cb.job_status_changed(job, status)

    def __str__(self) -> str:
        url = '' if self.url is None else f', url={self.url}'
        return f'JobExecutor[{self.name}, {self.version}{url}]'


class DefaultResources(ResourceSpecV1):
    """One process: put into specifications that say nothing about resources.

    It can be told from resources that were asked for, as long as nobody changed it.
    """

    __slots__ = ()


def resources_given(spec: JobSpec) -> bool:
    """Tell whether somebody asked for resources."""
    resources = spec.resources
    return resources is not None and not (isinstance(resources, DefaultResources) and resources == ResourceSpecV1())


def _registry() -> Registry:
    """Return the known executors; the module is imported only when one is asked for."""
    from psij import _plugins

    return _plugins.executors
