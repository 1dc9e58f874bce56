"""The data for job scripts. Everything here is pure."""

from __future__ import annotations

import functools
from datetime import timedelta
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional

from psij._runtime import environment
from psij._runtime.staging import staging_context
from psij.exceptions import SubmitException
from psij.job import Job
from psij.job_spec import JobSpec


def submit_directory() -> Path:
    """Return the current directory, which relative paths of specifications are relative to.

    Raises
    ------
    SubmitException
        If it does not exist any more.
    """
    try:
        return Path.cwd()
    except FileNotFoundError as ex:
        raise SubmitException(
            'The current directory of this program does not exist any more. Change to another one before submitting '
            'jobs that need a script.',
            ex,
        ) from ex


class Reporting(NamedTuple):
    """How a script can report its states."""

    addresses: tuple[str, ...] = ()
    port: int = 0
    tokens: Mapping[str, str] = {}


def script_context(
    job: Job,
    launch_command: List[str],
    work_directory: Path,
    submit_directory: Path,
    reporting: Reporting,
    attempt: str,
    format_duration: Callable[[timedelta], str],
) -> Dict[str, object]:
    """Return the data for the script of a job.

    The keys are those that templates of the existing package use, and ``psij.directory``, ``psij.staged``,
    ``psij.staging``, ``psij.us_addr_list``, ``psij.us_tokens`` and ``psij.revoked_file`` for the partials here.
    """
    from psij.executors.batch.template_function_library import ALL

    spec = job.spec
    if spec is None:
        raise ValueError('The job has no specification.')
    context: Dict[str, object] = {
        'job': job,
        'custom_attributes': custom_attributes(spec),
        'env': [
            {'name': name, 'value': value} for name, value in environment.for_shell(spec.environment or {}).items()
        ],
        'psij': {
            'lib': ALL,
            'launch_command': environment.through_shell(launch_command, spec),
            'script_dir': str(work_directory),
            'directory': None if spec.directory is None else str(submit_directory / spec.directory),
            'staged': bool(spec.stage_in or spec.stage_out or spec.cleanup),
            'staging': staging_context(spec, submit_directory),
            'us_file': '/dev/null',  # earlier versions took reports from a file as well
            'us_port': reporting.port,
            'us_addrs': ', '.join(reporting.addresses),
            'us_addr_list': list(reporting.addresses),
            'us_tokens': dict(reporting.tokens),
            'revoked_file': str(work_directory / f'{job.id}-{attempt}.revoked'),
            'debug': False,
        },
    }
    duration = None if spec.attributes is None else spec.attributes.duration
    if duration is not None:
        context['formatted_job_duration'] = format_duration(duration)
    return context


def custom_attributes(spec: JobSpec) -> Dict[str, object]:
    """Return the custom attributes, those with a dot in their name grouped by what stands before it.

    A group is a list of ``{'key': ..., 'value': ...}``; its name is in lower case. A group hides an attribute without
    a dot that has the same name.
    """
    attributes = (None if spec.attributes is None else spec.attributes.custom_attributes) or {}
    grouped: Dict[str, object] = {name: value for name, value in attributes.items() if '.' not in name}
    groups: Dict[str, List[Dict[str, object]]] = {}
    for name, value in attributes.items():
        prefix, dot, key = name.partition('.')
        if dot:
            groups.setdefault(prefix.lower(), []).append({'key': key, 'value': value})
    grouped.update(groups)
    return grouped


@functools.lru_cache(maxsize=1)
def own_addresses() -> tuple[str, ...]:
    """Return the IPv4 addresses that this machine has at the first call, at which a compute node may reach it.

    The loopback address comes last, for schedulers that run jobs on the machine on which they are submitted.
    """
    import socket

    import psutil

    found = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith('127.')
    ]
    return (*dict.fromkeys(found), '127.0.0.1')


def native_attributes(spec: JobSpec, prefix: str) -> List[tuple[str, Optional[object]]]:
    """Return the custom attributes for one scheduler, in order, as pairs of an option and its value.

    The value is None for an option without a value.
    """
    group = custom_attributes(spec).get(prefix)
    if not isinstance(group, list):
        return []
    return [
        (item['key'], None if item['value'] is True or item['value'] in ('', None) else item['value']) for item in group
    ]
