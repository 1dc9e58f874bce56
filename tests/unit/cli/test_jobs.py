"""Jobs by file and by native ID: ``submit``, ``status``, ``wait``, ``cancel``, ``list``, ``render``."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from fakes.harness import FakeCluster

from .conftest import PATIENCE, Shell, read_until

# --- local -----------------------------------------------------------------------------------------------------------


def test_the_life_of_a_local_job(shell: Shell) -> None:
    """Each command is a program of its own: none of them has seen the job before."""
    submitted = shell.psij('submit', shell.write('job.json', executable='/bin/sleep', arguments=['60']))
    native_id = submitted.stdout.strip()
    assert (submitted.returncode, submitted.stderr) == (0, '')
    status = shell.psij('status', native_id)
    assert (status.returncode, status.stdout, status.stderr) == (0, f'{native_id} ACTIVE\n', '')
    assert native_id in shell.psij('list').stdout.splitlines()
    wait = shell.psij('wait', '--timeout', '0s', native_id)
    assert (wait.returncode, wait.stdout) == (124, f'{native_id} ACTIVE\n')
    cancel = shell.psij('cancel', native_id)
    assert (cancel.returncode, cancel.stdout, cancel.stderr) == (0, f'{native_id} CANCELED\n', '')


def test_wait_for_a_local_job(shell: Shell) -> None:
    fifo = shell.directory / 'fifo'
    os.mkfifo(fifo)
    job = shell.write('job.json', executable='/bin/cat', arguments=[str(fifo)])
    native_id = shell.psij('submit', job).stdout.strip()
    with shell.start('wait', '--json', native_id) as process:
        until_a_process_is_watched(process.pid)
        fifo.write_text('')  # ends the job
        assert process.stdout is not None
        (status,) = json.load(process.stdout)
    assert (status['native_id'], status['state'], status['final']) == (native_id, 'COMPLETED', True)
    assert process.returncode == 0


def until_a_process_is_watched(pid: int) -> None:
    """Wait until a program has attached to a process, of which the kernel is the only witness."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for descriptor in Path(f'/proc/{pid}/fd').iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                if 'pidfd' in os.readlink(descriptor):
                    return
        time.sleep(0.01)
    raise AssertionError(f'{pid} watches no process')


def test_a_process_that_does_not_exist(shell: Shell) -> None:
    done = shell.psij('wait', '4194304')  # more than any pid
    assert (done.returncode, done.stderr) == (1, '')
    assert re.fullmatch('4194304 FAILED: .* does not exist.*\n', done.stdout)
    assert shell.psij('status', '4194304').returncode == 0, 'its state is known'


# --- a scheduler -----------------------------------------------------------------------------------------------------


def test_how_a_job_ended_can_be_asked_again_and_again(shell: Shell, cluster: FakeCluster) -> None:
    cluster.set('accounting', 'off')  # the scheduler remembers nothing: only the files of the job do
    cluster.set('keep', '0')
    job = shell.write('job.json', executable='/bin/sh', arguments=['-c', 'exit 5'])
    assert shell.psij('submit', job).stdout == '1\n'
    cluster.wait_for(1)
    for _ in range(2):
        done = shell.psij('status', '1')
        assert (done.returncode, done.stdout) == (0, '1 FAILED, exit code 5: The job ended with exit code 5.\n')
    done = shell.psij('wait', '--json', '1')
    (status,) = json.loads(done.stdout)
    assert (done.returncode, status['state'], status['exit_code']) == (1, 'FAILED', 5)


def test_several_jobs(shell: Shell, cluster: FakeCluster) -> None:
    cluster.set('hold_queue')
    job = shell.write('job.json', executable='/bin/true')
    assert shell.psij('submit', job, job, job).stdout == '1\n2\n3\n'
    assert sorted(shell.psij('list').stdout.split()) == ['1', '2', '3']
    assert sorted(json.loads(shell.psij('list', '--json').stdout)) == ['1', '2', '3']
    states = shell.psij('status', '1', '2', '3').stdout.splitlines()
    assert [line.split()[:2] for line in states] == [['1', 'QUEUED'], ['2', 'QUEUED'], ['3', 'QUEUED']]
    done = shell.psij('cancel', '2', '3')
    assert (done.returncode, done.stdout) == (0, '2 CANCELED\n3 CANCELED\n')
    cluster.unset('hold_queue')
    done = shell.psij('wait', '1', '2')
    assert (done.returncode, done.stdout) == (1, '1 COMPLETED\n2 CANCELED\n'), 'not all of them have completed'
    assert shell.psij('wait', '1').returncode == 0


def test_ctrl_c_ends_the_waiting_and_not_the_job(shell: Shell, cluster: FakeCluster) -> None:
    shell.psij('submit', shell.write('job.json', executable='/bin/sleep', arguments=['60']))
    cluster.wait_for(1, 'running')
    with shell.start('wait', '-vv', '1') as process:
        assert process.stderr is not None
        read_until('squeue', process.stderr)  # the scheduler is asked while the command waits
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
    assert process.returncode == 130
    assert 'psij wait: interrupted\n' in errors
    assert cluster.job(1).state == 'running'


