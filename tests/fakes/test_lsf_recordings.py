"""The stand-in for LSF does what its relative did when it was recorded, so that the two cannot drift apart."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from fakes.harness import FakeCluster
from fakes.replay import Replay, Step, recording

RECORDINGS = Path(__file__).resolve().parent.parent / 'recordings' / 'lsf'
ALICE = {'HOME': '/home/alice', 'SHELL': '/bin/bash', 'USER': 'alice', 'LOGNAME': 'alice'}
COVERED = ('bsub', 'bjobs', 'bkill', 'bstop', 'bresume', 'bhist')

Action = Callable[[FakeCluster], object]


def set_knob(name: str, text: object = '') -> Action:
    return lambda cluster: cluster.set(name, text)


def bobs_job(cluster: FakeCluster) -> None:
    from fakes.core import Job

    extra = {'slots': 1, 'per_host': 1, 'command': 'x', 'options': {}}
    cluster.insert(Job(id=258, user='bob', uid=1002, name='bobjob', state='running', nodes=('node01',), extra=extra))


def forget(number: int) -> Action:
    return lambda cluster: cluster.change(number, ended=1.0)


def go(cluster: FakeCluster) -> None:
    """Let the scripts go on that wait for it."""
    (cluster.path.parent / 'lsf' / 'go').touch()


WAIT_FOR_GO = 'while [ ! -e go ]; do sleep 0.01; done'


#: Which scenarios are replayed, with what happens before some of their steps. A number stands for the step.
SCENARIOS: dict[str, dict[int, Action]] = {
    'submit_ok': {},
    'submit_rejected': {},
    'submit_env_vars': {},
    'directives': {},
    'job_done': {9: go},
    'job_exit3': {},
    'job_exitcodes': {},
    'job_selfsignal': {},
    'job_pend_killed': {},
    'job_psusp': {},
    'job_ususp': {},
    'job_run_killed': {},
    'job_runlimit': {},
    'bkill': {},
    'clean_period': {5: forget(172)},
    'other_users': {5: bobs_job},
    'node_daemon_down': {6: set_knob('in_progress')},
    'unknown_jobs': {},
    'bjobs_multi': {},
}
SKIPPED = {
    ('submit_rejected', 57): 'bsub at a terminal',
    ('job_run_killed', 8): 'what is for a moment after bkill',
    ('node_daemon_down', 9): 'after bkill -r',
    ('node_daemon_down', 13): 'after bkill -r',
}
LEFT_OUT = {
    'directives_shell': 'tells by output files, which have a report in front; test_scripts_are_run_like_there has it',
    'job_env': 'tells by files; test_environment_is_the_recorded_one has it',
    'outputs': 'the report that LSF puts into output files is not modelled',
    'latency': 'figures',
    'server_down_after': 'what comes after an outage is as before it',
    'server_down_nolim': 'waits for ever; test_commands_wait_for_the_daemons has it',
    'server_down_nombatchd': 'waits for ever; test_commands_wait_for_the_daemons has it',
    'server_down_up': 'nothing is down yet',
}


def test_every_recording_is_replayed() -> None:
    """A new recording must not be forgotten; those that are left out say why."""
    assert set(SCENARIOS) | set(LEFT_OUT) == {path.stem for path in RECORDINGS.glob('*.json')}


def submitted(step: Step) -> int:
    """Return the ID of the job that a step made, or 0."""
    found = re.search(r'^Job <(\d+)> is submitted', step.get('stdout', '') + step.get('stderr', ''))
    return int(found[1]) if found else 0


def is_covered(step: Step, known: set[str], alone: bool) -> bool:
    """Tell whether the stand-in has what a step needs: no tables for people, no options of an interactive user."""
    argv: list[str] = step.get('argv') or ['']
    command, arguments = argv[0], argv[1:]
    if command not in COVERED or step.get('exit_code') is None or step.get('note') == 'listing cut':
        return False
    ids = set(re.findall(r'^\d+', '\n'.join(arguments), re.MULTILINE)) - {'0'}
    if command == 'bsub':
        return not {'-Y', '--bogus', './script_noexec.sh', './script_exec.sh'} & set(arguments) and not any(
            re.search(r'^#BSUB.* -(Y|bogus|w|json|alloc|ul)|-w "done', line)
            for line in step.get('stdin', '').splitlines()
        )
    if command == 'bjobs':
        covered = '-o' in arguments and '-noheader' not in arguments and 'SSUSP' not in step.get('stdout', '')
        return covered and (alone or bool(ids)) and ids <= known | {'999999'}
    if command == 'bhist':
        return arguments[0] == '-l'
    if step['stderr'] == 'Job <70>: Operation is in progress\n':
        return False  # a matter of moments
    return bool(ids) and ids <= known | {'999999', '999998'} and not [word for word in arguments if word[0] == '-']


def normalise(argv: list[str], text: str) -> str:
    """Take away what differs from run to run."""
    text = re.sub(r'Usage: .*', 'Usage', text, flags=re.DOTALL)
    text = re.sub(r'\d\d/\d\d-\d\d:\d\d:\d\d', 'DATE', text)
    if argv[0] == 'bhist':
        text = re.sub(r'\n {21}', '', text.partition('\n\nSummary')[0])
        text = re.sub(r'^\w{3} \w{3} [ \d]\d [\d:]{8}', 'DATE', text, flags=re.MULTILINE)
        text = re.sub(r'Pid <?\d+', 'Pid', re.sub('CWD <[^>]*>', 'CWD', text))
    return re.sub(r'\bnode\d\d\b', 'NODE', re.sub(r'(?<=normal )[\d,]+(?= DATE)', '-', text))


@contextmanager
def elements_apart(cluster: FakeCluster, number: int) -> Iterator[None]:
    """If an array is submitted, give the elements, which are jobs of their own here, IDs that no other job has."""
    cluster.set('hold_queue')
    try:
        yield
        if cluster.job(number).array:
            cluster.next_id(100 * number + 1000)
    finally:
        cluster.unset('hold_queue')
    cluster.wait_until(number, lambda job: not job.array, 'give IDs to its elements')


@pytest.mark.parametrize('scenario', SCENARIOS)
def test_recording(scenario: str, tmp_path: Path) -> None:
    knobs: dict[str, Any] = {'nodes': 'node[01-02]', 'kill_grace': 0.1, 'time_scale': 0.01}
    cluster = FakeCluster(tmp_path / 'cluster', 'lsf', user='alice:1001', **knobs)
    replay = Replay(cluster, tmp_path / 'lsf', '/home/alice/lsf', normalise, ALICE)
    known = {'258'} if scenario == 'other_users' else set()
    replayed = 0
    try:
        for index, step in enumerate(recording('lsf', scenario)):
            if index in SCENARIOS[scenario]:
                SCENARIOS[scenario][index](cluster)
            number = submitted(step)
            if number:
                cluster.next_id(number)
            step['stdin'] = step.get('stdin', '').replace('sleep 4', WAIT_FOR_GO).replace('sleep 1\n', 'sleep 0.05\n')
            if (scenario, index) in SKIPPED or not is_covered(step, known, alone=scenario == 'other_users'):
                continue
            try:
                with elements_apart(cluster, number) if number else nullcontext():
                    replay.check(step, patience=0.0 if step['argv'][0] == 'bsub' else 5.0)
            except AssertionError as ex:
                raise AssertionError(f'step {index} of {scenario}: {ex}\n{cluster.log()}') from ex
            replayed += 1
            if number:
                known.add(str(number))
    finally:
        cluster.close()
    assert replayed
    assert cluster.log() == ''


# --- what is not replayed ------------------------------------------------------------------------------------------


def test_environment_is_the_recorded_one(tmp_path: Path) -> None:
    """Recording ``job_env``: three slots on two hosts."""
    (step,) = [s for s in recording('lsf', 'job_env') if s['argv'][-1] == 'cat env3.txt']
    expected = dict(line.split('=', 1) for line in step['stdout'].splitlines())
    cluster = FakeCluster(tmp_path / 'cluster', 'lsf', nodes='node02,node01')
    script = (
        '#!/bin/bash\n#BSUB -J envjob\n#BSUB -o /dev/null\n#BSUB -n 3\n#BSUB -R span[ptile=2]\nenv | grep ^LS > env\n'
    )
    cluster.next_id(74)
    try:
        cluster.run('bsub', stdin=script)
        cluster.wait_for(74)
    finally:
        cluster.close()
    found = dict(line.split('=', 1) for line in (cluster.path / 'env').read_text().splitlines())
    for name in ('LSB_JOBID', 'LSB_JOBINDEX', 'LSB_JOBNAME', 'LSB_OUTPUTFILE', 'LSB_QUEUE', 'LSB_SUB_HOST'):
        assert found[name] == expected[name]
    assert sorted(found['LSB_HOSTS'].split()) == ['node01', 'node01', 'node02']  # the nodes are in the order of names
    assert found['LSB_MCPU_HOSTS'] == 'node01 2 node02 1 '


def test_scripts_are_run_like_there(tmp_path: Path) -> None:
    """Recording ``directives_shell``: without ``#!`` on the very first line it is /bin/sh."""
    cluster = FakeCluster(tmp_path / 'cluster', 'lsf')
    try:
        cluster.run('bsub', '-o', 'out', stdin='\n#!/bin/bash\necho "v=$BASH_VERSION"\n')
        cluster.run('bsub', '-o', 'py', stdin=f'#!{sys.executable}\nimport sys; print(len(sys.argv))\n')
        cluster.wait_for(1)
        cluster.wait_for(2)
    finally:
        cluster.close()
    assert (cluster.path / 'out').read_text() == 'v=\n'
    assert (cluster.path / 'py').read_text() == '1\n'


@pytest.mark.parametrize(('kind', 'scenario'), [('mbatchd', 'server_down_nombatchd'), ('lim', 'server_down_nolim')])
def test_commands_wait_for_the_daemons(tmp_path: Path, kind: str, scenario: str) -> None:
    cluster = FakeCluster(tmp_path / 'cluster', 'lsf', down=kind)
    (step, *_) = [step for step in recording('lsf', scenario) if step['argv'][:2] == ['bjobs', '171']]
    process = subprocess.Popen(
        ['bjobs', '-json', '-o', 'jobid', '171'],
        env={**os.environ, **cluster.environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process, process.stderr:
        line = process.stderr.readline()
        ended = process.poll()
        process.kill()
    assert ended is None
    assert line in step['stderr'].splitlines(keepends=True)
