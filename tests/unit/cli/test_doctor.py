"""``psij doctor``: what it sees, and what it recommends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import psutil
import pytest
from fakes.harness import FakeCluster

from psij.cli import _machine

from .conftest import Shell


def examine(shell: Shell, *options: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """Return findings by what they are about."""
    done = shell.psij('doctor', '--json', *options)
    assert done.returncode == code, done.stdout + done.stderr
    findings = json.loads(done.stdout)
    for finding in findings:
        assert finding['level'] in ('ok', 'warning', 'problem')
        assert bool(finding['repair']) == (finding['level'] != 'ok'), finding
    return {finding['about']: finding for finding in findings}


@pytest.fixture
def tools(shell: Shell) -> Path:
    """Return a directory that is all of the PATH."""
    path = shell.directory / 'bin'
    path.mkdir()
    shell.environment['PATH'] = str(path)
    return path


def write_tool(directory: Path, name: str, script: str) -> None:
    (directory / name).write_text(f'#!/bin/sh\n{script}\n')
    (directory / name).chmod(0o755)


def test_a_machine_without_anything(shell: Shell, tools: Path) -> None:
    findings = examine(shell)
    assert all(finding['level'] == 'ok' for finding in findings.values())
    assert 'Python 3.' in findings['python']['text']
    assert 'psij ' in findings['package']['text']
    assert 'it answers' in findings['local']['text']
    assert {'slurm', 'pbs', 'pbs_classic', 'lsf', 'cobalt', 'nqsv'} <= set(
        findings['others']['text'].partition(': ')[2].split(', ')
    )
    assert 'can be created' in findings['work directory']['text']
    assert findings['launchers']['text'] == 'here are single, multiple; not here: mpirun, srun, aprun, jsrun'
    assert 'there is no mpirun' in findings['MPI']['text']


def test_lines_for_people(shell: Shell, tools: Path) -> None:
    done = shell.psij('doctor', '--executor', 'slurm')
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert all(line.split()[0] in ('ok', 'warning', 'problem') for line in lines)
    (line,) = [line for line in lines if line.startswith('problem')]
    assert line.startswith('problem  slurm: not on the PATH: sbatch, squeue, scancel -> extend PATH')


def test_a_scheduler_that_works(shell: Shell, cluster: FakeCluster) -> None:
    findings = examine(shell)
    assert findings['slurm']['text'] == 'it answers, and lists 0 jobs or processes of yours'
    assert findings['slurm']['level'] == 'ok'


@pytest.mark.parametrize(
    ('scheduler', 'executor'), [('pbs', 'pbs'), ('torque', 'pbs_classic'), ('cobalt', 'cobalt'), ('lsf', 'lsf')]
)
def test_schedulers_with_the_same_commands_are_told_apart(
    shell: Shell, tmp_path: Path, scheduler: str, executor: str
) -> None:
    cluster = FakeCluster(tmp_path / 'cluster', scheduler)
    shell.environment.update(cluster.environment, PATH=str(cluster.commands))
    findings = examine(shell)
    cluster.close()
    assert set(findings) == {
        *('python', 'package', 'local', 'others', 'work directory', 'file system', 'launchers', 'MPI'),
        executor,
    }
    assert findings[executor]['level'] == 'ok'


def test_a_scheduler_that_does_not_answer(shell: Shell, cluster: FakeCluster) -> None:
    cluster.set('down')
    finding = examine(shell, '--executor', 'slurm', code=1)['slurm']
    assert finding['level'] == 'problem'
    assert 'Unable to contact slurm controller' in finding['text']
    assert 'squeue --me' in finding['repair']


def test_an_executor_that_does_not_exist(shell: Shell) -> None:
    finding = examine(shell, '--executor', 'frob', code=1)['frob']
    assert (finding['level'], finding['text'][:25]) == ('problem', 'No such executor "frob". ')


# --- a real job ------------------------------------------------------------------------------------------------------


def test_a_local_job(shell: Shell) -> None:
    assert 'has completed and reported back' in examine(shell, '--run-job')['job']['text']


def test_a_job_that_reports_back(shell: Shell, cluster: FakeCluster) -> None:
    finding = examine(shell, '--executor', 'slurm', '--run-job')['job']
    assert (finding['level'], 'job 1 has completed and reported back' in finding['text']) == ('ok', True)


def test_a_job_that_does_not_report_back(shell: Shell, cluster: FakeCluster) -> None:
    """Reports are datagrams to the addresses of this machine; here nobody listens at the port any more."""
    script = """
