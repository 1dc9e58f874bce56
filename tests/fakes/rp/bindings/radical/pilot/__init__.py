"""A stand-in for RADICAL-Pilot 1.103: the part of its API that the executor uses, and an agent that runs tasks here.

States, their order, the thread that reports them, the shell scripts with their quotes, and the faults are those of the
original, as they were recorded. ``KNOBS`` are settings of the test: see :data:`KNOBS`.
"""

from __future__ import annotations

import itertools
import os
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

NEW = 'NEW'
AGENT_EXECUTING = 'AGENT_EXECUTING'
PMGR_ACTIVE = 'PMGR_ACTIVE'
FINAL = ['DONE', 'FAILED', 'CANCELED']

KNOBS: Dict[str, Any] = {}
"""``hold``: an Event; pilots are not active before it is set. ``refuse``: an exception that Session() raises.
``refuse_tasks``: an exception that submit_tasks() raises. ``deaf``: the number of cancellations that get lost."""

_CORES = 8
_BEFORE = ('TMGR_SCHEDULING_PENDING', 'TMGR_SCHEDULING', 'TMGR_STAGING_INPUT_PENDING', 'TMGR_STAGING_INPUT')
_IN_AGENT = ('AGENT_STAGING_INPUT', 'AGENT_SCHEDULING_PENDING', 'AGENT_SCHEDULING')
_AFTER = ('AGENT_STAGING_OUTPUT_PENDING', 'AGENT_STAGING_OUTPUT', 'TMGR_STAGING_OUTPUT_PENDING', 'TMGR_STAGING_OUTPUT')
_TAIL = 1024


class Description(Dict[str, Any]):
    """A dictionary with types."""

    types: Dict[str, type] = {}

    def verify(self) -> None:
        for name, value in self.items():
            if name not in self.types:
                raise KeyError(f'{type(self).__name__} has no attribute {name}')
            if not isinstance(value, self.types[name]):
                raise TypeError(f'attribute {name}: expected {self.types[name]}, got {type(value)}')


class PilotDescription(Description):
    types = {
        **dict.fromkeys(('cores', 'gpus', 'nodes', 'runtime'), int),
        **dict.fromkeys(('resource', 'queue', 'project', 'access_schema', 'sandbox'), str),
        'exit_on_error': bool,
    }


class TaskDescription(Description):
    types = {
        **dict.fromkeys(('uid', 'name', 'executable', 'gpu_type', 'named_env'), str),
        **dict.fromkeys(('ranks', 'cores_per_rank', 'mem_per_rank', 'lfs_per_rank', 'priority', 'partition'), int),
        **dict.fromkeys(('environment', 'tags', 'metadata'), dict),
        'arguments': list,
        'gpus_per_rank': float,
    }


class Session:
    """A session; ``opened`` are all that were."""

    opened: List[Session] = []
    _numbers = itertools.count()

    def __init__(self, cfg: Dict[str, str]) -> None:
        if 'refuse' in KNOBS:
            raise KNOBS['refuse']
        self.uid = f'rp.session.stand-in.{os.getpid()}.{next(self._numbers)}'
        self.path = Path(cfg['base']) / self.uid
        self.path.mkdir()
        self.closed = False
        self._events: queue.Queue[Optional[Callable[[], None]]] = queue.Queue()
        self._listener = threading.Thread(target=self._listen, name='Thread-1 (_listener)', daemon=True)
        self._listener.start()
        self.opened.append(self)

    def report(self, call: Callable[[], None]) -> None:
        """Have a callback called, in order, on the one thread for that."""
        self._events.put(call)

    def _listen(self) -> None:
        for call in iter(self._events.get, None):
            try:
                call()
            except Exception as ex:  # noqa: BLE001 - the original logs it
                KNOBS.setdefault('errors', []).append(ex)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._events.put(None)


class Pilot:
    def __init__(self, session: Session, description: PilotDescription, report: Callable[[Pilot, str], None]) -> None:
        description.verify()
        self.uid = 'pilot.0000'
        self.state = NEW
        self.description = description
        self.directory = session.path / self.uid
        self.directory.mkdir()
        self.pilot_sandbox = f'file://localhost{self.directory}'
        self.active = threading.Event()
        self._report = report
        threading.Thread(target=self._start, daemon=True).start()

    def _start(self) -> None:
        if 'hold' in KNOBS:
            KNOBS['hold'].wait(60)
        if self.state == NEW:
            self.advance(PMGR_ACTIVE)
            self.active.set()

    def advance(self, state: str) -> None:
        self.state = state
        self._report(self, state)


class PilotManager:
    def __init__(self, session: Session) -> None:
        self.session = session
        self._callbacks: List[Callable[[Any, str], None]] = []

    def register_callback(self, callback: Callable[[Any, str], None]) -> None:
        self._callbacks.append(callback)

    def submit_pilots(self, description: PilotDescription) -> Pilot:
        return Pilot(self.session, description, self._report)

    def _report(self, pilot: Pilot, state: str) -> None:
        for callback in self._callbacks:
            self.session.report(lambda callback=callback: callback(pilot, state))  # type: ignore[misc]

    def kill_pilots(self, uid: str, _timeout: float) -> None:
        pilot = TaskManager.of_session[self.session].pilot
        if pilot.state not in FINAL:
            pilot.advance('CANCELED')

    def close(self) -> None:
        """Do nothing: the original ends processes here."""


