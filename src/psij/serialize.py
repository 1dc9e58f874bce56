"""Specifications as JSON.

:class:`JSONSerializer` writes what differs from the defaults and reads it back exactly.
:class:`Export` and :class:`Import` are for files in the format of early versions.
"""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from copy import copy
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Callable, Dict, List, Optional, cast

from psij._spec_check import as_resources
from psij.exceptions import InvalidJobException
from psij.job_attributes import JobAttributes, as_duration
from psij.job_spec import FIELDS, JobSpec
from psij.resource_spec import FIELDS as _RESOURCES
from psij.resource_spec import ResourceSpec, ResourceSpecV1
from psij.staging import URI, StageIn, StageOut, StageOutFlags, StagingMode, flag_names, in_order

_ATTRIBUTES = ('duration', 'queue_name', 'account', 'reservation_id', 'custom_attributes')
_PATHS = ('directory', 'stdin_path', 'stdout_path', 'stderr_path', 'pre_launch', 'post_launch')
_LOADED_PATHS = ('directory', 'stdin_path', 'stdout_path', 'stderr_path')


class Serializer(ABC):
    """Turns specifications into trees of plain values, and back; subclasses write and read the trees.

    A tree is a dictionary with a key for each parameter of :class:`.JobSpec` whose value differs from the default.
    ``stage_in``, ``stage_out`` and ``cleanup`` are lists where the specification has a list, in that order; a set is
    written as ``{"set": [...]}``.
    """

    def dump(self, spec: JobSpec, stream: IO[str]) -> None:
        """Write a specification to a text stream.

        Raises
        ------
        ValueError
            If a value cannot be written, with the key under which it stands.
        """
        self._dump_dict(self._from_spec(spec), stream)

    def load(self, stream: IO[str]) -> JobSpec:
        """Read a specification from a text stream.

        Raises
        ------
        ValueError
            If the stream does not hold a specification; the message names the key.
        """
        return self._to_spec(self._load_dict(stream))

    def dumps(self, spec: JobSpec) -> str:
        """Return a specification as text."""
        stream = io.StringIO()
        self.dump(spec, stream)
        return stream.getvalue()

    def loads(self, s: str) -> JobSpec:
        """Return the specification that a text stands for."""
        return self.load(io.StringIO(s))

    @abstractmethod
    def _dump_dict(self, d: Dict[str, object], stream: IO[str]) -> None:
        """Write a tree."""

    @abstractmethod
    def _load_dict(self, stream: IO[str]) -> Dict[str, object]:
        """Read a tree."""

    def _from_spec(self, spec: JobSpec) -> Dict[str, object]:
        default = JobSpec()
        tree: Dict[str, object] = {}
        for name in FIELDS:
            value = getattr(spec, name)
            if name == 'attributes' or value != getattr(default, name):
                tree[name] = _from_field(name, value)
        return tree

    def _to_spec(self, d: Dict[str, object]) -> JobSpec:
        values = {}
        for key, value in d.items():
            if key not in FIELDS:
                raise ValueError(f'Unexpected key "{key}"')
            values[key] = _to_field(key, value)
        if values.get('name') == values.get('executable'):
            values['name'] = None  # it was written for readers that do not know that this is the default
        spec = JobSpec()
        for key, value in values.items():
            setattr(spec, key, value)
        return spec


class JSONSerializer(Serializer):
    """Writes specifications as JSON objects, and reads them."""

    def _dump_dict(self, d: Dict[str, object], stream: IO[str]) -> None:
        json.dump(d, stream)

    def _load_dict(self, stream: IO[str]) -> Dict[str, object]:
        try:
            tree = json.load(stream)
        except (ValueError, RecursionError) as ex:
            raise ValueError(f'Not valid JSON: {ex}') from ex
        if not isinstance(tree, dict):
            raise ValueError(f'Expected a JSON object that describes a job, got {type(tree).__name__}.')
        return tree


def _from_field(name: str, value: Any) -> object:
    if name == 'inherit_environment' and isinstance(value, bool):
        return value
    if name == 'cleanup_flags' and isinstance(value, StageOutFlags):
        return flag_names(value)
    if name in ('inherit_environment', 'cleanup_flags'):
        raise _cannot_convert(name, value)
    if value is None:
        return None
    if name == 'attributes':
        return _from_attributes(value)
    if name == 'resources':
        return _from_resources(value)
    if name == 'stage_in':
        return _from_collection(name, value, _from_stage_in)
    if name == 'stage_out':
        return _from_collection(name, value, _from_stage_out)
    if name == 'cleanup':
        return _from_collection(name, value, str)
    if name == 'environment':
        return {_from_text(name, key): _from_text(f'{name}[{key!r}]', item) for key, item in value.items()}
    if name == 'arguments' and isinstance(value, (list, tuple)):
        return [_from_text(f'{name}[{i}]', item) for i, item in enumerate(value)]
    return _from_text(name, value)


