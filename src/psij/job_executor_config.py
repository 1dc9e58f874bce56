"""Settings that all executors understand."""

from __future__ import annotations

import os
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Union


class JobExecutorConfig:
    """Settings that all executors understand.

    Parameters
    ----------
    launcher_log_file
        A file to which launcher scripts append what they do; by default nothing is logged.
    work_directory
        The directory for the scripts and other files that the library writes, by default
        ``~/.psij/work``. For batch executors it must be on a file system that the compute nodes share.
        It is created, private to the user, when it is first needed.
    """

    DEFAULT_WORK_DIRECTORY = Path(os.path.expanduser('~')) / '.psij' / 'work'
    """Where files are written if nothing else is asked for."""

    DEFAULT: JobExecutorConfig
    """A configuration with all defaults."""

    def __init__(self, launcher_log_file: Optional[Path] = None, work_directory: Optional[Path] = None) -> None:
        self.launcher_log_file = launcher_log_file
        self._work_directory = Path(work_directory) if work_directory else self.DEFAULT_WORK_DIRECTORY

    @property
    def launcher_log_file(self) -> Optional[Path]:
        """The file to which launcher scripts append what they do, or None."""
        return self._launcher_log_file

    @launcher_log_file.setter
    def launcher_log_file(self, launcher_log_file: Union[str, Path, None]) -> None:
        self._launcher_log_file = Path(launcher_log_file) if launcher_log_file else None

    @property
    def work_directory(self) -> Path:
        """The directory for the files that the library writes."""
        return self._work_directory

    @work_directory.setter
    def work_directory(self, work_directory: Union[str, Path]) -> None:
        self._work_directory = Path(work_directory)


JobExecutorConfig.DEFAULT = JobExecutorConfig()
