"""mpirun_launch.sh with the MPI implementations that are installed, and with stand-ins for what cannot be had here.

Debian's packages openmpi-bin and mpich are found by their names; another ``mpirun`` is tested too if it is the first
on the PATH.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Iterator

import pytest

if TYPE_CHECKING:
    from unit.launchers.conftest import Launch

MPIRUN = 'mpirun_launch.sh'
RANK = 'echo $OMPI_COMM_WORLD_RANK$PMI_RANK'


def flavour_of(mpirun: Path) -> str:
    version = subprocess.run([mpirun, '-version'], capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout
    return 'Open MPI' if 'Open MPI' in version or 'OpenRTE' in version else 'MPICH'


def find_implementations() -> dict[str, str]:
    found = {name: path for name in ('mpirun.openmpi', 'mpirun.mpich') if (path := shutil.which(name))}
    other = shutil.which('mpirun')
    if other and os.path.realpath(other) not in map(os.path.realpath, found.values()):
        found['mpirun'] = other
    return found


IMPLEMENTATIONS = find_implementations()


@pytest.fixture
def programs() -> Iterator[Path]:
    """Make a directory that all users can read; those of pytest are closed."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@pytest.fixture(params=IMPLEMENTATIONS or ['none'])
def mpi(request: pytest.FixtureRequest, launch: Launch, programs: Path) -> str:
    """Make one of the implementations the ``mpirun`` on the PATH, and return what kind it is."""
    if not IMPLEMENTATIONS:
        pytest.skip('there is no mpirun')
    mpirun = Path(IMPLEMENTATIONS[request.param])
    if mpirun.name == 'mpirun':
        programs = mpirun.parent
    else:
        (programs / 'mpirun').symlink_to(mpirun)
        if helper := shutil.which('hydra_pmi_proxy'):  # MPICH looks for it where it was found itself
            (programs / 'hydra_pmi_proxy').symlink_to(helper)
    launch.environment['PATH'] = f'{programs}:{launch.environment["PATH"]}'
    if os.geteuid() == 0:
        launch.environment.update(OMPI_ALLOW_RUN_AS_ROOT='1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM='1')
    return flavour_of(mpirun)


@pytest.mark.usefixtures('mpi')
class TestAnyImplementation:
    @pytest.mark.parametrize('count', [1, 5])
    def test_runs_ranks_and_adds_nothing_to_their_output(self, launch: Launch, count: int) -> None:
        outcome = launch(MPIRUN, str(count), '/bin/sh', '-c', RANK + '; echo error >&2', check=True)
        assert sorted(launch.read('out').split()) == [str(rank) for rank in range(count)]
        assert launch.read('err') == 'error\n' * count
        assert outcome.stdout == ''

    def test_arguments(self, launch: Launch) -> None:
        """A colon would begin another program."""
        arguments = ['', 'a b', ':', '*', '"', "'", '$HOME', '\\', 'a\nb', '-n', '--', '_x', 'ü', '-x', ';']
        launch(MPIRUN, '1', '/usr/bin/printf', '<%s>', *arguments, check=True)
        assert launch.read('out') == ''.join(f'<{each}>' for each in arguments)

    @pytest.mark.parametrize('executable', ['./with blank', './-n', 'found-on-path'])
    def test_executables(self, launch: Launch, executable: str) -> None:
        launch.program('found-on-path', '#!/bin/sh\necho yes\n')
        if '/' in executable:
            launch.write(executable, '#!/bin/sh\necho yes\n', 0o755)
        launch(MPIRUN, '2', executable, check=True)
        assert launch.read('out') == 'yes\nyes\n'

    def test_environment_and_exported_functions(self, launch: Launch) -> None:
        launch.environment.update(QUOTES='a"b\'c', LINES2='a\nb')
        launch.write('pre', 'export MORE="x y"; f() { printf "%s|" "$QUOTES" "$LINES2" "$MORE"; }; export -f f')
        launch(MPIRUN, '1', '/bin/bash', '-c', 'f', pre='pre', check=True)
        assert launch.read('out') == 'a"b\'c|a\nb|x y|'

    def test_shells_of_ours_do_not_read_bash_env(self, launch: Launch) -> None:
        """But for the first: that is the business of the user; then there would be one for each rank."""
        launch.environment['BASH_ENV'] = launch.write('bash_env', 'echo >>read')
        launch(MPIRUN, '4', '/bin/true', check=True)
        assert launch.read('read') == '\n'

    def test_megabytes_of_any_bytes(self, launch: Launch) -> None:
        data = os.urandom(3_000_000)
        (launch.directory / 'data').write_bytes(data)
        launch(MPIRUN, '1', '/bin/cat', 'data', check=True)
        assert (launch.directory / 'out').read_bytes() == data

    def test_nothing_is_lost(self, launch: Launch) -> None:
        """All that the ranks wrote is there when the launcher ends."""
        text = 'seq 100000; seq 100000 >&2'
        launch(MPIRUN, '3', '/bin/sh', '-c', text, check=True)
        size = sum(len(f'{number}\n') for number in range(1, 100_001))
        assert len(launch.read('out')) == len(launch.read('err')) == 3 * size

    def test_without_stdin_no_rank_waits(self, launch: Launch) -> None:
        launch(MPIRUN, '3', '/bin/cat', check=True)
        assert launch.read('out') == ''

    @pytest.mark.parametrize('count', [1, 3])
    def test_rank_0_reads_stdin(self, launch: Launch, count: int) -> None:
        data = os.urandom(3_000_000)
        (launch.directory / 'in').write_bytes(data)
        launch(MPIRUN, str(count), '/bin/cat', stdin='in', check=True)
        assert (launch.directory / 'out').read_bytes() == data

    def test_nobody_has_to_read_stdin(self, launch: Launch) -> None:
        (launch.directory / 'in').write_bytes(bytes(3_000_000))
        launch(MPIRUN, '2', '/bin/true', stdin='in', check=True)

    def test_one_file_for_both(self, launch: Launch) -> None:
        launch.write('out', 'old')
        launch(MPIRUN, '2', '/bin/sh', '-c', 'echo x; echo x >&2', stderr='out', check=True)
        assert launch.read('out') == 'x\n' * 4

    def test_exit_code(self, launch: Launch) -> None:
        outcome = launch(MPIRUN, '2', '/bin/sh', '-c', f'[ $({RANK}) = 0 ] || exit 7')
        assert (outcome.code, launch.read('out')) == (7, '')

    @pytest.mark.parametrize(
        ('executable', 'code', 'reason'),
        [
            ('no-such-program', 127, 'command not found'),
            ('./nothing', 127, 'No such file or directory'),
            ('./text', 126, 'Permission denied'),
        ],
    )
    def test_an_executable_that_cannot_be_run(self, launch: Launch, executable: str, code: int, reason: str) -> None:
        launch.write('text', 'text')
        outcome = launch(MPIRUN, '2', executable)
        assert outcome.code == code
        assert outcome.stderr.endswith(f'psij: {executable}: {reason}\n')
        assert launch.read('out') == ''

    @pytest.mark.parametrize('options', ['set -euo pipefail', 'set +e', 'set -f', 'set -C', 'IFS=/', 'set -o posix'])
    def test_shell_options_that_pre_launch_sets_do_no_harm(self, launch: Launch, options: str) -> None:
        launch.write('pre', options)
        launch.write('out', 'old')
        launch(MPIRUN, '2', '/bin/sh', '-c', 'echo "$1"', 'sh', 'a b', pre='pre', check=True)
        assert launch.read('out') == 'a b\na b\n'

    def test_post_launch(self, launch: Launch) -> None:
        launch.write('post', 'echo "$_PSI_J_EC"; env')
        outcome = launch(MPIRUN, '2', '/bin/sh', '-c', 'exit 3', post='post')
        assert outcome.code == 3
        assert outcome.stdout.startswith('3\n')
        assert 'OPAL_' not in outcome.stdout

    def test_programs_inherit_no_descriptors_of_ours(self, launch: Launch) -> None:
        launch.write('in', '')
        launch(MPIRUN, '1', '/bin/ls', '-l', '/proc/self/fd', stdin='in', log='log', check=True)
        text = launch.read('out')
        assert str(launch.directory / 'out') not in text
        assert str(launch.directory / 'log') not in text


@pytest.mark.usefixtures('mpi')
def test_as_an_ordinary_user(launch: Launch, as_user: list[str]) -> None:
    """Nothing that root needs is needed here."""
    for name in [name for name in launch.environment if name.startswith('OMPI_')]:
        del launch.environment[name]
    launch.bash = [*as_user, *launch.bash]
    uid = 65534 if as_user else os.geteuid()
    with tempfile.TemporaryDirectory() as directory:  # that of pytest is closed to other users
        launch.directory = Path(directory)
        launch.scripts = Path(shutil.copytree(launch.scripts, f'{directory}/scripts'))
        subprocess.run(['chmod', '-R', 'a+rX', directory], check=True)
        os.chown(directory, uid, -1)
        launch.environment.update(TMPDIR=directory, HOME=directory)
        launch(MPIRUN, '4', '/bin/sh', '-c', 'id -u; cat', check=True)
        assert launch.read('out').split() == [str(uid)] * 4


@pytest.mark.skipif(os.geteuid() != 0, reason='needs to be root')
def test_that_open_mpi_refuses_root_is_told(mpi: str, launch: Launch) -> None:
    if mpi != 'Open MPI':
        pytest.skip('only Open MPI refuses root')
    for name in [name for name in launch.environment if name.startswith('OMPI_')]:
        del launch.environment[name]
    outcome = launch(MPIRUN, '1', '/bin/true')
    assert outcome.code == 1
    assert 'run as root' in launch.read('err') + outcome.stderr


def test_what_open_mpi_4_says_is_not_in_the_output_of_the_job(mpi: str, launch: Launch) -> None:
    version = subprocess.run(['mpirun', '-version'], env=launch.environment, capture_output=True, text=True).stdout
    if mpi != 'Open MPI' or ' 4.' not in version:
        pytest.skip('only Open MPI 4 can be told where to write')
    outcome = launch(MPIRUN, '2', '/bin/sh', '-c', 'exit 7')
    assert (outcome.code, launch.read('err')) == (7, '')
    assert 'non-zero' in outcome.stderr


RSH = """#!/bin/bash
# Runs a command on "another" node: without the environment, as ssh does.
while [[ $1 == -* ]]; do shift; done
echo "$1" >>"$PWD/nodes"
shift
exec env -i PATH="$PATH" HOME="$HOME" NODE=other bash -c "$*"
"""


@pytest.mark.parametrize(('first', 'second'), [(1, 1), (1, 2), (3, 2), (1, 6)])
def test_open_mpi_on_two_nodes(mpi: str, launch: Launch, first: int, second: int) -> None:
    """The processes are where they belong, and have the environment of the job."""
    if mpi != 'Open MPI':
        pytest.skip('what is like MPICH does so by itself')
    rsh = launch.directory.parent / 'rsh'  # Open MPI does not take a path with a blank
    rsh.write_text(RSH)
    rsh.chmod(0o755)
    this = os.uname().nodename
    launch.environment.update(
        PSIJ_NODEFILE=str(launch.directory / launch.write('hosts', f'{this}\n' * first + 'other\n' * second)),
        OMPI_MCA_plm_rsh_agent=str(rsh),
        PRTE_MCA_plm_ssh_agent=str(rsh),
        VALUE='a "b"\nc',
    )
    launch.write('pre', 'f() { printf "%s %s" "$VALUE" "${NODE-this}" >rank$OMPI_COMM_WORLD_RANK; }; export -f f')
    launch(MPIRUN, str(first + second), '/bin/bash', '-c', 'f', pre='pre', check=True)
    assert launch.read('nodes') == 'other\n'
    ranks = [launch.read(f'rank{number}') for number in range(first + second)]
    assert ranks == ['a "b"\nc this'] * first + ['a "b"\nc other'] * second


def test_processes_are_not_bound_to_the_cores_that_all_jobs_would_be_bound_to(mpi: str, launch: Launch) -> None:
    if (os.cpu_count() or 1) == 1:
        pytest.skip('there is but one core')
    launch(MPIRUN, '1', '/bin/grep', 'Cpus_allowed_list', '/proc/self/status', check=True)
    with open('/proc/self/status') as stream:
        assert launch.read('out') in stream.readlines()


# --- stand-ins -------------------------------------------------------------------------------------------------------

STAND_IN = """#!/bin/bash
if [[ $1 == -version ]]; then echo "$MPI_VERSION"; exit; fi
printf '%s\\n' "${@:1:$MPI_SHOW}" >options
echo "${SLURM_EXPORT_ENV-unset}" >export
"""
OPEN_MPI_4 = 'mpirun (Open MPI) 4.1.4'
OPEN_MPI_5 = 'mpirun (Open MPI) 5.0.1'
HYDRA = 'HYDRA build details:'


def get_options(launch: Launch, version: str, hosts: str, show: int = 4, **environment: str) -> list[str]:
    """Return the first options that mpirun gets."""
    launch.program('mpirun', STAND_IN)
    launch.environment.update(
        environment, MPI_VERSION=version, MPI_SHOW=str(show), PSIJ_NODEFILE=launch.write('hosts', hosts)
    )
    launch(MPIRUN, '4', '/bin/true', check=True)
    return launch.read('options').splitlines()


TWO = 'a\nb\na\n\na\n'


def test_one_node_needs_no_host_list(launch: Launch) -> None:
    local = 'localhost\n' * 4
    rest = ['-x', 'OPAL_OUTPUT_STDERR_FD=2', '/bin/bash']
    assert get_options(launch, OPEN_MPI_4, local, 6) == ['-n', '4', '--oversubscribe', *rest]
    assert get_options(launch, OPEN_MPI_5, local, 7) == ['-n', '4', '--map-by', 'slot:OVERSUBSCRIBE', *rest]
    assert get_options(launch, HYDRA, local, 3) == ['-n', '4', '/bin/bash']


@pytest.mark.parametrize('scheduler', ['SLURM', 'PBS', 'LSB', 'COBALT', 'OTHER'])
def test_the_hosts_are_told_to_those_who_do_not_know_them(launch: Launch, scheduler: str) -> None:
    name = f'{scheduler}_JOB_ID' if scheduler == 'SLURM' else f'{scheduler}_JOBID'
    told = get_options(launch, OPEN_MPI_4, TWO, 5, **{name: '1'})[3:] == ['-host', 'a:3,b:1']
    assert told == (scheduler != 'SLURM')
    told = get_options(launch, HYDRA, TWO, 4, **{name: '1'})[2:] == ['-hostfile', 'hosts']
    assert told == (scheduler == 'OTHER')


def test_daemons_that_slurm_starts_get_an_environment(launch: Launch) -> None:
    get_options(launch, OPEN_MPI_4, TWO, SLURM_JOB_ID='1', SLURM_EXPORT_ENV='NONE')
    assert launch.read('export') == 'unset\n'


def test_there_is_no_mpirun(launch: Launch) -> None:
    launch.environment['PATH'] = '/nonexistent'
    outcome = launch(MPIRUN, '1', '/bin/true')
    assert (outcome.code, outcome.stderr) == (127, 'psij: mpirun: command not found\n')
