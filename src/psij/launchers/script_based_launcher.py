"""Launchers that are shell scripts, and how these get to where jobs can run them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from contextvars import ContextVar
from pathlib import Path

from psij._runtime.job_files import private_directory
from psij.exceptions import InvalidJobException, SubmitException
from psij.job_launcher import Launcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import List, Optional, Tuple, Union

    from psij.job import Job
    from psij.job_executor_config import JobExecutorConfig

SCRIPTS = Path(__file__).absolute().parent / 'scripts'
LIBRARY = SCRIPTS / 'launcher_lib.sh'

_deploys = ContextVar('_deploys', default=True)


@contextlib.contextmanager
def nothing_deployed() -> Iterator[None]:
    """Let launchers return the command of a job that will not run: the work directory is left alone meanwhile."""
    token = _deploys.set(False)
    try:
        yield
    finally:
        _deploys.reset(token)


class ScriptBasedLauncher(Launcher):
    """A launcher that is a bash script.

    The script is run as ``/bin/bash SCRIPT JOB_ID LOG_FILE PRE_LAUNCH POST_LAUNCH STDIN STDOUT STDERR [ADDITIONAL...]
    EXECUTABLE [ARGUMENT...]``; it begins with ``source "$(dirname "$0")/launcher_lib.sh"`` and finds there what it
    needs for the first seven arguments. When it is first needed it is copied to the work directory, because the
    place where the library is installed need not be visible to compute nodes, and may change under a waiting job.

    Subclasses may override :meth:`get_additional_args`, and the protected methods ``_files_to_deploy``,
    ``_deploy_files`` and ``_ensure_launcher_deployed``.

    Parameters
    ----------
    script_path
        The script.
    config
        Settings: `work_directory` is where the script is copied to; what is done is written to `launcher_log_file`.
    """

    def __init__(self, script_path: Path, config: Optional[JobExecutorConfig] = None) -> None:
        super().__init__(config)
        self._script_path = Path(script_path)
        self._deployed: Optional[Tuple[Path, str]] = None

    @property
    def is_ours(self) -> bool:
        """True if the script is one of this library, and not of a plugin."""
        return self._script_path.parent == SCRIPTS

    def get_launch_command(self, job: Job, log_file: Union[str, Path, None] = None) -> List[str]:
        """Return the command that starts the processes of a job inside its allocation.

        Parameters
        ----------
        job
            The job.
        log_file
            The file to which the launcher appends what it does, by default the one of the configuration.

        Raises
        ------
        InvalidJobException
            If the job has no specification or no executable, or cannot be launched in this way.
        ValueError
            If the resource specification has an unknown version.
        SubmitException
            If the launcher script cannot be written to the work directory.
        """
        spec = job.spec
        if spec is None:
            raise InvalidJobException('The job has no specification.')
        if not spec.executable:
            raise InvalidJobException('The job has no executable: set JobSpec.executable.')
        return [
            '/bin/bash',
            self._ensure_launcher_deployed(),
            job.id,
            _str(self.config.launcher_log_file if log_file is None else log_file),
            _str(spec.pre_launch),
            _str(spec.post_launch),
            _str(spec.stdin_path) or '/dev/null',
            _str(spec.stdout_path) or '/dev/null',
            _str(spec.stderr_path) or '/dev/null',
            *self.get_additional_args(job),
            str(spec.executable),
            *map(str, spec.arguments or ()),
        ]

    def get_additional_args(self, job: Job) -> List[str]:
        """Return the arguments for the script that come before the executable; by default there are none."""
        return []

    def _files_to_deploy(self) -> List[Path]:
        """Return the files that are needed, the script among them; they all come into one directory."""
        return [LIBRARY, self._script_path]

    def _ensure_launcher_deployed(self) -> str:
        """Return the path of the script in the work directory; it is written there if necessary."""
        work_directory = self.config.work_directory
        if self._deployed is None or self._deployed[0] != work_directory or not os.path.exists(self._deployed[1]):
            directory = self._deploy_files(self._files_to_deploy())
            self._deployed = (work_directory, str(directory / self._script_path.name))
        return self._deployed[1]

    def _deploy_files(self, paths: List[Path]) -> Path:
        """Copy files to a directory named after their contents, and return it.

        Whatever is there already is checked before it is trusted, and replaced if it is not as it should be. Any
        number of processes can do this at the same time: files appear complete, and are the same for all.
        """
        try:
            contents = [path.read_bytes() for path in paths]
            modes = [stat.S_IMODE(path.stat().st_mode) & stat.S_IRWXU for path in paths]
        except OSError as ex:
            raise SubmitException(f'A file of the launcher {type(self).__name__} cannot be read: {ex}.', ex) from ex
        digest = hashlib.sha256(b''.join(contents)).hexdigest()
        directory = Path(self.config.work_directory).absolute() / digest
        if not _deploys.get():
            return directory
        private_directory(directory)
        try:
            for path, content, mode in zip(paths, contents, modes):
                _write(directory / path.name, content, mode)
        except OSError as ex:
            raise SubmitException(
                f'The launcher script cannot be written to the work directory {directory}: {ex}. '
                'Another one can be chosen with JobExecutorConfig(work_directory=...).',
                ex,
            ) from ex
        return directory


def _str(path: Union[str, Path, None]) -> str:
    return '' if path is None else str(path)


def _write(file: Path, content: bytes, mode: int) -> None:
    """Make sure that a file is the user's own and has the content and mode; an existing one is replaced if not."""
    if _is_as_it_should_be(file, content, mode):
        return
    import tempfile

    descriptor, temporary = tempfile.mkstemp(prefix=f'.{file.name}.', dir=file.parent)
    try:
        with open(descriptor, 'wb') as stream:
            stream.write(content)
        os.chmod(temporary, mode)
        os.rename(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise


def _is_as_it_should_be(file: Path, content: bytes, mode: int) -> bool:
    try:
        status = file.lstat()
        return (
            stat.S_ISREG(status.st_mode)
            and status.st_uid == os.geteuid()
            and stat.S_IMODE(status.st_mode) == mode
            and file.read_bytes() == content
        )
    except FileNotFoundError:
        return False
