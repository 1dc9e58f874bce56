"""A pretended Flux instance: takes jobs, schedules them on pretended nodes, and really runs them.

It speaks the requests that Flux's Python bindings make, as lines of JSON on a socket, and reports the events that a
real instance was recorded to report (``tests/recordings/flux``). ``python -m fakes.flux.broker DIRECTORY
[NAME=VALUE...]`` serves
``DIRECTORY/local-0`` until it is told to end; the values are those of KNOBS, in JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from fakes.flux.jobshell import Shell, f58
from fakes.flux.resources import Nodes, Unsatisfiable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional

    Tree = dict[str, Any]

KNOBS: Tree = {
    'nodes': 2,
    'cores': 4,  # of each node
    'kill_timeout': 5.0,  # seconds between the signals that end a job
    'exit_timeout': 30.0,  # the default of the shell option
    'journal': 'owner',  # `guest`: it is refused
    'owner': os.getuid(),  # of the instance
    'refuse': None,  # [errno, text] for submissions
    'refuse_count': None,  # how many to refuse; none: all
    'mute': '',  # requests that begin with this are not answered
    'late': False,  # the answer to a submission comes after the end of the job
    'held': False,  # nothing is started
}


class Job:
    """A job of the instance."""

    def __init__(self, job_id: int, jobspec: Tree, urgency: int) -> None:
        self.id = job_id
        self.jobspec = jobspec
        self.urgency = urgency
        self.logs: dict[str, list[Tree]] = {'eventlog': [], 'guest.output': []}
        self.watchers: dict[str, list[Stream]] = {'eventlog': [], 'guest.output': []}
        self.place: Optional[list[list[int]]] = None
        self.shell: Optional[Shell] = None
        self.exception: Optional[str] = None
        self.submitter: Optional[Stream] = None  # who still waits for an answer

    @property
    def active(self) -> bool:
        return bool(self.logs['eventlog'][-1]['name'] != 'clean')


class Stream:
    """A request that may get many answers."""

    def __init__(self, client: Client, tag: int) -> None:
        self.client = client
        self.tag = tag

    def send(self, payload: Tree) -> None:
        self.client.send({'tag': self.tag, 'payload': payload})

    def fail(self, number: int, text: Optional[str] = None) -> None:
        self.client.send({'tag': self.tag, 'errnum': number, 'errstr': text or os.strerror(number)})


class Client:
    """A connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer

    def send(self, message: Tree) -> None:
        with contextlib.suppress(ConnectionError):
            self.writer.write(json.dumps(message).encode() + b'\n')


