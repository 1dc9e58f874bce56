"""The stand-ins for OpenPBS and Torque do what the real ones did, so that stand-in and recording cannot drift apart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Callable

import pytest

from fakes.harness import FakeCluster
from fakes.replay import RECORDINGS, Replay, Step, numbers, recording

Action = Callable[[Replay], object]

KNOBS = {
    'pbs': {'nodes': 'pn[01-02]'},
    'pbs_master': {'nodes': 'pn[01-02]', 'variant': 'master'},
    'torque': {'nodes': 'tn[01-02]'},
}
HOME = {'pbs': '/home/alice/pbs', 'pbs_master': '/home/alice/pbs', 'torque': '/home/alice/torque'}
ALICE = {
    'SHELL': '/bin/bash', 'USER': 'alice', 'LOGNAME': 'alice', 'LANG': 'C.UTF-8', 'TZ': 'UTC',
}  # fmt: skip

WAIT_FOR_GO = 'while [ ! -e "$PBS_O_WORKDIR/go" ]; do read -t 0.01 < <(:) || :; done'


class Scenario:
    """How recordings of one name are replayed: settings, steps left out (and why), what happens before steps."""

    def __init__(
        self,
        names: str,
        schedulers: str = 'pbs pbs_master torque',
        *,
        knobs: dict[str, Any] | None = None,
        skip: dict[str, str] | None = None,
        before: dict[int, Action] | None = None,
        gate: bool = False,
    ) -> None:
        self.names, self.schedulers = names.split(), schedulers.split()
        self.knobs, self.before = knobs or {}, before or {}
        self.skip = {index for indices in skip or {} for index in numbers(indices)}
        self.wait = WAIT_FOR_GO if gate else 'sleep 0.01'


def set_knob(name: str, text: object = '') -> Action:
    return lambda replay: replay.cluster.set(name, text)


def unset(*names: str) -> Action:
    return lambda replay: replay.cluster.unset(*names)


def go(replay: Replay) -> None:
    """Let the scripts go on that wait for it."""
    (replay.cwd / 'go').touch()


def stop_going(replay: Replay) -> None:
    (replay.cwd / 'go').unlink()


def end(reason: str, by: int = -1) -> Action:
    """End the only job that there is."""

    def action(replay: Replay) -> None:
        (job,) = replay.cluster.everything()
        replay.cluster.wait_until(job.id, lambda job: job.pid, 'start its script')
        assert replay.cluster.end(job.id, reason, by)

    return action


def change(**fields: Any) -> Action:
    """Change the only job that there is."""

    def action(replay: Replay) -> None:
        (job,) = replay.cluster.everything()
        replay.cluster.change(job.id, **fields)

    return action


def forget(number: int) -> Action:
    return lambda replay: replay.cluster.change(number, ended=1.0)


def has_started(replay: Replay) -> None:
    (job,) = replay.cluster.everything()
    replay.cluster.wait_until(job.id, lambda job: job.pid, 'start its script')


def submitted(number: int, body: str, name: str = 'q.sh', *options: str) -> Action:
    """Submit a job that the recording only mentions; of one that ends, wait for the end."""

    def action(replay: Replay) -> None:
        replay.cluster.next_id(number)
        (replay.cwd / name).write_text(f'#!/bin/bash\n{body}\n')
        done = replay.cluster.run('qsub', *options, name, env=replay.env, cwd=replay.cwd, inherit=False)
        assert done.returncode == 0, done.stderr
        if WAIT_FOR_GO not in body and not options:
            replay.cluster.wait_for(number)

    return action


def as_if_held_later(replay: Replay) -> None:
    job = replay.cluster.job(174)
    replay.cluster.change(174, extra={**job.extra, 'arguments': 'q.sh'})


def all_of(*actions: Action) -> Action:
    return lambda replay: [action(replay) for action in actions]


PBS = 'pbs pbs_master'

EXIT_3 = f'{WAIT_FOR_GO}\nexit 3'
KILLS = {'time_scale': 0.01, 'kill_grace': 0.05}

SCENARIOS = [
    Scenario(
        'qsub_ok job_finished_ok job_finished_exit3 job_exit_255 job_child_sigkill job_self_sigkill job_self_sigterm '
        'job_self_sigsegv job_exec_of_missing_command job_bad_shebang job_bad_output_dir qsub_unknown_queue '
        'qsub_unauthorised qsub_queue_limits qsub_bad_walltime qsub_bad_resource qsub_bad_option qsub_names '
        'job_environment qsub_bad_script qsub_rejected job_deleted_held'),
    Scenario('script_directive_forms', PBS, skip={'108-109': 'a line that goes on', '118-124': 'variables in paths'}),
    Scenario('script_directive_forms', 'torque', skip={'67': 'a variable in a path'}),
    Scenario('json_oddities', 'pbs', skip={
        '20': 'has a byte that is not UTF-8 as text',
        '45': 'a rule for projects',
        '102-103': 'a blank at the end is lost',
        '104-999': 'another environment',
    }),
    Scenario('json_oddities', 'pbs_master', skip={'45': 'a rule for projects', '52-999': 'JSON in the environment'}),
    Scenario('job_nodefile', PBS),
    Scenario('job_nodefile', 'torque', skip={'20': 'ncpus alone gives an empty file'}),
    Scenario('job_killed_walltime', knobs=KILLS, gate=True),
    Scenario('job_killed_walltime_trap', knobs={**KILLS, 'time_scale': 0.2}, gate=True),  # time to set the trap
    Scenario('job_killed_mem', PBS, before={2: end('out_of_memory')}, skip={'8': 'the sizes differ'}),
    Scenario('job_deleted_queued', PBS, knobs={'hold_queue': ''}, before={2: change(never=True)}),
    Scenario('job_queued', PBS, knobs={'hold_queue': ''}, before={2: change(never=True)}),
    Scenario('job_queued', 'torque', knobs={'hold_queue': ''}, before={3: change(never=True)}),
    Scenario('qdel_errors', PBS, skip={'3,7-11': 'jobs of other recordings'}),
    Scenario('job_running', PBS, gate=True, before={9: go}, skip={'8': 'lists jobs of other recordings'}),
    Scenario('job_running', 'torque', gate=True, before={5: go}),
    Scenario('job_waiting', before={15: go}, gate=True),
    Scenario('job_held', before={6: change(hold='')}, skip={'7-30': 'done by an operator'}),
    Scenario('job_starting', PBS, knobs={'hold_start': ''}, before={6: all_of(unset('hold_start'), has_started), 7: go},
             gate=True),
    Scenario('job_exiting', PBS, knobs={'hold_end': ''}, before={13: unset('hold_end')}),
    Scenario('job_deleted_running', gate=True, knobs={'hold_end': ''}, before={2: has_started, 5: unset('hold_end')}),
    Scenario('job_deleted_running_trap', PBS, knobs={**KILLS, 'hold_end': ''}, gate=True,
             before={2: has_started, 7: unset('hold_end')}),
    Scenario('job_deleted_running_trap', 'torque', knobs=KILLS, gate=True, before={2: has_started}),
    Scenario('job_deleted_running_trap_exit0', PBS, gate=True, before={2: has_started}),
    Scenario('job_deleted_by_operator', PBS, gate=True, before={3: end('cancelled')},
             skip={'4': 'the script has ended a moment before the shell above it'}),
    Scenario('job_suspended', PBS, gate=True, skip={'13-22': 'a second time'},
             before={4: all_of(has_started, change(state='suspended')), 9: change(state='running')}),
    Scenario(
        'history_off', 'pbs', gate=True, knobs={'history': 'off'},
        before={9: go, 11: all_of(stop_going, submitted(863, WAIT_FOR_GO))},
        skip={'23-24': 'what was forgotten while it was off comes back here'}),
    Scenario(
        'history_off', 'pbs_master', gate=True, knobs={'history': 'off'},
        before={9: go, 11: all_of(stop_going, submitted(418, WAIT_FOR_GO))},
        skip={'23-24': 'what was forgotten while it was off comes back here'}),
    Scenario(
        'qstat_errors', 'pbs', gate=True,
        before={0: all_of(submitted(2031, 'true'), submitted(2032, WAIT_FOR_GO))},
        skip={'16,33': 'an empty ID'}),
    Scenario(
        'qstat_errors', 'pbs_master', gate=True,
        before={0: all_of(submitted(397, 'true'), submitted(398, WAIT_FOR_GO))}, skip={'16,33': 'an empty ID'}),
    Scenario(
        'qstat_errors', 'torque', gate=True,
        before={0: all_of(submitted(173, 'true'), submitted(172, WAIT_FOR_GO),
                          submitted(174, 'true', 'q.sh', '-h'), as_if_held_later)},
        skip={'45,49,50': 'lists jobs of other recordings', '43': 'stops at the first error of some kind'}),
    Scenario(
        'server_down', 'pbs', gate=True,
        before={0: submitted(1988, EXIT_3), 1: set_knob('down'), 8: unset('down'), 13: go},
        skip={'8-10,14': 'the comment is lost there'}),
    Scenario(
        'server_down', 'pbs_master', gate=True,
        before={0: submitted(421, EXIT_3), 1: set_knob('down'), 8: unset('down'), 13: go},
        skip={'8-10,14': 'the comment is lost there'}),
    Scenario(
        'server_down', 'torque', gate=True,
        before={0: submitted(177, EXIT_3), 1: set_knob('down'), 7: unset('down'), 8: go}),
    Scenario('server_unresolvable', PBS, knobs={'down': 'config'}, skip={'0-5': 'asks for a server by name'}),
    Scenario('keep_completed_0', 'torque', knobs={'keep': 0}, gate=True,
             before={3: go, 5: all_of(stop_going, submitted(176, WAIT_FOR_GO, 'k.sh'))}),
    Scenario('trqauthd_down', 'torque', knobs={'down': 'trqauthd'}, skip={'5': 'lists jobs of other recordings'}),
]  # fmt: skip


def replays() -> list[tuple[str, str]]:
    return [
        (scheduler, name)
        for scenario in SCENARIOS
        for scheduler in scenario.schedulers
        for name in scenario.names
        if (RECORDINGS / scheduler / f'{name}.json').exists()
    ]


@pytest.mark.parametrize(('scheduler', 'name'), replays())
def test_recording(scheduler: str, name: str, tmp_path: Path) -> None:
    scenario = next(s for s in SCENARIOS if name in s.names and scheduler in s.schedulers)
    knobs = {**KNOBS[scheduler], **scenario.knobs}
    cluster = FakeCluster(tmp_path / 'cluster', scheduler.partition('_')[0], user='alice:1001', **knobs)
    (tmp_path / 'alice').mkdir()
    cwd = tmp_path / 'alice' / 'pbs'
    env = {**ALICE, 'HOME': str(cwd.parent)}
    replay = Replay(cluster, cwd, HOME[scheduler], normaliser(cluster, cwd), env)
    done = 0
    try:
        for index, step in enumerate(recording(scheduler, name)):
            if index in scenario.before:
                scenario.before[index](replay)
            if index in scenario.skip:
                continue
            try:
                done += _do(replay, step, scenario)
            except (AssertionError, TimeoutError) as ex:
                raise AssertionError(f'step {index}: {ex}\n{cluster.log()}') from ex
    finally:
        cluster.close()
    assert done, 'nothing was compared'
    assert not cluster.log()


def _do(replay: Replay, step: Step, scenario: Scenario) -> int:
    """Do a step again; return 1 if there was something to compare."""
    if 'write_file' in step:
        (replay.cwd / step['write_file']).write_text(_quick(step['content'], scenario))
    if '/home/alice' in step.get('argv', []) or '/etc/shadow' in step.get('argv', []):
        return 0  # a directory that is not there, and a file that root can read
    if 'read_file' in step and step.get('content'):
        _compare_file(replay, step)
        return 1
    if not is_modelled(replay.cluster.scheduler, step):
        return 0
    if 'stdin' in step:
        step['stdin'] = _quick(step['stdin'], scenario)
    submitted = re.match(r'(\d+)\.\w+$', step.get('stdout', ''))
    if step['argv'][0] == 'qsub' and submitted:
        replay.cluster.next_id(int(submitted[1]))
    replay.check(step, patience=5.0 if step['argv'][0] == 'qstat' else 0.0)
    return 1


def _quick(script: str, scenario: Scenario) -> str:
    return re.sub(r'(for i in [^;]*; do )?sleep \d+(; done)?', scenario.wait, script)


def is_modelled(scheduler: str, step: Step) -> bool:
    """Tell whether the stand-ins have what a step needs; what they have not ends with exit code 98."""
    argv = step.get('argv') or ['']
    if argv[0] == 'timeout':
        del argv[:2]
    if step.get('user') == 'root' or argv[0] not in ('qsub', 'qstat', 'qdel', 'qselect'):
        return False
    options = {word for word in argv[1:] if word.startswith('-')}
    if argv[0] == 'qstat':
        is_text = '-f' in options and '-F' not in options and not (scheduler == 'torque' and '-x' in options)
        return not is_text and 'dsv' not in argv and not options & {'-w', '-u', '-t', '-s', '-D', '-1', '-a', '-n'}
    if argv[0] == 'qsub':
        not_modelled = {'-J', '-t', '--', '-u', '-S', '-c', '-m', '-k', '-r', '--nosuch'}
        return not options & (not_modelled | ({'-W'} if scheduler == 'torque' else set()))
    return not options & {'-x', '-W', '-p', '-T'}


def _compare_file(replay: Replay, step: Step) -> None:
    """Compare what a job has written, for which its end has to be waited for."""
    name = step['read_file']
    number = re.search(r'\d+$', name)
    if number is None:
        return
    replay.cluster.wait_for(int(number[0]))
    text = (replay.cwd / name).read_text().replace(str(replay.cwd), replay.home)
    written = replay.normalise(['cat'], text)
    expected = replay.normalise(['cat'], step['content'])
    assert written == expected, f'{name}: expected {expected!r}\ngot {written!r}'


def normaliser(cluster: FakeCluster, cwd: Path) -> Callable[[list[str], str], str]:
    """Return what makes outputs comparable: times, figures, names of this machine."""

    def normalise(argv: list[str], text: str) -> str:
        text = text.replace(str(cwd.parent), '/home/alice')
        text = re.sub(r'\w+ \w+ +\d+ at \d\d:\d\d', 'DATE', text)
        text = re.sub(r'\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}', 'DATE', text)
        text = re.sub(r'(usage:)[\s\S]*', r'\1', text)
        if argv[0] == 'cat':
            return _output(text)
        text = re.sub(r'("(?:history_)?timestamp":\t?)(\d+|"")', r'\1TIME', text)
        text = re.sub(r'\s*"resources_used":\s*\{[^}]*\},', '', text)
        text = re.sub(r'\s*"(PBS_O_INTERACTIVE_\w+|PBS_O_PATH|jobdir)":.*', '', text)
        text = re.sub(r'("substate":\t?)42', r'\g<1>41', text)  # 42 after the first report of the node
        text = re.sub(r'\(R: \d+ A: \d+ T: \d+\)', '', text)
        text = text.replace('plogin:', f'{cluster.scheduler}01:')
        text = re.sub(r'([pt]n\d+/)\d+', r'\1N', text)
        text = re.sub(r' +(0|\d\d:\d\d:\d\d) (?=[A-Z] )', ' TIME ', text)
        text = re.sub(r'\s*"(session_id|Execution_Time|depend)":.*', '', text)
        text = re.sub(r'<Walltime>.*?</Walltime>|<Execution_Time>\d+</Execution_Time>', '', text)
        text = re.sub(r'<resources_used>.*?</resources_used>|<session_id>\d+</session_id>', '', text)
        text = re.sub(r'<(\w*time)>[\d.]+</\1>', r'<\1>TIME</\1>', text)
        text = re.sub(r'<Resource_List>(.*?)</Resource_List>', _sorted_elements, text)
        return re.sub(r'PBS_O_PATH=[^,]*', 'PBS_O_PATH=', text)

    return normalise


def _sorted_elements(found: re.Match[str]) -> str:
    return ''.join(sorted(re.findall(r'<(?:\w+)>[^<]*</\w+>', found[1])))


OF_THE_MACHINE = {
    'PATH',
    'PBS_O_PATH',
    'PBS_NODEFILE',
    'NODEFILE',
    'PBS_GPUFILE',
    'PBS_MICFILE',
    'TMPDIR',
    'PBS_JOBCOOKIE',
}
NOT_MODELLED = {'MANPATH', 'MAIL', 'LANG', 'HOSTTYPE'}


def _output(text: str) -> str:
    """Return what a job has written, without names of this machine."""
    text = text.partition('--- argv0')[0]
    text = re.sub(r'^\S+: line 1: \S+: ', 'SHELL: SCRIPT: ', text, flags=re.MULTILINE)
    lines = []
    for line in text.splitlines():
        name, equals, _ = line.partition('=')
        if equals and (name in NOT_MODELLED or name.startswith(('PSIJ_FAKE_', 'PBS_O_INTERACTIVE_'))):
            continue
        lines.append(f'{name}=...' if equals and name in OF_THE_MACHINE else line)
    return '\n'.join(lines)


def test_every_recording_is_replayed() -> None:
    """A new recording must not be forgotten; those that are left out say why."""
    left_out = {
        'job_array': 'arrays are not modelled',
        'job_bad_shell_option': 'neither is -S',
        'job_deleted_force': 'nor options of qdel',
        'job_purged': 'nor options of qdel',
        'job_killed_cput': 'nor limits of CPU time',
        'job_killed_mem': 'memory becomes a limit of the process in Torque',
        'job_prologue_fail1': 'prologues are not modelled',
        'job_prologue_fail2': 'prologues are not modelled',
        'job_slow_epilogue': 'a matter of the node',
        'job_rerun': 'done by an operator',
        'job_signalled': 'qsig is not modelled',
        'qstat_1000_ids': 'its output was not kept',
        'qstat_list': 'lists jobs of other recordings',
        'qstat_text_injection': 'the long text is not printed',
        'qsub_V_environment': 'told by test_pbs_fakes',
        'qsub_V_release_bug': 'told by test_pbs_fakes',
        'server_down_job_requeued': 'a restart does not requeue here',
        'server_hung': 'told by test_pbs_fakes',
        'server_deadlock': 'one job that hangs is not modelled',
    }
    for scheduler in KNOBS:
        recorded = {path.stem for path in (RECORDINGS / scheduler).glob('*.json')}
        replayed = {name for used, name in replays() if used == scheduler}
        assert recorded <= replayed | set(left_out)
