"""The API reference leaves nothing out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import psij

TOP = Path(__file__).resolve().parents[2]
SOURCE = TOP / 'src'
PAGES = [TOP / 'docs' / name for name in ('api.rst', 'executors/flux.rst', 'executors/rp.rst')]

NOT_FOR_USERS = {
    'SplitOptions',  # what parsers of LSF and Cobalt return to their executors
}


def public_modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield the public modules and their source."""
    for file in sorted((SOURCE / 'psij').rglob('*.py')):
        parts = file.relative_to(SOURCE).with_suffix('').parts
        if 'cli' not in parts and not any(part.startswith('_') for part in parts):
            yield '.'.join(parts), ast.parse(file.read_text(encoding='utf-8'))


def documented() -> set[str]:
    """Return the names of all objects for which there is a directive."""
    names: set[str] = set()
    for page in PAGES:
        text = page.read_text(encoding='utf-8')
        names |= set(re.findall(r'^\.\. auto(?:class|function|data|exception):: .*?(\w+)$', text, re.MULTILINE))
        names |= set(re.findall(r'^\.\. data:: .*?(\w+)$', text, re.MULTILINE))
        for module, options in re.findall(r'^\.\. automodule:: (\S+)\n((?: +:.*\n)*)', text, re.MULTILINE):
            members = re.search(r':members:(.*)', options)
            if members is not None:
                names |= set(re.findall(r'\w+', members[1])) or exported(module)
    return names


def exported(module: str) -> set[str]:
    """Return the public names that a module defines, or lists in its ``__all__``."""
    path = SOURCE.joinpath(*module.split('.'))
    tree = ast.parse((path / '__init__.py' if path.is_dir() else path.with_suffix('.py')).read_text(encoding='utf-8'))
    names = {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == '__all__':
            names |= set(ast.literal_eval(node.value))
    return {name for name in names if not name.startswith('_')}


def test_every_public_class_is_documented() -> None:
    """There is a directive for each class in a public module."""
    classes = {
        node.name
        for _, tree in public_modules()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith('_')
    }
    assert classes - documented() - NOT_FOR_USERS == set()


def test_every_name_of_the_package_is_documented() -> None:
    """There is a directive for each name in ``psij.__all__``."""
    assert set(psij.__all__) - documented() == set()


def test_every_module_is_named() -> None:
    """The table of modules has all public modules, those of single launchers as one."""
    text = (TOP / 'docs' / 'api.rst').read_text(encoding='utf-8')
    table = text[text.index('Modules') : text.index('Jobs\n----')]
    for name, _ in public_modules():
        if not name.startswith('psij.launchers.'):
            short = name[len('psij.executors.batch.') :] if name.startswith('psij.executors.batch.') else name
            assert f'``{short}``' in table, name
