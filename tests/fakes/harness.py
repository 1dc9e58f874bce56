"""A pretended cluster in the hands of a test."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from fakes.core import SIGKILL, Cluster, Job, signal_group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

HERE = Path(__file__).resolve().parent

_KICK = 'import sys; sys.path.append(sys.argv[1]); from fakes.core import Cluster; Cluster(*sys.argv[2:]).kick()'


class FakeCluster(Cluster):
    """A pretended cluster with the commands of one scheduler; `close` it at the end of the test.

    Parameters
    ----------
    path
        Its directory.
    user
        ``NAME:UID`` of the user that the commands take their caller for; empty: who it is.
    knobs
        Settings and faults, see README.md.
    """

    def __init__(self, path: Path, scheduler: str = 'slurm', *, user: str = '', **knobs: object) -> None:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self.commands = _commands(path / 'bin', scheduler)
        super().__init__(str(path), scheduler, 'harness', str(self.commands))
        if user:
            self.user, self.uid = user.split(':', maxsplit=1)[0], int(user.split(':')[1])
        #: What has to be in the environment of whoever calls the commands.
        self.environment = {
            'PSIJ_FAKE_DIR': str(path),
            'PSIJ_FAKE_USER': user,
            'PATH': f'{self.commands}:{os.environ["PATH"]}',
        }
        for name, text in knobs.items():
            self.set(name, text)

    # --- settings and faults -------------------------------------------------------------------------------------

    def set(self, name: str, text: object = '') -> None:
        """Turn a knob: a setting, or a fault such as ``down``, ``hang.squeue`` or ``reject.once``."""
        (self.path / 'knobs' / name).write_text(str(text), errors='surrogateescape')
        self._knobs.add(name)

    def unset(self, *names: str) -> None:
        """Turn knobs back, and let go what they held up."""
        for name in names:
            (self.path / 'knobs' / name).unlink(missing_ok=True)
            self._knobs.discard(name)
        for job in self.everything():
            self.wake(job)
        self.kick()

    def reject(self, text: str, code: int = 1, *, once: bool = False) -> None:
        """Have submissions refused with this text on stderr."""
        self.set('reject.once' if once else 'reject', f'{code}\n{text}')

    # --- commands and jobs ---------------------------------------------------------------------------------------

    def run(
        self,
        *argv: str,
        stdin: str = '',
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        inherit: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a user of this cluster would, with the environment of the test or with `env` alone."""
        return subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            errors='surrogateescape',
            env={**(os.environ if inherit else {}), **self.environment, **(env or {})},
            cwd=cwd or self.path,
            timeout=60,
            check=False,
        )

    def job(self, number: int) -> Job:
        job = self.load(number)
        assert job is not None, f'there is no job {number}'
        return job

    def wait_for(self, number: int, *states: str, seconds: float = 20.0) -> Job:
        """Wait until a job is in one of these states (default: until it is done)."""
        wanted = states or ('done',)
        return self.wait_until(number, lambda job: job.state in wanted, f'reach {" or ".join(wanted)}', seconds=seconds)

    def wait_until(self, number: int, condition: Callable[[Job], object], what: str, *, seconds: float = 20.0) -> Job:
        """Wait until a condition on a job is true."""
        deadline = time.monotonic() + seconds
        job = self.job(number)
        while not condition(job):
            if time.monotonic() > deadline:
                raise TimeoutError(f'job {number} did not {what} within {seconds} s: {job.__dict__}; {self.log()}')
            time.sleep(0.002)
            job = self.job(number)
        return job

    def next_id(self, number: int) -> None:
        """Give this id to the next job."""
        with self.lock:
            state = self._state()
            state['next'] = number
            self._replace('state', state)

    def log(self) -> str:
        """Return what went wrong in the processes that run the jobs."""
        path = self.path / 'runner.log'
        return path.read_text() if path.exists() else ''

    def kick(self) -> None:
        """Start what can be started; a process that may have threads must not fork."""
        command: Sequence[str] = (
            sys.executable,
            '-SEs',
            '-c',
            _KICK,
            str(HERE.parent),
            self.dir,
            self.scheduler,
            'kick',
            self.bin,
        )
        subprocess.run(command, env={**os.environ, **self.environment}, cwd='/', check=True)

    def close(self) -> None:
        """End all jobs, and wait until their processes are gone."""
        self.set('hold_queue')
        for name in ('hold_start', 'hold_end'):
            (self.path / 'knobs' / name).unlink(missing_ok=True)
        running = [job for job in self.everything() if job.active and os.path.isdir(self.spool(job))]
        for job in running:
            self.end(job.id, 'cancelled')
            self.wake(job)
            signal_group(job.pid, SIGKILL)
        for job in running:
            self._wait_for_the_end(job)

    def _wait_for_the_end(self, killed: Job) -> None:
        def is_gone(job: Job) -> bool:
            runs = job.active and (not job.runner or os.path.exists(f'/proc/{job.runner}'))
            return not runs and not self.process_ids(killed)

        self.wait_until(killed.id, is_gone, 'end')


def _commands(directory: Path, scheduler: str) -> Path:
    """Return a directory with the commands, run by the interpreter that runs the tests."""
    shebang = f'#!{sys.executable} -SEs'
    if ' ' in sys.executable or len(shebang) > 127:  # the kernel could not read it
        return HERE / 'bin' / scheduler
    _, *lines = (HERE / 'bin' / 'launch').read_text().splitlines()
    lines = [f'sys.path.append({str(HERE.parent)!r})' if line.startswith('sys.path') else line for line in lines]
    commands = directory / scheduler
    commands.mkdir(parents=True, exist_ok=True)
    launch = directory / 'launch'
    launch.write_text('\n'.join([shebang, *lines, '']))
    launch.chmod(0o755)
    for command in (HERE / 'bin' / scheduler).iterdir():
        link = commands / command.name
        if not link.is_symlink():
            link.symlink_to('../launch')
    return commands
