"""multi_launch.sh"""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from unit.launchers.conftest import Launch

MULTIPLE = 'multi_launch.sh'


@pytest.fixture(params=['this bash', 'bash before 5.1'])
def launch(request: pytest.FixtureRequest, launch: Launch, tmp_path: Path) -> Launch:
    """The script as it is, and such that it does without what bash 5.1 has brought."""
    if request.param == 'bash before 5.1':
        shutil.copytree(launch.scripts, tmp_path / 'old')
        launch.scripts = tmp_path / 'old'
        script = launch.scripts / MULTIPLE
        text = script.read_text()
        assert text.count('>= 501') == 1
        script.write_text(text.replace('>= 501', '>= 999999'))
    return launch


@pytest.mark.parametrize('count', [1, 3, 200])
def test_runs_copies_that_know_their_number(launch: Launch, count: int) -> None:
    text = 'echo $_PSI_J_PROCESS_INDEX_ of $_PSI_J_PROCESS_COUNT "$1"; echo error >&2'
    launch(MULTIPLE, str(count), '/bin/sh', '-c', text, 'sh', 'a b', check=True)
    expected = [f'{index} of {count} a b' for index in range(1, count + 1)]
    assert sorted(launch.read('out').splitlines()) == sorted(expected)
    assert launch.read('err') == 'error\n' * count


def test_files_are_truncated_once(launch: Launch) -> None:
    launch.write('out', 'before\n')
    launch(MULTIPLE, '2', '/bin/echo', 'x', check=True)
    assert launch.read('out') == 'x\nx\n'


@pytest.mark.parametrize('stderr', ['out', 'err'])
def test_copies_do_not_overwrite_each_other(launch: Launch, stderr: str) -> None:
    text = 'for i in 1 2 3 4 5 6 7 8 9; do echo 12345678; echo 12345678 >&2; done'
    launch(MULTIPLE, '20', '/bin/sh', '-c', text, stderr=stderr, check=True)
    assert sum(launch.read(file).count('12345678\n') for file in {'out', stderr}) == 20 * 9 * 2


def test_every_copy_reads_all_of_stdin(launch: Launch) -> None:
    launch.write('in', 'x' * 100_000)
    launch(MULTIPLE, '3', '/bin/cat', stdin='in', check=True)
    assert launch.read('out') == 'x' * 300_000


def test_stdin_is_empty_by_default(launch: Launch) -> None:
    launch(MULTIPLE, '2', '/bin/cat', check=True)
    assert launch.read('out') == ''


def test_the_exit_code_is_that_of_the_first_that_fails(launch: Launch) -> None:
    """The second copy fails first: the first one may only go on when the log says so."""
    if launch.scripts.name == 'old':
        pytest.skip('before bash 5.1 there is no way to wait for the first that ends')
    os.mkfifo(launch.directory / 'go')
    text = """
        case $_PSI_J_PROCESS_INDEX_ in
            1) read line <go; exit 11 ;;
            2) exit 12 ;;
            3) until grep -q "failed with 12" log; do sleep 0.01; done; echo >go ;;
        esac
    """
    outcome = launch(MULTIPLE, '3', '/bin/sh', '-c', text, log='log')
    assert (outcome.code, outcome.stderr) == (12, '')
    assert re.findall(r'Pid \d+ failed with (\d+)', launch.read('log')) == ['12', '11']
    assert launch.read('log').endswith('All completed\n')


def test_one_failure_is_enough(launch: Launch) -> None:
    outcome = launch(MULTIPLE, '50', '/bin/sh', '-c', 'exit $((_PSI_J_PROCESS_INDEX_ == 33 ? 9 : 0))')
    assert (outcome.code, outcome.stderr) == (9, '')


@pytest.mark.parametrize('killed', ['2', '*'])
@pytest.mark.parametrize('attempt', range(5))
def test_killed_copies(launch: Launch, killed: str, attempt: int) -> None:
    """`wait -n` of bash does not always see children that were killed."""
    text = f'case $_PSI_J_PROCESS_INDEX_ in {killed}) kill -9 $$ ;; esac'
    outcome = launch(MULTIPLE, '5', '/bin/sh', '-c', text)
    assert (outcome.code, outcome.stderr) == (137, '')


