"""What becomes of exceptions, in all commands."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace
from typing import NoReturn

import pytest

import psij.cli
from psij import InvalidJobException, SubmitException
from psij.__main__ import COMMANDS, main
from psij.cli import _options

from .conftest import Shell


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
        (SubmitException('Use JobExecutorConfig(work_directory=...).'), 'Use --work-directory.'),
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


def test_output_that_cannot_be_written(shell: Shell) -> None:
    """One line of psij's own, and nothing that Python adds when it exits."""
    done = shell.psij_redirected('> /dev/full', 'list')
    assert (done.returncode, done.stderr) == (1, 'psij list: [Errno 28] No space left on device\n')


@pytest.mark.parametrize('redirection', ['>&-', '2>&-', '<&- >&- 2>&-'])
def test_streams_that_are_closed(shell: Shell, redirection: str) -> None:
    done = shell.psij_redirected(redirection, 'list')
    assert (done.returncode, done.stderr) == (0, '')


def test_a_standard_input_that_is_closed_is_empty(shell: Shell) -> None:
    done = shell.psij_redirected('<&-', 'submit', '-')
    assert done.returncode == 1
    assert done.stderr.startswith('psij submit: -: Not valid JSON: ')


@pytest.mark.parametrize('words', [['run', 'true'], ['render', '-e', 'slurm', 'JOB']])
def test_a_current_directory_that_was_removed(shell: Shell, words: list[str]) -> None:
    job = shell.directory / shell.write('job.json', executable='/bin/true')
    script = 'mkdir gone; cd gone; rmdir ../gone; exec "$0" -m psij "$@"'
    argv = ['/bin/sh', '-c', script, sys.executable, *(word.replace('JOB', str(job)) for word in words)]
    done = subprocess.run(
        argv, capture_output=True, text=True, cwd=shell.directory, env=shell.environment, timeout=60, check=False
    )
    assert done.returncode != 0
    assert re.fullmatch(f'psij {words[0]}: [Tt]he current directory [^\n]*does not exist any more[^\n]*\n', done.stderr)


@pytest.mark.parametrize(
    'option',
    [
        *('--nodes=0', '--processes=0', '--processes-per-node=-1', '--cores-per-process=0', '--gpus-per-process=x'),
        *('--copies=0', '--duration=0', '--duration=x', '--duration=0s', '--memory=0', '--memory=0.1', '--memory=x'),
        *('--attribute=foo=1', '--attribute==1', '--attribute=slurm.=1', '--attribute=.x', '--env=x', '--env=1x=1'),
    ],
)
def test_values_that_make_no_sense_are_wrong_usage(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(['run', option, 'true'])
    assert raised.value.code == 2
    name = option.partition('=')[0]
    assert capsys.readouterr().err.splitlines()[-1].startswith(f'psij run: error: argument {name}')


@pytest.mark.parametrize('command', [['wait', '1'], ['status', '1'], ['cancel', '1'], ['doctor']])
@pytest.mark.parametrize('text', ['x', '', 'nan', '1 2'])
def test_times_that_make_no_sense_are_told_in_words(
    command: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main([*command, f'--timeout={text}'])
    assert raised.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"--timeout: '{text}' is no time; expected hh:mm:ss, hh:mm, or a number with one of the units" in message


@pytest.mark.parametrize(
    ('text', 'seconds'), [('30', 30), ('0', 0), ('.5', 0.5), ('1.5', 1.5), ('2m', 120), ('1:30:00', 5400)]
)
def test_times_to_wait(text: str, seconds: float) -> None:
    assert _options.waiting_time(text) == timedelta(seconds=seconds)


def test_a_time_that_is_too_long() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match='is too long'):
        _options.walltime('99999999999y')


@pytest.mark.parametrize('name', ['wait', 'status', 'cancel', 'doctor'])
def test_the_unit_of_a_timeout_is_named(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, '--help'])
    assert '30 (seconds)' in ' '.join(capsys.readouterr().out.split())


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
