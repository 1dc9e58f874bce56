"""``psij run``: output, states, exit codes, Ctrl-C."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from fakes.harness import FakeCluster

from psij.cli._display import Bar
from psij.cli._follower import Follower

from .conftest import PATIENCE, Shell, read_until


def test_output_and_exit_code_are_those_of_the_job(shell: Shell) -> None:
    done = shell.psij('run', '--', 'sh', '-c', 'echo out; echo err >&2; exit 3')
    assert (done.returncode, done.stdout) == (3, 'out\n')
    lines = done.stderr.splitlines()
    assert lines.count('err') == 1
    states = [re.fullmatch(r'psij run: job \d+ (.+)', line) for line in lines if line != 'err']
    assert [state and state[1].partition(':')[0] for state in states] == ['QUEUED', 'ACTIVE', 'FAILED, exit code 3']


def test_without_dashes_the_first_word_begins_the_command(shell: Shell) -> None:
    done = shell.psij('run', '--name', 'x', 'echo', '-n', '--', '--name', 'y')
    assert (done.returncode, done.stdout) == (0, '-- --name y')


def test_output_comes_while_the_job_runs(shell: Shell) -> None:
    fifo = shell.directory / 'fifo'
    os.mkfifo(fifo)
    with shell.start('run', 'sh', '-c', f'echo begin; read line < "{fifo}"; echo "$line"') as process:
        assert process.stdout is not None
        assert process.stdout.readline() == 'begin\n'
        fifo.write_text('end\n')
        assert process.stdout.read() == 'end\n'
    assert process.returncode == 0


def test_much_output_arrives_whole(shell: Shell) -> None:
    done = shell.psij('run', sys.executable, '-c', 'for i in range(400000): print(i)')
    assert done.stdout == ''.join(f'{i}\n' for i in range(400000))


def test_every_option_reaches_the_job(shell: Shell) -> None:
    (shell.directory / 'sub').mkdir()
    (shell.directory / 'in.txt').write_text('input')
    (shell.directory / 'before.sh').write_text('echo before')
    (shell.directory / 'after.sh').write_text('echo after')
    options = (
        '--directory sub --env A=1=2 --env B= --no-inherit-environment --stdin in.txt --stdout out.txt '
        '--stderr err.txt --pre-launch before.sh --post-launch after.sh '
        '--launcher multiple --processes 2 --cores-per-process 1'
    )
    script = 'echo "$A,$B,$HOME,$PWD,$(cat)"; echo oops >&2'
    done = shell.psij('run', *options.split(), '--', '/bin/sh', '-c', script)
    assert done.returncode == 0, done.stderr
    assert shell.read('out.txt') == f'1=2,,,{shell.directory}/sub,input\n' * 2
    assert shell.read('err.txt') == 'oops\noops\n'
    assert done.stdout == ''


def test_attributes_and_resources_reach_the_scheduler(shell: Shell, cluster: FakeCluster) -> None:
    cluster.set('partitions', 'fast:600')
    cluster.set('reservations', 'r1')
    cluster.set('hold_queue')
    options = '--nodes 2 --processes-per-node 3 --cores-per-process 4 --gpus-per-process 1 --memory 2G --exclusive'
    options += ' --duration 90m --queue fast --account proj1 --attribute slurm.comment=hello --attribute slurm.hold'
    with shell.start('run', *options.split(), '--name', 'a name', '--', 'true') as process:
        assert process.stderr is not None
        read_until('QUEUED', process.stderr)
        script = next(Path(shell.environment['HOME']).glob('.psij/work/slurm/*.job')).read_text()
        process.send_signal(signal.SIGINT)
    for directive in (
        *(
            '--job-name="a name"',
            '--nodes=2',
            '--ntasks=6',
            '--cpus-per-task=4',
            '--gpus-per-task=1',
            '--mem=1048576K',
            '--exclusive',
        ),
        *('--time=1:30:0', '--partition=fast', '--account=proj1', '--comment=hello', '--hold'),
    ):
        assert f'#SBATCH {directive}\n' in script, script


def test_several_copies(shell: Shell) -> None:
    done = shell.psij('run', '-n', '3', '--stdout', 'out', '--', 'sh', '-c', 'echo $$; printf partial >&2; exit 4')
    assert done.returncode == 4
    assert len({shell.read(f'out.{number}') for number in (1, 2, 3)}) == 3
    assert done.stderr.splitlines().count('partial') == 3, 'lines of several jobs do not get mixed up'
    assert len(re.findall(r'job \d+ \([123] of 3\) FAILED, exit code 4', done.stderr)) == 3


def test_what_is_no_file_is_for_all_copies(shell: Shell) -> None:
    os.mkfifo(shell.directory / 'fifo')
    (shell.directory / 'directory').mkdir()
    reader = os.open(shell.directory / 'fifo', os.O_RDWR)  # so that writers need not wait for one
    words = ['--stdout', 'fifo', '--stderr', 'directory', '--', 'sh', '-c', 'echo out; echo err >&2']
    assert shell.psij('run', '-n', '2', *words).returncode == 0
    assert os.read(reader, 99) == b'out\nout\n'
    os.close(reader)
    assert sorted(os.listdir(shell.directory)) == ['directory', 'directory.1', 'directory.2', 'fifo']


def test_the_exit_code_is_that_of_the_first_copy_that_has_not_completed(shell: Shell) -> None:
    script = 'file=$(readlink /proc/$$/fd/1); exit $((${file##*.} - 1))'  # 0, 1 and 2
    assert shell.psij('run', '--copies', '3', '--stdout', 'out', 'sh', '-c', script).returncode == 1


def test_signals_are_reported_as_a_shell_does(shell: Shell) -> None:
    assert shell.psij('run', 'sh', '-c', 'kill -9 $$').returncode == 137
    assert shell.psij('run', 'no-such-program').returncode == 127


def test_states_for_programs(shell: Shell) -> None:
    done = shell.psij('run', '--json', 'sh', '-c', 'echo out; exit 2')
    changes: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    states = [change['state'] for change in changes]
    assert states == ['QUEUED', 'STAGE_IN', 'ACTIVE', 'STAGE_OUT', 'CLEANUP', 'FAILED']
    last = changes[-1]
    assert (last['final'], last['exit_code'], last['copy'], last['metadata']['reason']) == (True, 2, 1, 'exit_code')
    assert Path(last['stdout_path']).read_text() == 'out\n'
    assert done.returncode == 2


def test_output_files_of_a_batch_job_are_named(shell: Shell, cluster: FakeCluster) -> None:
    done = shell.psij('run', '--', '/bin/sh', '-c', 'echo out; echo err >&2; exit 5')
    assert (done.returncode, done.stdout) == (5, '')
    named = re.search(r'what the job writes goes to (\S+\.out) and (\S+\.err)\n', done.stderr)
    assert named is not None, done.stderr
    assert done.stderr.index('what the job writes') < done.stderr.index('QUEUED')
    assert [Path(name).read_text() for name in named.groups()] == ['out\n', 'err\n']
    assert Path(named[1]).parent == shell.directory
    assert 'job 1 FAILED, exit code 5' in done.stderr


def test_nothing_is_left_in_the_temporary_directory(shell: Shell, tmp_path: Path) -> None:
    shell.environment['TMPDIR'] = str(tmp_path / 'tmp')
    (tmp_path / 'tmp').mkdir()
    shell.psij('run', 'echo', 'hello')
    assert list((tmp_path / 'tmp').iterdir()) == []


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_refused_submission(shell: Shell, cluster: FakeCluster) -> None:
    cluster.reject('sbatch: error: invalid account')
    done = shell.psij('run', 'true')
    assert (done.returncode, done.stdout, done.stderr) == (125, '', 'psij run: sbatch: error: invalid account\n')


def test_copies_that_were_submitted_before_a_refusal_are_canceled(shell: Shell, cluster: FakeCluster) -> None:
    cluster.set('max_submit', 1)
    done = shell.psij('run', '-n', '2', 'sleep', '60')
    assert done.returncode == 125, done.stderr
    assert cluster.job(1).kill == 'cancelled'


@pytest.mark.parametrize(
    ('words', 'expected'),
    [
        ([], 'there is no COMMAND to run'),
        (['--'], 'there is no COMMAND to run'),
        (['-n', '0', 'true'], "got '0', expected a positive number"),
        (['--env', 'A', 'true'], 'expected NAME=VALUE'),
        (['--memory', 'much', 'true'], "'much' is no size"),
        (['--duration', 'long', 'true'], "'long' is no time; expected hh:mm:ss"),
        (['--node', '1', 'true'], '--node'),  # no abbreviations: a later version may have more options
    ],
)
def test_wrong_usage(shell: Shell, words: list[str], expected: str) -> None:
    done = shell.psij('run', *words)
    assert (done.returncode, done.stdout) == (2, '')
    assert expected in done.stderr


@pytest.mark.parametrize(
    ('words', 'expected'),
    [
        (['-e', 'frob', 'true'], 'No such executor "frob"'),
        (['--nodes', '2', '--processes', '3', 'true'], 'process_count (3)'),
        (['--directory', 'missing', 'true'], 'does not exist'),
        (['--launcher', 'frob', 'true'], 'frob'),
    ],
)
def test_errors_are_one_line(shell: Shell, words: list[str], expected: str) -> None:
    done = shell.psij('run', *words)
    assert (done.returncode, done.stdout) == (125, '')
    assert re.fullmatch(r'psij run: [^\n]+\n', done.stderr)
    assert expected in done.stderr


def test_a_reader_that_goes_away_ends_the_job(shell: Shell) -> None:
    with shell.start('run', 'sh', '-c', 'while :; do echo y; sleep 0.01; done') as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == 'y\n'
        process.stdout.close()
        job = re.search(r'job (\d+) QUEUED', process.stderr.read())
        assert process.wait(PATIENCE) == 141
    assert job is not None
    with pytest.raises(ProcessLookupError):
        os.kill(int(job[1]), 0)


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda signum: signum.name)
def test_ctrl_c_cancels(shell: Shell, signum: signal.Signals) -> None:
    with shell.start('run', 'sh', '-c', 'echo $$; exec sleep 60') as process:
        assert process.stdout is not None
        assert process.stderr is not None
        pid = int(process.stdout.readline())
        process.send_signal(signum)
        errors = process.stderr.read()
    assert process.returncode == 130
    assert 'psij run: canceling; Ctrl-C once more leaves' in errors
    assert f'psij run: job {pid} CANCELED\n' in errors
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_why_a_job_waits(shell: Shell, cluster: FakeCluster) -> None:
    """Nothing else would tell that a job asks for more than there is."""
    cluster.set('hold_queue')
    with shell.start('run', '--nodes', '400', 'true') as process:
        assert process.stderr is not None
        read_until('psij run: job 1 QUEUED: ', process.stderr)
        process.send_signal(signal.SIGINT)
        process.stderr.read()


def test_ctrl_c_asks_the_scheduler(shell: Shell, cluster: FakeCluster) -> None:
    cluster.set('hold_queue')
    with shell.start('run', 'sleep', '60') as process:
        assert process.stderr is not None
        read_until('job 1 QUEUED', process.stderr)
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
    assert process.returncode == 130
    assert 'psij run: job 1 CANCELED\n' in errors
    assert cluster.job(1).state == 'done'


def test_a_second_ctrl_c_leaves(shell: Shell, cluster: FakeCluster) -> None:
    cluster.set('hang.scancel')
    with shell.start('run', 'sleep', '60') as process:
        assert process.stderr is not None
        read_until('ACTIVE', process.stderr)
        process.send_signal(signal.SIGINT)
        read_until('canceling', process.stderr)
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()
    assert process.returncode == 130
    assert errors == 'psij run: left without waiting for the end of 1\n'
    assert cluster.job(1).state == 'running'


# --- terminals -------------------------------------------------------------------------------------------------------


def on_a_terminal(shell: Shell, *command: str) -> tuple[int, str]:
    """Run a command on a terminal, and return its exit code and all that it has written."""
    ours, theirs = pty.openpty()
    environment = {**shell.environment, 'TERM': 'xterm'}
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=shell.directory, env=environment
    )
    os.close(theirs)
    written = b''
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    try:
        while data := os.read(ours, 65536):
            written += data
    except OSError as ex:
        if ex.errno != errno.EIO:  # the last one who had the terminal open has closed it
            raise
    code = process.wait()
    timer.cancel()
    os.close(ours)
    return code, written.decode()


def test_progress_on_a_terminal(shell: Shell) -> None:
    pytest.importorskip('rich')
    script = 'echo whole; printf part; exit 3'
    code, written = on_a_terminal(shell, sys.executable, '-m', 'psij', 'run', '--', 'sh', '-c', script)
    assert code == 3
    assert '\x1b[?25l' in written, 'there is a live display'
    for line in ('whole', 'part'):
        assert f'{line}\r\n' in written, 'what the job writes is not wiped out'
    assert 'FAILED, exit code 3' in written


def test_progress_of_several_jobs(shell: Shell) -> None:
    pytest.importorskip('rich')
    code, written = on_a_terminal(shell, sys.executable, '-m', 'psij', 'run', '-n', '3', 'true')
    assert code == 0
    assert '3 COMPLETED' in written
    assert 'psij run: job' not in written, 'what went well needs no line of its own'


def test_lines_on_a_terminal_without_rich(shell: Shell) -> None:
    script = 'import sys; sys.modules["rich"] = None; from psij.__main__ import main; sys.exit(main(sys.argv[1:]))'
    code, written = on_a_terminal(shell, sys.executable, '-c', script, 'run', 'echo', 'hello')
    assert code == 0
    states = [f'psij run: job \\d+ {state}\r\n' for state in ('QUEUED', 'ACTIVE', 'COMPLETED')]
    assert re.fullmatch(f'{states[0]}{states[1]}hello\r\n{states[2]}', written)


def test_a_bar_passes_on_parts_of_lines_where_they_cannot_be_wiped_out(tmp_path: Path) -> None:
    pytest.importorskip('rich')
    with (tmp_path / 'file').open('wb') as file:
        assert not Bar(1).whole_lines(file)
        assert Bar(2).whole_lines(file)


# --- reading what jobs write -----------------------------------------------------------------------------------------


def test_lines_are_kept_back_until_they_are_complete(tmp_path: Path) -> None:
    path = tmp_path / 'file'
    path.write_bytes(b'one\ntw')
    whole, raw = Follower(path, True), Follower(path, False)
    assert [list(whole.read()), list(raw.read())] == [[b'one\n'], [b'one\ntw']]
    assert [list(whole.read()), list(raw.read())] == [[], []]
    with path.open('ab') as file:
        file.write(b'o\nthree')
    assert [list(whole.read()), list(raw.read())] == [[b'two\n'], [b'o\nthree']]
    assert [list(whole.read(last=True)), list(raw.read(last=True))] == [[b'three\n'], []]
    assert list(whole.read(last=True)) == []
