"""The check of a whole specification at submission.

Constructors check types, but specifications are filled in attribute by attribute too, and what is assigned is not
checked then. Here everything is: what can be used without loss is converted in place, anything else is refused
with a message that names the field, its value, and what was expected.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path

from psij.exceptions import InvalidEnvironmentError, InvalidJobException
from psij.job_attributes import JobAttributes
from psij.resource_spec import ResourceSpec, ResourceSpecV1
from psij.staging import StageIn, StageOut, StageOutFlags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, Optional

    from psij.job_spec import JobSpec

_PATHS = ('directory', 'stdin_path', 'stdout_path', 'stderr_path', 'pre_launch', 'post_launch')
_VARIABLE = re.compile('[A-Za-z_][A-Za-z0-9_]*')


def check_spec(spec: JobSpec) -> None:
    """Check a specification, and convert what can be converted without loss.

    Raises
    ------
    InvalidJobException
        For the first value that cannot be used.
    """
    if spec.executable is not None:
        spec.executable = _text('executable', spec.executable)
        if not spec.executable:
            _refuse('executable', spec.executable, 'the name or the path of a program')
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
    _check_resources(spec)
    _check_attributes(spec)
    if spec.stage_in or spec.stage_out or spec.cleanup:
        _check_staging(spec)
    if not isinstance(spec.cleanup_flags, StageOutFlags):
        _refuse('cleanup_flags', spec.cleanup_flags, 'StageOutFlags')


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
    arguments = spec.arguments
    if not isinstance(arguments, (list, tuple)):
        _refuse('arguments', arguments, 'a list of strings')
    for argument in arguments:
        if not isinstance(argument, str):
            break
        if '\0' in argument or not argument.isascii():
            break
    else:
        return
    spec.arguments = [_text(f'arguments[{i}]', argument) for i, argument in enumerate(arguments)]


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


def _check_resources(spec: JobSpec) -> None:
    resources: object = spec.resources
    if isinstance(resources, dict):
        # what the older psij.serialize.Import makes
        given = {key: value for key, value in resources.items() if value is not None}
        if 'process_per_node' in given:
            given['processes_per_node'] = given.pop('process_per_node')
        try:
            resources = spec.resources = ResourceSpecV1(**given)
        except Exception as ex:
            raise InvalidJobException(f'Invalid resources: {spec.resources!r}: {ex}', ex) from ex
    if isinstance(resources, ResourceSpecV1):
        resources.validate()
    elif resources and not isinstance(resources, ResourceSpec):
        _refuse('resources', resources, 'a ResourceSpec')


def _check_attributes(spec: JobSpec) -> None:
    attributes = spec.attributes
    if attributes is None:
        attributes = spec.attributes = JobAttributes()
    if not isinstance(attributes, JobAttributes):
        _refuse('attributes', attributes, 'JobAttributes')
    for name in ('queue_name', 'account', 'reservation_id'):
        value = getattr(attributes, name)
        if value is not None:
            setattr(attributes, name, _text(f'attributes.{name}', value))
    if not isinstance(attributes.duration, timedelta) and attributes.duration is not None:
        attributes.duration = _duration(attributes.duration)
    if attributes.duration is not None and attributes.duration <= timedelta(0):
        _refuse('attributes.duration', attributes.duration, 'a positive duration')
    custom = attributes.custom_attributes
    if custom is not None and not (isinstance(custom, dict) and all(isinstance(key, str) for key in custom)):
        _refuse('attributes.custom_attributes', custom, 'a dictionary with strings as keys')


def _duration(value: object) -> timedelta:
    """Return the duration that a program meant by a number or a string.

    A number is taken as minutes, which is what a walltime without unit means everywhere else
    (:meth:`.JobAttributes.parse_walltime`, and the schedulers' own options).

    >>> _duration(30), _duration('1 day, 2:00:00')
    (datetime.timedelta(seconds=1800), datetime.timedelta(days=1, seconds=7200))
    """
    days: Optional[re.Match[str]] = None
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return timedelta(minutes=value)
        if isinstance(value, str):
            days = re.fullmatch(r'(\d+) days?, (\d+:\d\d:\d\d)', value)  # as str(timedelta) writes it
            if days is not None:
                return timedelta(days=int(days[1])) + JobAttributes.parse_walltime(days[2])
            return JobAttributes.parse_walltime(value)
    except (ValueError, OverflowError) as ex:
        raise InvalidJobException(f'Invalid attributes.duration: {value!r}: {ex}', ex) from ex
    _refuse('attributes.duration', value, 'a timedelta')


def _check_staging(spec: JobSpec) -> None:
    for field, kind in (('stage_in', StageIn), ('stage_out', StageOut)):
        items = getattr(spec, field) or ()
        if not isinstance(items, (set, frozenset, list, tuple)):
            _refuse(field, items, f'a set of {kind.__name__} objects')
        for item in items:
            if not isinstance(item, kind):
                _refuse(field, item, f'a {kind.__name__} object')
            _without_nul(field, str(item.source))
            _without_nul(field, str(item.target))
    for path in spec.cleanup or ():
        if not isinstance(path, Path):
            _refuse('cleanup', path, 'a Path')
        _without_nul('cleanup', str(path))
