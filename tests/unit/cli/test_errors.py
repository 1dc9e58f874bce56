"""What becomes of exceptions, in all commands."""

from __future__ import annotations

import argparse
import subprocess
import sys
from types import SimpleNamespace
from typing import NoReturn

import pytest

import psij.cli
from psij import InvalidJobException, SubmitException
from psij.__main__ import COMMANDS, main
from psij.cli import _options


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Make the command ``list`` raise what is put into the list that is returned."""
    errors: list[BaseException] = []

    def run(args: argparse.Namespace) -> NoReturn:
        raise errors[0]

    module = SimpleNamespace(add_arguments=lambda parser: None, run=run)
    monkeypatch.setitem(sys.modules, 'psij.cli.list', module)
    monkeypatch.setattr(psij.cli, 'list', module, raising=False)
    return errors


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (SubmitException('the scheduler\n  says no'), 'the scheduler says no'),
        (InvalidJobException('bad job'), 'bad job'),
        (ValueError('bad value'), 'bad value'),
        (FileNotFoundError(2, 'Not there', 'x'), "[Errno 2] Not there: 'x'"),
        (KeyError('x'), "KeyError: 'x' (--debug shows where it comes from)"),
        (ValueError(), 'ValueError:  (--debug shows where it comes from)'),
    ],
)
def test_errors_are_one_line(
    fail: list[BaseException], error: BaseException, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fail.append(error)
    assert main(['list']) == 1
    assert capsys.readouterr() == ('', f'psij list: {line}\n')


def test_a_traceback_on_demand(fail: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    fail.append(SubmitException('no'))
    assert main(['list', '--debug']) == 1
    out, err = capsys.readouterr()
    assert out == ''
    assert err.startswith('Traceback')
    assert err.endswith('psij.exceptions.SubmitException: no\n')


def test_ctrl_c(fail: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    fail.append(KeyboardInterrupt())
    assert main(['list']) == 130
    assert capsys.readouterr().err == 'psij list: interrupted\n'


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_has_helpful_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([name, '--help'])
    assert raised.value.code == 0
    text = capsys.readouterr().out
    assert '--debug' in text
    if name != 'plugins':
        assert f'psij {name}' in text.partition('example: ')[2]
        assert 'exit code: ' in text
    assert all(len(line) <= 80 for line in text.partition('options:')[2].splitlines())


@pytest.mark.parametrize(
    ('text', 'size'), [('1', 1), ('2k', 2048), ('1.5M', 1572864), ('4 GB', 4 * 1024**3), ('1TiB', 1024**4)]
)
def test_sizes(text: str, size: int) -> None:
    assert _options.memory(text) == size


@pytest.mark.parametrize('text', ['', 'k', '-1', '1x', '1 2', '1e3'])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match='is no size'):
        _options.memory(text)


def test_nothing_heavy_is_imported_for_help() -> None:
    script = """
import sys
from psij.__main__ import main
try:
    main(['run', '--help'])
except SystemExit:
    pass
print(sorted(name for name in sys.modules if name in ('logging', 'rich', 'psutil', 'typeguard', 'psij._plugins')))
"""
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith('\n[]\n'), done.stdout[-200:]