def _from_text(name: str, value: object) -> str:
    """Return text for what executors take as text; see :mod:`psij._spec_check`."""
    if isinstance(value, (str, Path, int, float)):
        return str(value)
    raise _cannot_convert(name, value)


def _cannot_convert(name: str, value: object) -> ValueError:
    return ValueError(f'{name}: Cannot convert type "{type(value)}".')


def _from_collection(name: str, items: Any, convert: Callable[[Any], object]) -> object:
    try:
        converted = [convert(item) for item in in_order(items)]
    except (AttributeError, TypeError) as ex:  # something in it is not what it should be
        raise _cannot_convert(name, items) from ex
    return {'set': converted} if isinstance(items, (set, frozenset)) else converted


def _from_duration(name: str, value: object) -> Optional[str]:
    if value is None:
        return None
    try:
        duration = as_duration(value)
    except (TypeError, ValueError) as ex:
        raise ValueError(f'{name}: {ex}') from ex
    if duration < timedelta(0):
        raise ValueError(f'{name}: a walltime cannot be negative, got {value!r}')
    # float seconds would lose microseconds of long durations
    whole, fraction = divmod(duration // timedelta(microseconds=1), 1_000_000)
    return f'{whole}.{f"{fraction:06}".rstrip("0") or "0"} s'


def _from_attributes(attributes: Any) -> Dict[str, object]:
    if not isinstance(attributes, JobAttributes):
        raise _cannot_convert('attributes', attributes)
    tree: Dict[str, object] = {}
    default = JobAttributes()
    for key in _ATTRIBUTES:
        name, value = f'attributes.{key}', getattr(attributes, key)
        if value == getattr(default, key):
            continue
        if key == 'duration':
            tree[key] = _from_duration(name, value)
        elif key == 'custom_attributes':
            tree[key] = {key: _from_custom(f'{name}[{key!r}]', item) for key, item in value.items()}
        else:
            tree[key] = _from_text(name, value)
    if attributes.account is not None:
        tree['project_name'] = tree['account']  # for readers that know only the older name
    return tree


def _from_custom(name: str, value: object) -> object:
    if isinstance(value, timedelta):
        return _from_duration(name, value)
    try:
        same = json.loads(json.dumps(value)) == value
    except (TypeError, ValueError, RecursionError) as ex:
        raise _cannot_convert(name, value) from ex
    if not same:  # a tuple, for example, or a dictionary whose keys are not strings
        raise _cannot_convert(name, value)
    return value


def _from_resources(value: object) -> Dict[str, object]:
    try:
        resources = as_resources(copy(value))
    except InvalidJobException as ex:
        raise ValueError(f'resources: {ex}') from ex
    if not isinstance(resources, ResourceSpecV1):
        raise _cannot_convert('resources', resources)
    default = ResourceSpecV1()
    tree: Dict[str, object] = {
        name: getattr(resources, name) for name in _RESOURCES if getattr(resources, name) != getattr(default, name)
    }
    tree['__version'] = resources.version
    return tree


def _from_stage_in(item: StageIn) -> Dict[str, object]:
    item = StageIn(item.source, item.target, item.mode)  # converts what was assigned later
    return {'source': str(item.source), 'target': str(item.target), 'mode': item.mode.name}


def _from_stage_out(item: StageOut) -> Dict[str, object]:
    item = StageOut(item.source, item.target, item.flags, item.mode)  # as above
    return {
        'source': str(item.source),
        'target': str(item.target),
        'flags': flag_names(item.flags),
        'mode': item.mode.name,
    }


def _to_field(key: str, value: Any) -> Any:
    if key == 'inherit_environment':
        return _typed(key, value, bool)
    if key == 'cleanup_flags':
        return _to_flags(key, value)
    if value is None:
        return None
    if key == 'attributes':
        return _to_attributes(value)
    if key == 'resources':
        return _to_resources(value)
    if key == 'stage_in':
        return _to_collection(key, value, _to_stage_in)
    if key == 'stage_out':
        return _to_collection(key, value, _to_stage_out)
    if key == 'cleanup':
        return _to_collection(key, value, _to_path)
    if key == 'arguments':
        return [_typed(f'{key}[{i}]', item, str) for i, item in enumerate(_list(key, value))]
    if key == 'environment':
        return {name: _typed(f'{key}[{name!r}]', item, (str, int)) for name, item in _dict(key, value).items()}
    return _to_path(key, value) if key in _PATHS else _typed(key, value, str)


def _to_path(name: str, value: object) -> Path:
    return Path(_typed(name, value, str))


def _to_collection(name: str, value: object, convert: Callable[[str, object], Any]) -> Any:
    items = _list(name, _keys(name, value, ('set',)).get('set') if isinstance(value, dict) else value)
    converted = [convert(f'{name}[{i}]', item) for i, item in enumerate(items)]
    return set(converted) if isinstance(value, dict) else converted


def _to_attributes(tree: object) -> JobAttributes:
    attributes = JobAttributes()
    values = dict(_dict('attributes', tree))
    project_name = values.pop('project_name', None)
    for key, value in values.items():
        name = f'attributes.{key}'
        if key == 'duration':
            attributes.duration = _to_duration(name, value)
        elif key == 'custom_attributes':
            attributes.custom_attributes = None if value is None else _dict(name, value)
        elif key in _ATTRIBUTES:
            setattr(attributes, key, None if value is None else _typed(name, value, str))
        else:
            raise ValueError(f'Unexpected key "{key}" in attributes')
    if attributes.account is None and project_name is not None:
        attributes.account = _typed('attributes.project_name', project_name, str)
    return attributes


def _to_duration(name: str, value: object) -> Any:
    if value is None:
        return None
    text = _typed(name, value, str)
    try:
        return JobAttributes.parse_walltime(text)
    except ValueError as ex:
        raise ValueError(f'{name}: {ex}') from ex


def _to_resources(tree: object) -> ResourceSpec:
    values = dict(_dict('resources', tree))
    version = values.pop('__version', 1)  # people leave it out
    if version != 1:
        raise ValueError(f'resources.__version: expected 1, got {version!r}')
    for key, value in values.items():
        if key not in _RESOURCES:
            raise ValueError(f'Unexpected key "{key}" in resources')
        if value is not None:
            _typed(f'resources.{key}', value, bool if key == 'exclusive_node_use' else int)
    try:
        return ResourceSpecV1(**{key: value for key, value in values.items() if value is not None})
    except Exception as ex:
        raise ValueError(f'resources: {ex}') from ex


def _to_stage_in(name: str, tree: object) -> StageIn:
    values = _keys(name, tree, ('source', 'target', 'mode'))
    return StageIn(
        _to_uri(f'{name}.source', values.get('source')),
        _typed(f'{name}.target', values.get('target'), str),
        _to_mode(f'{name}.mode', values.get('mode', 'COPY')),
    )


def _to_stage_out(name: str, tree: object) -> StageOut:
    values = _keys(name, tree, ('source', 'target', 'flags', 'mode'))
    return StageOut(
        _typed(f'{name}.source', values.get('source'), str),
        _to_uri(f'{name}.target', values.get('target')),
        _to_flags(f'{name}.flags', values.get('flags', ['ON_SUCCESS', 'ON_ERROR', 'ON_CANCEL'])),
        _to_mode(f'{name}.mode', values.get('mode', 'COPY')),
    )


def _to_uri(name: str, value: object) -> URI:
    text = _typed(name, value, str)
    try:
        return URI(text)
    except ValueError as ex:
        raise ValueError(f'{name}: {ex}') from ex


def _to_mode(name: str, value: object) -> StagingMode:
    try:
        return StagingMode[_typed(name, value, str)]
    except KeyError as ex:
        raise ValueError(f'{name}: expected one of {", ".join(StagingMode.__members__)}, got {value!r}') from ex


def _to_flags(name: str, value: object) -> StageOutFlags:
    flags = StageOutFlags.NONE
    for flag in _list(name, value):
        if not (isinstance(flag, str) and flag in StageOutFlags.__members__):
            raise ValueError(f'{name}: expected names of StageOutFlags, got {flag!r}')
        flags |= StageOutFlags[flag]
    return flags


def _typed(name: str, value: Any, types: Any) -> Any:
    """Return a value if it has the type that is expected under a key; a boolean is not a number."""
    if isinstance(value, types) and not (isinstance(value, bool) and types is int):
        return value
    expected = {str: 'a string', bool: 'true or false', int: 'a whole number', (str, int): 'a string or a number'}
    raise ValueError(f'{name}: expected {expected[types]}, got {value!r}')


def _list(name: str, value: object) -> List[Any]:
    if not isinstance(value, list):
        raise ValueError(f'{name}: expected a list, got {value!r}')
    return value


def _dict(name: str, value: object) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f'{name}: expected an object, got {value!r}')
    return value


