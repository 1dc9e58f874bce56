"""Reports of job scripts: what is genuine is passed on, anything else is dropped."""

from __future__ import annotations

import os
import socket
from typing import Iterator, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psij import JobState
from psij._runtime import event_loop
from psij._runtime.event_loop import EventLoop
from psij._runtime.status_channel import DONE, REPORTED, SIGNAL, Report, Secret, StatusChannel, parse_report


class Site:
    """A channel with one job, and somebody who sends datagrams to it."""

    def __init__(self) -> None:
        self.channel = StatusChannel(EventLoop('status'), '127.0.0.1')
        self.secret = Secret()
        self.received: List[Report] = []
        port = self.channel.register('the-job', self.secret, self.received.append)
        assert port is not None
        self.port = port
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send(self, *words: str) -> None:
        """Send words, and have the channel take in what has arrived."""
        self.send_bytes(' '.join(words).encode())

    def send_bytes(self, data: bytes) -> None:
        self.sender.sendto(data, ('127.0.0.1', self.port))
        self.channel.drain()

    def states(self) -> List[str]:
        return [report.word for report in self.received]


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(event_loop, '_LINGER', 0.01)
    made = Site()
    yield made
    made.channel.unregister('the-job')
    made.sender.close()


def test_reports_of_the_script(site: Site) -> None:
    for state in REPORTED:
        site.send('the-job', state.name, site.secret.token(state.name))
    site.send('the-job', SIGNAL, '137', site.secret.token(SIGNAL))
    site.send('the-job', DONE, '3', site.secret.token(DONE))
    assert site.states() == [*(state.name for state in REPORTED), SIGNAL, DONE]
    assert [report.exit_code for report in site.received[-2:]] == [137, 3]


def test_tokens_are_those_that_scripts_get(site: Site) -> None:
    assert site.secret.tokens() == {
        word: site.secret.token(word) for word in [*(state.name for state in REPORTED), DONE, SIGNAL]
    }
    assert len(set(site.secret.tokens().values())) == 6
    assert Secret().tokens() != site.secret.tokens()


def test_a_token_is_good_for_one_state_of_one_job(site: Site) -> None:
    """Whoever sees one report on the network can make no other of it."""
    seen = site.secret.token('STAGE_IN')
    site.channel.register('other-job', Secret(), site.received.append)
    site.send('the-job', 'ACTIVE', seen)
    site.send('the-job', DONE, '0', seen)
    site.send('other-job', 'STAGE_IN', seen)
    site.send('the-job', 'STAGE_IN', seen[:-1])
    site.send('the-job', 'STAGE_IN', '')
    assert site.states() == []
    site.send('the-job', 'STAGE_IN', seen)
    assert site.states() == ['STAGE_IN']
    site.channel.unregister('other-job')


def test_unknown_jobs_and_states_are_ignored(site: Site) -> None:
    for words in (
        ('no-job', 'ACTIVE', site.secret.token('ACTIVE')),
        ('the-job', 'COMPLETED', site.secret.token('COMPLETED')),
        ('the-job', 'NEW', site.secret.token('NEW')),
        ('the-job', DONE, 'x', site.secret.token(DONE)),
        ('the-job', DONE, '-1', site.secret.token(DONE)),
        ('the-job', DONE, '1000', site.secret.token(DONE)),
    ):
        site.send(*words)
    assert site.states() == []


@given(st.one_of(st.binary(max_size=400), st.text(max_size=100).map(str.encode)))
def test_garbage_is_dropped(data: bytes) -> None:
    report = parse_report(data)
    assert report is None or (report.job_id and report.token)


def test_garbage_changes_nothing(site: Site) -> None:
    for data in (b'', b'\xff\xfe', b'the-job ACTIVE', b'x' * 60_000, b'\0' * 10):
        site.send_bytes(data)
    site.send('the-job', 'ACTIVE', site.secret.token('ACTIVE'))
    assert site.states() == ['ACTIVE']


def test_reports_are_taken_in_without_being_asked_for(site: Site) -> None:
    """On the thread of the loop, as they come."""
    readable, writable = os.pipe()
    other = Secret()
    site.channel.register('other-job', other, lambda report: (os.write(writable, b'.'), None)[1])
    site.sender.sendto(f'other-job ACTIVE {other.token("ACTIVE")}'.encode(), ('127.0.0.1', site.port))
    assert os.read(readable, 1) == b'.'
    site.channel.unregister('other-job')
    os.close(readable)
    os.close(writable)


def test_no_reports_after_the_end_of_a_job(site: Site) -> None:
    """The port is closed with the last job, and another one is opened for the next."""
    site.channel.register('other-job', Secret(), site.received.append)
    site.channel.unregister('the-job')
    site.send('the-job', 'ACTIVE', site.secret.token('ACTIVE'))
    assert site.states() == []
    site.channel.unregister('other-job')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(('127.0.0.1', site.port))
    site.channel.drain()  # nothing happens
    port = site.channel.register('the-job', site.secret, site.received.append)
    assert port is not None
    site.port = port
    site.send('the-job', 'ACTIVE', site.secret.token('ACTIVE'))
    assert site.received == [Report('the-job', JobState.ACTIVE, None, site.secret.token('ACTIVE'))]


def test_without_a_port_there_are_just_no_reports(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    channel = StatusChannel(EventLoop('status'), '127.0.0.1')

    def no_socket(*_: object) -> None:
        raise OSError(1, 'not allowed here')

    monkeypatch.setattr(socket, 'socket', no_socket)
    assert channel.register('the-job', Secret(), lambda report: None) is None
    assert 'not allowed here' in caplog.text
    channel.drain()
    channel.unregister('the-job')
