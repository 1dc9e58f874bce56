"""Looks at this machine for ``psij doctor``: Python, work directory, launchers, MPI."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

from psij.cli._finding import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_SHARED = {
    *('nfs', 'nfs4', 'lustre', 'gpfs', 'beegfs', 'ceph', 'fuse.ceph', 'panfs', 'glusterfs', 'fuse.glusterfs', 'wekafs'),
    *('afs', 'cifs', 'smb3', 'pvfs2', 'orangefs', 'dvs', 'vast', 'quobyte', 'ocfs2', 'gfs2'),
}
"""Types of file systems that several machines can see."""

_OTHER_DIRECTORY = 'choose another one with --work-directory, and JobExecutorConfig(work_directory=...) in programs'

_LAUNCHERS = ('mpirun', 'srun', 'aprun', 'jsrun')
"""The launchers that need a command, which has the same name."""

_MPI = (
    ('open mpi', 'Open MPI'),
    ('openrte', 'Open MPI'),
    ('intel', 'Intel MPI'),
    ('hydra', 'MPICH'),
    ('mpich', 'MPICH'),
)
"""What ``mpirun --version`` prints in lower case, and what that means; the first that is found counts."""


def python() -> Iterator[Finding]:
    """Tell what runs."""
    import psij

    version = '.'.join(map(str, sys.version_info[:3]))
    yield Finding('ok', 'python', f'Python {version}, {sys.executable}')
    yield Finding('ok', 'package', f'psij {psij.VERSION}, {Path(psij.__file__).parent}')


def work_directory(path: Path, for_cluster: bool) -> Iterator[Finding]:
    """Look at the directory for the scripts and other files of jobs.

    Parameters
    ----------
    path
        The directory, which may not exist yet.
    for_cluster
        Whether there are schedulers that run jobs on other machines.
    """
    path = path.absolute()
    existing = next(directory for directory in (path, *path.parents) if directory.exists())
    if existing == path:
        yield _privacy(path)
    elif os.access(existing, os.W_OK | os.X_OK):
        yield Finding('ok', 'work directory', f'{path} does not exist yet, and can be created')
    else:
        text = f'{path} does not exist, and cannot be created: {existing} is not writable'
        yield Finding('problem', 'work directory', text, _OTHER_DIRECTORY)
    yield _file_system(existing, for_cluster)


def _privacy(path: Path) -> Finding:
    facts = path.stat()
    if not stat.S_ISDIR(facts.st_mode):
        return Finding('problem', 'work directory', f'{path} is not a directory', f'remove it, or {_OTHER_DIRECTORY}')
    if facts.st_uid != os.geteuid():
        return Finding(
            'problem', 'work directory', f'{path} belongs to another user (uid {facts.st_uid})', _OTHER_DIRECTORY
        )
    if not os.access(path, os.W_OK | os.X_OK):
        return Finding('problem', 'work directory', f'{path} is not writable', f'chmod 700 {path}')
    if stat.S_IMODE(facts.st_mode) & 0o077:
        mode = stat.filemode(facts.st_mode)
        return Finding('warning', 'work directory', f'{path} is open to others ({mode})', f'chmod 700 {path}')
    return Finding('ok', 'work directory', f'{path} is private')


def _file_system(path: Path, for_cluster: bool) -> Finding:
    import psutil

    here = path.resolve()
    mounts = [mount for mount in psutil.disk_partitions(all=True) if here.is_relative_to(mount.mountpoint)]
    if not mounts:
        return Finding('warning', 'file system', f'it is not known on which one {here} is', 'see "df"')
    mount = max(mounts, key=lambda mount: len(mount.mountpoint))
    text = f'{here} is on {mount.fstype}, mounted at {mount.mountpoint}'
    if mount.fstype.lower() in _SHARED:
        return Finding('ok', 'file system', f'{text}, which machines can share')
    if not for_cluster:
        return Finding('ok', 'file system', f'{text}; that is enough for jobs on this machine')
    return Finding(
        'warning',
        'file system',
        f'{text}, which compute nodes that are other machines do not see',
        f'unless jobs run on this machine, {_OTHER_DIRECTORY}',
    )


def launchers() -> Iterator[Finding]:
    """Look for the commands of the launchers that have one."""
    paths = {name: shutil.which(name) for name in _LAUNCHERS}
    found = ['single', 'multiple', *(f'{name} ({path})' for name, path in paths.items() if path is not None)]
    missing = [name for name, path in paths.items() if path is None]
    text = f'here are {", ".join(found)}' + (f'; not here: {", ".join(missing)}' if missing else '')
    yield Finding('ok', 'launchers', text)


def mpi() -> Iterator[Finding]:
    """Find out whose ``mpirun`` there is."""
    from psij._runtime.command import run

    if shutil.which('mpirun') is None:
        yield Finding('ok', 'MPI', 'there is no mpirun here; compute nodes may have one')
        return
    result = run(['mpirun', '--version'])
    text = result.output.strip()
    if result.exit_code != 0:
        repair = 'call it by hand; modules that have to be loaded may be missing'
        yield Finding('problem', 'MPI', f'"mpirun --version" fails: {text}', repair)
        return
    flavour = next((flavour for mark, flavour in _MPI if mark in text.lower()), None)
    first = text.partition('\n')[0]
    if flavour is None:
        repair = 'the launcher "mpirun" expects Open MPI or MPICH; try it with "psij run --launcher mpirun"'
        yield Finding('warning', 'MPI', f'mpirun is of an unknown kind: {first}', repair)
    else:
        yield Finding('ok', 'MPI', f'mpirun is that of {flavour}: {first}')
