"""What tests of the library rely on in the stand-in for Slurm, besides that it speaks as the recordings do."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from fakes.core import Job
from fakes.harness import FakeCluster

Make = Callable[..., FakeCluster]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make clusters that are closed at the end, and in whose processes nothing may have gone wrong."""
    clusters: list[FakeCluster] = []

    def make_one(**knobs: Any) -> FakeCluster:
        clusters.append(FakeCluster(tmp_path / f'cluster{len(clusters)}', **knobs))
        return clusters[-1]

    yield make_one
    for cluster in clusters:
        cluster.close()
        assert not cluster.log()


@pytest.fixture
def slurm(make: Make) -> FakeCluster:
    return make()


def submit(cluster: FakeCluster, body: str, *options: str, **run: Any) -> int:
    done = cluster.run('sbatch', '--parsable', *options, stdin=f'#!/bin/bash\n{body}\n', **run)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.partition(';')[0])


def squeue(cluster: FakeCluster, form: str = '%i|%t|%r', *options: str) -> list[str]:
    return cluster.run('squeue', '-h', '-t', 'all', '-o', form, *options).stdout.splitlines()


# --- running jobs ----------------------------------------------------------------------------------------------------


def test_a_job_is_detached_from_its_submitter(slurm: FakeCluster) -> None:
    """sbatch must come back, with all its output, while the script runs in a session of its own."""
    os.mkfifo(slurm.path / 'fifo')
    number = submit(
        slurm, 'read word < fifo; echo "$word"; echo oops >&2', '-o', 'out.%j', '-e', 'err-%x', '-J', 'odd name'
    )
    job = slurm.wait_until(number, lambda job: job.pid, 'start its script')
    assert os.getsid(job.pid) == job.pid != os.getsid(0)
    assert squeue(slurm) == [f'{number}|R|None']
    (slurm.path / 'fifo').write_text('go\n')
    assert slurm.wait_for(number).wait_status == 0
    assert (slurm.path / f'out.{number}').read_text() == 'go\n'
    assert (slurm.path / 'err-odd name').read_text() == 'oops\n'


def test_the_environment_passes_unchanged(slurm: FakeCluster) -> None:
    """A shell between sbatch and the job would drop the second one."""
    odd = {'ODD': 'two\nlines "$x" \'y\' \\', 'BASH_FUNC_f%%': '() { echo hi\n}', 'BYTES': '\udcff'}
    slurm.run('sbatch', '-o', 'out', stdin='#!/bin/cat /proc/self/environ\n', env=odd)
    slurm.wait_for(1)
    found = dict(item.split(b'=', 1) for item in (slurm.path / 'out').read_bytes().split(b'\0') if b'=' in item)
    assert {name: os.fsdecode(found[name.encode()]) for name in odd} == odd


def test_export_none_leaves_the_commands(slurm: FakeCluster) -> None:
    """A job with a login environment still finds its cluster, and nothing of the submitter's variables."""
    body = 'echo "${MARK-unset} $SLURM_EXPORT_ENV"; scontrol show hostnames; squeue -h -o %i'
    number = submit(slurm, body, '--export=NONE', '-N2', '-o', 'out', env={'MARK': 'set'})
    slurm.wait_for(number)
    assert (slurm.path / 'out').read_text() == f'unset NONE\nnode01\nnode02\n{number}\n'


def test_one_place_for_several_jobs(make: Make) -> None:
    """Jobs wait for a place, and the end of one starts the next, in order."""
    cluster = make(slots=1)
    os.mkfifo(cluster.path / 'fifo')
    first = submit(cluster, 'read word < fifo; echo first >> order')
    others = [submit(cluster, f'echo {word} >> order') for word in ('second', 'third')]
    cluster.wait_until(first, lambda job: job.pid, 'start its script')
    assert squeue(cluster, '%i|%t') == [f'{others[0]}|PD', f'{others[1]}|PD', f'{first}|R']
    (cluster.path / 'fifo').write_text('go\n')
    cluster.wait_for(others[1])
    assert (cluster.path / 'order').read_text().split() == ['first', 'second', 'third']


