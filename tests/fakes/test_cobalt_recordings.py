"""The stand-in for Cobalt does what the real one did when it was recorded, so that the two cannot drift apart."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from fakes.cobalt.qsub import directives
from fakes.harness import FakeCluster
from fakes.replay import Replay, recording

Action = Callable[[FakeCluster, Path], object]

ALICE = {'HOME': '/home/alice', 'SHELL': '/bin/bash', 'USER': 'alice', 'LOGNAME': 'alice', 'LANG': 'C.UTF-8'}
HOME = '/home/alice/cob'

SCRIPTS = {
    'ok.sh': '#!/bin/bash\n:\n',
    's.sh': '#!/bin/bash\n:\n',
    'plain.sh': '#!/bin/bash\nsleep 600\n',
    'long.sh': '#!/bin/bash\nsleep 600\n',
    'noexec.sh': '#!/bin/bash\n:\n',
    'dir.sh': '#!/bin/bash\n#COBALT -t 10 --nodecount=2\n#COBALT --queue=short --jobname=namedjob\nsleep 600\n',
}


def hold_queue(cluster: FakeCluster, cwd: Path) -> None:
    cluster.set('hold_queue')


def submit(number: int, *options: str) -> Action:
    """Submit a job that an earlier recording has left."""

    def action(cluster: FakeCluster, cwd: Path) -> None:
        cluster.next_id(number)
        done = cluster.run('qsub', '-t', '10', '-n', '1', *options, 'long.sh', env=ALICE, cwd=cwd, inherit=False)
        assert done.stdout == f'{number}\n', done

    return action


def all_of(*actions: Action) -> Action:
    return lambda cluster, cwd: [action(cluster, cwd) for action in actions]


def set_knob(name: str, text: object = '') -> Action:
    return lambda cluster, cwd: cluster.set(name, text)


def start(number: int) -> Action:
    """Let a job run, from its beginning to a point where its script can be signalled."""

    def action(cluster: FakeCluster, cwd: Path) -> None:
        cluster.unset('hold_queue')
        cluster.wait_until(number, lambda job: job.pid, 'start its script')

    return action


def end(number: int) -> Action:
    def action(cluster: FakeCluster, cwd: Path) -> None:
        cluster.end(number, 'timeout')
        cluster.wait_for(number)

    return action


class Scenario:
    """How a recording is replayed: what happens before a step, and which are left out (and why)."""

    def __init__(self, name: str, before: dict[int, Action], skip: dict[int, str], first: int = 0) -> None:
        self.name, self.before, self.skip, self.first = name, before, skip, first

    def __repr__(self) -> str:
        return self.name


FULL = 'all fields of a job are not modelled'
LOG = 'it was followed in time; test_log has it'

SCENARIOS = [
    Scenario(
        'qsub_ok',
        {0: hold_queue, 2: start(3), 10: end(3)},
        {4: FULL, 7: FULL, 12: 'the environment of a site; test_job has it'},
        first=2,
    ),
    Scenario(
        'qsub_rejected',
        {0: hold_queue},
        {26: 'jobs that had just been deleted are missing in it', 27: 'the files of earlier recordings'},
        first=4,
    ),
    Scenario(
        'states',
        {
            0: all_of(hold_queue, submit(30)),
            4: submit(31),
            11: all_of(submit(29), submit(32, '--dependencies', '29')),
            12: submit(33, '--dependencies', '29'),
            14: lambda cluster, cwd: cluster.next_id(34),
        },
        {3: LOG, 10: LOG, 16: LOG, 18: LOG, 20: LOG},
    ),
    Scenario('unknown_jobs', {0: all_of(hold_queue, submit(28, '-h'), submit(29, '-h'))}, {}),
    Scenario(
        'run_and_exit',
        {0: all_of(hold_queue, submit(1008), submit(1009), start(1008), start(1009))},
        {1: 'too fast to be seen; test_killing has it', 3: LOG, 5: LOG, 7: LOG, 10: LOG},
    ),
    Scenario('component_down_cqm', {0: set_knob('down', 'cqm')}, {}),
    Scenario('component_down_slp', {0: set_knob('down', 'slp')}, {}),
]  # fmt: skip


@pytest.mark.parametrize('scenario', SCENARIOS, ids=repr)
def test_recording(scenario: Scenario, tmp_path: Path) -> None:
    cluster = FakeCluster(tmp_path / 'cluster', 'cobalt', user='alice:1001', nodes='c[03-04]', first_id=scenario.first)
    if scenario.name == 'qsub_rejected':
        cluster.set('nodes', 'c[01-04]')
    replay = Replay(cluster, tmp_path / 'jobs', HOME, normalise, ALICE)
    _write_scripts(replay.cwd)
    try:
        for index, step in enumerate(recording('cobalt', scenario.name)):
            if index in scenario.before:
                scenario.before[index](cluster, replay.cwd)
            if index in scenario.skip or not step.get('argv'):
                continue
            try:
                replay.check(step, patience=5.0 if step['argv'][0] == 'qstat' else 0.0)
            except AssertionError as ex:
                raise AssertionError(f'step {index} of {scenario}: {ex}\n{cluster.log()}') from ex
    finally:
        cluster.close()
    assert not cluster.log()


def _write_scripts(directory: Path) -> None:
    for name, text in SCRIPTS.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o644 if name == 'noexec.sh' else 0o755)


def normalise(argv: list[str], text: str) -> str:
    """Cut what a Python traceback goes on with."""
    text = re.sub(r'(Traceback \(most recent call last\):\n).*', r'\1', text, flags=re.DOTALL)
    return re.sub(r'(Connection refused).*', r'\1', text, flags=re.DOTALL)


def test_every_recording_is_replayed() -> None:
    """A new recording must not be forgotten."""
    left_out = {'directives': 'its scripts are told, not recorded; test_directives has it'}
    files = {path.stem for path in (Path(__file__).parent.parent / 'recordings' / 'cobalt').glob('*.json')}
    assert {scenario.name for scenario in SCENARIOS} | set(left_out) == files


@pytest.mark.parametrize(
    ('script', 'words'),
    [
        ('#!/bin/sh\n#COBALT -t 10 -n 1\n', ['-t', '10', '-n', '1']),
        ('#!/bin/sh\n#COBALT --jobname="q"\n', ['--jobname="q"']),
        ('#!/bin/sh\n#COBALT -A a\n\n#COBALT -A b\n', ['-A', 'a']),
        ('#!/bin/sh\n#COBALT -A a\n# c\n#COBALT -A b\n', ['-A', 'a']),
        ('#!/bin/sh\n\n#COBALT -A a\n', []),
        ('#COBALT -A a\n', []),
        ('#!/bin/sh\n#cobalt -A a\n', []),
        ('#!/bin/sh\n #COBALT -A a\n', []),
        ('#!/bin/sh\n# COBALT -A a\n', []),
        ('#!/bin/sh\n#COBALT\t-A a\n', []),
    ],
)
def test_directives(script: str, words: list[str]) -> None:
    assert directives(script) == words


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    cluster = FakeCluster(tmp_path / 'cluster', 'cobalt', user='alice:1001')
    yield cluster
    cluster.close()


def submit_script(cluster: FakeCluster, text: str, *options: str) -> subprocess.CompletedProcess[str]:
    script = cluster.path / 'script.sh'
    script.write_text(text)
    script.chmod(0o755)
    return cluster.run('qsub', *options, 'script.sh', env={'SECRET': 'x'})


MINIMAL = '#!/bin/bash\n#COBALT -t 10 -n 2\n'


def test_job(cluster: FakeCluster) -> None:
    """Of the environment of qsub nothing reaches the job; the node file has a line for each node."""
    text = MINIMAL + 'echo "${SECRET-unset} $D $COBALT_JOBSIZE $PWD"; cat "$COBALT_NODEFILE"; exit 3\n'
    assert submit_script(cluster, text, '--env', 'D=/x:/y', '--proccount', '4').stdout == '1\n'
    cluster.wait_for(1)
    assert (cluster.path / '1.output').read_text() == f'unset /x:/y 4 {cluster.path}\nnode01\nnode02\n'
    assert cluster.run('qstat', '1').returncode == 1  # it has vanished at once


def test_log(cluster: FakeCluster) -> None:
    """The log file is the only place that tells how a job ended."""
    submit_script(cluster, MINIMAL + 'exit 3\n', '--debuglog', '$jobid.log')
    cluster.wait_for(1)
    log = (cluster.path / '1.log').read_text()
    assert log.startswith('Jobid: 1\nqsub --mode script -t 10 -n 2 --debuglog')
    assert re.search(r' \(UTC\) Info: task completed normally with an exit code of 3; initiating job cleanup', log)
    assert ' Environment:\n' in log
    cluster.set('hold_queue')
    submit_script(cluster, MINIMAL)
    assert 'Deleted Jobs' in cluster.run('qdel', '2').stdout
    assert len((cluster.path / '2.cobaltlog').read_text().splitlines()) == 3


def test_killing(cluster: FakeCluster) -> None:
    """A job that does not end stays in the queue for as long as it likes."""
    cluster.set('kill_grace', 600)
    submit_script(cluster, MINIMAL + 'trap : TERM\n: > trapped\nwhile :; do sleep 600 & wait; done\n')
    cluster.wait_until(1, lambda job: (cluster.path / 'trapped').exists(), 'set its trap')
    cluster.run('qdel', '1')
    assert cluster.run('qstat', '--header', 'JobID:State:short_state').stdout.endswith('\n1      killing  K  \n')
    assert 'user delete requested with signal SIGTERM by user alice\n' in (cluster.path / '1.cobaltlog').read_text()


def test_script_is_run_in_place(cluster: FakeCluster) -> None:
    """There is no copy: whoever removes the script before the job starts has lost it."""
    cluster.set('hold_queue')
    submit_script(cluster, MINIMAL + 'echo old\n')
    (cluster.path / 'script.sh').write_text('#!/bin/bash\necho new\n')
    cluster.unset('hold_queue')
    cluster.wait_for(1)
    assert (cluster.path / '1.output').read_text() == 'new\n'
