"""What a job stages in, stages out and removes, as data for the partials of the job scripts.

Everything is checked here as far as it can be known before submission. The scripts check again where they run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Callable, Dict, Iterable, List, NoReturn, Optional, Union
from urllib.parse import unquote

from psij.exceptions import InvalidJobException
from psij.job_spec import JobSpec
from psij.staging import URI, StageIn, StageOut, StageOutFlags

Item = Dict[str, Union[str, int]]


def staging_context(spec: JobSpec, submit_directory: Path) -> Dict[str, object]:
    """Return the data for the partials ``batch_lib``, ``stagein``, ``stageout`` and ``cleanup``.

    Paths on the side of the submitting program are absolute in the result. Paths on the side of the job are as they
    were given, and relative to the directory of the job.

    Parameters
    ----------
    spec
        The specification of the job, whose types have been checked.
    submit_directory
        The working directory of the submitting program, an absolute path.

    Raises
    ------
    InvalidJobException
        If something could not work, or would not be safe.
    """
    directory = '' if spec.directory is None else os.path.join(submit_directory, spec.directory)
    stage_in = [_stage_in(item, submit_directory) for item in _ordered(spec.stage_in)]
    stage_out = [_stage_out(item, submit_directory) for item in _ordered(spec.stage_out)]
    return {
        'directory': directory,
        'stage_in': _distinct('stage_in', stage_in, directory),
        'stage_out': _distinct('stage_out', stage_out, directory),
        'cleanup': [_inside(str(path), directory) for path in _ordered(spec.cleanup)],
        # Unlike with StageOut, no condition at all means never: it was never more in the existing package, and what is
        # not removed can still be.
        'cleanup_flags': (spec.cleanup_flags & StageOutFlags.ALWAYS).value,
    }


def _ordered(items: Optional[Iterable[object]]) -> List[object]:
    """Return the items of a list in its order, and those of a set in one that makes scripts reproducible.

    Sorted by target, a directory comes before what goes into it.
    """
    if isinstance(items, (set, frozenset)):
        return sorted(items, key=lambda item: (str(getattr(item, 'target', '')), str(item)))
    return list(items or ())


def _stage_in(item: object, submit_directory: Path) -> Item:
    assert isinstance(item, StageIn)
    target = _named('stage_in', item.target)
    if not os.path.isabs(target) and os.path.normpath(target).startswith('../'):
        _refuse('stage_in', f'the relative target {target!r} leads out of the directory of the job', 'an absolute path')
    return {
        # without a slash at the end: with one, a link to a directory would be that directory
        'source': str(submit_directory / _local_path('stage_in', item.source)),
        'target': target,
        'mode': item.mode.value,
    }


def _stage_out(item: object, submit_directory: Path) -> Item:
    assert isinstance(item, StageOut)
    return {
        'source': str(item.source),
        'target': os.path.join(submit_directory, _named('stage_out', _local_path('stage_out', item.target))),
        'flags': item.flags.value,
        'mode': item.mode.value,
    }


def _local_path(field: str, location: URI) -> str:
    """Return the path of a location."""
    reader = _READERS.get(location.scheme)
    if reader is None:
        # neither the password that a URI may contain, nor the key that a query may be, belongs into a message
        shown = f'{location.scheme}://{location.hostname or ""}{location.path}'
        _refuse(field, f'the scheme {location.scheme!r} of {shown} is not supported', _SUPPORTED)
    path = reader(field, location)
    if not path or '\0' in path:
        _refuse(field, f'the location {str(location)!r} names no file', 'a path')
    return path


def _plain_path(field: str, uri: URI) -> str:
    return uri.path


def _file_path(field: str, uri: URI) -> str:
    """Return the path of a ``file`` URI (RFC 8089), in which special characters are percent-encoded.

    >>> _file_path('stage_in', URI('file:///a%20b;c'))
    '/a b;c'
    """
    if uri.netloc.lower() not in ('', 'localhost'):
        _refuse(field, f'the host {uri.hostname!r} of file://{uri.hostname}{uri.path} is not supported', _SUPPORTED)
    if uri.query or uri.fragment:
        _refuse(field, f'{str(uri)!r} has a query or a fragment', '? and # in a path to be written as %3F and %23')
    path = f'{uri.path};{uri.params}' if uri.params else uri.path
    return unquote(path, sys.getfilesystemencoding(), 'surrogateescape')


_SUPPORTED = 'a path, or a URI of the form file:///path or file://localhost/path'

_READERS: Dict[str, Callable[[str, URI], str]] = {'': _plain_path, 'file': _file_path}
"""How to get from a location to a path that the machine of the job can use, by scheme.

This is where the transfer for another scheme would plug in: its function returns what its counterpart in
``batch_lib.mustache``, called by ``_psij_stage``, needs to reach the file.
"""


def _named(field: str, path: Union[str, Path]) -> str:
    """Return a path that ends with a name, which is what can be made or removed.

    >>> _named('stage_in', 'a//b/')
    'a/b'
    """
    text = str(Path(path))
    if os.path.basename(text) in ('', '.', '..'):
        _refuse(field, f'{str(path)!r} stands for a directory that exists', 'the name of a file or directory')
    return text


def _distinct(field: str, items: List[Item], directory: str) -> List[Item]:
    """Return the items without duplicates, if no two of them would end up at the same place.

    Stage-outs with conditions that exclude each other may have the same target.
    """
    distinct: List[Item] = []
    places: Dict[str, List[Item]] = {}
    for item in items:
        place = places.setdefault(os.path.normpath(os.path.join(directory, str(item['target']))), [])
        if item in place:
            continue
        for other in place:
            if _conditions(item) & _conditions(other):
                _refuse(
                    field,
                    f'{other["source"]!r} and {item["source"]!r} have the same target {item["target"]!r}',
                    'different targets, or conditions that exclude each other',
                )
        place.append(item)
        distinct.append(item)
    return distinct


def _conditions(item: Item) -> int:
    return int(item.get('flags', StageOutFlags.ALWAYS.value)) & StageOutFlags.ALWAYS.value


def _inside(path: str, directory: str) -> str:
    """Return the path of something to remove, if it is inside of the directory of the job.

    >>> _inside('tmp/x', '/scratch/job'), _inside('/scratch/job/x', '/scratch/job')
    ('tmp/x', '/scratch/job/x')
    """
    _named('cleanup', path)
    if directory:
        root, full = _normal(directory), _normal(os.path.join(directory, path))
        if root == '/' or not full.startswith(root + '/'):
            _refuse('cleanup', f'got {path!r}', f'a path inside of the directory of the job, {directory!r}')
    elif os.path.isabs(path) or (os.path.normpath(path) + '/').startswith(('./', '../')):
        _refuse('cleanup', f'got {path!r}, and no directory', 'a path inside of the directory of the job')
    return path


def _normal(path: str) -> str:
    """Return an absolute path without ``.`` and ``..``; POSIX keeps two slashes at the beginning, this does not."""
    return '/' + os.path.normpath(path).lstrip('/')


def _refuse(field: str, problem: str, expected: str) -> NoReturn:
    raise InvalidJobException(f'Invalid {field}: {problem}. Expected {expected}.')
