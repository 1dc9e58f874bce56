"""Running the commands of schedulers."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from psij._runtime import command, process_tree
from psij._runtime.command import CommandResult, client_environment, run


def test_what_a_command_did() -> None:
    result = run(['sh', '-c', 'echo out; echo err >&2; exit 3'])
    assert result == CommandResult(('sh', '-c', 'echo out; echo err >&2; exit 3'), 3, 'out\n', 'err\n')
    assert result.output == 'out\n\nerr\n'


def test_arguments_are_not_for_a_shell() -> None:
    assert run(['printf', '%s|', 'a b', '$HOME', '`id`', '*', "'"]).stdout == "a b|$HOME|`id`|*|'|"


def test_signals_and_odd_output() -> None:
    result = run([sys.executable, '-c', 'import os; os.write(1, b"a\\xff\\0b\\r\\n"); os.kill(os.getpid(), 9)'])
    assert result.exit_code == -9
    assert os.fsencode(result.stdout) == b'a\xff\0b\r\n'


def test_commands_have_no_input_and_a_session_of_their_own() -> None:
    result = run([sys.executable, '-c', 'import os, sys; print(repr(sys.stdin.read()), os.getsid(0) == os.getpid())'])
    assert result.stdout == "'' True\n"


def test_much_output() -> None:
    result = run(['sh', '-c', 'head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2'])
    assert (len(result.stdout), len(result.stderr)) == (3_000_000, 3_000_000)


def test_a_command_that_is_not_there() -> None:
    result = run(['no-such-command', 'x'], environment={'PATH': '/nowhere:/at/all'})
    assert result.exit_code is None
    assert not result.timed_out
    assert result.output == 'the command "no-such-command" was not found; PATH is \'/nowhere:/at/all\''


def test_a_command_that_cannot_be_run(tmp_path: Path) -> None:
    plain = tmp_path / 'plain'
    plain.write_text('')
    result = run([str(plain)])
    assert result.exit_code is None
    assert result.output == f'the command "{plain}" cannot be run: Permission denied'


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / 'pids'
    begin = time.monotonic()
    result = run(['sh', '-c', f'sleep 300 & echo $! $$ > {pids}; echo begun; wait'], timeout=0.5)
    assert time.monotonic() - begin < 10
    assert (result.exit_code, result.timed_out) == (None, True)
    assert result.stdout == 'begun\n'
    assert '"sh" did not answer within 0.5 seconds' in result.output
    for pid in pids.read_text().split():
        # a process that was killed needs a moment until it is gone, or a zombie that only its parent can remove
        deadline = time.monotonic() + 10
        while process_tree.alive(process_tree.identify([int(pid)])):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_process_that_left_the_session_does_not_keep_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, '_LAST_WORDS', 0.1)
    pid = tmp_path / 'pid'
    result = run(['sh', '-c', f'setsid sh -c "echo \\$\\$ > {pid}; exec sleep 300"; wait'], timeout=0.5)
    assert result.timed_out
    os.kill(int(pid.read_text()), 9)


def test_the_environment_of_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('SBATCH_ACCOUNT', 'x')
    monkeypatch.setenv('SBATCH_CONF', 'y')
    monkeypatch.setenv('LC_ALL', 'de_DE.UTF-8')
    environment = client_environment(('SBATCH_',), kept=('SBATCH_CONF',))
    assert environment is not None
    assert 'SBATCH_ACCOUNT' not in environment
    assert environment['SBATCH_CONF'] == 'y'
    assert environment['LC_ALL'] == 'C'
    assert environment['PATH'] == os.environ['PATH']
    submit = client_environment(('SBATCH_',), c_locale=False)
    assert submit is not None
    assert submit['LC_ALL'] == 'de_DE.UTF-8'
    assert client_environment(('NOTHING_',), c_locale=False) is None