def _keys(name: str, value: object, known: tuple[str, ...]) -> Dict[str, Any]:
    tree = _dict(name, value)
    for key in tree:
        if key not in known:
            raise ValueError(f'Unexpected key "{key}" in {name}')
    return tree


class Export:
    """Writes specifications in the format of version 0.9.0, which leaves out what that version did not have."""

    def __init__(self) -> None:
        self.version = ''
        self.name = ''

    def envelope(self, type: Optional[str] = None) -> Dict[str, object]:
        """Return the object that surrounds the data in a file."""
        return {'version': 0.1, 'type': type, 'data': None}

    def to_dict(self, obj: object) -> Dict[str, object]:
        """Return a specification as a tree of plain values.

        Raises
        ------
        TypeError
            If the object is not a specification.
        """
        if not isinstance(obj, JobSpec):
            raise TypeError(f"Can't create dict, type {type(obj).__name__} not supported")
        tree: Dict[str, object] = {'name': obj.name, 'executable': obj.executable}
        tree['arguments'] = None if obj.arguments is None else [str(item) for item in obj.arguments]
        tree['directory'] = _posix(obj.directory)
        tree['inherit_environment'] = obj.inherit_environment
        tree['environment'] = obj.environment
        for name in ('stdin_path', 'stdout_path', 'stderr_path'):
            tree[name] = _posix(getattr(obj, name))
        tree['resources'] = _export_resources(obj.resources)
        tree['attributes'] = _export_attributes(obj.attributes)
        tree['launcher'] = None
        return tree

    def export(self, obj: object, dest: str) -> bool:
        """Write a specification to a file."""
        tree = self.envelope(type=type(obj).__name__)
        tree['data'] = self.to_dict(obj)
        # what UTF-8 has no code for (undecodable bytes of paths) becomes an escape sequence of JSON
        with open(dest, 'w', encoding='utf-8', errors='backslashreplace') as file:
            json.dump(tree, file, ensure_ascii=False, indent=4)
        return True


