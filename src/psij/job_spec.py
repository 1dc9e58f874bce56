"""What a job runs, where, and with what."""

from __future__ import annotations

import os
from pathlib import Path

from psij.job_attributes import JobAttributes
from psij.resource_spec import ResourceSpec
from psij.staging import StageIn, StageOut, StageOutFlags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Dict, List, Optional, Set, Union


class JobSpec:
    """Describes a job.

    All parameters are properties too, and can be set after construction. Types are checked by the constructor;
    what is assigned later is checked when the job is submitted.

    Parameters
    ----------
    executable
        The program to run, such as ``/bin/date``.
    arguments
        Its arguments; the first one is the program's ``argv[1]``. Paths are accepted as well as strings.
    directory
        The directory in which the job runs, on the compute side. By default the one that the executor or the
        scheduler chooses.
    name
        A name to show to people. Where it is not set, it reads as the executable.
    inherit_environment
        Whether the job sees the environment in which it is started, or only what `environment` gives it.
    environment
        Names and values of environment variables. Numbers are converted to strings.
    stdin_path, stdout_path, stderr_path
        Files for the standard streams, ``/dev/null`` by default. Relative paths are relative to the directory
        of the job.
    resources
        The nodes, processes, cores, GPUs and memory that the job needs; one process by default.
    attributes
        How the job is to be run: walltime, queue, account and the like.
    pre_launch
        A shell script to be sourced before the launcher starts the executable, once, on the first node.
    post_launch
        A shell script to be sourced, on the first node, after all processes have ended.
    launcher
        The launcher that starts the processes, such as ``single``, ``multiple``, ``mpirun`` or ``srun``;
        ``single`` by default.
    stage_in
        Files to bring to the job before it is launched. Where the order counts, assign a list after construction:
        files are staged and removed in the order given.
    stage_out
        Files to bring away after the job has ended.
    cleanup
        Files and directories inside the job's directory to remove after the stage out.
    cleanup_flags
        The conditions under which they are removed; without any of the flags ``ON_...`` they never are. Files that do
        not exist are no error.

    Raises
    ------
    typeguard.TypeCheckError
        If an argument has a wrong type.

    Notes
    -----
    Paths are meant as they are seen on the machine where the job runs. Absolute paths on a shared file system
    are recommended: a relative path is only useful for a file in a job directory that the scheduler chooses.
    """

    __slots__ = (
        '__dict__',
        '__weakref__',
        '_cleanup',
        '_directory',
        '_environment',
        '_name',
        '_post_launch',
        '_pre_launch',
        '_stderr_path',
        '_stdin_path',
        '_stdout_path',
        'arguments',
        'attributes',
        'cleanup_flags',
        'executable',
        'inherit_environment',
        'launcher',
        'resources',
        'stage_in',
        'stage_out',
    )

    def __init__(
        self,
        executable: Optional[str] = None,
        arguments: Optional[List[str]] = None,
        directory: Union[str, Path, None] = None,
        name: Optional[str] = None,
        inherit_environment: bool = True,
        environment: Optional[Dict[str, Union[str, int]]] = None,
        stdin_path: Union[str, Path, None] = None,
        stdout_path: Union[str, Path, None] = None,
        stderr_path: Union[str, Path, None] = None,
        resources: Optional[ResourceSpec] = None,
        attributes: Optional[JobAttributes] = None,
        pre_launch: Union[str, Path, None] = None,
        post_launch: Union[str, Path, None] = None,
        launcher: Optional[str] = None,
        stage_in: Optional[Set[StageIn]] = None,
        stage_out: Optional[Set[StageOut]] = None,
        cleanup: Optional[Set[Union[str, Path]]] = None,
        cleanup_flags: StageOutFlags = StageOutFlags.ALWAYS,
    ) -> None:
        if not (
            (executable is None or isinstance(executable, str))
            and (arguments is None or (isinstance(arguments, list) and _all_are(arguments, _STR_OR_PATH)))
            and (directory is None or isinstance(directory, (str, Path)))
            and (name is None or isinstance(name, str))
            and isinstance(inherit_environment, bool)
            and (environment is None or _is_environment(environment))
            and (stdin_path is None or isinstance(stdin_path, (str, Path)))
            and (stdout_path is None or isinstance(stdout_path, (str, Path)))
            and (stderr_path is None or isinstance(stderr_path, (str, Path)))
            and (resources is None or isinstance(resources, ResourceSpec))
            and (attributes is None or isinstance(attributes, JobAttributes))
            and (pre_launch is None or isinstance(pre_launch, (str, Path)))
            and (post_launch is None or isinstance(post_launch, (str, Path)))
            and (launcher is None or isinstance(launcher, str))
            and (stage_in is None or (isinstance(stage_in, set) and _all_are(stage_in, StageIn)))
            and (stage_out is None or (isinstance(stage_out, set) and _all_are(stage_out, StageOut)))
            and (cleanup is None or (isinstance(cleanup, set) and _all_are(cleanup, (str, Path))))
            and isinstance(cleanup_flags, StageOutFlags)
        ):
            _verify({name: value for name, value in locals().items() if name != 'self'})
        self.executable = executable
        self.arguments = arguments
        self.directory = directory
        self._name = name
        self.inherit_environment = inherit_environment
        self.environment = environment
        self.stdin_path = stdin_path
        self.stdout_path = stdout_path
        self.stderr_path = stderr_path
        self.resources = resources
        self.attributes: Optional[JobAttributes] = JobAttributes() if attributes is None else attributes
        self.pre_launch = pre_launch
        self.post_launch = post_launch
        self.launcher = launcher
        self.stage_in = stage_in
        self.stage_out = stage_out
        self.cleanup = cleanup
        self.cleanup_flags = cleanup_flags

    @property
    def name(self) -> Optional[str]:
        """The name of the job, or the executable if no name was set."""
        return self.executable if self._name is None else self._name

    @name.setter
    def name(self, name: Optional[str]) -> None:
        self._name = name

    @property
    def environment(self) -> Optional[Dict[str, str]]:
        """The environment variables of the job, or None."""
        return self._environment

    @environment.setter
    def environment(self, environment: Optional[Dict[str, Union[str, int]]]) -> None:
        if environment is not None and not hasattr(environment, 'items'):
            raise TypeError(f'environment must be a dictionary or None, not {environment!r}')
        self._environment: Optional[Dict[str, str]] = (
            None if environment is None else {k: str(v) if isinstance(v, int) else v for k, v in environment.items()}
        )

    @property
    def directory(self) -> Optional[Path]:
        """The directory in which the job runs, on the compute side, or None."""
        return self._directory

    @directory.setter
    def directory(self, directory: Union[str, Path, None]) -> None:
        self._directory = _path('directory', directory)

    @property
    def stdin_path(self) -> Optional[Path]:
        """The file that is the standard input of the job, or None."""
        return self._stdin_path

    @stdin_path.setter
    def stdin_path(self, stdin_path: Union[str, Path, None]) -> None:
        self._stdin_path = _path('stdin_path', stdin_path)

    @property
    def stdout_path(self) -> Optional[Path]:
        """The file for the standard output of the job, or None."""
        return self._stdout_path

    @stdout_path.setter
    def stdout_path(self, stdout_path: Union[str, Path, None]) -> None:
        self._stdout_path = _path('stdout_path', stdout_path)

    @property
    def stderr_path(self) -> Optional[Path]:
        """The file for the standard error of the job, or None."""
        return self._stderr_path

    @stderr_path.setter
    def stderr_path(self, stderr_path: Union[str, Path, None]) -> None:
        self._stderr_path = _path('stderr_path', stderr_path)

    @property
    def pre_launch(self) -> Optional[Path]:
        """A shell script to be sourced before the launcher starts the executable, or None."""
        return self._pre_launch

    @pre_launch.setter
    def pre_launch(self, pre_launch: Union[str, Path, None]) -> None:
        self._pre_launch = _path('pre_launch', pre_launch)

    @property
    def post_launch(self) -> Optional[Path]:
        """A shell script to be sourced after all processes have ended, or None."""
        return self._post_launch

    @post_launch.setter
    def post_launch(self, post_launch: Union[str, Path, None]) -> None:
        self._post_launch = _path('post_launch', post_launch)

    @property
    def cleanup(self) -> Optional[Set[Path]]:
        """The files and directories to remove after the stage out, or None."""
        return self._cleanup

    @cleanup.setter
    def cleanup(self, cleanup: Optional[Iterable[Union[str, Path]]]) -> None:
        if cleanup is None:
            self._cleanup: Optional[Set[Path]] = None
        elif isinstance(cleanup, (str, Path)):  # iterating over '/data' would give '/'
            raise AssertionError(f'cleanup must be a set of paths, not the single path {str(cleanup)!r}')
        else:
            paths = [path for path in (_path('cleanup', item) for item in cleanup) if path is not None]
            # a list stays a list: the order given is the order of removal
            self._cleanup = set(paths) if isinstance(cleanup, (set, frozenset)) else paths  # type: ignore[assignment]

    def _key(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in FIELDS)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobSpec) and self._key() == other._key()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        # values of environment variables may be secrets, and this text ends up in logs
        values = {name: getattr(self, name) for name in FIELDS}
        values['name'] = self._name
        if self.environment:
            values['environment'] = '<' + ', '.join(map(str, self.environment)) + '>'
        defaults = {'inherit_environment': True, 'cleanup_flags': StageOutFlags.ALWAYS}
        shown = [f'{name}={value!r}' for name, value in values.items() if value != defaults.get(name)]
        return f'JobSpec({", ".join(shown)})'


