"""What a job is given arrives byte for byte, whatever the kernel accepts, directly and through a script."""

from __future__ import annotations

import json
import os
import string
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple, Union

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from psij import JobSpec, JobState
from psij._runtime import environment

from .conftest import Local

Way = Callable[[JobSpec], JobSpec]

# All that can be an argument of a program: bytes without NUL, valid in the encoding of the system or not.
TEXT = st.one_of(
    st.text().map(os.fsencode),
    st.binary(),
    st.text(string.punctuation + ' \t\n\r').map(os.fsencode),  # all that means something to a shell
).map(lambda data: os.fsdecode(data.replace(b'\0', b'')))
NAME = TEXT.map(lambda text: os.fsdecode(os.fsencode(text.replace('/', '|'))[:60])).filter(
    lambda text: text not in ('', '.', '..')
)
SHELL_VARIABLES = [*sorted(environment._SHELL_VARIABLES), 'BASH_ENV', 'BASHOPTS', 'BASH_FUNC_x', '_PSI_J_JOB_ID']
VARIABLE = st.one_of(
    st.from_regex('[A-Za-z_][A-Za-z0-9_]{0,12}', fullmatch=True).filter(lambda name: not name.startswith('LD_')),
    st.sampled_from(SHELL_VARIABLES),
)

EXAMPLES = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

# Prints the arguments, the working directory and the environment as the kernel has them.
SHOW = """
import json, os, sys
with open('/proc/self/cmdline', 'rb') as file:
    arguments = file.read().split(b'\\0')[5:-1]
with open('/proc/self/environ', 'rb') as file:
    environment = file.read().split(b'\\0')[:-1]
show = lambda items: [item.decode('latin-1') for item in items]
json.dump([show(arguments), show([os.getcwdb()]), show(environment)], sys.stdout)
"""


@pytest.fixture(scope='module')
def directory() -> Iterator[Path]:
    """A directory for all examples."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def show(local: Local, spec: JobSpec, output: Path) -> Tuple[List[bytes], bytes, Dict[bytes, bytes]]:
    """Run a job and return the arguments, the directory and the environment that it had."""
    spec.executable = sys.executable
    spec.arguments = ['-I', '-S', '-c', SHOW, *(spec.arguments or [])]
    spec.stdout_path = output
    status = local.run(spec)
    assert status.state is JobState.COMPLETED, status
    arguments, (where,), variables = json.loads(output.read_bytes())
    return (
        [argument.encode('latin-1') for argument in arguments],
        where.encode('latin-1'),
        dict(variable.encode('latin-1').split(b'=', 1) for variable in variables),
    )


@EXAMPLES
@given(st.lists(TEXT, max_size=8))
def test_arguments(local: Local, way: Way, directory: Path, arguments: List[str]) -> None:
    found, _, _ = show(local, way(JobSpec(arguments=arguments)), directory / 'out')
    assert found == [os.fsencode(argument) for argument in arguments]


@EXAMPLES
@given(st.dictionaries(VARIABLE, TEXT, max_size=6), st.booleans())
def test_environment(
    local: Local, way: Way, directory: Path, variables: Dict[str, Union[str, int]], inherit: bool
) -> None:
    spec = way(JobSpec(environment=variables, inherit_environment=inherit))
    _, _, found = show(local, spec, directory / 'out')
    wanted = {name.encode(): os.fsencode(str(value)) for name, value in variables.items()}
    if inherit:
        assert {name: found.get(name) for name in wanted} == wanted
        assert found[b'PATH'] == wanted.get(b'PATH', os.environb[b'PATH'])
    else:
        assert found == wanted


@EXAMPLES
@given(NAME)
def test_directories_and_streams(local: Local, way: Way, directory: Path, name: str) -> None:
    """Relative paths of streams start at the directory of the job."""
    place = directory / name
    place.mkdir(exist_ok=True)
    for stream in ('in', 'out', 'err'):
        (place / f'{name}.{stream}').unlink(missing_ok=True)
    (place / f'{name}.in').write_bytes(b'data')
    spec = JobSpec('/bin/sh', ['-c', 'pwd >&2; exec cat'], directory=place)
    spec.stdin_path, spec.stdout_path, spec.stderr_path = (Path(f'{name}.{stream}') for stream in ('in', 'out', 'err'))
    assert local.run(way(spec)).state is JobState.COMPLETED
    assert (place / f'{name}.out').read_bytes() == b'data'
    assert (place / f'{name}.err').read_bytes() == os.fsencode(place.resolve()) + b'\n'


@EXAMPLES
@given(NAME)
def test_executables_and_launch_scripts(local: Local, directory: Path, name: str) -> None:
    place = directory / 'programs'
    place.mkdir(exist_ok=True)
    program = place / name
    program.write_text('#!/bin/sh\nexit $CODE\n')
    program.chmod(0o755)
    assert local.run(JobSpec(str(program), environment={'CODE': '3'})).exit_code == 3
    script = place / f'{name}.sh'
    script.write_text('export CODE=5\n')
    assert local.run(JobSpec(str(program), pre_launch=script)).exit_code == 5
    script.write_text('exit 6\n')
    assert local.run(JobSpec('/bin/true', post_launch=script)).exit_code == 6


@EXAMPLES
@given(TEXT)
def test_names_and_attributes(local: Local, way: Way, text: str) -> None:
    """They mean nothing to the local executor, and so can do no harm."""
    spec = way(JobSpec('/bin/true', name=text))
    assert spec.attributes is not None
    spec.attributes.queue_name = spec.attributes.account = spec.attributes.reservation_id = text
    spec.attributes.custom_attributes = {f'local.{text}': text}
    assert local.run(spec).state is JobState.COMPLETED
