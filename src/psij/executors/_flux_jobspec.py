"""What Flux is asked to run: a job specification as a Flux jobspec, version 1. Everything here is pure.

The format is that of RFC 25 and RFC 14 of the Flux project. It is written here, and not with the classes of Flux's
Python bindings, whose parameters differ between versions of Flux while the format does not.

A job is started in one of two ways. Usually Flux runs one script, on the first node of the allocation, and the launcher
in it starts the processes, as with any other scheduler. With the launcher ``flux``, Flux starts the processes itself.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, NamedTuple, NoReturn, Optional, Tuple

from psij._runtime.script_context import custom_attributes
from psij.exceptions import InvalidJobException
from psij.job_attributes import JobAttributes
from psij.job_spec import JobSpec
from psij.resource_spec import ResourceSpecV1

LAUNCHER = 'flux'
"""The launcher that stands for Flux itself."""

SCRIPT = 'psij-job'
"""The name of the script in the temporary directory that Flux makes for a job on each node."""

_DEFAULT_URGENCY = 16
_HIGHEST_URGENCY = 31

_OF_ANOTHER_JOB = ('FLUX_JOB_', 'FLUX_TASK_', 'FLUX_KVS_NAMESPACE', 'PMI_')
"""Prefixes of variables that describe the job in which the submitting program runs, if it runs in one."""

_SUPPORTED = 'flux.urgency, flux.dependency, flux.setattr.KEY and flux.setopt.KEY'


class Request(NamedTuple):
    """What is submitted to Flux.

    Attributes
    ----------
    jobspec
        The jobspec.
    urgency
        From 0, which holds the job, to 31.
    """

    jobspec: Dict[str, object]
    urgency: int

    @property
    def text(self) -> str:
        """The jobspec in JSON."""
        return json.dumps(self.jobspec, ensure_ascii=False)


def script_request(spec: JobSpec, script: str, environment: Mapping[str, str], submit_directory: Path) -> Request:
    """Return the request for a job with a script that starts the processes.

    The script travels in the jobspec; Flux writes it to a private directory, which it removes at the end of the job.

    Parameters
    ----------
    spec
        A specification that was checked (see :func:`check`).
    script
        The script. It may contain any bytes, as surrogates.
    environment
        The environment for the script.
    submit_directory
        Where the job runs if it has no directory.
    """
    resources = _resources_of(spec)
    # Processes of MPI are those of a launcher, and not the one that Flux starts; `flux batch` does the same.
    options: Dict[str, object] = {'exit-timeout': 'none', 'mpi': 'none', 'pmi': 'off'}
    if resources.computed_process_count > 1:
        options['per-resource'] = {'type': 'node', 'count': 1}
    system = _system_attributes(spec, environment, options)
    directory = str(submit_directory / (spec.directory or ''))
    if is_text(directory):
        system['cwd'] = directory
    content = script.encode('utf-8', errors='surrogateescape')
    system['files'] = {
        SCRIPT: {
            'mode': stat.S_IFREG | stat.S_IRWXU,
            'size': len(content),
            'encoding': 'base64',
            'data': base64.b64encode(content).decode(),
        }
    }
    # Flux replaces {{tmpdir}}, here as in what `flux batch` submits.
    command = ['/bin/bash', '{{tmpdir}}/' + SCRIPT]
    return _request(spec, command, _shape(resources, together=resources.computed_process_count > 1), system)


def process_request(spec: JobSpec, environment: Mapping[str, str], submit_directory: Path) -> Request:
    """Return the request for a job whose processes Flux starts itself.

    Raises
    ------
    InvalidJobException
        If the job needs something that only a script can do.
    """
    _check_for_processes(spec, environment)
    output: Dict[str, object] = {}
    for stream, path in (('stdout', spec.stdout_path), ('stderr', spec.stderr_path)):
        # Flux would send what has no file to the file of the other stream, or keep it.
        output[stream] = {'type': 'file', 'path': '/dev/null' if path is None else str(path)}
    options: Dict[str, object] = {'exit-timeout': 'none', 'output': output}
    if spec.stdin_path is not None:
        options['input'] = {'stdin': {'type': 'file', 'path': str(spec.stdin_path)}}
    system = _system_attributes(spec, environment, options)
    system['cwd'] = str(submit_directory / (spec.directory or ''))
    command = [str(spec.executable), *map(str, spec.arguments or ())]
    return _request(spec, command, _shape(_resources_of(spec), together=False), system)


def check(spec: JobSpec) -> None:
    """Refuse what Flux cannot do.

    Raises
    ------
    InvalidJobException
        With the name of the field.
    """
    resources = _resources_of(spec)
    if resources.memory:
        _refuse(
            'resources.memory', resources.memory, 'nothing, because Flux does not manage memory; ask for cores or nodes'
        )
    attributes = spec.attributes or JobAttributes()
    if attributes.reservation_id is not None:
        _refuse(
            'attributes.reservation_id',
            attributes.reservation_id,
            'nothing, because Flux has no reservations; queues (queue_name) and nested instances serve the purpose',
        )
    for field, text in (
        ('name', spec.name),
        ('attributes.queue_name', attributes.queue_name),
        ('attributes.account', attributes.account),
    ):
        if text is not None and not is_text(text):
            _refuse(field, text, 'text in UTF-8, which is all that Flux takes')


def is_text(text: str) -> bool:
    """Tell whether text can be part of a jobspec, or comes from bytes that are not UTF-8.

    >>> is_text('\u0192'), is_text(os.fsdecode(b'\\xff'))
    (True, False)
    """
    try:
        text.encode('utf-8')
    except UnicodeEncodeError:
        return False
    return True


def inherited(environment: Mapping[str, str]) -> Dict[str, str]:
    """Return what a job inherits from the environment of this program.

    >>> inherited({'HOME': '/home/alice', 'PMI_RANK': '3', 'FLUX_JOB_ID': 'f1'})
    {'HOME': '/home/alice'}
    """
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_OF_ANOTHER_JOB) and name != 'PSIJ_NODEFILE'
    }


def _resources_of(spec: JobSpec) -> ResourceSpecV1:
    resources = spec.resources or ResourceSpecV1()
    if not isinstance(resources, ResourceSpecV1):
        raise InvalidJobException(f'Flux needs a ResourceSpecV1, got {type(resources).__name__}.')
    return resources


def _shape(resources: ResourceSpecV1, together: bool) -> List[Dict[str, object]]:
    """Return the resources, with one slot for each process.

    Parameters
    ----------
    resources
        What the job asks for.
    together
        Whether processes must be on one node if nothing is said about nodes. Flux may spread them otherwise.
    """
    slot_content: List[Dict[str, object]] = [{'type': 'core', 'count': resources.cpu_cores_per_process or 1}]
    if resources.gpu_cores_per_process:
        slot_content.append({'type': 'gpu', 'count': resources.gpu_cores_per_process})
    slot: Dict[str, object] = {'type': 'slot', 'label': 'task', 'with': slot_content}
    places = (resources.node_count, resources.processes_per_node)
    if places == (None, None) and not resources.exclusive_node_use and not together:
        return [{**slot, 'count': resources.computed_process_count}]
    node: Dict[str, object] = {
        'type': 'node',
        'count': resources.computed_node_count,
        'with': [{**slot, 'count': resources.computed_processes_per_node}],
    }
    if resources.exclusive_node_use:
        node['exclusive'] = True
    return [node]


def _system_attributes(spec: JobSpec, environment: Mapping[str, str], options: Dict[str, object]) -> Dict[str, object]:
    attributes = spec.attributes or JobAttributes()
    duration = attributes.duration
    name = spec.name or ''
    system: Dict[str, object] = {
        'duration': 0 if duration is None else duration.total_seconds(),  # 0 stands for no limit
        'environment': dict(environment),
        'job': {'name': os.path.basename(name) if name == spec.executable else name},
        'shell': {'options': options},
    }
    if attributes.queue_name is not None:
        system['queue'] = attributes.queue_name
    if attributes.account is not None:
        system['bank'] = attributes.account
    return system


def _request(
    spec: JobSpec, command: List[str], resources: List[Dict[str, object]], system: Dict[str, object]
) -> Request:
    jobspec: Dict[str, object] = {
        'version': 1,
        'resources': resources,
        'tasks': [{'command': command, 'slot': 'task', 'count': {'per_slot': 1}}],
        'attributes': {'system': system},
    }
    return Request(jobspec, _apply_custom_attributes(spec, jobspec))


def _apply_custom_attributes(spec: JobSpec, jobspec: Dict[str, object]) -> int:
    """Change the jobspec as the custom attributes for Flux say, and return the urgency."""
    urgency = _DEFAULT_URGENCY
    group = custom_attributes(spec).get('flux')
    for item in group if isinstance(group, list) else ():
        key, value = str(item['key']), item['value']
        kind, _, path = key.partition('.')
        if key == 'urgency':
            urgency = _urgency(value)
        elif key == 'dependency':
            _set(jobspec, key, 'attributes.system.dependencies', _dependencies(value))
        elif kind == 'setattr' and path:
            prefix = 'attributes.' if path.startswith(('system.', 'user.')) else 'attributes.system.'
            _set(jobspec, key, prefix + path, value)
        elif kind == 'setopt' and path:
            _set(jobspec, key, f'attributes.system.shell.options.{path}', value)
        else:
            raise InvalidJobException(
                f'Invalid custom attribute flux.{key}: there is no such attribute. There are {_SUPPORTED}.'
            )
    return urgency


def _urgency(value: object) -> int:
    try:
        urgency = int(str(value))
    except ValueError:
        urgency = -1
    if not 0 <= urgency <= _HIGHEST_URGENCY:
        _refuse('custom attribute flux.urgency', value, f'a whole number from 0 to {_HIGHEST_URGENCY}')
    return urgency


def _dependencies(value: object) -> List[Dict[str, str]]:
    """Return dependencies as Flux wants them.

    >>> _dependencies('afterok:f2B2k5ZCK')
    [{'scheme': 'afterok', 'value': 'f2B2k5ZCK'}]
    """
    items: Iterable[object] = value if isinstance(value, (list, tuple)) else [value]
    dependencies: List[Dict[str, str]] = []
    for item in items:
        scheme, _, of = str(item).partition(':')
        if not scheme or not of:
            _refuse('custom attribute flux.dependency', value, 'SCHEME:VALUE, such as afterok:JOBID, or a list of such')
        dependencies.append({'scheme': scheme, 'value': of})
    return dependencies


def _set(jobspec: Dict[str, object], key: str, path: str, value: object) -> None:
    """Set a value deep in the jobspec; an attribute without a value is 1, as with the options of ``flux submit``."""
    *parents, last = path.split('.')
    place = jobspec
    for name in parents:
        inner = place.setdefault(name, {})
        if not isinstance(inner, dict):
            _refuse(f'custom attribute flux.{key}', value, f'a name that is not below {name!r}, which has a value')
        place = inner
    place[last] = 1 if value in (None, '') else value
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode('utf-8')
    except (TypeError, ValueError) as ex:
        raise InvalidJobException(
            f'Invalid custom attribute flux.{key}: got {value!r}, expected something that can be written as JSON: {ex}',
            ex,
        ) from ex


def _check_for_processes(spec: JobSpec, environment: Mapping[str, str]) -> None:
    for field in ('pre_launch', 'post_launch', 'stage_in', 'stage_out', 'cleanup'):
        value = getattr(spec, field)
        if value:
            _refuse(field, value, f'nothing, because with the launcher {LAUNCHER!r} there is no script to do it')
    for field, text in _texts(spec):
        if not is_text(text):
            _refuse_for_processes(field, text, 'text in UTF-8')
        if '{{' in text and field != 'directory':
            _refuse_for_processes(field, text, 'nothing with "{{", because Flux replaces {{id}} and the like')
    for name, value in environment.items():
        if not is_text(name) or not is_text(value):
            _refuse_for_processes(f'environment[{name!r}]', value, 'text in UTF-8')


def _texts(spec: JobSpec) -> Iterable[Tuple[str, str]]:
    yield 'executable', str(spec.executable)
    for i, argument in enumerate(spec.arguments or ()):
        yield f'arguments[{i}]', str(argument)
    for field in ('directory', 'stdin_path', 'stdout_path', 'stderr_path'):
        path: Optional[Path] = getattr(spec, field)
        if path is not None:
            yield field, str(path)


def _refuse_for_processes(field: str, value: object, expected: str) -> NoReturn:
    _refuse(field, value, f'{expected}, with the launcher {LAUNCHER!r}; other launchers take anything')


def _refuse(field: str, value: object, expected: str) -> NoReturn:
    raise InvalidJobException(f'Invalid {field}: got {value!r}, expected {expected}.')
