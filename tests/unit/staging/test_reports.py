"""The datagrams that a script sends, and that they never matter to the job."""

from __future__ import annotations

import re
import socket
from typing import Iterator, List

import pytest

from .harness import Site

TOKENS = {'STAGE_IN': 'aa', 'ACTIVE': 'bb', 'STAGE_OUT': 'cc', 'CLEANUP': 'dd', 'DONE': 'ee'}
SIGNAL = {**TOKENS, 'SIGNAL': 'ff'}


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(('127.0.0.1', 0))
        receiver.settimeout(10)
        yield receiver


def received(receiver: socket.socket, count: int) -> List[bytes]:
    datagrams = [receiver.recv(1000) for _ in range(count)]
    receiver.setblocking(False)
    with pytest.raises(BlockingIOError):
        receiver.recv(1000)
    return datagrams


def report(
    site: Site, *addresses: str, port: object, job_command: str = '', before: str = '', **staging: object
) -> int:
    done = site.run(staging, job_command, before, us_addr_list=list(addresses), us_port=port, us_tokens=TOKENS)
    assert (done.output, done.errors) == ('', '')
    return done.code


@pytest.mark.parametrize('code', [0, 3])
def test_states(site: Site, receiver: socket.socket, code: int) -> None:
    """Each has a secret of its own, so that one cannot be made from another."""
    port = receiver.getsockname()[1]
    assert report(site, '127.0.0.1', port=port, job_command=f'(exit {code})') == code
    assert received(receiver, 5) == [
        b'the-id STAGE_IN aa\n',
        b'the-id ACTIVE bb\n',
        b'the-id STAGE_OUT cc\n',
        b'the-id CLEANUP dd\n',
        b'the-id DONE %d ee\n' % code,
    ]


def test_end_by_a_signal(site: Site, receiver: socket.socket) -> None:
    """The job may be run again, so the secret of an exit code is not shown."""
    done = site.run({}, '(exit 137)', us_addr_list=['127.0.0.1'], us_port=receiver.getsockname()[1], us_tokens=SIGNAL)
    assert done.code == 137
    assert received(receiver, 5)[-1] == b'the-id SIGNAL 137 ff\n'


def test_every_address_gets_them_even_if_others_cannot_be_reached(site: Site, receiver: socket.socket) -> None:
    port = receiver.getsockname()[1]
    assert report(site, '256.0.0.1', '127.0.0.1', '::bad', '127.0.0.1', port=port) == 0
    assert received(receiver, 10)[::2] == [
        b'the-id %s %s\n' % (state.encode() + (b' 0' if state == 'DONE' else b''), token.encode())
        for state, token in TOKENS.items()
    ]


def test_states_are_reported_when_they_begin(site: Site, receiver: socket.socket) -> None:
    """Nothing is reported of what does not happen."""
    port = receiver.getsockname()[1]
    item = {'source': '/nowhere', 'target': 'x', 'mode': 1}
    done = site.run({'stage_in': [item]}, us_addr_list=['127.0.0.1'], us_port=port, us_tokens=TOKENS)
    assert done.code == 121
    assert received(receiver, 2) == [b'the-id STAGE_IN aa\n', b'the-id DONE 121 ee\n']


def test_unknown_states_are_not_sent(site: Site, receiver: socket.socket) -> None:
    """Templates of earlier versions log this way."""
    port = receiver.getsockname()[1]
    assert report(site, '127.0.0.1', port=port, job_command='_psij_update_status "LOG text"; _psij_update_status') == 0
    assert len(received(receiver, 5)) == 5


@pytest.mark.parametrize('before', ['set -e', 'set -eu -o pipefail', 'set -C', 'set -o posix', "trap 'echo ERR' ERR"])
def test_options_of_the_shell(site: Site, receiver: socket.socket, before: str) -> None:
    port = receiver.getsockname()[1]
    assert report(site, 'unreachable.invalid', '127.0.0.1', port=port, before=before) == 0
    assert len(received(receiver, 5)) == 5


def test_no_tracing(site: Site, receiver: socket.socket) -> None:
    """The secrets do not get into a log."""
    done = site.run(
        {}, before='set -x', us_addr_list=['127.0.0.1'], us_port=receiver.getsockname()[1], us_tokens=TOKENS
    )
    assert len(received(receiver, 5)) == 5
    assert re.search('printf|aa|bb|cc|dd|ee|_psij_send', done.errors) is None


@pytest.mark.parametrize('port', [0, None, 9])
def test_without_a_receiver(site: Site, port: object) -> None:
    assert report(site, '127.0.0.1', port=port, before='set -e') == 0


def test_without_dev_udp(site: Site) -> None:
    """Some systems have a bash that takes /dev/udp for the name of a file."""
    script = site.write({}, us_addr_list=['127.0.0.1'], us_port=9, us_tokens=TOKENS)
    text = script.read_text()
    assert text.count('/dev/udp/') == 1
    script.write_text(text.replace('/dev/udp/', '/nowhere/udp/'))
    assert site.run_script(script) == (0, '', '')


def test_no_process_is_started(site: Site, receiver: socket.socket) -> None:
    """There may be a limit on their number, and each takes a moment."""
    port = receiver.getsockname()[1]
    # a process that is waited for, or that a trap sees, would show here
    count = "trap 'echo a process' CHLD; set -m"
    assert report(site, '127.0.0.1', port=port, before=count) == 0
    assert len(received(receiver, 5)) == 5


def test_no_cleanup_is_reported_if_staging_out_fails(site: Site, receiver: socket.socket) -> None:
    port = receiver.getsockname()[1]
    item = {'source': 'missing', 'target': str(site.submit / 'x'), 'mode': 1, 'flags': 14}
    done = site.run({'stage_out': [item]}, us_addr_list=['127.0.0.1'], us_port=port, us_tokens=TOKENS)
    assert done.code == 121
    assert received(receiver, 4)[2:] == [b'the-id STAGE_OUT cc\n', b'the-id DONE 121 ee\n']
