"""srun_launch.sh, aprun_launch.sh and jsrun_launch.sh with stand-ins that check their arguments.

The stand-ins accept what the manuals of the launchers document and refuse anything else; they run the processes one
after the other.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict

import pytest

from psij import InvalidJobException, Job, JobExecutorConfig, JobSpec, ResourceSpecV1
from psij.launchers import AprunLauncher, JsrunLauncher, SrunLauncher
from psij.launchers.script_based_launcher import ScriptBasedLauncher

if TYPE_CHECKING:
    from unit.launchers.conftest import Launch

COMMON = r"""#!/bin/bash
refuse() { echo "${0##*/}: $*" >&2; exit 1; }
number() { [[ $1 =~ ^[1-9][0-9]*$ ]] || refuse "not a number: $1"; }
run() {  # VARIABLE COUNT NOT_FOUND NOT_EXECUTABLE COMMAND...
    local variable=$1 count=$2 missing=$3 forbidden=$4 file rank code largest=0
    shift 4
    for word; do [[ $word != : ]] || refuse 'another program?'; done
    file=$1
    [[ $file == */* ]] || file=$(type -P -- "$1")
    [[ -e $file ]] || { echo "${0##*/}: $1: No such file or directory" >&2; exit "$missing"; }
    [[ -x $file ]] || { echo "${0##*/}: $1: Permission denied" >&2; exit "$forbidden"; }
    for ((rank = 0; rank < count; rank++)); do
        code=0
        "${clean[@]}" /usr/bin/env "$variable=$rank" "$@" || code=$?
        ((code <= largest)) || largest=$code
    done
    return $largest
}
clean=()
printf '%s\n' "$@" >options
"""

# Slurm 22.05: notes in the recordings of srun, and its manual page.
SRUN = (
    COMMON
    + r"""
count=${SLURM_NTASKS:-1}
[[ ${SLURM_EXPORT_ENV-} != NONE ]] || clean=(env -i)
while [[ $1 == -* ]]; do
    value=${1#*=}
    case $1 in
        --ntasks=*) number "$value"; count=$value ;;
        --nodes=* | --ntasks-per-node=* | --cpus-per-task=* | --gpus-per-task=*) number "$value" ;;
        --export=ALL) clean=() ;;
        *) refuse "unrecognized option '$1'" ;;
    esac
    shift
done
run SLURM_PROCID "$count" 2 13 "$@" || { code=$?; echo 'srun: error: task: Exited' >&2; exit $code; }
"""
)

# Cray ALPS: aprun(1).
APRUN = (
    COMMON
    + r"""
count=1 quiet=
while [[ $1 == -* ]]; do
    case $1 in
        -n) number "$2"; count=$2; shift ;;
        -N | -d | -j) number "$2"; shift ;;
        -cc) [[ $2 =~ ^(cpu|depth|numa_node|none)$ ]] || refuse "-cc $2"; shift ;;
        -q) quiet=yes ;;
        -b) ;;
        *) refuse "invalid option $1" ;;
    esac
    shift
done
code=0
run ALPS_APP_PE "$count" 1 1 "$@" || code=$?
[[ $quiet ]] || echo 'Application 123 resources: utime ~0s, stime ~0s'
exit $code
"""
)

# IBM Job Step Manager: jsrun(1).
JSRUN = (
    COMMON
    + r"""
sets=1 tasks=1 bind=packed:1
while [[ $1 == -* ]]; do
    case $1 in
        -n) number "$2"; sets=$2 ;;
        -a) number "$2"; tasks=$2 ;;
        -c | -g | -r) number "$2" ;;
        -b) [[ $2 =~ ^(none|rs|packed:[0-9]+)$ ]] || refuse "-b $2" ;;
        *) refuse "unknown option $1" ;;
    esac
    shift 2