def test_a_scheduler_that_does_not_answer(shell: Shell, cluster: FakeCluster) -> None:
    shell.psij('submit', shell.write('job.json', executable='/bin/sleep', arguments=['60']))
    cluster.set('down')
    for words in (['list'], ['cancel', '1'], ['submit', 'job.json']):
        done = shell.psij(*words)
        assert (done.returncode, done.stdout) == (1, ''), words
        assert 'Unable to contact slurm controller' in done.stderr
        assert done.stderr.count('\n') == 1
    done = shell.psij('status', '--timeout', '1s', '1')
    assert (done.returncode, done.stdout) == (124, '')
    assert 'psij status: slurm has not told the state of job 1 in time\n' in done.stderr


def test_no_time_to_ask(shell: Shell, cluster: FakeCluster) -> None:
    """What is not known is not told as if it were a state."""
    shell.psij('submit', shell.write('job.json', executable='/bin/sleep', arguments=['60']))
    for command in ('status', 'wait', 'cancel'):
        done = shell.psij(command, '--timeout', '0', '1')
        assert (done.returncode, done.stdout) == (124, '')
        assert done.stderr == f'psij {command}: slurm has not told the state of job 1 in time\n'


def test_a_job_that_cannot_be_canceled_does_not_hold_up_others(shell: Shell, cluster: FakeCluster) -> None:
    cluster.set('hold_queue')
    job = shell.write('job.json', executable='/bin/true')
    shell.environment['PSIJ_FAKE_USER'] = 'other:4712'
    shell.psij('submit', job)
    shell.environment['PSIJ_FAKE_USER'] = 'me:4711'
    shell.psij('submit', job)
    done = shell.psij('cancel', '1', '2')
    assert (done.returncode, done.stdout) == (1, '2 CANCELED\n')
    assert re.fullmatch('psij cancel: 1: [^\n]+ Access/permission denied\n', done.stderr)
    assert cluster.job(1).state == 'queued'


@pytest.mark.parametrize('words', [['list'], ['status', '1'], ['wait', '1'], ['cancel', '1']])
def test_a_missing_command(shell: Shell, words: list[str]) -> None:
    """A scheduler that does not answer may do so later; one that is not there never will."""
    shell.environment['PATH'] = '/nowhere'
    done = shell.psij(*words, '--executor', 'slurm')
    assert done.returncode == 1
    assert re.fullmatch(rf'psij {words[0]}: [^\n]*"squeue" was not found; PATH is .*\n', done.stderr)


# --- IDs that cannot be printed --------------------------------------------------------------------------------------


@pytest.mark.parametrize('options', [[], ['--json']])
def test_ids_that_cannot_be_printed_are_told_elsewhere(shell: Shell, cluster: FakeCluster, options: list[str]) -> None:
    """Who loses an ID loses the job; all jobs are submitted nevertheless."""
    job = shell.write('job.json', executable='/bin/true')
    done = shell.psij_redirected('> /dev/full', 'submit', *options, job, job)
    assert done.returncode == 1
    for native_id in '12':
        said = f'psij submit: job.json was submitted as {native_id}, which cannot be printed: No space left on device\n'
        assert said in done.stderr
    assert 'Traceback' not in done.stderr
    assert 'Exception' not in done.stderr


def test_a_standard_output_that_is_closed(shell: Shell, cluster: FakeCluster) -> None:
    done = shell.psij_redirected('>&-', 'submit', shell.write('job.json', executable='/bin/true'))
    assert (done.returncode, done.stderr) == (0, '')


def test_ids_are_not_lost_by_an_interruption(shell: Shell, cluster: FakeCluster) -> None:
    job = shell.write('job.json', executable='/bin/true')
    once = cluster.path / 'once'
    real = cluster.path / 'real' / 'slurm' / 'sbatch'
    real.parent.mkdir(parents=True)
    real.symlink_to(cluster.commands.parent / 'launch')
    (cluster.commands / 'sbatch').unlink()
    wrapper = f'#!/bin/sh\nif [ -e {once} ]; then kill -INT $PPID; exec sleep 60; fi\n> {once}\nexec {real} "$@"\n'
    (cluster.commands / 'sbatch').write_text(wrapper)
    (cluster.commands / 'sbatch').chmod(0o755)
    done = shell.psij('submit', '--json', job, job)
    assert [result['native_id'] for result in json.loads(done.stdout)] == ['1']
    assert done.returncode == 130


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_right_keeps_all_from_being_submitted(shell: Shell, cluster: FakeCluster) -> None:
    files = shell.write('good.json', executable='/bin/true'), shell.write('bad.json', executable=7)
    done = shell.psij('submit', *files)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr == 'psij submit: bad.json: executable: expected a string, got 7\n'
    assert list(cluster.everything()) == []


