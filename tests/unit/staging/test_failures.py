"""Copies that cannot be completed leave everything as it was, and the message says why they could not."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from psij.staging import StageIn, StageOut, StageOutFlags, StagingMode

from .harness import Site, make_directory, tree

MODES = list(StagingMode)
COPIES = [StagingMode.COPY, StagingMode.MOVE]


@pytest.fixture
def small_file_system(site: Site) -> Iterator[Path]:
    """A directory in which there is room for 64 kB."""
    mount = site.root / 'small'
    mount.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'none', mount], capture_output=True).returncode:
        pytest.skip('mounting is not possible here')
    yield mount
    subprocess.run(['umount', mount], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can mount file systems')
@pytest.mark.parametrize('mode', COPIES, ids=str)
@pytest.mark.parametrize('kind', ['file', 'directory'])
@pytest.mark.parametrize('direction', ['in', 'out'])
def test_full_disk(site: Site, small_file_system: Path, direction: str, kind: str, mode: StagingMode) -> None:
    here = site.submit if direction == 'in' else site.job
    big = here / 'big'
    if kind == 'directory':
        make_directory(big)
        (big / 'sub' / 'data').write_bytes(bytes(100_000))
    else:
        big.write_bytes(bytes(100_000))
        (small_file_system / 'target').write_text('old')
    before = tree(here, small_file_system)
    if direction == 'in':
        done = site.stage(stage_in=[StageIn('big', small_file_system / 'target', mode)])
    else:
        done = site.stage(stage_out=[StageOut('big', small_file_system / 'target', mode=mode)])
    assert done.code == 121
    assert f'to "{small_file_system}/target": ' in done.output
    assert 'No space left on device' in done.output
    assert tree(here, small_file_system) == before


@pytest.mark.parametrize('kind', ['file', 'directory'])
def test_copy_is_killed(site: Site, kind: str) -> None:
    """As by a limit, or when memory is short."""
    big = site.submit / 'big'
    if kind == 'directory':
        make_directory(big)
        (big / 'sub').chmod(0o500)
        big /= 'data'
    else:
        (site.job / 'target').write_text('old')
    big.write_bytes(bytes(1_000_000))
    before = tree(site.job)
    item = {'source': str(site.submit / 'big'), 'target': 'target', 'mode': 1}
    # 10 blocks of 1 kB; the signal at the limit ends the program that writes
    done = site.run({'directory': str(site.job), 'stage_in': [item]}, before='ulimit -f 10')
    assert done.code == 121
    assert 'to "target": cp ended with exit code 153' in done.output
    assert tree(site.job) == before


def terminate_during_copy(script: Path, source: Path) -> tuple[int, str, list[str]]:
    """Run a script and send the signal that cancels a job to all its processes while it opens a source to copy it.

    Return the exit code, the output, and the names in the directory of the script meanwhile.
    """
    source.chmod(0o600)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    try:
        with source.open('r+') as file:
            # with a lease on the file, the kernel says when somebody opens it, and lets them wait until it is given up
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            process = subprocess.Popen(
                ['/bin/bash', script],
                cwd=script.parent,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,  # the end of this one is the end of all processes
                text=True,
                start_new_session=True,
            )
            assert signal.sigtimedwait({signal.SIGIO}, 20) is not None
            names = [path.name for path in Path(f'/proc/{process.pid}/cwd').iterdir()]
            os.killpg(process.pid, signal.SIGTERM)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            output, _ = process.communicate(timeout=20)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})
    return process.returncode, output, names


def test_script_is_terminated_during_a_copy(site: Site) -> None:
    (site.submit / 'in').write_text('data')
    item = {'source': str(site.submit / 'in'), 'target': 'x', 'mode': 1}
    script = site.write({'directory': str(site.job), 'stage_in': [item]}, before=f'cd {site.job}')
    code, _, names = terminate_during_copy(script, site.submit / 'in')
    assert len(names) == 1
    assert names[0].startswith('.psij-')  # until then, there is only a temporary file
    assert code == -signal.SIGTERM
    assert list(site.job.iterdir()) == []


TRAP = "trap '_PSIJ_JOB_CANCELED=1' TERM"


def test_what_follows_the_job_is_not_interrupted(site: Site) -> None:
    """After a signal that comes during a stage-out, all is done that was to be done before it."""
    for name in ('first', 'second', 'canceled', 'rubbish'):
        (site.job / name).write_text('data')
    flags = {'first': 2, 'second': 2, 'canceled': 8}
    staging = {
        'directory': str(site.job),
        'stage_out': [{'source': n, 'target': str(site.submit / n), 'mode': 1, 'flags': f} for n, f in flags.items()],
        'cleanup': ['rubbish'],
        'cleanup_flags': 2,
    }
    script = site.write(staging, before=TRAP)
    assert terminate_during_copy(script, site.job / 'first')[:2] == (0, '')
    assert sorted(path.name for path in site.submit.iterdir()) == ['first', 'second']
    assert not (site.job / 'rubbish').exists()


def test_a_signal_while_files_are_staged_in(site: Site) -> None:
    """Nothing more is staged in; how the job goes on is for the script that traps the signal."""
    (site.submit / 'in').write_text('data')
    (site.job / 'out').write_text('data')
    item = {'source': str(site.submit / 'in'), 'target': 'x', 'mode': 1}
    staging = {
        'directory': str(site.job),
        'stage_in': [item, {**item, 'target': 'y'}],
        'stage_out': [{'source': 'out', 'target': str(site.submit / 'out'), 'mode': 1, 'flags': 8}],
    }
    script = site.write(staging, '(exit 143)', before=TRAP)
    assert terminate_during_copy(script, site.submit / 'in')[:2] == (143, '')
    assert [path.name for path in site.job.iterdir()] == ['out']
    assert (site.submit / 'out').exists()


@pytest.mark.parametrize('mode', COPIES, ids=str)
@pytest.mark.parametrize('target', ['', 'on another file system'])
def test_unreadable_file(user_site: Site, other_file_system: Path, mode: StagingMode, target: str) -> None:
    secret = user_site.submit / 'secret'
    secret.write_text('data')
    secret.chmod(0)
    if target:
        other_file_system.chmod(0o777)
        where = other_file_system / 'x'
    else:
        where = user_site.job / 'x'
    before = tree(user_site.job, other_file_system)
    done = user_site.stage(stage_in=[StageIn('secret', where, mode)])
    if mode is StagingMode.MOVE and not target:
        assert done == (0, '', '')  # renaming needs no permission to read
        return
    assert done.code == 121
    assert f'"{secret}" to "{where}": ' in done.output
    assert 'Permission denied' in done.output
    assert tree(user_site.job, other_file_system) == before
    assert secret.exists()


def test_unreadable_file_in_a_directory(user_site: Site) -> None:
    """The copies of write-protected directories that are already there are removed all the same."""
    make_directory(user_site.submit / 'in')
    (user_site.submit / 'in/sub/secret').write_text('data')
    (user_site.submit / 'in/sub/secret').chmod(0)
    for path in ('in/sub/empty', 'in/sub', 'in'):
        (user_site.submit / path).chmod(0o555)
    done = user_site.stage(stage_in=[StageIn('in', 'x')])
    assert done.code == 121
    assert 'Permission denied' in done.output
    assert list(user_site.job.iterdir()) == []


def test_write_protected_directory(user_site: Site) -> None:
    make_directory(user_site.submit / 'in')
    (user_site.submit / 'in/sub').chmod(0o555)
    (user_site.submit / 'in').chmod(0o555)
    assert user_site.stage(stage_in=[StageIn('in', 'x')], stage_out=[StageOut('x', 'y')]) == (0, '', '')
    for path in (user_site.job / 'x', user_site.submit / 'y'):
        assert stat.S_IMODE(path.stat().st_mode) == 0o555
        assert (path / 'sub/file').read_text() == 'in in'


@pytest.mark.parametrize('mode', MODES, ids=str)
@pytest.mark.parametrize('flags', [StageOutFlags.ALWAYS, StageOutFlags.ALWAYS | StageOutFlags.IF_PRESENT], ids=str)
def test_what_cannot_be_looked_at_is_not_missing(user_site: Site, mode: StagingMode, flags: StageOutFlags) -> None:
    closed = user_site.job / 'closed'
    closed.mkdir()
    (closed / 'result').write_text('data')
    closed.chmod(0)
    done = user_site.stage(stage_out=[StageOut('closed/result', 'x', flags, mode)])
    assert done.code == 121
    assert 'closed/result' in done.output
    assert 'Permission denied' in done.output


@pytest.mark.parametrize('mode', MODES, ids=str)
def test_links_in_a_circle_are_not_missing(site: Site, mode: StagingMode) -> None:
    (site.job / 'loop').symlink_to('loop')
    flags = StageOutFlags.ALWAYS | StageOutFlags.IF_PRESENT
    done = site.stage(stage_out=[StageOut('loop', 'x', flags, mode)])
    assert done.code == 121
    assert 'Too many levels of symbolic links' in done.output


@pytest.mark.parametrize('mode', MODES, ids=str)
@pytest.mark.parametrize('target', ['closed/x', 'closed/sub/x'])
def test_unwritable_target(user_site: Site, mode: StagingMode, target: str) -> None:
    closed = user_site.submit / 'closed'
    closed.mkdir()
    closed.chmod(0o555)
    (user_site.job / 'out').write_text('data')
    done = user_site.stage(stage_out=[StageOut('out', target, mode=mode)])
    assert done.code == 121
    assert f'"out" to "{user_site.submit}/{target}": ' in done.output
    assert 'Permission denied' in done.output
    assert (user_site.job / 'out').read_text() == 'data'
    assert list(closed.iterdir()) == []


def test_move_from_a_directory_that_cannot_be_changed(user_site: Site, other_file_system: Path) -> None:
    """It is not copied first and then found to be irremovable."""
    make_directory(user_site.submit / 'closed')
    (user_site.submit / 'closed').chmod(0o555)
    other_file_system.chmod(0o777)
    before = tree(user_site.submit, other_file_system)
    for target in (other_file_system / 'x', user_site.job / 'x'):
        done = user_site.stage(stage_in=[StageIn('closed/sub', target, StagingMode.MOVE)])
        assert done.code == 121
        assert 'not writable' in done.output or 'Permission denied' in done.output
    assert tree(user_site.submit, other_file_system) == before
    assert list(user_site.job.iterdir()) == []


def test_move_of_what_cannot_be_removed_says_that_there_is_a_copy(user_site: Site, other_file_system: Path) -> None:
    make_directory(user_site.submit / 'in')
    (user_site.submit / 'in/sub').chmod(0o555)
    other_file_system.chmod(0o777)
    done = user_site.stage(stage_in=[StageIn('in', other_file_system / 'x', StagingMode.MOVE)])
    assert done.code == 121
    assert f'Copied "{user_site.submit}/in" to "{other_file_system}/x", but could not remove the source' in done.output
    assert (other_file_system / 'x/sub/file').read_text() == 'in in'
    assert (user_site.submit / 'in/sub/file').read_text() == 'in in'
    for directory, _, _ in os.walk(other_file_system):
        os.chmod(directory, 0o700)


def test_very_many_complaints_are_cut(user_site: Site) -> None:
    for i in range(100):
        path = user_site.submit / 'in' / f'secret{i}'
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0)
    done = user_site.stage(stage_in=[StageIn('in', 'x')])
    assert done.code == 121
    assert len(done.output) < 1500


@pytest.mark.parametrize('mode', MODES, ids=str)
@pytest.mark.parametrize('leads_to', ['loop', 'loop/../job/loop', '../job/loop/../loop'])
@pytest.mark.parametrize('target', ['loop/x', 'loop/sub/x', 'missing/loop/../../loop/x'])
def test_target_beyond_links_in_a_circle(site: Site, mode: StagingMode, leads_to: str, target: str) -> None:
    """Some tools look for the end of such links for ever."""
    (site.submit / 'in').write_text('data')
    (site.job / 'loop').symlink_to(leads_to)
    done = site.stage(stage_in=[StageIn('in', target, mode)])
    assert done.code == 121
    assert 'leads nowhere' in done.output
    assert os.listdir(site.job) == ['loop']


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can make files of somebody else')
@pytest.mark.parametrize('mode', MODES, ids=str)
def test_target_of_somebody_else(user_site: Site, other_file_system: Path, mode: StagingMode) -> None:
    """In a directory like /tmp, where only the owner can replace a file. What a link leads to is not touched either."""
    other_file_system.chmod(0o1777)
    (other_file_system / 'target').write_text('not yours')
    source = user_site.submit / 'source'
    if mode is StagingMode.LINK:
        make_directory(source)
    else:
        source.write_text('data')
    user_site.hand_over()
    before = tree(user_site.submit, other_file_system)
    done = user_site.stage(stage_in=[StageIn('source', other_file_system / 'target', mode)])
    assert done.code == 121
    assert 'Operation not permitted' in done.output
    assert tree(user_site.submit, other_file_system) == before


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        ("'' ''", ''),
        ('file localhost:80', ''),
        ('ftp localhost', 'ftp staging is not supported\n'),
        ("'' elsewhere", 'The host, if specified, must be "localhost". Got "elsewhere".\n'),
    ],
)
def test_locations_in_templates_of_others(site: Site, words: str, said: str) -> None:
    done = site.stage(f'_psij_check_remote {words}')
    assert (done.code, done.output) == (121 if said else 0, said)