def test_a_queue_that_starts_nothing_until_told(make: Make) -> None:
    cluster = make(hold_queue='')
    number = submit(cluster, 'true')
    assert squeue(cluster) == [f'{number}|PD|None']
    cluster.unset('hold_queue')
    assert cluster.wait_for(number).wait_status == 0


def test_begin_time(slurm: FakeCluster) -> None:
    """There is no daemon: a status command starts what has become due."""
    number = submit(slurm, 'true', '--begin=now+1hour')
    assert squeue(slurm) == [f'{number}|PD|BeginTime']
    with slurm.lock:
        slurm.save(slurm.job(number).copy(eligible=1.0))
    squeue(slurm)
    assert slurm.wait_for(number).wait_status == 0


def test_many_submissions_at_once(slurm: FakeCluster) -> None:
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda index: submit(slurm, f'echo >> ran{index}'), range(40)))
    assert sorted(numbers) == list(range(1, 41))
    for number in numbers:
        assert slurm.wait_for(number).wait_status == 0
    assert len(list(slurm.path.glob('ran*'))) == 40


def test_max_submit(make: Make) -> None:
    cluster = make(max_submit=1)
    submit(cluster, 'sleep 60')
    refused = cluster.run('sbatch', stdin='#!/bin/bash\n')
    assert refused.returncode == 1
    assert refused.stderr.startswith('sbatch: error: AssocMaxSubmitJobLimit\n')


def test_close_ends_everything(tmp_path: Path) -> None:
    cluster = FakeCluster(tmp_path)
    number = submit(cluster, 'trap "" TERM; while true; do sleep 0.1; done')
    job = cluster.wait_until(number, lambda job: job.pid, 'start its script')
    assert cluster.process_ids(job)
    cluster.close()
    assert cluster.process_ids(job) == []


def test_script_size(slurm: FakeCluster) -> None:
    """Recording submit_rejected, step 57."""
    refused = slurm.run('sbatch', stdin='#!/bin/bash\n' + '# x\n' * 1_100_000)
    assert (refused.returncode, refused.stderr) == (
        1,
        'sbatch: error: Batch job submission failed: Pathname of a file, directory or other parameter too long\n',
    )


# --- srun ------------------------------------------------------------------------------------------------------------


def test_srun(slurm: FakeCluster) -> None:
    """Tasks know their place; srun ends with the largest exit code and hands its input to all of them."""
    body = (
        "srun bash -c 'echo $SLURM_PROCID $SLURM_LOCALID $SLURM_NODEID $SLURM_NTASKS $SLURMD_NODENAME' | sort\n"
        'srun bash -c \'exit $SLURM_PROCID\'; echo "code $?"\n'
        'echo input | srun -l cat | sort\n'
        'printf "a\\nb\\n" | while read line; do srun -n1 true; echo "read $line"; done\n'
        'srun -n 4 true; echo "too many: $?"\n'
        'srun -n 4 --overcommit echo x; echo "overcommit: $?"\n'
    )
    number = submit(slurm, body, '-N2', '--ntasks-per-node=1', '-o', 'out')
    slurm.wait_for(number)
    assert (slurm.path / 'out').read_text() == (
        '0 0 0 2 node01\n1 0 1 2 node02\n'
        'srun: error: node02: task 1: Exited with exit code 1\ncode 1\n'
        '0: input\n1: input\n'
        'read a\n'
        f'srun: error: Unable to create step for job {number}: More processors requested than permitted\ntoo many: 1\n'
        'x\nx\nx\nx\novercommit: 0\n'
    )


def test_srun_reports_tasks_in_groups(slurm: FakeCluster) -> None:
    """As seen on Slurm 22.05.8; a segmentation fault does not force the end of the step."""
    body = "srun bash -c 'exit 3'\nsrun bash -c 'kill -9 $$'\nsrun bash -c 'kill -SEGV $$'; echo $?"
    number = submit(slurm, body, '-n4', '-o', 'out')
    slurm.wait_for(number)
    assert (slurm.path / 'out').read_text() == (
        'srun: error: node01: tasks 0-3: Exited with exit code 3\n'
        f'srun: error: node01: tasks 0-3: Killed\nsrun: Force Terminated StepId={number}.1\n'
        'srun: error: node01: tasks 0-3: Segmentation fault\n139\n'
    )