import sys
from datetime import timedelta
from psij.__main__ import main
from psij._runtime import status_channel
from psij.cli import _schedulers
_schedulers._REPORT_GRACE = timedelta(seconds=0.1)
status_channel.StatusChannel.register = lambda self, *_: 9  # the port "discard"
status_channel.StatusChannel.unregister = lambda self, *_: None
sys.exit(main(sys.argv[1:]))
"""
    (shell.directory / 'deaf.py').write_text(script)
    done = subprocess.run(
        [sys.executable, 'deaf.py', 'doctor', '--json', '-e', 'slurm', '--run-job'],
        capture_output=True,
        text=True,
        cwd=shell.directory,
        env=shell.environment,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    (finding,) = [finding for finding in json.loads(done.stdout) if finding['about'] == 'job']
    assert finding['level'] == 'warning'
    assert 'its reports have not arrived' in finding['text']
    assert 'UDP' in finding['repair']


def test_a_job_that_is_refused(shell: Shell, cluster: FakeCluster) -> None:
    finding = examine(shell, '--executor', 'slurm', '--run-job', '--queue', 'nowhere', code=1)['job']
    assert finding['level'] == 'problem'
    assert 'invalid partition' in finding['text']


def test_a_job_that_has_to_wait(shell: Shell, cluster: FakeCluster) -> None:
    cluster.set('hold_queue')
    finding = examine(shell, '--executor', 'slurm', '--run-job', '--timeout', '3s')['job']
    assert finding['level'] == 'warning'
    assert 'QUEUED' in finding['text']
    assert cluster.job(1).state == 'done', 'it was canceled'


def test_a_number_is_seconds_and_no_time_is_not_an_unknown_state(shell: Shell, cluster: FakeCluster) -> None:
    cluster.set('hold_queue')
    finding = examine(shell, '--executor', 'slurm', '--run-job', '--timeout', '0.01')['job']
    assert (finding['level'], 'job 1 was QUEUED after 0 s' in finding['text']) == ('warning', True), finding


def test_a_job_that_fails(shell: Shell, cluster: FakeCluster) -> None:
    cluster.set('time_scale', '0.00001')  # its walltime is over at once
    finding = examine(shell, '--executor', 'slurm', '--run-job', code=1)['job']
    assert finding['level'] == 'problem'
    assert 'FAILED' in finding['text']


# --- the work directory ----------------------------------------------------------------------------------------------

Mount = namedtuple('Mount', 'mountpoint fstype')


def test_a_private_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert next(_machine.work_directory(tmp_path, True)).level == 'ok'


def test_a_directory_that_is_open_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    finding = next(_machine.work_directory(tmp_path, False))
    assert (finding.level, finding.repair) == ('warning', f'chmod 700 {tmp_path}')


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / 'work').touch()
    finding = next(_machine.work_directory(tmp_path / 'work', False))
    assert (finding.level, 'is not a directory' in finding.text) == ('problem', True)


def test_the_directory_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'geteuid', lambda: 4711)
    finding = next(_machine.work_directory(tmp_path, False))
    assert (finding.level, 'belongs to another user' in finding.text) == ('problem', True)


def test_a_directory_that_cannot_be_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, 'access', lambda *_: False)  # root may write everywhere
    finding = next(_machine.work_directory(tmp_path / 'a' / 'b', False))
    assert (finding.level, f'{tmp_path} is not writable' in finding.text) == ('problem', True)


@pytest.mark.parametrize(
    ('fstype', 'for_cluster', 'level'),
    [('ext4', False, 'ok'), ('ext4', True, 'warning'), ('nfs4', True, 'ok'), ('lustre', True, 'ok')],
)
def test_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fstype: str, for_cluster: bool, level: str
) -> None:
    mounts = [Mount('/', 'overlay'), Mount(str(tmp_path.parent), fstype), Mount(f'{tmp_path}-2', 'tmpfs')]
    monkeypatch.setattr(psutil, 'disk_partitions', lambda all: mounts)
    *_, finding = _machine.work_directory(tmp_path / 'work', for_cluster)
    assert finding.level == level
    assert f'is on {fstype}, mounted at {tmp_path.parent}' in finding.text


# --- MPI -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('text', 'level', 'expected'),
    [
        ('mpirun (Open MPI) 4.1.4', 'ok', 'that of Open MPI'),
        ('mpirun (OpenRTE) 2.0', 'ok', 'that of Open MPI'),
        ('HYDRA build details:', 'ok', 'that of MPICH'),
        ('Intel(R) MPI Library for Linux* OS, Version 2021', 'ok', 'that of Intel MPI'),
        ('something else', 'warning', 'of an unknown kind: something else'),
    ],
)
def test_flavours_of_mpi(shell: Shell, tools: Path, text: str, level: str, expected: str) -> None:
    write_tool(tools, 'mpirun', f'echo "{text}"')
    findings = examine(shell)
    assert (findings['MPI']['level'], expected in findings['MPI']['text']) == (level, True)
    assert f'mpirun ({tools}/mpirun)' in findings['launchers']['text']


def test_an_mpirun_that_does_not_work(shell: Shell, tools: Path) -> None:
    write_tool(tools, 'mpirun', 'echo "libfoo.so: cannot open" >&2; exit 127')
    finding = examine(shell, code=1)['MPI']
    assert (finding['level'], 'libfoo.so: cannot open' in finding['text']) == ('problem', True)
