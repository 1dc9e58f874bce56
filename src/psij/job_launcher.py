"""The interface of launchers, which start the processes of a job inside its allocation."""

from __future__ import annotations

from abc import ABC, abstractmethod

from psij.job_executor_config import JobExecutorConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional, Set

    from packaging.version import Version

    from psij._plugins import Registry
    from psij.descriptor import Descriptor
    from psij.job import Job


class Launcher(ABC):
    """The base class of all launchers.

    Parameters
    ----------
    config
        Settings; :attr:`.JobExecutorConfig.DEFAULT` by default.
    """

    DEFAULT_LAUNCHER_NAME = 'single'
    """The launcher of jobs that do not name one."""

    def __init__(self, config: Optional[JobExecutorConfig] = None) -> None:
        self.config = JobExecutorConfig.DEFAULT if config is None else config

    @abstractmethod
    def get_launch_command(self, job: Job) -> List[str]:
        """Return the command, a list of arguments, that starts the processes of a job inside its allocation.

        Parameters
        ----------
        job
            The job.
        """

    @property
    def name(self) -> str:
        """The name of the launcher, in lower case."""
        return _registry().identity(type(self))[0]

    @property
    def version(self) -> Version:
        """The version of the launcher."""
        return _registry().identity(type(self))[1]

    @staticmethod
    def get_instance(
        name: str, version_constraint: Optional[str] = None, config: Optional[JobExecutorConfig] = None
    ) -> Launcher:
        """Create a launcher.

        Parameters
        ----------
        name
            The name of the launcher or an alias, in any case.
        version_constraint
            The versions that are acceptable, such as ``>=0.2,<1``; the highest one is taken.
        config
            Settings for the launcher.

        Raises
        ------
        ValueError
            If there is no such launcher, or it cannot be loaded.
        """
        launcher: Launcher = _registry().load(name, version_constraint)(config=config)
        return launcher

    @staticmethod
    def register_launcher(desc: Descriptor, root: str) -> None:
        """Register a launcher, whose class is in a module under the directory `root`.

        Raises
        ------
        ValueError
            If another file has registered the same name and version.
        """
        registry = _registry()
        registry.plugins()  # those that are there already come first
        registry.register(desc, root)

    @staticmethod
    def get_launcher_names() -> Set[str]:
        """Return the names of all launchers, aliases included, in lower case."""
        return _registry().names()


def _registry() -> Registry:
    """Return the known launchers; the module is imported only when one is asked for."""
    from psij import _plugins

    return _plugins.launchers