class Task:
    def __init__(self, manager: TaskManager, description: TaskDescription) -> None:
        self.uid: str = description['uid']
        self.state = NEW
        self.exit_code: Optional[int] = None
        self.stdout = self.stderr = ''
        self.exception: Optional[str] = None
        self.exception_detail: Optional[str] = None
        self._description = description
        self._manager = manager
        self._sandbox = manager.pilot.directory / self.uid
        self._lock = threading.Lock()
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._canceled = False

    def run(self) -> None:
        for state in (*_BEFORE, 'AGENT_STAGING_INPUT_PENDING'):
            self._advance(state)
        self._manager.pilot.active.wait(60)
        for state in _IN_AGENT:
            self._advance(state)
        cores = self._description['cores_per_rank']
        if cores > _CORES:
            self.exception = f"AssertionError('too many threads per proc {cores}')"
            self.exception_detail = f'Traceback (most recent call last):\nAssertionError: {cores}'
            self._advance('FAILED')
            return
        if self._canceled:
            self._advance('CANCELED')
            return
        self._advance('AGENT_EXECUTING_PENDING')
        self._execute()

    def _execute(self) -> None:
        self._sandbox.mkdir()
        with open(self._sandbox / 'out', 'wb') as out, open(self._sandbox / 'err', 'wb') as err:
            self._advance(AGENT_EXECUTING)
            with self._lock:
                self._process = subprocess.Popen(
                    ['/bin/bash', '-c', self._script()],
                    cwd=self._sandbox,
                    env={**os.environ, 'RP_SESSION_ID': self._manager.session.uid},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
            code = self._process.wait()
        for state in _AFTER[:2]:
            self._advance(state)
        self.stdout, self.stderr = self._end_of('out'), self._end_of('err')
        if self._canceled:
            self._advance('CANCELED')
            return
        self.exit_code = code
        if code:
            self.exception, self.exception_detail = 'RuntimeError("task failed")', f'exit code: {code}'
            self._advance('FAILED')
        else:
            for state in (*_AFTER[2:], 'DONE'):
                self._advance(state)

    def _script(self) -> str:
        """Return a script with the original's quotes: arguments escape backslashes and quotes, variables nothing."""
        lines = [
            f'export RP_TASK_ID="{self.uid}"',
            f'export RP_TASK_NAME="{self._description.get("name")}"',
            *(f'export {name}="{value}"' for name, value in self._description.get('environment', {}).items()),
        ]
        if self._description.get('gpu_type') == 'CUDA':
            lines.append('export CUDA_VISIBLE_DEVICES=0')
        quoted = [argument.replace('\\', '\\\\').replace('"', '\\"') for argument in self._description['arguments']]
        lines += [
            ' '.join([self._description['executable'], *(f'"{argument}"' for argument in quoted)]) + ' &',
            'wait $!',
            'exit $?',
        ]
        return '\n'.join(lines)

    def _end_of(self, name: str) -> str:
        text = (self._sandbox / name).read_text(errors='ignore')
        return text if len(text) <= _TAIL else f'[... CONTENT SHORTENED ...]\n{text[-_TAIL:]}'

    def cancel(self) -> None:
        if not self._manager.pilot.active.is_set():
            return  # nobody hears it
        with self._lock:
            self._canceled = True
            if self._process is not None and self._process.poll() is None:
                for signum in (signal.SIGTERM, signal.SIGKILL):
                    try:
                        os.killpg(self._process.pid, signum)
                    except ProcessLookupError:
                        break
                    time.sleep(0.1)

    def _advance(self, state: str) -> None:
        if self.state not in FINAL and not self._manager.session.closed:
            self._manager.report(self, state)


class TaskManager:
    of_session: Dict[Session, TaskManager] = {}

    def __init__(self, session: Session) -> None:
        self.session = session
        self.pilot: Pilot
        self._tasks: Dict[str, Task] = {}
        self._uids: set[str] = set()
        self._callbacks: List[Callable[[Any, str], None]] = []
        self.of_session[session] = self

    def register_callback(self, callback: Callable[[Any, str], None]) -> None:
        self._callbacks.append(callback)

    def add_pilots(self, pilot: Pilot) -> None:
        self.pilot = pilot

    def submit_tasks(self, description: TaskDescription) -> Task:
        description.verify()
        uid = description['uid']
        if uid in self._uids:
            raise ValueError(f'uid {uid} is not unique')
        self._uids.add(uid)
        if 'refuse_tasks' in KNOBS:
            raise KNOBS['refuse_tasks']
        task = self._tasks[uid] = Task(self, description)
        threading.Thread(target=task.run, daemon=True).start()
        return task

    def cancel_tasks(self, uids: List[str]) -> None:
        assert uids, 'the original would cancel all'
        if KNOBS.get('deaf', 0) > 0:
            KNOBS['deaf'] -= 1
            return
        for uid in uids:
            if uid in self._tasks:
                threading.Thread(target=self._tasks[uid].cancel, daemon=True).start()

    def get_tasks(self) -> List[Task]:
        return list(self._tasks.values())

    def report(self, task: Task, state: str) -> None:
        def call() -> None:
            task.state = state
            for callback in self._callbacks:
                callback(task, state)

        self.session.report(call)

    def close(self) -> None:
        """Do nothing: the original ends processes here."""
