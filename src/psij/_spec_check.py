"""The check of a whole specification at submission.

Constructors check types, but specifications are filled in attribute by attribute too, and what is assigned is not
checked then. Here everything is: what can be used without loss is converted in place, anything else is refused
with a message that names the field, its value, and what was expected.
"""

from __future__ import annotations

import operator
import os
import re
from datetime import timedelta

from psij._log import lazy_logger
from psij.exceptions import InvalidEnvironmentError, InvalidJobException
from psij.job_attributes import JobAttributes, as_duration
from psij.resource_spec import COUNTS, FIELDS, ResourceSpec, ResourceSpecV1
from psij.staging import StageIn, StageOut, StageOutFlags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from psij.job_spec import JobSpec

logger = lazy_logger(__name__)

_PATHS = ('directory', 'stdin_path', 'stdout_path', 'stderr_path', 'pre_launch', 'post_launch')
_VARIABLE = re.compile('[A-Za-z_][A-Za-z0-9_]*')


def check_spec(spec: JobSpec) -> None:
    """Check a specification, and convert what can be converted without loss.

    Raises
    ------
    InvalidJobException
        For the first value that cannot be used.
    """
    if not spec.executable:
        _refuse('executable', spec.executable, 'the name or the path of a program')
    spec.executable = _text('executable', spec.executable)
    if spec.arguments is not None:
        _check_arguments(spec)
    for name in _PATHS:
        value = getattr(spec, name)
        if value is not None:
            _without_nul(name, str(value))
    if spec._name is not None:
        spec.name = _text('name', spec._name)
    if spec.launcher is not None:
        spec.launcher = _text('launcher', spec.launcher)
    if not isinstance(spec.inherit_environment, bool):
        _refuse('inherit_environment', spec.inherit_environment, 'True or False')
    if spec.environment:
        _check_environment(spec)
    if spec.resources:
        spec.resources = as_resources(spec.resources)
    _check_attributes(spec)
    if spec.stage_in or spec.stage_out or spec.cleanup:
        _check_staging(spec)
    if not isinstance(spec.cleanup_flags, StageOutFlags):
        _refuse('cleanup_flags', spec.cleanup_flags, 'StageOutFlags')
    for part in (spec, spec.resources, spec.attributes):
        if part is not None and vars(part):
            _warn_of_unknown(part)


_warned: set[tuple[type, str]] = set()


def _warn_of_unknown(part: object) -> None:
    """Warn, once, of attributes that mean nothing; programs may keep data of their own there, so none is refused."""
    import difflib

    cls = type(part)
    for name in vars(part):
        if not name.startswith('_') and (cls, name) not in _warned:
            _warned.add((cls, name))
            known = [other for other in dir(cls) if not other.startswith('_')]
            near = difflib.get_close_matches(name, known, 1) or [other for other in known if name in other]
            hint = f'; did you mean {near[0]!r}?' if near else ''
            logger.warning('%s has no attribute %r, so it is ignored%s', cls.__name__, name, hint)


def _refuse(field: str, value: object, expected: str) -> NoReturn:
    raise InvalidJobException(f'Invalid {field}: got {value!r} ({type(value).__name__}), expected {expected}.')


def _without_nul(field: str, text: str) -> str:
    if '\0' in text:
        _refuse(field, text, 'text without NUL characters, which no program can be given')
    try:
        os.fsencode(text)
    except UnicodeEncodeError as ex:
        raise InvalidJobException(
            f'Invalid {field}: {text!r} cannot be expressed in the encoding of this system: {ex}.', ex
        ) from ex
    return text


