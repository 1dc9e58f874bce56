"""What the logger ``psij`` tells about jobs, and what it must not tell."""

from __future__ import annotations

import re
import signal

import pytest
from fakes.harness import FakeCluster

from .conftest import Shell, read_until

SECRET = 'hush-hush'


def log(errors: str) -> list[tuple[str, str]]:
    """Return level and message of each line that was logged."""
    return re.findall(r'^[-\d]+ [\d:,]+ (\w+) psij\S*: (.*)$', errors, re.MULTILINE)


@pytest.mark.parametrize('options', [[], ['--pre-launch', 'before.sh']], ids=['direct', 'script'])
def test_the_life_of_a_local_job_is_told_in_one_line_for_each_transition(shell: Shell, options: list[str]) -> None:
    (shell.directory / 'before.sh').write_text(':')
    done = shell.psij('run', '--verbose', *options, 'sh', '-c', 'exit 3')
    lines = [message for level, message in log(done.stderr) if level == 'INFO']
    states = ['QUEUED', 'STAGE_IN', 'ACTIVE', 'STAGE_OUT', 'CLEANUP', 'FAILED']
    told = [next((state for state in states if state in line), line) for line in lines]
    assert told == states


def test_the_life_of_a_batch_job_and_the_commands_are_told(shell: Shell, cluster: FakeCluster) -> None:
    done = shell.psij('run', '--verbose', 'true')
    lines = log(done.stderr)
    assert {level for level, _ in lines} == {'INFO'}
    assert 'submitted to slurm as 1' in lines[0][1]
    assert lines[-1][1].endswith('(1): COMPLETED')
    done = shell.psij('run', '-vv', 'true')
    commands = [message for level, message in log(done.stderr) if level == 'DEBUG' and message.startswith("('sbatch'")]
    assert len(commands) == 1
    assert re.search(r"/\.psij/work/slurm/[-\w]+\.job'\): exit code 0 after", commands[0]), 'script and exit code'


@pytest.mark.parametrize('options', [[], ['--pre-launch', 'before.sh'], ['--launcher', 'multiple']])
def test_values_of_variables_are_never_told(shell: Shell, options: list[str]) -> None:
    (shell.directory / 'before.sh').write_text(':')
    shell.environment['INHERITED'] = f'{SECRET}-too'
    for command in (['sh', '-c', 'exit 3'], ['no-such-program']):
        done = shell.psij('run', '-vv', '--env', f'TOKEN={SECRET}', *options, *command)
        assert done.returncode in (3, 127)
        assert 'FAILED' in done.stderr
        assert SECRET not in done.stderr


def test_values_of_variables_are_never_told_about_batch_jobs(shell: Shell, cluster: FakeCluster) -> None:
    done = shell.psij('run', '-vv', '--env', f'TOKEN={SECRET}', 'sh', '-c', 'exit 3')
    assert done.returncode == 3
    cluster.reject('sbatch: error: no')
    refused = shell.psij('run', '-vv', '--env', f'TOKEN={SECRET}', 'true')
    assert refused.returncode == 125
    assert SECRET not in done.stderr + refused.stderr


def test_nothing_is_logged_unless_asked_for(shell: Shell) -> None:
    done = shell.psij('run', 'true')
    assert log(done.stderr) == []
    assert all(line.startswith('psij run: job ') for line in done.stderr.splitlines())


def test_warnings_are_always_told(shell: Shell, cluster: FakeCluster) -> None:
    shell.psij('submit', shell.write('job.json', executable='/bin/sleep', arguments=['60']))
    cluster.set('down.squeue')
    cluster.set('down.sacct')
    with shell.start('wait', '1') as process:
        assert process.stderr is not None
        read_until('psij: Polling error: status command', process.stderr)
        process.send_signal(signal.SIGINT)