# --- changing jobs ---------------------------------------------------------------------------------------------------


def test_requeue_of_a_job_that_has_ended(slurm: FakeCluster) -> None:
    """It runs again under its id; one that waits cannot be requeued (as seen on Slurm 22.05.8)."""
    number = submit(slurm, 'echo "run ${SLURM_RESTART_COUNT-}" >> runs', '-o', '/dev/null')
    slurm.wait_for(number)
    assert slurm.run('scontrol', 'requeue', str(number)).returncode == 0
    slurm.wait_until(number, lambda job: job.final and job.restarts, 'run again')
    assert (slurm.path / 'runs').read_text() == 'run \nrun 1\n'
    held = submit(slurm, 'true', '-H')
    refused = slurm.run('scontrol', 'requeue', str(held))
    assert (refused.returncode, refused.stderr) == (1, f'Job is pending execution for job {held}\n')


def test_array_variables(slurm: FakeCluster) -> None:
    """As seen on Slurm 22.05.8."""
    number = submit(slurm, 'env | grep ^SLURM_ARRAY | sort', '-a', '3,5', '-o', 'out-%A-%a')
    slurm.wait_until(number, lambda job: job.final and job.task == 5, 'end')
    assert (slurm.path / f'out-{number}-5').read_text() == (
        f'SLURM_ARRAY_JOB_ID={number}\nSLURM_ARRAY_TASK_COUNT=2\nSLURM_ARRAY_TASK_ID=5\nSLURM_ARRAY_TASK_MAX=5\n'
        'SLURM_ARRAY_TASK_MIN=3\nSLURM_ARRAY_TASK_STEP=1\n'
    )


# --- what the status commands know ---------------------------------------------------------------------------------


def test_finished_jobs_vanish(make: Make) -> None:
    """MinJobAge, without waiting for it; accounting still knows the job."""
    cluster = make(keep=0)
    number = submit(cluster, 'exit 3')
    cluster.wait_for(number)
    assert squeue(cluster) == []
    asked = cluster.run('squeue', '-j', str(number))
    assert (asked.returncode, asked.stderr) == (1, 'slurm_load_jobs error: Invalid job id specified\n')
    assert cluster.run('sacct', '-X', '-n', '-P', '-o', 'JobIDRaw,State%30,ExitCode').stdout == f'{number}|FAILED|3:0\n'


def test_accounting_off_and_late(make: Make) -> None:
    cluster = make()
    number = submit(cluster, 'true')
    cluster.wait_for(number)
    cluster.set('accounting', 3600)
    assert cluster.run('sacct', '-n', '-P').stdout == ''
    cluster.set('accounting', 'off')
    refused = cluster.run('sacct', '-n', '-P')
    assert (refused.returncode, refused.stderr) == (1, 'Slurm accounting storage is disabled\n')


def test_fifty_thousand_jobs(make: Make) -> None:
    """A poll of a busy cluster takes a fraction of a second of processor time."""
    cluster = make(synthetic='50000 7000000 bulk')
    before = time.monotonic()
    lines = squeue(cluster, '%i|%A|%F|%K|%t|%r', '--me', '-r')
    assert time.monotonic() - before < 5
    assert len(lines) == 50000
    assert {line.partition('|')[2].partition('|')[2].partition('|')[2] for line in lines} == {'N/A|R|None'}
    assert cluster.run('scancel', '7000001').returncode == 0
    assert cluster.job(7000001).kill == 'cancelled'


def test_many_ids(slurm: FakeCluster) -> None:
    """Recording argv_limits: the kernel takes 16384 ids of seven digits in one argument, and no more."""
    number = submit(slurm, 'true', '-H')
    ids = ','.join([*map(str, range(1000000, 1016383)), str(number)])
    assert squeue(slurm, '%i|%T', '-j', ids) == [f'{number}|PENDING']
    with pytest.raises(OSError, match='Argument list too long'):
        squeue(slurm, '%i', '-j', ','.join(map(str, range(1000000, 1020000))))