def _text(field: str, value: object) -> str:
    """Return text for what is text or can be written as such without loss."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, str):
        return _without_nul(field, value)
    if isinstance(value, (int, float)):
        return str(value)
    _refuse(field, value, 'a string')


def _check_arguments(spec: JobSpec) -> None:
    arguments: object = spec.arguments
    if not isinstance(arguments, (list, tuple)):
        _refuse('arguments', arguments, 'a list of strings')
    if isinstance(arguments, list) and all(map(_is_plain, arguments)):
        return
    spec.arguments = [_text(f'arguments[{i}]', argument) for i, argument in enumerate(arguments)]


def _is_plain(argument: object) -> bool:
    """Tell quickly that nothing can be wrong with an argument; jobs may have thousands."""
    return isinstance(argument, str) and argument.isascii() and '\0' not in argument


def _check_environment(spec: JobSpec) -> None:
    environment = spec.environment
    if not isinstance(environment, dict):
        _refuse('environment', environment, 'a dictionary of strings')
    for name, value in environment.items():
        if not isinstance(name, str):
            raise InvalidEnvironmentError(f'environment key "{name}" is not a string ({type(name)})')
        if not isinstance(value, (str, int)):
            raise InvalidEnvironmentError(
                f'environment value for key "{name}" must be string or int type ({type(value)})'
            )
        if not _VARIABLE.fullmatch(name):
            raise InvalidJobException(
                f'Invalid environment: {name!r} is not the name of a variable. Names consist of letters, digits '
                'and underscores, and do not begin with a digit.'
            )
        if isinstance(value, str):
            _without_nul(f'environment[{name!r}]', value)
        else:
            environment[name] = str(value)  # put there by changing the dictionary in place


def as_resources(resources: object) -> ResourceSpec:
    """Check and convert a resource specification, or the dictionary that ``psij.serialize.Import`` makes of one.

    Raises
    ------
    InvalidJobException
        If it is neither, or does not describe resources.
    """
    if isinstance(resources, dict):
        resources = _from_dictionary(resources)
    if not isinstance(resources, ResourceSpec):
        _refuse('resources', resources, 'a ResourceSpec')
    if isinstance(resources, ResourceSpecV1):
        for name in (*COUNTS, 'memory'):
            value = getattr(resources, name)
            if value is not None and type(value) is not int:
                setattr(resources, name, _whole_number(f'resources.{name}', value))
        resources.validate()
    return resources


def _from_dictionary(values: dict[Any, Any]) -> ResourceSpecV1:
    resources = ResourceSpecV1()
    for key, value in values.items():
        name = 'processes_per_node' if key == 'process_per_node' else key  # so spelled in files of that format
        if name not in FIELDS:
            _refuse('resources', values, f'a ResourceSpec, which has no {key!r}')
        if value is not None:
            setattr(resources, name, value)
    return resources


def _whole_number(field: str, value: object) -> int:
    """Return the whole number that a text, a float, or a number of another library stands for."""
    try:
        number = int(value) if isinstance(value, (str, float)) else operator.index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or (isinstance(value, float) and number != value):
        _refuse(field, value, 'a whole number')
    return number


def _check_attributes(spec: JobSpec) -> None:
    attributes: object = spec.attributes
    if attributes is None:
        attributes = spec.attributes = JobAttributes()
    if not isinstance(attributes, JobAttributes):
        _refuse('attributes', attributes, 'JobAttributes')
    for name in ('queue_name', 'account', 'reservation_id'):
        value = getattr(attributes, name)
        if value is not None:
            setattr(attributes, name, _text(f'attributes.{name}', value))
    _check_duration(attributes)
    custom: object = attributes.custom_attributes
    if custom is not None and not (isinstance(custom, dict) and all(isinstance(key, str) for key in custom)):
        _refuse('attributes.custom_attributes', custom, 'a dictionary with strings as keys')


def _check_duration(attributes: JobAttributes) -> None:
    duration: object = attributes.duration
    if duration is None:
        return
    try:
        attributes.duration = as_duration(duration)
    except (TypeError, ValueError) as ex:
        raise InvalidJobException(f'Invalid attributes.duration: {duration!r}: {ex}', ex) from ex
    if attributes.duration <= timedelta(0):
        _refuse('attributes.duration', duration, 'a positive duration')


def _check_staging(spec: JobSpec) -> None:
    kinds: tuple[tuple[str, Any], ...] = (('stage_in', StageIn), ('stage_out', StageOut))
    for field, kind in kinds:
        items = getattr(spec, field) or ()
        if not isinstance(items, (set, frozenset, list, tuple)):
            _refuse(field, items, f'a set or a list of {kind.__name__} objects')
        for item in items:
            if not isinstance(item, kind):
                _refuse(field, item, f'a {kind.__name__} object')
            try:
                checked = kind(item.source, item.target, mode=item.mode)
            except (TypeError, ValueError) as ex:
                raise InvalidJobException(f'Invalid {field}: {item}: {ex}', ex) from ex
            item.source, item.target = checked.source, checked.target
            _without_nul(field, str(item.source))
            _without_nul(field, str(item.target))
    try:
        spec.cleanup = spec.cleanup  # converts what was put into the collection later
    except (AssertionError, TypeError) as ex:
        raise InvalidJobException(f'Invalid cleanup: {ex}') from ex
    for path in spec.cleanup or ():
        _without_nul('cleanup', str(path))