done
run JSM_NAMESPACE_RANK $((sets * tasks)) 1 1 "$@"
"""
)

LAUNCHERS = {
    'srun': (SRUN, SrunLauncher, 'SLURM_PROCID'),
    'aprun': (APRUN, AprunLauncher, 'ALPS_APP_PE'),
    'jsrun': (JSRUN, JsrunLauncher, 'JSM_NAMESPACE_RANK'),
}


@pytest.fixture(params=LAUNCHERS)
def name(request: pytest.FixtureRequest, launch: Launch) -> str:
    launch.program(request.param, LAUNCHERS[request.param][0])
    return str(request.param)


def script(name: str) -> str:
    return f'{name}_launch.sh'


def rank(name: str) -> str:
    return f'echo ${LAUNCHERS[name][2]}'


# --- counts ----------------------------------------------------------------------------------------------------------

Counts = Dict[str, Any]
NOTHING: Counts = {}
PROCESSES: Counts = {'process_count': 4}
LAYOUT: Counts = {'process_count': 4, 'processes_per_node': 2}
NODES: Counts = {'node_count': 2, 'process_count': 4}
NO_GPUS: Counts = {'node_count': 2, 'processes_per_node': 3, 'cpu_cores_per_process': 5}
ALL: Counts = {**NO_GPUS, 'gpu_cores_per_process': 1}


@pytest.mark.parametrize(
    ('name', 'resources', 'expected'),
    [
        ('srun', NOTHING, '--export=ALL --ntasks=1'),
        ('srun', PROCESSES, '--export=ALL --ntasks=4'),
        ('srun', LAYOUT, '--export=ALL --ntasks=4 --nodes=2 --ntasks-per-node=2'),
        ('srun', NODES, '--export=ALL --ntasks=4 --nodes=2 --ntasks-per-node=2'),
        ('srun', {'cpu_cores_per_process': 8}, '--export=ALL --ntasks=1 --cpus-per-task=8'),
        (
            'srun',
            ALL,
            '--export=ALL --ntasks=6 --nodes=2 --ntasks-per-node=3 --cpus-per-task=5 --gpus-per-task=1',
        ),
        ('aprun', NOTHING, '-q -n 1'),
        ('aprun', PROCESSES, '-q -n 4'),
        ('aprun', LAYOUT, '-q -n 4 -N 2'),
        ('aprun', NODES, '-q -n 4 -N 2'),
        ('aprun', NO_GPUS, '-q -n 6 -N 3 -d 5 -cc depth'),
        ('jsrun', NOTHING, '-n 1 -a 1'),
        ('jsrun', PROCESSES, '-n 4 -a 1'),
        ('jsrun', LAYOUT, '-n 4 -a 1 -r 2'),
        ('jsrun', NODES, '-n 4 -a 1 -r 2'),
        ('jsrun', ALL, '-n 6 -a 1 -c 5 -b rs -g 1 -r 3'),
    ],
    indirect=['name'],
)
def test_counts(launch: Launch, name: str, resources: Counts, expected: str, tmp_path: Path) -> None:
    """From the resource specification to the command line of the launcher."""
    launcher: ScriptBasedLauncher = LAUNCHERS[name][1](JobExecutorConfig(work_directory=tmp_path / 'work'))
    spec = JobSpec('/bin/sh', ['-c', rank(name)], resources=ResourceSpecV1(**resources), stdout_path='out')
    outcome = launch.run(launcher.get_launch_command(Job(spec)))
    assert (outcome.code, outcome.stderr) == (0, '')
    assert launch.read('options').splitlines()[:-3] == expected.split()
    count = spec.resources.computed_process_count  # type: ignore[union-attr]
    assert launch.read('out').split() == [str(number) for number in range(count)]


def test_without_resources_there_is_one_process(launch: Launch, name: str, tmp_path: Path) -> None:
    launcher = LAUNCHERS[name][1](JobExecutorConfig(work_directory=tmp_path / 'work'))
    outcome = launch.run(launcher.get_launch_command(Job(JobSpec('/bin/echo', ['x'], stdout_path='out'))))
    assert (outcome.code, launch.read('out')) == (0, 'x\n')


def test_aprun_refuses_gpus(tmp_path: Path) -> None:
    launcher = AprunLauncher(JobExecutorConfig(work_directory=tmp_path))
    spec = JobSpec('/bin/true', resources=ResourceSpecV1(gpu_cores_per_process=2))
    with pytest.raises(InvalidJobException, match='gpu_cores_per_process=2'):
        launcher.get_launch_command(Job(spec))


# --- running ---------------------------------------------------------------------------------------------------------

FOUR = ('4', '', '', '', '')


def test_output_and_arguments(launch: Launch, name: str) -> None:
    """A colon would begin another program."""
    arguments = ['', 'a b', ':', '_x', '*', '$HOME', 'a\nb', '-n', '--']
    launch(script(name), *FOUR, '/usr/bin/printf', '<%s>', *arguments, check=True)
    assert launch.read('out') == ''.join(f'<{each}>' for each in arguments) * 4


def test_stdin(launch: Launch, name: str) -> None:
    launch.write('in', 'data\n')
    launch(script(name), *FOUR, '/bin/cat', stdin='in', check=True)
    assert launch.read('out') == 'data\n'
    launch(script(name), *FOUR, '/bin/cat', check=True)
    assert launch.read('out') == ''


def test_what_pre_launch_exports(launch: Launch, name: str) -> None:
    launch.write('pre', 'export A="1 2"; f() { echo "f $A"; }; export -f f')
    launch(script(name), *FOUR, '/bin/bash', '-c', 'f', pre='pre', check=True)
    assert launch.read('out') == 'f 1 2\n' * 4


@pytest.mark.parametrize('options', ['set -euo pipefail', 'set -f', 'IFS=/', 'set -o posix'])
def test_shell_options_that_pre_launch_sets_do_no_harm(launch: Launch, name: str, options: str) -> None:
    launch.write('pre', options)
    launch(script(name), '2', '1', '2', '3', '', '/bin/echo', 'a b', ':', pre='pre', check=True)
    assert launch.read('out') == 'a b :\n' * 2


def test_exit_code(launch: Launch, name: str) -> None:
    launch.write('post', 'echo "post $_PSI_J_EC"')
    outcome = launch(script(name), *FOUR, '/bin/sh', '-c', f'exit $({rank(name)})', post='post')
    assert (outcome.code, outcome.stdout, outcome.stderr) == (3, 'post 3\n', '')


@pytest.mark.parametrize(
    ('executable', 'code', 'reason'),
    [
        ('no-such-program', 127, 'command not found'),
        ('./nothing', 127, 'No such file or directory'),
        ('./text', 126, 'Permission denied'),
    ],
)
def test_an_executable_that_cannot_be_run(launch: Launch, name: str, executable: str, code: int, reason: str) -> None:
    launch.write('text', 'text')
    outcome = launch(script(name), *FOUR, executable)
    # What aprun and jsrun return in this case is not known, so it stays as it is.
    assert outcome.code == (code if name == 'srun' else 1)
    assert outcome.stderr == f'psij: {executable}: {reason}\n'


@pytest.mark.parametrize('code', [2, 13])
def test_codes_of_programs_are_not_taken_for_errors_of_srun(launch: Launch, code: int) -> None:
    launch.program('srun', SRUN)
    outcome = launch('srun_launch.sh', *FOUR, '/bin/sh', '-c', f'exit {code}')
    assert (outcome.code, outcome.stderr) == (code, '')


def test_the_launcher_is_not_there(launch: Launch, name: str) -> None:
    launch.environment['PATH'] = '/nonexistent'
    outcome = launch(script(name), *FOUR, '/bin/true')
    assert (outcome.code, outcome.stderr) == (127, f'psij: {name}: command not found\n')


def test_srun_passes_the_environment_on(launch: Launch) -> None:
    """After `sbatch --export=NONE` it would not."""
    launch.program('srun', SRUN)
    launch.environment.update(SLURM_EXPORT_ENV='NONE', A='1')
    launch('srun_launch.sh', *FOUR, '/bin/sh', '-c', 'echo $A', check=True)
    assert launch.read('out') == '1\n' * 4


def test_the_process_count_of_the_job_counts(launch: Launch) -> None:
    """Not that of the allocation, in which this may be one of many jobs."""
    launch.program('srun', SRUN)
    launch.environment.update(SLURM_NTASKS='64')
    launch('srun_launch.sh', '2', '', '', '', '', '/bin/echo', 'x', check=True)
    assert launch.read('out') == 'x\nx\n'


def test_programs_inherit_no_descriptors_of_ours(launch: Launch, name: str) -> None:
    launch(script(name), '1', '', '', '', '', '/bin/ls', '-l', '/proc/self/fd', log='log', check=True)
    opened = re.findall(rf'(\d+) -> {re.escape(os.fspath(launch.directory))}', launch.read('out'))
    assert set(opened) <= {'1', '2', '255'}  # 255: the stand-in