class Import:
    """Reads specifications in the format of version 0.9.0.

    As in that version, the resources of the result are a plain dictionary, and the duration is a string; both are
    converted when the job is submitted. The project name, which that version forgot, becomes the account.
    """

    def from_dict(self, hash: Dict[str, Any], target_type: Optional[str] = None) -> JobSpec:
        """Return the specification that a tree of plain values stands for.

        Raises
        ------
        TypeError
            If `target_type` is not ``JobSpec``.
        KeyError
            If something is missing.
        """
        if target_type != 'JobSpec':
            raise TypeError(f"Can't create object, type {target_type} not supported")
        spec = JobSpec()
        spec.name = hash['name'] if 'name' in hash else hash.get('_name')
        spec.executable = hash['executable']
        spec.arguments = hash['arguments']
        spec.inherit_environment = hash['inherit_environment']
        spec.environment = hash['environment']
        for name in _LOADED_PATHS:
            setattr(spec, name, hash.get(name))
        spec.resources = hash['resources']
        attributes = hash['attributes']
        spec.attributes = None if attributes is None else _import_attributes(attributes)
        return spec

    def load(self, src: str) -> JobSpec:
        """Read a specification from a file."""
        with open(src, encoding='utf-8') as file:
            tree = json.load(file)
        return self.from_dict(tree['data'], target_type=tree['type'])


def _posix(path: Optional[Path]) -> Optional[str]:
    return None if path is None else path.as_posix()


def _export_resources(resources: object) -> object:
    if not isinstance(resources, ResourceSpecV1):
        return resources if isinstance(resources, dict) else None
    names = ('cpu_cores_per_process', 'gpu_cores_per_process', 'exclusive_node_use')
    tree = {'node_count': resources.node_count, 'process_count': resources.process_count}
    tree['process_per_node'] = None  # so spelled, and always empty
    tree.update((name, getattr(resources, name)) for name in names)
    return tree


def _export_attributes(attributes: Optional[JobAttributes]) -> Optional[Dict[str, object]]:
    if attributes is None:
        return None
    custom = attributes.custom_attributes
    return {
        'duration': str(attributes.duration),
        'queue_name': attributes.queue_name,
        'project_name': attributes.account,
        'reservation_id': attributes.reservation_id,
        'custom_attributes': None if custom is None else {key: str(value) for key, value in custom.items()},
    }


def _import_attributes(tree: Dict[str, Any]) -> JobAttributes:
    attributes = JobAttributes(
        queue_name=tree.get('queue_name'),
        account=tree.get('project_name'),
        reservation_id=tree.get('reservation_id'),
        custom_attributes=tree.get('custom_attributes'),
    )
    attributes.duration = cast(timedelta, tree.get('duration'))  # in truth text, as documented
    return attributes
