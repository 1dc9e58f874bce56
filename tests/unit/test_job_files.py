"""Files of jobs: private to the user, and gone when they are no longer needed."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from psij import SubmitException
from psij._runtime import job_files


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> object:
    """Whatever the user has."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_directories_are_made_private(tmp_path: Path, umask: object) -> None:
    path = tmp_path / 'a' / 'b' / 'c'
    assert job_files.private_directory(path) == path
    assert mode(path) == 0o700
    assert job_files.private_directory(path) == path


def test_an_existing_directory_becomes_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    job_files.private_directory(tmp_path)
    assert mode(tmp_path) == 0o700


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'file'
    path.write_text('')
    for used in (path, path / 'below'):
        with pytest.raises(SubmitException, match=r'file.*JobExecutorConfig\(work_directory=\.\.\.\)') as info:
            job_files.private_directory(used)
        assert isinstance(info.value.__cause__, OSError)


def test_the_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could exchange what we write there."""
    monkeypatch.setattr(os, 'geteuid', lambda: os.getuid() + 1)
    with pytest.raises(SubmitException, match='belongs to another user'):
        job_files.private_directory(tmp_path)


def test_a_link_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would make us change what it leads to, and could be changed at any time."""
    (tmp_path / 'mine').mkdir(mode=0o755)
    (tmp_path / 'link').symlink_to('mine')
    assert job_files.private_directory(tmp_path / 'link').stat().st_mode & 0o777 == 0o700
    lstat = os.lstat
    monkeypatch.setattr(os, 'lstat', lambda path: os.stat_result((*lstat(path)[:4], 4711, *lstat(path)[5:])))
    with pytest.raises(SubmitException, match=r'link of another user \(uid 4711\)'):
        job_files.private_directory(tmp_path / 'link')


def test_the_encoding_is_that_of_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a locale that is not UTF-8."""
    monkeypatch.setattr(os, 'fsencode', lambda text: text.encode('iso-8859-1', 'surrogateescape'))
    path = tmp_path / 'file'
    assert job_files.write_private(path, 'cd \xe9\udcff').read_bytes() == b'cd \xe9\xff'


def test_files_are_written_private(tmp_path: Path, umask: object) -> None:
    path = job_files.write_private(tmp_path / 'file', 'é $HOME\r\n')
    assert path.read_bytes() == 'é $HOME\r\n'.encode()
    assert mode(path) & 0o077 == 0


def test_file_names_that_are_not_valid_text_are_written_as_they_were(tmp_path: Path) -> None:
    path = job_files.write_private(tmp_path / 'file', os.fsdecode(b'cd /a\xff\xfe\n'))
    assert path.read_bytes() == b'cd /a\xff\xfe\n'


def test_large_files_are_written_completely(tmp_path: Path) -> None:
    text = 'x' * 5_000_000
    assert job_files.write_private(tmp_path / 'file', text).stat().st_size == len(text)


@pytest.mark.parametrize('kind', ['file', 'link', 'dangling link'])
def test_nothing_that_exists_is_written_to(tmp_path: Path, kind: str) -> None:
    """Whoever put it there must not get what we write, or have us overwrite something."""
    other = tmp_path / 'other'
    path = tmp_path / 'file'
    if kind != 'dangling link':
        other.write_text('mine')
    if kind == 'file':
        path.write_text('mine')
    else:
        path.symlink_to(other)
    with pytest.raises(FileExistsError):
        job_files.write_private(path, 'text')
    assert kind == 'dangling link' or other.read_text() == 'mine'
    assert kind != 'dangling link' or not other.exists()


def test_read_end(tmp_path: Path) -> None:
    path = tmp_path / 'file'
    assert job_files.read_end(path) is None
    path.write_text('short')
    assert job_files.read_end(path) == 'short'
    path.write_bytes(b'x' * 10_000_000 + b'the end \xff')
    text = job_files.read_end(path)
    assert text is not None
    assert text.startswith('[...] xxx')
    assert text.endswith('the end �')
    assert len(text) < job_files.MESSAGE_LIMIT + 10
    assert job_files.read_end(path, 5) == '[...] end �'


def test_remove(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [tmp_path / name for name in 'abc']
    paths[0].write_text('')
    paths[1].mkdir()  # cannot be unlinked
    with caplog.at_level(logging.WARNING):
        job_files.remove(paths)
    assert not paths[0].exists()
    assert str(paths[1]) in caplog.text
    assert str(paths[2]) not in caplog.text


def test_no_directory_above_is_open_to_others(tmp_path: Path) -> None:
    """Whoever can rename a directory can put another one in its place."""
    mask = os.umask(0o002)
    try:
        job_files.private_directory(tmp_path / '.psij' / 'work' / 'toy')
    finally:
        os.umask(mask)
    for path in ('.psij', '.psij/work', '.psij/work/toy'):
        assert (tmp_path / path).stat().st_mode & 0o777 == 0o700


def test_directory_that_everybody_can_replace_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(SubmitException, match='everybody can write to'):
        job_files.private_directory(tmp_path / 'work')
    tmp_path.chmod(0o1777)
    job_files.private_directory(tmp_path / 'work')


def test_links_to_nothing_do_not_stop_the_cleaning(tmp_path: Path) -> None:
    (tmp_path / 'a link').symlink_to('nowhere')
    (tmp_path / 'old').touch()
    for name in ('a link', 'old'):
        os.utime(tmp_path / name, (0, 0), follow_symlinks=False)
    job_files.remove_old(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != '.lock') == ['.cleaned']