def test_a_copy_that_is_killed_first_is_the_first_that_fails(launch: Launch) -> None:
    os.mkfifo(launch.directory / 'go')
    text = """
        case $_PSI_J_PROCESS_INDEX_ in
            1) echo $$ >go; kill -9 $$ ;;
            2) read pid <go; while kill -0 $pid 2>/dev/null; do sleep 0.01; done; exit 3 ;;
        esac
    """
    outcome = launch(MULTIPLE, '2', '/bin/sh', '-c', text)
    assert (outcome.code, outcome.stderr) == (137, '')


def test_waits_for_all_copies(launch: Launch) -> None:
    launch.write('post', 'cat out')
    os.mkfifo(launch.directory / 'go')
    text = '[ $_PSI_J_PROCESS_INDEX_ = 1 ] && { read line <go; echo last; exit 0; }; echo >go; exit 4'
    outcome = launch(MULTIPLE, '2', '/bin/sh', '-c', text, post='post')
    assert (outcome.code, outcome.stdout) == (4, 'last\n')


def test_a_missing_executable_is_reported_once(launch: Launch) -> None:
    outcome = launch(MULTIPLE, '3', './nothing')
    assert (outcome.code, outcome.stderr) == (127, 'psij: ./nothing: No such file or directory\n')


def test_children_of_pre_launch_are_not_waited_for(launch: Launch) -> None:
    launch.write('pre', 'sleep 600 & helper=$!')
    launch.write('post', 'kill -0 $helper && kill $helper')
    launch(MULTIPLE, '2', '/bin/true', pre='pre', post='post', check=True)


@pytest.mark.parametrize('options', ['set -euo pipefail', 'set +e', 'set -f', 'set -C', 'IFS=/', 'set -o posix'])
def test_shell_options_that_pre_launch_sets_do_no_harm(launch: Launch, options: str) -> None:
    launch.write('pre', options)
    launch.write('out', 'old')
    outcome = launch(MULTIPLE, '2', '/bin/sh', '-c', 'echo "$1"; exit 3', 'sh', 'a b', pre='pre', log='log')
    assert (outcome.code, outcome.stdout, outcome.stderr) == (3, '', '')
    assert launch.read('out') == 'a b\na b\n'


def test_a_signal_with_a_trap_does_not_end_the_waiting(launch: Launch) -> None:
    launch.write('pre', 'trap "echo got it" USR1')
    text = 'kill -USR1 $PPID; sleep 0.2; exit 3'  # if the signal comes too early for bash to notice, it is late
    outcome = launch(MULTIPLE, '1', '/bin/sh', '-c', text, pre='pre')
    assert (outcome.code, outcome.stdout, outcome.stderr) == (3, 'got it\n', '')


def test_copies_are_children_of_the_shell(launch: Launch) -> None:
    outcome = launch(MULTIPLE, '3', '/bin/sh', '-c', 'echo $PPID', check=True)
    assert launch.read('out') == f'{outcome.pid}\n' * 3


def test_copies_inherit_no_descriptors(launch: Launch) -> None:
    launch.write('in', '')
    launch(MULTIPLE, '1', '/bin/ls', '/proc/self/fd', stdin='in', log='log', check=True)
    assert launch.read('out').split() == ['0', '1', '2', '3']  # 3 is what ls reads


def test_copies_do_not_ignore_signals(launch: Launch) -> None:
    """Background processes of a shell ignore SIGINT, which some schedulers send first."""
    launch(MULTIPLE, '1', '/bin/grep', 'SigIgn', '/proc/self/status', check=True)
    assert int(launch.read('out').split()[1], 16) & 0b110 == 0


def test_a_stream_that_cannot_be_opened(launch: Launch) -> None:
    outcome = launch(MULTIPLE, '2', '/bin/touch', 'was run', stdout='/nonexistent/out')
    assert outcome.code == 1
    assert 'psij: cannot open the job\'s stdout_path "/nonexistent/out": ' in outcome.stderr
    assert not (launch.directory / 'was run').exists()
