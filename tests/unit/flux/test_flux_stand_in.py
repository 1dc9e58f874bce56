"""The stand-in does what the real Flux was recorded to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

import pytest
from fakes.flux import FakeFlux

from psij.executors._flux_session import bindings
from unit.flux.recordings import eventlog

Tree = dict[str, Any]


def _slot(count: int = 1, **content: int) -> Tree:
    with_ = [{'type': kind, 'count': number} for kind, number in (content or {'core': 1}).items()]
    return {'type': 'slot', 'count': count, 'label': 'task', 'with': with_}


def _nodes(count: int, slot: Tree) -> Tree:
    return {'type': 'node', 'count': count, 'with': [slot]}


class _Client:
    """What ``flux submit`` and ``flux cancel`` do."""

    def __init__(self, instance: FakeFlux) -> None:
        self._job = bindings().job
        self._handle = bindings().flux.Flux(instance.uri)

    def submit(self, command: list[str], resources: Optional[Tree] = None, urgency: int = 16, **system: Any) -> int:
        jobspec = {
            'version': 1,
            'resources': [resources or _slot()],
            'tasks': [{'command': command, 'slot': 'task', 'count': {'per_slot': 1}}],
            'attributes': {
                'system': {'duration': 0, 'environment': {'PATH': '/bin:/usr/bin'}, 'cwd': '/', **system},
            },
        }
        return int(self._job.submit_async(self._handle, json.dumps(jobspec), urgency).get_id())

    def cancel(self, job_id: int, reason: str = '') -> None:
        self._job.cancel_async(self._handle, job_id, reason).get()

    def wait_for(self, job_id: int, name: str) -> None:
        watch = self._job.event_watch_async(self._handle, job_id)
        event = watch.get_event()
        while event is not None and event['name'] != name:
            event = watch.get_event()

    def output(self, job_id: int) -> str:
        watch = self._job.event_watch_async(self._handle, job_id, 'guest.output')
        events = iter(watch.get_event, None)
        return ''.join(event['context'].get('data', '') for event in events)


@pytest.fixture
def client(instance: FakeFlux) -> _Client:
    instance.set(kill_timeout=0.2)
    return _Client(instance)


def _comparable(events: list[Tree]) -> list[tuple[str, Tree]]:
    """Return what does not depend on time, place and user."""
    return [
        (event['name'], {} if event['name'] == 'alloc' else _without_user(event.get('context') or {}))
        for event in events
    ]


def _without_user(context: Tree) -> Tree:
    return {key: value for key, value in context.items() if key != 'userid'}


@pytest.mark.parametrize(
    ('recording', 'command', 'resources'),
    [
        ('success', ['true'], None),
        ('exit3', ['sh', '-c', 'exit 3'], None),
        ('killed-by-signal-self', ['sh', '-c', 'kill -9 $$'], None),
        ('killed-by-signal-term-self', ['sh', '-c', 'kill -15 $$'], None),
        ('multi-task-mixed-exit', ['sh', '-c', 'exit $FLUX_TASK_RANK'], _slot(4)),
        ('bad-executable', ['/bin/no_such_file_or_directory'], None),
        ('unsatisfiable', ['true'], _nodes(64, _slot())),
        ('unsatisfiable-gpus', ['true'], _slot(core=1, gpu=1)),
    ],
)
def test_events(
    client: _Client, instance: FakeFlux, recording: str, command: list[str], resources: Optional[Tree]
) -> None:
    job_id = client.submit(command, resources)
    client.wait_for(job_id, 'clean')
    assert _comparable(instance.eventlog(job_id)) == _comparable(eventlog(recording))


def test_events_of_a_timeout(client: _Client, instance: FakeFlux) -> None:
    job_id = client.submit(['sleep', '60'], duration=0.1)
    client.wait_for(job_id, 'clean')
    assert _comparable(instance.eventlog(job_id)) == _comparable(eventlog('timeout'))


def test_events_of_a_job_that_is_cancelled(client: _Client, instance: FakeFlux) -> None:
    job_id = client.submit(['sleep', '60'])
    client.wait_for(job_id, 'start')
    client.cancel(job_id)
    client.wait_for(job_id, 'clean')
    assert _comparable(instance.eventlog(job_id)) == _comparable(eventlog('cancelled-running'))


def test_events_of_a_job_that_ignores_sigterm(client: _Client, instance: FakeFlux, tmp_path: Path) -> None:
    job_id = client.submit(['sh', '-c', f'trap "" TERM; echo > {tmp_path}/ready; while :; do sleep 1; done'])
    while not (tmp_path / 'ready').exists():
        pass
    client.cancel(job_id)
    client.wait_for(job_id, 'clean')
    events = instance.eventlog(job_id)
    assert [event['name'] for event in events] == [event['name'] for event in eventlog('cancelled-running')]
    assert next(event for event in events if event['name'] == 'finish')['context'] == {'status': 35072}


def test_events_of_a_job_that_is_held_and_cancelled(client: _Client, instance: FakeFlux) -> None:
    job_id = client.submit(['true'], urgency=0)
    client.cancel(job_id, 'not wanted any more')
    assert _comparable(instance.eventlog(job_id)) == _comparable(eventlog('cancelled-held'))


@pytest.mark.parametrize(
    ('recording', 'severity', 'kind', 'note'),
    [('fatal-exception', 0, 'myexception', 'stop it'), ('nonfatal-exception', 3, 'test', 'just a note')],
)
def test_events_with_an_exception(
    client: _Client, instance: FakeFlux, recording: str, severity: int, kind: str, note: str
) -> None:
    job_id = client.submit(['sleep', '60' if severity == 0 else '0.3'])
    client.wait_for(job_id, 'start')
    instance.raise_exception(job_id, kind, note, severity)
    client.wait_for(job_id, 'clean')
    assert _comparable(instance.eventlog(job_id)) == _comparable(eventlog(recording))


@pytest.mark.parametrize(
    ('command', 'output'),
    [
        (['echo', '{{nosuchtag}}', '{{size}}', '{{name}}', 'plain'], '{{nosuchtag}} 1 echo plain\n'),
        (['pwd'], '/\n'),
        (['sh', '-c', 'echo ${A-unset}'], 'unset\n'),
    ],
)
def test_commands(client: _Client, command: list[str], output: str) -> None:
    """As in the recording mustache-in-arguments."""
    job_id = client.submit(command)
    client.wait_for(job_id, 'clean')
    assert client.output(job_id) == output


def test_values_that_are_no_strings(client: _Client) -> None:
    """As in the recording env-nonstring."""
    job_id = client.submit(['/usr/bin/printenv', 'A', 'B'], environment={'A': 1, 'B': 'x'})
    client.wait_for(job_id, 'clean')
    assert client.output(job_id) == '(null)\nx\n'


def test_a_directory_that_is_missing(client: _Client) -> None:
    """As in the recording bad-cwd: it does not fail."""
    job_id = client.submit(['pwd'], cwd='/no/such/dir')
    client.wait_for(job_id, 'clean')
    assert client.output(job_id) == '/tmp\n'


def test_inactive_and_unknown_jobs(client: _Client, instance: FakeFlux) -> None:
    job_id = client.submit(['true'])
    client.wait_for(job_id, 'clean')
    with pytest.raises(FileNotFoundError, match='job is inactive'):
        client.cancel(job_id)
    with pytest.raises(FileNotFoundError, match='unknown job id'):
        client.cancel(1)


def test_tasks_that_outlive_the_first(client: _Client, instance: FakeFlux) -> None:
    """As in the recording exit-timeout, unless the option of the shell says otherwise."""
    instance.set(exit_timeout=0.1)
    command = ['sh', '-c', '[ $FLUX_TASK_RANK = 0 ] || sleep 0.5']
    for options, state in (({}, ['exception']), ({'exit-timeout': 'none'}, [])):
        job_id = client.submit(command, _slot(2), shell={'options': options})
        client.wait_for(job_id, 'clean')
        assert [event['name'] for event in instance.eventlog(job_id) if event['name'] == 'exception'] == state
