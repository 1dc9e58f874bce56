"""What ``flux-shell`` does on the nodes of a job: files, environment, streams, processes, signals, exit status."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import signal
import tempfile
from pathlib import Path

from fakes.flux.resources import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional, Union

    from fakes.flux.broker import Broker, Job

_BASE58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'
_ENCODINGS = {'utf-8': lambda data: data.encode(), 'base64': base64.b64decode}


def f58(job_id: int) -> str:
    """Return an ID as jobs see their own."""
    digits = ''
    while job_id:
        job_id, digit = divmod(job_id, 58)
        digits = _BASE58[digit] + digits
    return 'f' + (digits or '1')


class Shell:
    """Runs one job."""

    def __init__(self, broker: Broker, job: Job) -> None:
        self.pids: list[int] = []
        self._broker = broker
        self._job = job
        system = job.jobspec['attributes']['system']
        self._system = system
        self._options = system.get('shell', {}).get('options', {})
        self._id = f58(job.id)
        self._tasks_of_nodes = self._distribute()
        self._size = sum(self._tasks_of_nodes)
        self._signal: Optional[signal.Signals] = None
        self._killer: Optional[asyncio.TimerHandle] = None

    def _distribute(self) -> list[int]:
        wish = read(self._job.jobspec)
        place = [cores for cores in self._job.place or () if cores]
        per_resource = self._options.get('per-resource')
        if per_resource is not None:
            return [per_resource.get('count', 1)] * len(place)
        if wish.nodes is not None:
            return [wish.slots] * len(place)
        return [len(cores) // wish.cores for cores in place]

    async def run(self) -> int:
        """Run all tasks, and return the wait status of the job."""
        loop = asyncio.get_running_loop()
        timer = None
        if self._system['duration']:
            timer = loop.call_later(self._system['duration'], self._on_timeout)
        directory = Path(tempfile.mkdtemp(prefix=f'jobtmp-{self._id}-', dir=self._broker.directory))
        try:
            codes = await self._run_tasks(directory)
        finally:
            for handle in (timer, self._killer):
                if handle is not None:
                    handle.cancel()
            shutil.rmtree(directory, ignore_errors=True)
        return max(codes) << 8

    async def _run_tasks(self, directory: Path) -> list[int]:
        cwd = self._cwd()
        running = []
        rank = 0
        hosts = [name for name, cores in zip(self._broker.nodes.names, self._job.place or ()) if cores]
        for node, count in enumerate(self._tasks_of_nodes):
            private = directory / str(node)
            private.mkdir(mode=0o700)
            self._extract(private)
            for local in range(count):
                environment = self._environment(private, rank, local)
                running.append(asyncio.ensure_future(self._run_task(rank, hosts[node], environment, cwd, private)))
                rank += 1
        if self._options.get('exit-timeout', 'default') == 'default' and len(running) > 1:
            _, rest = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if rest:
                _, rest = await asyncio.wait(rest, timeout=self._broker.knobs['exit_timeout'])
            if rest:
                self._broker.raise_exception(self._job, 'exec', 0, 'first task exited, others did not in time')
        return await asyncio.gather(*running)

    def _cwd(self) -> str:
        cwd = self._system.get('cwd', str(self._broker.directory))
        if Path(cwd).is_dir() and Path(cwd).is_absolute():
            return str(cwd)
        self._broker.print(
            self._job,
            'log',
            level=3,
            rank='0',
            message=f'host node01: Could not change dir to {cwd}: No such file or directory. Going to /tmp instead',
        )
        return '/tmp'

    def _extract(self, directory: Path) -> None:
        for name, file in self._system.get('files', {}).items():
            path = directory / name
            path.write_bytes(_ENCODINGS[file['encoding']](file['data']))
            path.chmod(file['mode'] & 0o777)

    def _environment(self, tmpdir: Path, rank: int, local: int) -> dict[str, str]:
        environment = {
            name: value if isinstance(value, str) else '(null)'
            for name, value in self._system.get('environment', {}).items()
        }
        environment.update(
            CUDA_VISIBLE_DEVICES='-1',
            FLUX_JOB_ID=self._id,
            FLUX_JOB_ID_PATH=f'/{self._id}',
            FLUX_JOB_NNODES=str(len(self._tasks_of_nodes)),
            FLUX_JOB_SIZE=str(self._size),
            FLUX_JOB_TMPDIR=str(tmpdir),
            FLUX_KVS_NAMESPACE=f'job-{self._job.id}',
            FLUX_TASK_LOCAL_ID=str(local),
            FLUX_TASK_RANK=str(rank),
            FLUX_URI=self._broker.uri,
        )
        if self._options.get('pmi') != 'off':
            environment.update(PMI_RANK=str(rank), PMI_SIZE=str(self._size))
        return environment

    async def _run_task(self, rank: int, host: str, environment: dict[str, str], cwd: str, tmpdir: Path) -> int:
        command = [self._render(word, rank, tmpdir) for word in self._job.jobspec['tasks'][0]['command']]
        stdin = stdout = stderr = None
        try:
            stdin, stdout, stderr = self._streams(rank, cwd, tmpdir)
            process = await asyncio.create_subprocess_exec(
                *command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment, cwd=cwd, start_new_session=True
            )
        except OSError as ex:
            return self._fail_to_start(rank, host, command, ex)
        finally:
            for stream in (stdin, stdout, stderr):
                if stream is not None and stream >= 0:
                    os.close(stream)
        self.pids.append(process.pid)
        if self._signal is not None:
            self.end(self._signal)
        await asyncio.gather(
            self._collect(rank, 'stdout', process.stdout), self._collect(rank, 'stderr', process.stderr)
        )
        code = await process.wait()
        self.pids.remove(process.pid)
        return code if code >= 0 else 128 - code

    def _fail_to_start(self, rank: int, host: str, command: list[str], ex: OSError) -> int:
        note = f'task {rank} (host {host}): start failed: {command[0]}: {ex.strerror}'
        code = 126 if isinstance(ex, PermissionError) else 127
        if ex.filename not in (None, command[0]):  # a stream
            note, code = f'shell_init: {ex.strerror}', 1
        if self._job.exception is None:
            self._broker.raise_exception(self._job, 'exec', 0, note)
        return code

    def _streams(self, rank: int, cwd: str, tmpdir: Path) -> tuple[int, int, int]:
        source = self._options.get('input', {}).get('stdin', {})
        stdin = asyncio.subprocess.DEVNULL
        if source.get('type') == 'file':
            stdin = os.open(os.path.join(cwd, source['path']), os.O_RDONLY)
        output = self._options.get('output', {})
        stdout = self._target(output.get('stdout', {}), rank, cwd, tmpdir)
        stderr = self._target(output.get('stderr', output.get('stdout', {})), rank, cwd, tmpdir)
        return stdin, stdout, stderr

    def _target(self, target: dict[str, Any], rank: int, cwd: str, tmpdir: Path) -> int:
        if target.get('type') != 'file':
            return asyncio.subprocess.PIPE
        path = os.path.join(cwd, self._render(target['path'], rank, tmpdir))
        truncate = os.O_TRUNC if rank == 0 and path != '/dev/null' else 0
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | truncate, 0o666)

    async def _collect(self, rank: int, stream: str, reader: Optional[asyncio.StreamReader]) -> None:
        while reader is not None and (data := await reader.read(1 << 16)):
            try:
                content = {'data': data.decode()}
            except UnicodeDecodeError:
                content = {'data': base64.b64encode(data).decode(), 'encoding': 'base64'}
            self._broker.print(self._job, 'data', stream=stream, rank=str(rank), **content)

    def _render(self, text: str, rank: int, tmpdir: Path) -> str:
        name = os.path.basename(self._job.jobspec['tasks'][0]['command'][0])
        values: dict[str, Union[str, int]] = {
            'id': self._id,
            'name': self._system.get('job', {}).get('name', name),
            'size': self._size,
            'taskid': rank,
            'tmpdir': str(tmpdir),
        }
        return re.sub(r'\{\{([\w.]+)\}\}', lambda match: str(values.get(match[1], match[0])), text)

    def _on_timeout(self) -> None:
        self._broker.raise_exception(self._job, 'timeout', 0, 'resource allocation expired')

    def end(self, signum: signal.Signals) -> None:
        """Send a signal to all tasks, and SIGKILL a little later."""
        self._signal = signum
        for pid in self.pids:
            try:
                os.killpg(pid, signum)
            except ProcessLookupError:
                pass
        if self._killer is None and signum is not signal.SIGKILL:
            delay = self._broker.knobs['kill_timeout']
            self._killer = asyncio.get_running_loop().call_later(delay, self.end, signal.SIGKILL)
