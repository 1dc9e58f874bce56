"""A pretended Flux instance in the hands of a test.

| | |
|---|---|
| ``broker.py`` | the instance, a process of its own: takes jobs, keeps their events |
| ``resources.py``, ``jobshell.py`` | its nodes; what happens on them |
| ``bindings/flux`` | the stand-in for Flux's Python bindings, to be put on ``sys.path`` |
| ``bin/flux``, ``hostlist.py`` | the one command that job scripts use, to be put on ``PATH`` |
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Any, Optional

HERE = Path(__file__).resolve().parent

BINDINGS = HERE / 'bindings'
"""The directory to put on ``sys.path`` for the stand-in's ``flux`` package."""

COMMANDS = HERE / 'bin'
"""The directory to put on ``PATH`` for the stand-in's ``flux`` command."""


@contextlib.contextmanager
def instance_for_all() -> Iterator[Mapping[str, str]]:
    """Provide an instance to all tests of a session, with the variables that lead to it; ``flux`` can be imported."""
    sys.path.insert(0, str(BINDINGS))
    try:
        with FakeFlux(nodes=4, cores=16) as instance:
            yield {
                'FLUX_URI': instance.uri,
                'PATH': f'{COMMANDS}:{os.environ["PATH"]}',
                'PYTHONPATH': os.pathsep.join([str(BINDINGS), *filter(None, [os.environ.get('PYTHONPATH')])]),
            }
    finally:
        sys.path.remove(str(BINDINGS))


class FakeFlux:
    """A pretended Flux instance; `close` it at the end of the test, or use it in a ``with`` statement.

    Parameters
    ----------
    knobs
        Settings, those of ``broker.KNOBS``.
    """

    def __init__(self, **knobs: object) -> None:
        # in /tmp, because the path of a socket must be short
        self.directory = Path(tempfile.mkdtemp(prefix='psij-flux-'))
        self.uri = f'local://{self.directory}/local-0'
        arguments = [f'{name}={json.dumps(value)}' for name, value in knobs.items()]
        self._broker = subprocess.Popen(
            [sys.executable, '-m', 'fakes.flux.broker', str(self.directory), *arguments],
            env={**os.environ, 'PYTHONPATH': str(HERE.parents[1])},
            stdin=subprocess.PIPE,  # its end tells the broker that this process has died
            stdout=subprocess.PIPE,
        )
        assert self._broker.stdin is not None
        assert self._broker.stdout is not None
        assert self._broker.stdout.readline() == b'ready\n', 'the broker of the stand-in does not start'

    def set(self, **knobs: object) -> None:
        """Turn knobs."""
        self._ask('stand-in.set', knobs)

    def raise_exception(
        self, job_id: int, kind: str, note: str = '', severity: int = 0, userid: Optional[int] = None
    ) -> None:
        """Raise an exception, as ``flux job raise`` does."""
        self._ask(
            'job-manager.raise', {'id': job_id, 'type': kind, 'severity': severity, 'note': note, 'userid': userid}
        )

    def eventlog(self, job_id: int) -> list[dict[str, Any]]:
        """Return the events of a job that has ended."""
        events = []
        for answer in self._answers('job-info.eventlog-watch', {'id': job_id, 'path': 'eventlog'}):
            if 'errnum' in answer:
                break
            events.append(answer['payload']['event'])
        return events

    def kill(self) -> None:
        """End the broker as a crash does, with its jobs."""
        pids = self._ask('stand-in.pids', {})['pids']
        self._broker.kill()
        self._broker.wait()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def close(self) -> None:
        """End the instance, and remove its files."""
        if self._broker.poll() is None:
            self.kill()
        for pipe in (self._broker.stdin, self._broker.stdout):
            if pipe is not None:
                pipe.close()
        subprocess.run(['rm', '-rf', str(self.directory)], check=True)

    def __enter__(self) -> FakeFlux:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], ex: Optional[BaseException], tb: Optional[TracebackType]
    ) -> None:
        self.close()

    def _ask(self, topic: str, payload: object) -> Any:
        for answer in self._answers(topic, payload):
            assert 'errnum' not in answer, answer
            return answer['payload']
        raise AssertionError('the broker of the stand-in does not answer')

    def _answers(self, topic: str, payload: object) -> Any:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.directory / 'local-0'))
            connection.sendall(json.dumps({'tag': 1, 'topic': topic, 'payload': payload}).encode() + b'\n')
            for line in connection.makefile('rb'):
                yield json.loads(line)