FIELDS = (
    'executable',
    'arguments',
    'directory',
    'name',
    'inherit_environment',
    'environment',
    'stdin_path',
    'stdout_path',
    'stderr_path',
    'resources',
    'attributes',
    'pre_launch',
    'post_launch',
    'launcher',
    'stage_in',
    'stage_out',
    'cleanup',
    'cleanup_flags',
)
"""The names of the parameters of a :class:`JobSpec`, in order."""

_STR_OR_PATH = (str, os.PathLike)


def _all_are(items: object, types: object) -> bool:
    for item in items:  # type: ignore[attr-defined]
        if not isinstance(item, types):  # type: ignore[arg-type]
            return False
    return True


def _is_environment(value: object) -> bool:
    return isinstance(value, dict) and _all_are(value, str) and _all_are(value.values(), (str, int))


def _path(name: str, value: object) -> Optional[Path]:
    if value is None or isinstance(value, Path):
        return value
    if isinstance(value, str):
        return Path(value)
    # the existing package raises AssertionError here, and programs may expect it
    raise AssertionError(f'{name} must be a string or a Path, not {value!r}')


def _verify(arguments: Dict[str, object]) -> None:
    from typing import Dict, List, Optional, Set, Union

    from psij._checks import verify

    path = Union[str, Path, None]
    types: Dict[str, object] = dict.fromkeys(
        ('directory', 'stdin_path', 'stdout_path', 'stderr_path', 'pre_launch', 'post_launch'), path
    )
    types.update(dict.fromkeys(('executable', 'name', 'launcher'), Optional[str]))
    types.update(
        arguments=Optional[List[Union[str, os.PathLike]]],  # type: ignore[type-arg]
        inherit_environment=bool,
        environment=Optional[Dict[str, Union[str, int]]],
        resources=Optional[ResourceSpec],
        attributes=Optional[JobAttributes],
        stage_in=Optional[Set[StageIn]],
        stage_out=Optional[Set[StageOut]],
        cleanup=Optional[Set[Union[str, Path]]],
        cleanup_flags=StageOutFlags,
    )
    verify(**{name: (arguments[name], types[name]) for name in FIELDS})
