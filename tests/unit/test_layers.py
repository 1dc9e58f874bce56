"""Imports point down: each layer imports only from itself and from those above it in the list."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import psij

SOURCE = Path(psij.__file__).parent

# The first pattern that matches counts.
LAYERS = {
    'values': (
        r'psij\.(exceptions|job_state|job_status|staging|resource_spec|job_attributes|job_spec|job_executor_config)'
        r'|psij\.(descriptor|_descriptor|version|_log|_checks)'
    ),
    'job': r'psij\.(job|serialize|_spec_check)',
    'contracts': r'psij\.(job_launcher|launcher|job_executor|_plugins|_builtins)',
    'machinery': (
        r'psij\._runtime(\..*)?|psij\.utils|psij\.launchers(\..*)?'
        r'|psij\.executors\.batch\.(script_generator|escape_functions|template_function_library)'
    ),
    'executors': (r'psij\.executors(\.\w+)?|psij\.executors\.batch(\.(batch_scheduler_executor|_\w+))?'),
    'schedulers': r'psij\.executors\.batch\.[a-z]\w*',
    'top': r'psij|psij\.__main__|psij\.cli(\..*)?',
}


def layer(module: str) -> int:
    for number, pattern in enumerate(LAYERS.values()):
        if re.fullmatch(pattern, module):
            return number
    raise AssertionError(f'{module} belongs to no layer')


def module_name(file: Path) -> str:
    parts = file.relative_to(SOURCE.parent).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imported(file: Path) -> Iterator[str]:
    """Yield the modules of the library that a file imports when it is imported itself.

    Blocks for type checkers and functions may point up: they are not at the top level.
    """
    for node in ast.parse(file.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split('.')[0] == 'psij')
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, 'imports are absolute'
            module = node.module or ''
            if module.split('.')[0] == 'psij':
                submodules = [alias.name for alias in node.names if _is_module(f'{module}.{alias.name}')]
                yield from (f'{module}.{name}' for name in submodules)
                if len(submodules) < len(node.names):
                    yield module


def _is_module(name: str) -> bool:
    path = SOURCE.parent.joinpath(*name.split('.'))
    return path.with_suffix('.py').is_file() or path.is_dir()


FILES = sorted(SOURCE.rglob('*.py'))


@pytest.mark.parametrize('file', FILES, ids=module_name)
def test_imports_point_down(file: Path) -> None:
    here = module_name(file)
    for module in imported(file):
        assert layer(module) <= layer(here), f'{here} imports {module}'


def test_there_is_something_to_look_at() -> None:
    names = {module_name(file) for file in FILES}
    assert {'psij', 'psij.job', 'psij.cli.plugins', 'psij.executors.local'} <= names
    assert list(imported(SOURCE / 'job_launcher.py')) == ['psij.job_executor_config']
    assert layer('psij.job_spec') < layer('psij.job') < layer('psij.job_executor') < layer('psij.executors.local')
    with pytest.raises(AssertionError):
        layer('psij.elsewhere')