def test_unknown_state(slurm: FakeCluster) -> None:
    number = submit(slurm, 'true', '-H')
    slurm.change(number, shown=('ZZ', 'ZZTOP'))
    assert squeue(slurm, '%t|%T') == ['ZZ|ZZTOP']


def test_a_job_of_somebody_else(make: Make) -> None:
    """With characters that break parsers; nobody else may cancel it."""
    cluster = make(user='alice:1001')
    cluster.insert(Job(user='bob', uid=1002, name='a|b "c" \udcff', state='running', extra={'reason': 'x, y:z'}))
    assert squeue(cluster, '%u|%j|%r') == ['bob|a|b "c" \udcff|x, y:z']
    assert squeue(cluster, '%i', '--me') == []
    assert cluster.run('scancel', '1').returncode == 210
    assert not cluster.job(1).kill


def test_what_is_not_covered_is_noticed(slurm: FakeCluster) -> None:
    done = slurm.run('squeue', '--json')
    assert (done.returncode, done.stderr) == (98, 'stand-in for squeue: --json is not covered\n')


def test_without_a_cluster() -> None:
    command = Path(__file__).parent / 'bin' / 'slurm' / 'squeue'
    done = subprocess.run([command], env={'PATH': '/usr/bin:/bin'}, capture_output=True, text=True, check=False)
    assert done.returncode == 96
    assert 'PSIJ_FAKE_DIR is not set' in done.stderr


# --- faults ----------------------------------------------------------------------------------------------------------


def test_a_fault_of_one_command(slurm: FakeCluster) -> None:
    slurm.set('down.squeue')
    assert slurm.run('squeue').returncode == 1
    submit(slurm, 'true')
    slurm.unset('down.squeue')
    assert slurm.run('squeue').returncode == 0


def test_a_fault_that_happens_once(slurm: FakeCluster) -> None:
    slurm.reject('sbatch: error: QOSMaxSubmitJobPerUserLimit\n', code=7, once=True)
    refused = slurm.run('sbatch', stdin='#!/bin/bash\n')
    assert (refused.returncode, refused.stderr) == (7, 'sbatch: error: QOSMaxSubmitJobPerUserLimit\n')
    assert slurm.run('squeue', '-h', '-t', 'all').stdout == ''
    submit(slurm, 'true')


def test_a_command_that_hangs(slurm: FakeCluster) -> None:
    slurm.set('hang')
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(
            [str(slurm.commands / 'squeue')], env={**os.environ, **slurm.environment}, timeout=0.3, check=False
        )


def test_a_command_that_hangs_until_told(slurm: FakeCluster) -> None:
    """The fault is a FIFO: writing ``go`` to it lets the command go on."""
    os.mkfifo(slurm.path / 'knobs' / 'hang.squeue')
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(slurm.run, 'squeue', '-h')
        (slurm.path / 'knobs' / 'hang.squeue').write_text('go')
        assert waiting.result().returncode == 0


def test_rubbish(slurm: FakeCluster) -> None:
    slurm.set('rubbish.squeue.once')
    done = slurm.run('squeue', '-h')
    assert done.returncode == 0
    assert '502 Bad Gateway' in done.stdout
    assert slurm.run('squeue', '-h').stdout == ''


def test_a_reply_that_is_lost(slurm: FakeCluster) -> None:
    """The command fails, the job is there."""
    slurm.set('lost_reply.once')
    done = slurm.run('sbatch', '-H', '-J', 'unique', stdin='#!/bin/bash\n')
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr == 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n'
    assert squeue(slurm, '%i|%j', '-n', 'unique') == ['1|unique']


def test_extra_output_and_the_name_of_the_cluster(make: Make) -> None:
    cluster = make(id_suffix='east', **{'banner.sbatch': 'Site news: job 42 is not yours\n'})
    assert cluster.run('sbatch', '-H', stdin='#!/bin/bash\n').stdout == (
        'Site news: job 42 is not yours\nSubmitted batch job 1 on cluster east\n'
    )
    assert cluster.run('sbatch', '-H', '--parsable', stdin='#!/bin/bash\n').stdout.endswith('\n2;east\n')