class Broker:
    """The instance."""

    def __init__(self, directory: Path, knobs: Tree) -> None:
        self.directory = directory
        self.uri = f'local://{directory}/local-0'
        self.knobs = {**KNOBS, **knobs}
        self.nodes = Nodes(self.knobs['nodes'], self.knobs['cores'])
        self.jobs: dict[int, Job] = {}
        self.journals: dict[tuple[Client, int], Stream] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self._began = time.monotonic()
        self._sequence = itertools.count()

    async def serve(self) -> None:
        server = await asyncio.start_unix_server(self._on_client, str(self.directory / 'local-0'), limit=1 << 26)
        asyncio.get_running_loop().add_reader(sys.stdin, self._on_end_of_test)
        print('ready', flush=True)
        async with server:
            await server.serve_forever()

    def _on_end_of_test(self) -> None:
        """End, with all jobs: the test that has started this has died."""
        for job in self.jobs.values():
            if job.shell is not None:
                job.shell.end(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)
        os._exit(0)

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(writer)
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                request = json.loads(line)
                if self.knobs['mute'] and request['topic'].startswith(self.knobs['mute']):
                    continue
                self._answer(request['topic'], request['payload'], Stream(client, request['tag']))
        for job in self.jobs.values():
            for name, watchers in job.watchers.items():
                job.watchers[name] = [watcher for watcher in watchers if watcher.client is not client]
        self.journals = {key: stream for key, stream in self.journals.items() if key[0] is not client}
        writer.close()

    def _answer(self, topic: str, payload: Tree, stream: Stream) -> None:
        handlers: dict[str, Callable[[Tree, Stream], None]] = {
            'attr.get': self._attr_get,
            'job-ingest.submit': self._submit,
            'job-info.eventlog-watch': self._watch,
            'job-list.list': self._list,
            'job-manager.events-journal': self._journal,
            'job-manager.events-journal-cancel': self._cancel_journal,
            'job-manager.raise': self._raise,
            'stand-in.set': self._set_knobs,
            'stand-in.pids': self._pids,
            'stand-in.hosts': self._hosts,
        }
        handler = handlers.get(topic)
        if handler is None:
            stream.fail(errno.ENOSYS, f'No service matching {topic} is registered')
        else:
            handler(payload, stream)

    def _attr_get(self, payload: Tree, stream: Stream) -> None:
        values = {'security.owner': str(self.knobs['owner']), 'size': str(len(self.nodes.names))}
        if payload['name'] in values:
            stream.send({'value': values[payload['name']]})
        else:
            stream.fail(errno.ENOENT)

    # --- jobs ----------------------------------------------------------------------------------------------------

    def _submit(self, payload: Tree, stream: Stream) -> None:
        refusal = self._refusal(payload)
        if refusal is not None:
            stream.fail(*refusal)
            return
        jobspec = json.loads(payload['jobspec'])
        milliseconds = int((time.monotonic() - self._began) * 1000)
        job_id = (milliseconds << 24) + (next(self._sequence) % 1024)
        job = self.jobs[job_id] = Job(job_id, jobspec, payload['urgency'])
        self.post(job, 'submit', userid=os.getuid(), urgency=job.urgency, flags=0, version=1)
        if self.knobs['late']:
            job.submitter = stream
        else:
            stream.send({'id': job_id})
        self.post(job, 'validate')
        self.post(job, 'depend')
        self.post(job, 'priority', priority=job.urgency)
        try:
            self.nodes.check(jobspec)
        except Unsatisfiable as ex:
            self.raise_exception(job, 'alloc', 0, f'unsatisfiable request: {ex}')
        else:
            self.schedule()

    def _refusal(self, payload: Tree) -> Optional[tuple[int, str]]:
        if self.knobs['refuse'] is not None and self.knobs['refuse_count'] != 0:
            if self.knobs['refuse_count'] is not None:
                self.knobs['refuse_count'] -= 1
            number, text = self.knobs['refuse']
            return number, text
        system = json.loads(payload['jobspec'])['attributes']['system']
        if 'queue' in system:
            return errno.EINVAL, f"'{system['queue']}' is not a valid queue"
        if not isinstance(system.get('duration'), (int, float)):
            return errno.EPERM, 'attributes.system.duration must be a number'
        if not 0 <= payload['urgency'] <= 31:
            return errno.EINVAL, 'urgency range is [0:31]'
        for dependency in system.get('dependencies', ()):
            return errno.EINVAL, f'dependency scheme "{dependency["scheme"]}" not supported'
        return None

    def schedule(self) -> None:
        """Start what can be started, in order."""
        for job in self.jobs.values():
            if self.knobs['held'] or job.place is not None or not job.active or not job.urgency:
                continue
            place = self.nodes.allocate(job.jobspec)
            if place is None:
                return
            job.place = place
            summary = ','.join(f'rank{i}/core{_idset(cores)}' for i, cores in enumerate(place) if cores)
            annotations = {'sched': {'resource_summary': summary}}
            self._journalise(job, _event('annotations', {'annotations': annotations}))
            self.post(job, 'alloc', annotations=annotations)
            job.shell = Shell(self, job)
            task = asyncio.get_running_loop().create_task(self._run(job, job.shell))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _run(self, job: Job, shell: Shell) -> None:
        self.post(job, 'start')
        status = await shell.run()
        self.post(job, 'finish', status=status)
        for watcher in job.watchers['guest.output']:
            watcher.fail(errno.ENODATA)
        self.post(job, 'release', ranks='all', final=True)
        self.post(job, 'free')
        self.nodes.free(job.place)
        self._clean(job)
        self.schedule()

    def _clean(self, job: Job) -> None:
        self.post(job, 'clean')
        if job.submitter is not None:
            job.submitter.send({'id': job.id})
        for watcher in job.watchers['eventlog']:
            watcher.fail(errno.ENODATA)

    def raise_exception(self, job: Job, kind: str, severity: int, note: str, userid: Optional[int] = None) -> None:
        """Post an exception; a fatal one ends the job."""
        self.post(
            job, 'exception', type=kind, severity=severity, note=note, userid=os.getuid() if userid is None else userid
        )
        if severity != 0:
            return
        job.exception = kind
        if job.shell is None:
            self._clean(job)
        else:
            job.shell.end(signal.SIGALRM if kind == 'timeout' else signal.SIGTERM)

    def post(self, job: Job, name: str, **context: Any) -> None:
        """Add an event to the log of a job."""
        event = _event(name, context)
        job.logs['eventlog'].append(event)
        self._journalise(job, event)
        for watcher in job.watchers['eventlog']:
            watcher.send({'event': event})

    def print(self, job: Job, name: str, **context: Any) -> None:
        """Add an event to the output of a job."""
        event = _event(name, context)
        job.logs['guest.output'].append(event)
        for watcher in job.watchers['guest.output']:
            watcher.send({'event': event})

    def _journalise(self, job: Job, event: Tree) -> None:
        message: Tree = {'id': job.id, 'events': [event]}
        if event['name'] == 'submit':
            message['jobspec'] = {key: value for key, value in job.jobspec.items() if key != 'attributes'}
        for journal in self.journals.values():
            journal.send(message)

    # --- requests ------------------------------------------------------------------------------------------------

    def _raise(self, payload: Tree, stream: Stream) -> None:
        job = self.jobs.get(payload['id'])
        if job is None:
            stream.fail(errno.ENOENT, 'unknown job id')
        elif not job.active:
            stream.fail(errno.ENOENT, 'job is inactive')
        else:
            self.raise_exception(job, payload['type'], payload['severity'], payload['note'], payload.get('userid'))
            stream.send({})

    def _watch(self, payload: Tree, stream: Stream) -> None:
        job = self.jobs.get(payload['id'])
        log = None if job is None else job.logs[payload['path']]
        if job is None or (not log and not job.active):
            stream.fail(errno.ENOENT)
            return
        for event in log or ():
            stream.send({'event': event})
        over = not job.active if payload['path'] == 'eventlog' else _has(job, 'finish')
        if over:
            stream.fail(errno.ENODATA)
        else:
            job.watchers[payload['path']].append(stream)

    def _list(self, payload: Tree, stream: Stream) -> None:
        for job in self.jobs.values():
            if job.active:
                stream.send({'jobs': [{'id': job.id}], 'version': 1})
        stream.fail(errno.ENODATA)

    def _journal(self, payload: Tree, stream: Stream) -> None:
        if self.knobs['journal'] == 'guest':
            stream.fail(errno.EPERM, 'Request requires owner credentials')
            return
        for job in self.jobs.values():
            if payload['full'] or job.active:
                stream.send({'id': job.id, 'events': job.logs['eventlog']})
        self.journals[stream.client, stream.tag] = stream

    def _cancel_journal(self, payload: Tree, stream: Stream) -> None:
        journal = self.journals.pop((stream.client, payload['matchtag']), None)
        if journal is not None:
            journal.fail(errno.ENODATA)

    def _set_knobs(self, payload: Tree, stream: Stream) -> None:
        self.knobs.update(payload)
        self.schedule()
        stream.send({})

    def _pids(self, payload: Tree, stream: Stream) -> None:
        stream.send({'pids': [pid for job in self.jobs.values() if job.shell is not None for pid in job.shell.pids]})

    def _hosts(self, payload: Tree, stream: Stream) -> None:
        job = next(job for job in self.jobs.values() if f58(job.id) == payload['id'])
        stream.send({'hosts': [self.nodes.names[i] for i, cores in enumerate(job.place or ()) if cores]})


def _event(name: str, context: Tree) -> Tree:
    event: Tree = {'timestamp': time.time(), 'name': name}
    if context:
        event['context'] = context
    return event


def _has(job: Job, name: str) -> bool:
    return any(event['name'] == name for event in job.logs['eventlog'])


def _idset(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return str(numbers[0])
    return f'[{numbers[0]}-{numbers[-1]}]'


def main() -> None:
    directory = Path(sys.argv[1])
    knobs = {name: json.loads(value) for name, value in (argument.split('=', 1) for argument in sys.argv[2:])}
    asyncio.run(Broker(directory, knobs).serve())


if __name__ == '__main__':
    main()
