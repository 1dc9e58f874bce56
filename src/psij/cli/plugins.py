"""``psij plugins``: what executors and launchers there are, where they come from, and whether they can be loaded."""

from __future__ import annotations

import contextlib
import sys

from psij import _plugins
from psij.cli import _output

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from typing import Optional


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of the command."""
    parser.add_argument('--json', action='store_true', help='write a list of objects, for programs')


def run(args: argparse.Namespace) -> int:
    """List the plugins."""
    with contextlib.redirect_stdout(sys.stderr):  # for what modules print that are imported to see whether they load
        plugins = [
            (registry.kind, plugin, _error(plugin))
            for registry in (_plugins.executors, _plugins.launchers)
            for plugin in registry.plugins()
        ]
    if args.json:
        _output.print_json([_tree(*plugin) for plugin in plugins])
        return 0
    print('*** Plugin status ***')
    for plugin in plugins:
        for line in _lines(*plugin):
            print(line)
    return 0


def _error(plugin: _plugins.Plugin) -> Optional[str]:
    """Load a plugin, and return why that is not possible."""
    try:
        plugin.load()
    except Exception as ex:  # noqa: BLE001 - the code of somebody else: anything may come
        return str(ex) or type(ex).__name__
    return None


def _lines(kind: str, plugin: _plugins.Plugin, error: Optional[str]) -> Iterator[str]:
    """Yield the four lines that programs read, and after them what else there is to say."""
    yield f'{kind.capitalize()} {plugin.name} {plugin.version}:'
    yield f'\tdescriptor: {plugin.descriptor.path}'
    yield f'\t    plugin: {plugin.path}'
    yield f'\t     error: {None if error is None else " ".join(error.split())}'
    if plugin.aliases:
        yield f'\t   aliases: {", ".join(plugin.aliases)}'


def _tree(kind: str, plugin: _plugins.Plugin, error: Optional[str]) -> dict[str, object]:
    return {
        'kind': kind,
        'name': plugin.name,
        'version': str(plugin.version),
        'nice_name': plugin.descriptor.nice_name,
        'aliases': plugin.aliases,
        'descriptor': plugin.descriptor.path,
        'plugin': plugin.path,
        'error': error,
    }
