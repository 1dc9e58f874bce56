"""The events of Flux jobs, taken from recordings, mean what they should."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from psij import JobState
from psij.executors._flux_events import History, native_id, printed_text
from psij.job_status import REASONS, JobStatus
from unit.flux.recordings import eventlog, load, with_eventlog

COMPLETED, FAILED, CANCELED = JobState.COMPLETED, JobState.FAILED, JobState.CANCELED


def _end(events: list[dict[str, Any]], printed: str = '') -> JobStatus:
    history = History()
    for event in events:
        history.add(event)
    assert history.ended
    return history.final_status(printed)


@pytest.mark.parametrize(
    ('recording', 'state', 'exit_code', 'reason', 'message'),
    [
        ('success', COMPLETED, 0, None, None),
        ('exit3', FAILED, 3, 'exit_code', 'The job ended with exit code 3.'),
        ('multi-task-mixed-exit', FAILED, 3, 'exit_code', 'The job ended with exit code 3.'),
        ('killed-by-signal-self', FAILED, 137, 'signal', 'SIGKILL'),
        ('killed-by-signal-segv', FAILED, 139, 'signal', 'SIGSEGV'),
        ('killed-by-flux-job-kill', FAILED, 143, 'signal', 'SIGTERM'),
        ('shell-killed', FAILED, 137, 'signal', 'SIGKILL'),
        ('bad-executable', FAILED, 127, 'exit_code', '/bin/no_such_file_or_directory: No such file or directory'),
        ('not-executable', FAILED, 126, 'exit_code', 'Permission denied'),
        ('stdin-missing', FAILED, 143, 'exit_code', "error opening input file '/no/such/in.txt'"),
        ('stdout-missing-dir', FAILED, 1, 'exit_code', 'shell_init: No such file or directory'),
        ('timeout', FAILED, 142, 'timeout', 'walltime was over (resource allocation expired)'),
        ('cancelled-running', CANCELED, None, 'cancelled_by_user', None),
        ('cancelled-running-trap', CANCELED, None, 'cancelled_by_user', None),
        ('cancelled-pending', CANCELED, None, 'cancelled_by_user', None),
        ('cancelled-held', CANCELED, None, 'cancelled_by_user', 'not wanted any more'),
        ('unsatisfiable', FAILED, None, 'submit_rejected', 'need 64 node(s) with 1 cores each, only 2 eligible'),
        ('unsatisfiable-gpus', FAILED, None, 'submit_rejected', 'only 0 available (total GPUs: 0)'),
        ('dependency-fails', FAILED, None, 'dependency', 'can never be satisfied'),
        ('dependency-ok', COMPLETED, 0, None, None),
        ('exit-timeout', FAILED, 0, 'cancelled_by_system', 'exit-timeout'),
        ('nonfatal-exception', COMPLETED, 0, None, None),
        ('fatal-exception', FAILED, 143, 'cancelled_by_system', 'type myexception: stop it'),
    ],
)
def test_the_end(
    recording: str, state: JobState, exit_code: Optional[int], reason: Optional[str], message: Optional[str]
) -> None:
    status = _end(eventlog(recording))
    assert (status.state, status.exit_code) == (state, exit_code)
    assert (status.metadata or {}).get('reason') == reason
    assert status.message == message if message is None else message in (status.message or '')


@pytest.mark.parametrize('name', with_eventlog())
def test_agrees_with_what_flux_lists(name: str) -> None:
    """``flux jobs`` has its own rules for the result; they are the same but for what is said in the notes."""
    listed = [
        step['stdout']
        for step in load(name)['steps']
        if step['argv'][:3] == ['flux', 'jobs', '-a'] and '{status_abbrev}' in ' '.join(step['argv'])
    ]
    if not listed or not listed[-1]:
        pytest.skip('there is no list in this recording')
    result = listed[-1].split()[3]
    metadata = _end(eventlog(name)).metadata or {}
    assert metadata['native_state'] == result
    assert metadata.get('reason', 'exit_code') in REASONS


def test_the_job_is_active_with_start() -> None:
    """Nothing before makes it so, and the time is that of Flux."""
    history = History()
    reached = [(event['name'], history.add(event)) for event in eventlog('success')]
    statuses = [(name, status.state, status.time) for name, status in reached if status is not None]
    start = next(event for event in eventlog('success') if event['name'] == 'start')
    assert statuses == [('start', JobState.ACTIVE, start['timestamp'])]


def test_the_end_is_that_of_the_processes() -> None:
    """Releasing the nodes may take long, with an epilog; the job is over with ``finish``."""
    events = eventlog('success')
    finish = next(event for event in events if event['name'] == 'finish')
    history = History()
    for event in events[: events.index(finish) + 1]:
        history.add(event)
    assert history.ended
    history.add({'timestamp': finish['timestamp'] + 5, 'name': 'clean'})
    assert history.final_status('').time == finish['timestamp']


def test_a_fatal_exception_is_not_the_end() -> None:
    """The exit code comes after it."""
    history = History()
    for event in eventlog('timeout'):
        if event['name'] == 'finish':
            break
        history.add(event)
    assert not history.ended


def test_the_first_fatal_exception_counts() -> None:
    events = eventlog('cancelled-running')
    index = next(i for i, event in enumerate(events) if event['name'] == 'exception')
    second = {**events[index], 'context': {'type': 'timeout', 'severity': 0, 'note': '', 'userid': 1001}}
    assert _end([*events[: index + 1], second, *events[index + 1 :]]).state is CANCELED


def test_events_that_come_twice_change_nothing() -> None:
    """A job may be watched after the journal has failed, and is then told everything again."""
    events = eventlog('exit3')
    once, twice = _end(events), _end([*events, *events])
    assert str(once) == str(twice)


def test_cancelled_by_an_operator() -> None:
    events = [dict(event) for event in eventlog('cancelled-running')]
    for event in events:
        if event['name'] == 'exception':
            event['context'] = {**event['context'], 'userid': 0, 'note': 'maintenance'}
    status = _end(events)
    assert (status.state, status.message) == (CANCELED, 'maintenance')
    assert (status.metadata or {})['reason'] == 'cancelled_by_system'


def test_an_end_without_any_reason_is_not_a_success() -> None:
    status = _end([{'timestamp': 1.0, 'name': 'submit'}, {'timestamp': 2.0, 'name': 'clean'}])
    assert (status.state, status.exit_code, (status.metadata or {})['reason']) == (FAILED, None, 'lost')


def test_what_was_printed_explains_an_exit_code() -> None:
    assert _end(eventlog('exit3'), 'psij: no such file\n').message == 'psij: no such file'


def test_unknown_events_are_passed_over() -> None:
    events = eventlog('success')
    odd = {'timestamp': 0.0, 'name': 'no-such-event', 'context': {'severity': 0, 'type': 'cancel'}}
    assert _end([odd, *events]).state is COMPLETED


def test_native_ids() -> None:
    """They are what a job sees as its ID, and what the commands of Flux print, in plain ASCII."""
    printed = [step['stdout'].strip() for step in load('job-ids')['steps']]
    submitted, decimal = printed[0], printed[1]
    assert native_id(int(decimal)) == submitted.replace('\u0192', 'f')


@pytest.mark.parametrize(
    ('event', 'text'),
    [
        ({'name': 'header', 'context': {'version': 1}}, ''),
        ({'name': 'data', 'context': {'stream': 'stdout', 'rank': '0', 'data': 'a\n'}}, 'a\n'),
        (
            {'name': 'data', 'context': {'stream': 'stdout', 'rank': '0', 'data': '/w==', 'encoding': 'base64'}},
            '\ufffd',
        ),
        ({'name': 'data', 'context': {'stream': 'stdout', 'rank': '0', 'data': 'x', 'repeat': 3}}, 'xxx'),
        ({'name': 'data', 'context': {'stream': 'stdout', 'rank': '0', 'eof': True}}, ''),
        ({'name': 'log', 'context': {'level': 3, 'message': 'Could not change dir'}}, 'Could not change dir\n'),
        ({'name': 'log', 'context': {'level': 5, 'message': 'by the way'}}, ''),
    ],
)
def test_output(event: dict[str, Any], text: str) -> None:
    assert printed_text(event) == text
