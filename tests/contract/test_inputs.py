"""What a job is given reaches it unchanged, or is refused."""

from __future__ import annotations

import os
import sys
from typing import Dict

import pytest

from psij import Job, JobSpec, JobState, ResourceSpecV1

from .conftest import Site

# Prints arguments and environment byte for byte, whatever they are.
SHOW = """
import os, sys
arguments = [os.fsencode(argument) for argument in sys.argv[1:]]
environment = {name: value for name, value in os.environb.items()}
print(repr((arguments, environment)))
"""


def show(site: Site, spec: JobSpec) -> tuple[list[bytes], Dict[bytes, bytes]]:
    """Run a job that shows the arguments and the environment that it has."""
    spec.executable = sys.executable
    spec.arguments = ['-I', '-c', SHOW, *(spec.arguments or [])]
    arguments, environment = eval(site.output(spec))
    return arguments, environment


def test_arguments_that_are_not_text(site: Site) -> None:
    """File names need not be valid in any encoding."""
    arguments = [bytes(range(1, 128)), bytes(range(128, 256)), b'caf\xc3\xa9', b'-', b'x' * 5000]
    found, _ = show(site, site.spec(None, *map(os.fsdecode, arguments)))
    assert found == arguments


def test_many_arguments(site: Site) -> None:
    arguments = [f'argument {number}' for number in range(2000)]
    found, _ = show(site, site.spec(None, *arguments))
    assert found == [argument.encode() for argument in arguments]


def test_environment_values_that_are_not_text(site: Site) -> None:
    value = bytes(range(1, 256))
    _, found = show(site, site.spec(environment={'VALUE': os.fsdecode(value), 'EMPTY': ''}))
    assert (found[b'VALUE'], found[b'EMPTY']) == (value, b'')


def test_variables_that_mean_something_to_shells(site: Site) -> None:
    """They are for the job; the scripts around it do not obey them."""
    marker = site.script('marker.sh', f'touch "{site.directory}/obeyed"\n')
    given = {
        'IFS': 'a',
        'BASH_ENV': str(marker),
        'ENV': str(marker),
        'SHELLOPTS': 'noexec',
        'CDPATH': '/',
        'GLOBIGNORE': '*',
        'POSIXLY_CORRECT': '1',
        'PS4': '$(touch obeyed)',
        'RANDOM': 'x',
        'PWD': '/nowhere',
    }
    _, found = show(site, site.spec(environment=given))
    assert {name: found.get(name.encode()) for name in given} == {k: v.encode() for k, v in given.items()}
    assert not (site.directory / 'obeyed').exists()