def test_a_job_that_is_refused_does_not_hold_up_others(shell: Shell, cluster: FakeCluster) -> None:
    refused = shell.write('refused.json', executable='/bin/true', attributes={'queue_name': 'nowhere'})
    done = shell.psij('submit', '--json', refused, shell.write('good.json', executable='/bin/true'))
    results: list[dict[str, Any]] = json.loads(done.stdout)
    assert done.returncode == 1
    assert [(result['file'], result['native_id']) for result in results] == [('refused.json', None), ('good.json', '1')]
    assert 'invalid partition' in results[0]['error']
    assert results[1]['error'] is None
    assert done.stderr.startswith('psij submit: refused.json: ')


def test_files_that_cannot_be_read(shell: Shell) -> None:
    """All commands say the same, and name the file."""
    (shell.directory / 'text').write_text('hello')
    (shell.directory / 'deep').write_text('[' * 100000)
    (shell.directory / 'latin').write_bytes('{"executable": "/bin/über"}'.encode('latin-1'))
    (shell.directory / 'twice').write_text(
        '{"executable": "/bin/true", "attributes": {"account": "a", "account": "b"}}'
    )
    for file, problem in {
        'missing': 'No such file or directory',
        'text': 'Not valid JSON: Expecting value: line 1 column 1 (char 0)',
        'deep': 'Not valid JSON: maximum recursion depth exceeded',
        'latin': 'Not valid UTF-8, in which JSON is written: invalid start byte at byte 21',
        'twice': 'the key "account" is there twice',
    }.items():
        for command in (['submit'], ['render', '--executor', 'slurm'], ['validate']):
            done = shell.psij(*command, file)
            said = done.stdout if command == ['validate'] else done.stderr.partition(': ')[2]
            assert (done.returncode, said[: len(file) + len(problem) + 2]) == (1, f'{file}: {problem}')
            assert said.count('\n') == 1


def test_a_file_from_the_standard_input(shell: Shell) -> None:
    job = json.dumps({'executable': '/bin/true', 'name': 'from stdin'})
    done = shell.psij('render', '--executor', 'slurm', '-', stdin=job)
    assert (done.returncode, done.stderr) == (0, '')
    assert '#SBATCH --job-name="from stdin"\n' in done.stdout


def test_what_is_rendered_can_be_submitted_by_hand(shell: Shell) -> None:
    """The scripts of the launcher are where it looks for them."""
    done = shell.psij('render', '-e', 'pbs', shell.write('job.json', executable='/bin/true'))
    assert done.stdout.startswith('#!/bin/bash\n#PBS ')
    launcher = re.search(r'/bin/bash (/\S+/single_launch\.sh) ', done.stdout)
    assert launcher is not None
    assert Path(launcher[1]).is_file()


def test_render_needs_no_work_directory(shell: Shell) -> None:
    """It shows the paths that there would be."""
    shell.environment['HOME'] = '/dev/null'
    done = shell.psij('render', '-e', 'pbs', shell.write('job.json', executable='/bin/true'))
    assert (done.returncode, done.stderr) == (0, '')
    assert re.search(r'/bin/bash /dev/null/\.psij/work/[0-9a-f]{64}/single_launch\.sh ', done.stdout)


def test_a_work_directory_that_cannot_be_made(shell: Shell, cluster: FakeCluster) -> None:
    """The hint is one for the command line."""
    shell.environment['HOME'] = '/dev/null'
    job = shell.write('job.json', executable='/bin/true')
    for words in (['run', 'true'], ['submit', job], ['doctor', '--run-job', '-e', 'slurm']):
        done = shell.psij(*words)
        assert done.returncode != 0
        assert 'Another one can be chosen with --work-directory.' in done.stdout + done.stderr


def test_render_shows_what_is_inherited_only_if_asked(shell: Shell) -> None:
    shell.environment['TOKEN'] = 'hush'
    words = ['render', '-e', 'pbs', shell.write('job.json', executable='/bin/true')]
    assert 'hush' not in shell.psij(*words).stdout
    assert 'export TOKEN=hush\n' in shell.psij(*words, '--environment').stdout


@pytest.mark.parametrize(
    ('words', 'expected'),
    [
        (['-e', 'local', 'job.json'], 'the executor "local" does not use submit scripts'),
        (['-e', 'frob', 'job.json'], 'No such executor "frob"'),
        (['-e', 'slurm', 'empty.json'], 'Invalid executable'),
    ],
)
def test_what_cannot_be_rendered(shell: Shell, words: list[str], expected: str) -> None:
    shell.write('job.json', executable='/bin/true')
    shell.write('empty.json')
    done = shell.psij('render', *words)
    assert (done.returncode, done.stdout) == (1, '')
    assert re.fullmatch(rf'psij render: {re.escape(expected)}.*\n', done.stderr)


def test_another_work_directory(shell: Shell, cluster: FakeCluster) -> None:
    cluster.set('hold_queue')
    shell.psij('submit', '--work-directory', 'work', shell.write('job.json', executable='/bin/true'))
    assert list((shell.directory / 'work' / 'slurm').glob('*.job'))
