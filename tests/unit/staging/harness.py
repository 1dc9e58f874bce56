"""A place with a job directory and a submitting side, in which job scripts made of the shared partials run."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Dict, Mapping, NamedTuple, Optional, Sequence

import pystache

from psij import JobSpec
from psij._runtime.staging import staging_context
from psij.executors.batch.escape_functions import bash_escape
from psij.executors.batch.script_generator import expand_partials

TEMPLATE = pystache.parse(
    expand_partials(
        """#!/bin/bash
{{> batch_lib}}
{{{before}}}
{{> stagein}}
_psij_update_status ACTIVE
{{{job_command}}}
_PSIJ_JOB_EC=$?
{{> stageout}}
{{> cleanup}}
_psij_report_done "$_PSIJ_JOB_EC"
exit "$_PSIJ_JOB_EC"
"""
    )
)

Tree = Dict[bytes, object]


class Result(NamedTuple):
    """How a script ended, and what it printed on its standard output and on its standard error."""

    code: int
    output: str
    errors: str


class Site:
    """The directories ``job`` and ``submit`` of a new root.

    Parameters
    ----------
    root
        Where to make them.
    as_user
        What to put before the command that runs the script, to run it as somebody else.
    """

    def __init__(self, root: Path, as_user: Sequence[str] = ()) -> None:
        self.root = root
        self.job = root / 'job'
        self.submit = root / 'submit'
        self.as_user = as_user
        self.job.mkdir()
        self.submit.mkdir()

    def spec(self, **fields: object) -> JobSpec:
        """Return a specification for the job directory, with lists where sets would have no order."""
        spec = JobSpec('/bin/true', directory=self.job)
        for name, value in fields.items():
            setattr(spec, name, value)
        return spec

    def stage(self, job_command: str = '', **fields: object) -> Result:
        """Run a job with these fields in its specification."""
        return self.run(staging_context(self.spec(**fields), self.submit), job_command)

    def run(
        self,
        staging: Mapping[str, object],
        job_command: str = '',
        before: str = '',
        environment: Optional[Mapping[str, str]] = None,
        **channel: object,
    ) -> Result:
        """Run a script with this data, whatever the submitting side would say to it."""
        return self.run_script(self.write(staging, job_command, before, **channel), environment)

    def run_script(self, script: Path, environment: Optional[Mapping[str, str]] = None) -> Result:
        """Run a script in the job directory."""
        if self.as_user:
            self.hand_over()
        done = subprocess.run(
            [*self.as_user, '/bin/bash', script],
            cwd=self.job,
            env=dict(os.environ, **(environment or {})),
            capture_output=True,
            encoding='utf-8',
            errors='surrogateescape',
            timeout=30,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def hand_over(self) -> None:
        """Give everything to the user that runs the scripts."""
        owner = self.root.stat().st_uid
        for path in tree(self.root):
            os.chown(path, owner, -1, follow_symlinks=False)

    def write(self, staging: Mapping[str, object], job_command: str = '', before: str = '', **channel: object) -> Path:
        """Write a script and return its path."""
        context = {
            'job': {'id': 'the-id'},
            'psij': {'staging': staging, **channel},
            'job_command': job_command or 'true',
            'before': before,
        }
        script = self.root / 'script'
        text = pystache.Renderer(escape=bash_escape).render(TEMPLATE, context)
        script.write_text(text, encoding='utf-8', errors='surrogateescape')
        return script


def tree(*roots: Path) -> Tree:
    """Return what there is under some paths: kinds, modes, contents, and where links lead."""
    found: Tree = {}
    for root in roots:
        _visit(os.fsencode(root), found)
    return found


def _visit(path: bytes, found: Tree) -> None:
    mode = os.lstat(path).st_mode if os.path.lexists(path) else 0
    if stat.S_ISLNK(mode):
        found[path] = ('link', os.readlink(path))
    elif stat.S_ISDIR(mode):
        found[path] = ('directory', stat.S_IMODE(mode))
        for name in os.listdir(path):
            _visit(os.path.join(path, name), found)
    elif stat.S_ISREG(mode):
        with open(path, 'rb') as file:
            found[path] = ('file', stat.S_IMODE(mode), file.read())
    elif mode:
        found[path] = ('special', stat.S_IFMT(mode))


def make(path: Path, kind: str) -> None:
    """Make something of the kind that the tables in the documentation name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'{path.name}.aside')
    if kind == 'a file':
        make_file(path, 0o640)
    elif kind == 'a write-protected file':
        make_file(path, 0o444)
    elif kind == 'an empty directory':
        path.mkdir()
    elif kind == 'a directory with contents':
        make_directory(path)
    elif kind == 'a link to a file':
        make_file(aside, 0o600)
        path.symlink_to(aside.name)
    elif kind == 'a link to a directory':
        make_directory(aside)
        path.symlink_to(aside.name)
    elif kind == 'a link to nothing':
        path.symlink_to('nothing')
    elif kind == 'a FIFO, socket or device':
        os.mkfifo(path)
    else:
        assert kind == 'nothing'


def make_file(path: Path, mode: int) -> None:
    """Make a file that shows whether a copy is complete."""
    path.write_text(f'contents of {path.name}')
    path.chmod(mode)
    os.utime(path, (1, 1))


def make_directory(path: Path) -> None:
    """Make a directory that shows whether a copy is complete: modes, times, links, an empty directory."""
    (path / 'sub' / 'empty').mkdir(parents=True)
    (path / 'sub' / 'file').write_text(f'in {path.name}')
    (path / 'sub' / 'program').write_text('#!/bin/sh')
    (path / 'sub' / 'program').chmod(0o755)
    (path / 'link').symlink_to('sub/file')
    (path / 'dangling').symlink_to('/nowhere')
    os.utime(path / 'sub' / 'file', (1, 1))
    os.utime(path / 'sub', (2, 2))
    path.chmod(0o750)
    os.utime(path, (3, 3))


def contents(path: Path) -> object:
    """Return what is at a path, comparable to what is at another path: the times of files and directories too."""
    relative: Dict[bytes, object] = {}
    start = os.fsencode(path)
    for name, entry in tree(path).items():
        seconds = None if entry[0] == 'link' else int(os.lstat(name).st_mtime)  # type: ignore[index]
        relative[name[len(start) :]] = (entry, seconds)
    return relative
