"""``psij validate``: everything that is wrong, and nothing that is right."""

from __future__ import annotations

import json

import pytest

from .conftest import Shell


def problems(shell: Shell, *options: str, **fields: object) -> list[str]:
    done = shell.psij('validate', '--json', *options, shell.write('job.json', **fields))
    (result,) = json.loads(done.stdout)
    assert result['file'] == 'job.json'
    assert done.returncode == (1 if result['problems'] else 0)
    assert done.stderr == ''
    found = result['problems']
    assert isinstance(found, list)
    return found


def test_everything_that_is_wrong_is_told(shell: Shell) -> None:
    found = problems(
        shell,
        name=7,
        environment={'GOOD': 'x', 'bad-name': 'x', 'BAD_VALUE': []},
        resources={'__version': 2, 'node_count': 0, 'memory': 'much', 'exclusive_node_use': True},
        attributes={'duration': 'long', 'queue_name': 'debug', 'custom_attributes': {'slurm.x': 1}},
        nonsense=1,
        launcher='frob',
        directory='/a\0b',
    )
    for part in (
        'Invalid executable: got None',
        'name: expected a string, got 7',
        "'bad-name' is not the name of a variable",
        "environment['BAD_VALUE']",
        'resources.__version: expected 1, got 2',
        'resources.memory',
        'The node_count must be a whole number',
        'attributes.duration: Unknown walltime format: long',
        'Unexpected key "nonsense"',
        'frob',
        'Invalid directory',
    ):
        assert sum(part in problem for problem in found) == 1, (part, found)
    assert len(found) == 11


def test_values_that_contradict_each_other(shell: Shell) -> None:
    """All else is checked nevertheless, whether it comes before them or after them."""
    resources = {'__version': 1, 'node_count': 2, 'process_count': 3}
    (problem,) = problems(shell, executable='/bin/true', resources=resources)
    assert 'process_count (3)' in problem
    found = problems(shell, name=7, resources=resources, launcher='frob', environment={'bad-name': 'x'})
    for part in ('process_count (3)', 'name: expected', 'frob', 'bad-name', 'Invalid executable'):
        assert sum(part in problem for problem in found) == 1, (part, found)
    assert len(found) == 5


@pytest.mark.parametrize('executor', ['local', 'slurm'])
def test_values_under_different_keys_that_contradict_each_other(shell: Shell, executor: str) -> None:
    """The launcher is asked, as by ``psij run``."""
    fields: dict[str, object] = {
        'executable': '/bin/true',
        'resources': {'process_count': 2, 'gpu_cores_per_process': 1},
        'launcher': 'aprun',
    }
    found = problems(shell, '-e', executor, **fields, attributes={'duration': 'long'})
    assert len(found) == 2
    assert 'duration' in found[0]
    assert 'aprun cannot assign GPUs' in found[1]


@pytest.mark.parametrize('executor', ['local', 'slurm'])
def test_nothing_is_written(shell: Shell, executor: str) -> None:
    shell.environment['HOME'] = '/dev/null'
    assert problems(shell, '-e', executor, executable='/bin/true', launcher='multiple') == []


def test_an_executable_that_is_no_text(shell: Shell) -> None:
    (problem,) = problems(shell, executable={'path': '/bin/true'})
    assert problem.startswith('executable: expected a string')


def test_the_rules_of_an_executor(shell: Shell) -> None:
    fields: dict[str, object] = {
        'executable': '/bin/true',
        'attributes': {'queue_name': 'a\nb', 'account': 'c\nd', 'duration': '1h'},
    }
    assert problems(shell, **fields) == []
    found = problems(shell, '--executor', 'slurm', **fields)
    assert len(found) == 2
    assert 'queue_name' in found[0]
    assert 'account' in found[1]


@pytest.mark.parametrize('executor', ['local', 'slurm', 'pbs', 'lsf', 'cobalt', 'nqsv'])
def test_what_is_right_is_right_for_all(shell: Shell, executor: str) -> None:
    fields = {
        'executable': '/bin/sh',
        'arguments': ['-c', 'echo'],
        'directory': '/tmp',
        'resources': {'__version': 1, 'node_count': 2, 'processes_per_node': 4},
        'attributes': {'duration': '3600.0 s', 'queue_name': 'q', 'account': 'a'},
        'environment': {'A': 'b'},
        'stdout_path': 'out',
        'cleanup': ['x'],
    }
    assert problems(shell, '-e', executor, **fields) == []


def test_several_files_as_text(shell: Shell) -> None:
    (shell.directory / 'list.json').write_text('[]')
    (shell.directory / 'text.json').write_text('hello')
    good = shell.write('good.json', executable='/bin/true')
    done = shell.psij('validate', good, 'list.json', 'text.json', 'missing.json')
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[:2] == ['good.json: ok', 'list.json: expected a JSON object that describes a job, got list']
    assert lines[2].startswith('text.json: Not valid JSON: Expecting value')
    assert lines[3].startswith('missing.json: ')
    assert len(lines) == 4


def test_an_executor_that_does_not_exist(shell: Shell) -> None:
    done = shell.psij('validate', '-e', 'frob', shell.write('job.json', executable='/bin/true'))
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr.startswith('psij validate: No such executor "frob"')
