"""NQSV: what was described of it. There are no recordings."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path
from typing import List

import pytest

from psij import InvalidJobException, Job, JobAttributes, JobSpec, JobState, ResourceSpecV1
from psij.executors.batch.nqsv import NQSVExecutorConfig, NQSVJobExecutor, parse_qsub

GOLDEN = Path(__file__).parent.parent.parent / 'golden' / 'nqsv'


@pytest.fixture
def executor(tmp_path: Path) -> NQSVJobExecutor:
    return NQSVJobExecutor(config=NQSVExecutorConfig(work_directory=tmp_path / 'work'))


def directives(executor: NQSVJobExecutor, spec: JobSpec) -> List[str]:
    script = executor.render_submit_script(Job(spec))
    return [line[len('#PBS ') :] for line in script.split('\n') if line.startswith('#PBS ')]


SPEC = JobSpec(
    '/bin/date',
    name='my job',
    directory='/scratch/job 1',
    inherit_environment=True,
    environment={'A': '1 2'},
    resources=ResourceSpecV1(
        2, processes_per_node=3, cpu_cores_per_process=4, gpu_cores_per_process=1, exclusive_node_use=True
    ),
    attributes=JobAttributes(
        timedelta(hours=30, seconds=0.5), 'batch', 'acct', 'resv1',
        {'nqsv.T': 'openmpi', 'nqsv.-venode': 8, 'nqsv.r': True},
    ),
)  # fmt: skip


def test_every_field_becomes_a_directive(executor: NQSVJobExecutor) -> None:
    assert directives(executor, SPEC) == [
        '-N my_job',
        '--cpunum-lhost=12',
        '-b 2',
        '--gpunum-lhost=3',
        '--exclusive',
        '-l elapstim_req=30:0:1',
        '-q batch',
        '-A acct',
        '-y resv1',
        '-V',
        '-o /dev/null',
        '-e /dev/null',
        '-T openmpi',
        '--venode 8',
        '-r',
    ]


def test_memory_is_refused(executor: NQSVJobExecutor) -> None:
    with pytest.raises(InvalidJobException, match=r'resources\.memory'):
        executor.render_submit_script(Job(JobSpec('/bin/true', resources=ResourceSpecV1(memory=1024))))


def test_commands(executor: NQSVJobExecutor) -> None:
    directory = '/opt/nec/nqsv/bin'
    assert executor.get_submit_command(Job(), Path('/a')) == [f'{directory}/qsub', '/a']
    assert executor.get_cancel_command('98') == [f'{directory}/qdel', '98']
    assert executor.get_status_command(['98', '99']) == [f'{directory}/qstat', '-F', 'rid,stt', '-n', '-l', '98', '99']
    assert executor.get_list_command() == [f'{directory}/qstat', '-F', 'rid', '-n', '-l']
    assert executor.parse_list_output('98.host\n\n 99.host\nno request\n') == ['98', '99']


def test_id_of_a_request() -> None:
    assert parse_qsub('Quota: 5\nRequest 98.host submitted to queue: batch.\n') == '98'
    with pytest.raises(ValueError, match='no request ID'):
        parse_qsub('')


def test_states(executor: NQSVJobExecutor) -> None:
    out = '1.host QUE\n2.host RUN\n3.host EXT\n4.host POR\n5.host XYZ\n 6.host  HLD \n'
    statuses = executor.parse_status_output(0, out)
    assert {native_id: status.state.name for native_id, status in statuses.items()} == {
        '1': 'QUEUED', '2': 'ACTIVE', '3': 'ACTIVE', '4': 'ACTIVE', '5': 'QUEUED', '6': 'QUEUED',
    }  # fmt: skip


def test_what_does_not_exist_is_no_success(executor: NQSVJobExecutor) -> None:
    """That a request has vanished tells nothing; whether it succeeded is in the exit code file."""
    message = 'Batch Request: 98.host does not exist on host.\n'
    assert executor.parse_status_output(1, message) == {}
    assert executor.parse_status_output(1, f'97.host RUN\n{message}')['97'].state is JobState.ACTIVE
    with pytest.raises(RuntimeError, match='exited with 1'):
        executor.parse_status_output(1, 'Cannot connect to the batch server.\n')


def test_attach_takes_ids_with_and_without_the_host(executor: NQSVJobExecutor) -> None:
    with pytest.raises(InvalidJobException, match='Invalid native ID'):
        executor.attach(Job(), 'x98.host')


def run_script(executor: NQSVJobExecutor, tmp_path: Path, job_id: str) -> str:
    nodes, result = tmp_path / 'nodes', tmp_path / 'result'
    nodes.write_text('a\nb\n')
    spec = JobSpec('/bin/sh', ['-c', 'cat "$PSIJ_NODEFILE"'], stdout_path=result)
    spec.resources = ResourceSpecV1(node_count=2, processes_per_node=2)
    executor.work_directory.mkdir(parents=True, exist_ok=True)
    environment = {'PBS_JOBID': job_id, 'PBS_NODEFILE': str(nodes), 'PATH': '/usr/bin:/bin'}
    script = executor.render_submit_script(Job(spec))
    subprocess.run(['/bin/bash', '-c', script], env=environment, check=True, cwd=tmp_path)
    return result.read_text() if result.exists() else ''


def test_script_works_on_the_first_host_only(executor: NQSVJobExecutor, tmp_path: Path) -> None:
    assert run_script(executor, tmp_path, '1:98.host') == ''
    assert not list(executor.work_directory.glob('98*'))
    assert run_script(executor, tmp_path, '0:98.host').split() == ['a', 'a', 'b', 'b']
    assert (executor.work_directory / '98.ec').read_text() == '0\n'


def test_golden_script(executor: NQSVJobExecutor, request: pytest.FixtureRequest) -> None:
    """The part that is the same for all schedulers is in the golden scripts of Slurm."""
    script, _, _ = executor.render_submit_script(Job(SPEC)).partition('# --- from here on')
    script = script.replace(str(executor.config.work_directory), '/WORK')
    golden = GOLDEN / 'everything.job'
    if request.config.getoption('--update-golden'):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(script)
    assert script == golden.read_text()
