"""The command line as such, and ``psij plugins``."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

import psij
from psij import Descriptor, _builtins, _plugins
from psij.__main__ import COMMANDS, main
from psij._plugins import Registry


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Descriptor]]:
    """Yield descriptors of plugins that take the place of those of the library."""
    (tmp_path / 'acme_noisy.py').write_text('print("hello")\nclass E: pass')
    (tmp_path / 'acme_broken.py').write_text('raise ValueError("no\\n  licence")')
    (tmp_path / 'acme_silent.py').write_text('raise ValueError')
    descriptors = [
        Descriptor('noisy', Version('2'), 'acme_noisy.E', ['Loud', 'shrill'], 'The Noisy One'),
        Descriptor('broken', Version('1'), 'acme_broken.E'),
        Descriptor('noisy', Version('1'), 'acme_silent.E'),
    ]
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(_plugins, 'executors', Registry('executor', lambda: descriptors))
    monkeypatch.setattr(_plugins, 'launchers', Registry('launcher', _builtins.launchers))
    yield descriptors
    for name in [name for name in sys.modules if name.startswith('acme')]:
        del sys.modules[name]


def test_plugins_as_text(plugins: list[Descriptor], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['plugins']) == 0
    out, err = capsys.readouterr()
    origin = _builtins.__file__
    expected = (
        '*** Plugin status ***\n'
        'Executor noisy 1:\n'
        f'\tdescriptor: {origin}\n'
        f'\t    plugin: {tmp_path}/acme_silent.py\n'
        '\t     error: ValueError\n'
        'Executor noisy 2:\n'
        f'\tdescriptor: {origin}\n'
        f'\t    plugin: {tmp_path}/acme_noisy.py\n'
        '\t     error: None\n'
        '\t   aliases: loud, shrill\n'
        'Executor broken 1:\n'
        f'\tdescriptor: {origin}\n'
        f'\t    plugin: {tmp_path}/acme_broken.py\n'
        '\t     error: no licence\n'
    )
    assert out[: len(expected)] == expected
    assert err == 'hello\n', 'what a plugin prints does not get between'


def test_every_block_has_the_four_lines_that_programs_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['plugins']) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == '*** Plugin status ***'
    heads = [number for number, line in enumerate(lines) if not line.startswith('\t')]
    for head in heads:
        assert re.fullmatch(r'(Executor|Launcher) \w\S* [\w.]+:', lines[head])
        assert re.fullmatch(r'\tdescriptor: .+', lines[head + 1])
        assert re.fullmatch(r'\t    plugin: .+', lines[head + 2])
        assert re.fullmatch(r'\t     error: .+', lines[head + 3])
    kinds = [lines[head].split()[0] for head in heads]
    assert kinds == sorted(kinds), 'executors come first'
    assert 'Executor local 0.2.0:' in lines
    assert 'Launcher single 0.2.0:' in lines


def test_plugins_for_programs(plugins: list[Descriptor], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['plugins', '--json']) == 0
    listed: Any = json.loads(capsys.readouterr().out)
    assert listed[1:3] == [
        {
            'kind': 'executor',
            'name': 'noisy',
            'version': '2',
            'nice_name': 'The Noisy One',
            'aliases': ['loud', 'shrill'],
            'descriptor': _builtins.__file__,
            'plugin': str(tmp_path / 'acme_noisy.py'),
            'error': None,
        },
        {
            'kind': 'executor',
            'name': 'broken',
            'version': '1',
            'nice_name': 'broken',
            'aliases': [],
            'descriptor': _builtins.__file__,
            'plugin': str(tmp_path / 'acme_broken.py'),
            'error': 'no\n  licence',
        },
    ]
    assert {item['kind'] for item in listed} == {'executor', 'launcher'}


def test_without_arguments_usage_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert out.startswith('usage: psij [-h] [--version] COMMAND ...\n')
    assert all(name in out for name in COMMANDS)
    assert err == ''


@pytest.mark.parametrize('words', [['frobnicate'], ['plugins', 'local'], ['plugins', '--xml'], ['--verbose']])
def test_unknown_words_are_an_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(words)
    assert raised.value.code == 2
    out, err = capsys.readouterr()
    assert out == ''
    assert err.startswith('usage: psij')
    assert words[-1] in err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(['--version'])
    assert raised.value.code == 0
    assert capsys.readouterr().out == f'psij {psij.VERSION}\n'


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(['plugins', '--help'])
    assert '--json' in capsys.readouterr().out


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_has_its_module(name: str) -> None:
    module: Any = importlib.import_module(f'psij.cli.{name}')
    module.add_arguments(argparse.ArgumentParser())
    assert callable(module.run)


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60)


def test_as_a_program() -> None:
    assert _python('-m', 'psij').stdout.startswith('usage: psij')
    assert _python('-m', 'psij', 'plugins').stdout.startswith('*** Plugin status ***\nExecutor ')
    done = _python('-m', 'psij', 'frobnicate')
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.startswith('usage: psij')


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, '-m', 'psij', 'plugins']
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, '')  # as a shell reports it


def test_only_the_command_that_is_asked_for_is_imported() -> None:
    script = """
import sys
from psij.__main__ import main
main([])
print(sorted(name for name in sys.modules if name.startswith(('psij.cli', 'psij._plugins', 'packaging'))))
"""
    assert _python('-c', script).stdout.endswith('\n[]\n')