def test_nothing_is_inherited_unless_wanted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedulers and launchers add what they tell their processes; without them there is only what was asked for."""
    monkeypatch.setenv('INHERITED', 'x')
    monkeypatch.setenv('PSIJ_NODEFILE', '/of/another/job')
    spec = site.spec(inherit_environment=False, environment={'OWN': 'y'})
    assert spec.environment is not None
    wanted = {name.encode() for name in spec.environment}
    _, found = show(site, spec)
    found.pop(b'LC_CTYPE', None)  # Python sets it for itself
    assert found[b'OWN'] == b'y'
    assert not {b'INHERITED', b'PSIJ_NODEFILE'} & set(found)
    if site.backend.executor == 'local' and site.launcher != 'mpirun':
        assert {name for name in found if not name.startswith(b'_PSI_J_PROCESS_')} == wanted


def test_the_environment_of_this_program_stays_as_it_is(site: Site) -> None:
    before = dict(os.environ)
    site.run(site.shell('true', environment={'A': 'x'}, resources=ResourceSpecV1(1)))
    assert dict(os.environ) == before


def test_the_specification_stays_as_it_is(site: Site) -> None:
    """It can be used again and compared; only what it leaves open may have been filled in."""
    spec, same = (
        site.shell('true', name='a name', environment={'A': 'x'}, resources=ResourceSpecV1(1)) for _ in range(2)
    )
    site.run(spec)
    assert spec == same


def test_relative_paths_of_streams_start_at_the_job_directory(site: Site) -> None:
    """Also if the script that is run before the job goes elsewhere."""
    directory = site.directory / 'job'
    directory.mkdir()
    (directory / 'in').write_text('read me\n')
    before = site.script('before.sh', 'cd /\n')
    spec = site.shell('cat; echo error >&2', directory=directory, pre_launch=before)
    spec.stdin_path, spec.stdout_path, spec.stderr_path = 'in', 'out', 'err'
    assert site.run(spec).state is JobState.COMPLETED
    assert ((directory / 'out').read_text(), (directory / 'err').read_text()) == ('read me\n', 'error\n')


def test_there_is_no_input_unless_given(site: Site) -> None:
    assert site.output(site.shell('cat; echo end')) == 'end\n'


def test_input_that_nobody_reads(site: Site) -> None:
    big = site.script('big', 'x' * 1_000_000)
    assert site.run(site.shell('exit 0', stdin_path=big)).state is JobState.COMPLETED


def test_binary_streams(site: Site) -> None:
    data = bytes(range(256)) * 100
    (site.directory / 'in').write_bytes(data)
    spec = site.spec('/bin/cat', stdin_path=site.directory / 'in', stdout_path=site.directory / 'out')
    assert site.run(spec).state is JobState.COMPLETED
    assert (site.directory / 'out').read_bytes() == data


def test_missing_scripts_before_and_after_the_job(site: Site) -> None:
    """The job fails, and the message names the script."""
    for field in ('pre_launch', 'post_launch'):
        status = site.run(site.shell('true', **{field: site.directory / f'no {field}.sh'}))
        assert status.state is JobState.FAILED
        assert f'no {field}.sh' in str(status.message)


def test_what_a_script_sets_is_for_its_job_only(site: Site) -> None:
    before = site.script('before.sh', 'export FROM_SCRIPT=x\n')
    assert site.output(site.shell('echo "$FROM_SCRIPT"', pre_launch=before)) == 'x\n'
    assert site.output(site.shell('echo "${FROM_SCRIPT-unset}"')) == 'unset\n'


def test_the_environment_of_the_job_is_there_for_its_scripts(site: Site) -> None:
    before = site.script('before.sh', 'echo "$OWN" > before\n')
    after = site.script('after.sh', 'echo "$OWN" > after\n')
    spec = site.shell('true', directory=site.directory, environment={'OWN': 'a b'}, pre_launch=before)
    spec.post_launch = after
    assert site.run(spec).state is JobState.COMPLETED
    assert (site.read('before'), site.read('after')) == ('a b\n', 'a b\n')


def test_after_a_signal_the_last_script_is_run(site: Site) -> None:
    after = site.script('after.sh', f'touch "{site.directory}/after"\n')
    status = site.run(site.shell('kill -9 $$', post_launch=after))
    assert (status.state, status.exit_code) == (JobState.FAILED, 137)
    assert (site.directory / 'after').exists()


def test_lines_of_the_node_file(site: Site) -> None:
    """One for each process, with the name of a node."""
    for count in (1, 2, 4):
        spec = site.shell('cp "$PSIJ_NODEFILE" nodes', directory=site.directory)
        spec.resources = ResourceSpecV1(process_count=count)
        assert site.run(spec).state is JobState.COMPLETED
        lines = site.read('nodes').splitlines()
        assert len(lines) == count
        assert all(lines)


def test_the_number_of_processes(site: Site) -> None:
    if site.launcher == 'single':
        pytest.skip('it starts one process, whatever the resources are')
    spec = site.shell('echo', resources=ResourceSpecV1(node_count=1, processes_per_node=4))
    assert site.output(spec) == '\n' * 4


def test_job_without_a_specification(site: Site) -> None:
    job = Job()
    with pytest.raises(Exception, match='specification'):
        site.executor.submit(job)
    job.spec = site.shell('exit 3')
    site.executor.submit(job)
    assert site.final(job).exit_code == 3
