"""Cleanup removes what is inside of the job directory, and nothing else."""

from __future__ import annotations

import os
import subprocess
from typing import Dict

import pytest

from psij.staging import StageOutFlags

from .harness import Result, Site, make_directory, tree

# What is removed by a path that is given to the script directly, as if it had passed the check before submission;
# None means that it must be refused. The job directory is /.../job.
PATHS: Dict[str, object] = {
    'file': ['file'],
    'directory': ['directory'],
    'directory/sub': ['directory/sub'],
    './file': ['file'],
    'directory//sub/file': ['directory/sub/file'],
    'directory/../file': ['file'],
    '{job}/file': ['file'],
    '{job}/../job/file': ['file'],
    '{root}/alias/file': ['file'],
    # links
    'link_to_file': ['link_to_file'],
    'link_inside': ['link_inside'],
    'link_inside/file': ['directory/sub/file'],
    'link_outside': ['link_outside'],
    'dangling': ['dangling'],
    'loop': ['loop'],
    'link_to_job': ['link_to_job'],
    'link_outside/file': None,
    'link_outside/missing': None,
    'link_outside/../submit/file': None,
    'link_to_link_outside/file': None,
    'directory/link_up/file': None,
    'link_to_job/../submit/file': None,
    # what does not exist
    'missing': [],
    'missing/file': [],
    'file/x': [],
    'dangling/x': [],
    'link_outside/missing/file': [],
    '../missing/file': [],
    # elsewhere
    '../submit/file': None,
    '../missing': None,
    'directory/../../submit/file': None,
    '{root}/submit/file': None,
    '{root}/job2/file': None,
    '../job2/file': None,
    '{root}/job2': None,
    '/': None,
    # the job directory itself
    '': None,
    '.': None,
    './': None,
    '{job}': None,
    '{job}/': None,
    '{job}/.': None,
    '../job': None,
    '{root}/alias': None,
    'directory/..': None,
    '..': None,
    # what is no name
    'directory/': None,
    'directory/.': None,
}


def populate(site: Site) -> None:
    for place in (site.job, site.submit, site.root / 'job2'):
        place.mkdir(exist_ok=True)
        (place / 'file').write_text(f'in {place}')
    (site.root / 'alias').symlink_to('job')
    make_directory(site.job / 'directory')
    links = {
        'link_to_file': '../submit/file',
        'link_inside': 'directory/sub',
        'link_outside': '../submit',
        'link_to_link_outside': 'link_outside',
        'directory/link_up': '../../submit',
        'dangling': 'nowhere',
        'loop': 'loop',
        'link_to_job': '.',
    }
    for name, target in links.items():
        (site.job / name).symlink_to(target)


def clean(site: Site, *paths: str, directory: str = '{job}') -> Result:
    def absolute(path: str) -> str:
        return path.replace('{job}', str(site.job)).replace('{root}', str(site.root))

    return site.run(
        {'directory': absolute(directory), 'cleanup': [absolute(path) for path in paths], 'cleanup_flags': 14}
    )


def everything(site: Site) -> Dict[bytes, object]:
    found = tree(site.root)
    found.pop(os.fsencode(site.root / 'script'), None)
    return found


@pytest.mark.parametrize('directory', ['{job}', '{root}/alias', ''])
@pytest.mark.parametrize('path', PATHS, ids=repr)
def test_path(site: Site, path: str, directory: str) -> None:
    populate(site)
    before = everything(site)
    done = clean(site, path, directory=directory)
    removed = set(before) - set(everything(site))
    assert all(everything(site)[name] == before[name] for name in everything(site))
    expected = PATHS[path]
    if expected is None:
        assert (done.code, removed) == (121, set())
        assert 'nothing was removed' in done.output
    else:
        assert done == (0, '', '')
        assert isinstance(expected, list)
        roots = [os.fsencode(site.job / name) for name in expected]
        assert removed == {name for name in before for root in roots if name == root or name.startswith(root + b'/')}


def test_one_bad_path_protects_the_others(site: Site) -> None:
    populate(site)
    before = everything(site)
    done = clean(site, 'file', 'directory', '../submit/file')
    assert (done.code, everything(site)) == (121, before)


def test_removing_one_path_does_not_open_a_way_out_for_the_next(site: Site) -> None:
    """What was checked at first may be different when it is removed."""
    (site.job / 'a').mkdir()
    (site.submit / 'x').write_text('x')
    # `a` becomes a link between the check and the removal, by a command that stands for another process
    text = site.write({'directory': str(site.job), 'cleanup': ['a/x'], 'cleanup_flags': 14}).read_text()
    check, remove = '_psij_check_cleanup a/x', '_psij_do_cleanup a/x'
    assert text.count(check) == text.count(remove) == 1
    script = site.root / 'changed'
    script.write_text(text.replace(remove, f'rmdir a; ln -s ../submit a\n{remove}'))
    done = subprocess.run(['/bin/bash', script], cwd=site.job, capture_output=True, text=True)
    assert done.returncode == 121
    assert 'Cannot clean a/x outside of job directory' in done.stdout
    assert (site.submit / 'x').exists()


def test_root_directory_as_job_directory(site: Site) -> None:
    (site.job / 'file').write_text('data')
    done = clean(site, '{job}/file', directory='/')
    assert (done.code, (site.job / 'file').exists()) == (121, True)


def test_nothing_can_be_removed_by_somebody_who_may_not(user_site: Site) -> None:
    directory = user_site.job / 'directory'
    make_directory(directory)
    (directory / 'sub').chmod(0o555)
    done = clean(user_site, 'directory/sub/file')
    assert done.code == 121
    assert 'Failed to remove "directory/sub/file": ' in done.output
    assert 'Permission denied' in done.output
    assert 'not all of its files could be removed' in done.output
    assert (directory / 'sub/file').exists()


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can mount file systems')
@pytest.mark.parametrize('path', ['mount', 'mount/file', 'above'])
def test_mounted_file_systems_are_left_alone(site: Site, path: str) -> None:
    where = site.job / ('above/mount' if path == 'above' else 'mount')
    where.mkdir(parents=True)
    if subprocess.run(['mount', '-t', 'tmpfs', 'none', where], capture_output=True).returncode:
        pytest.skip('mounting is not possible here')
    try:
        (where / 'file').write_text('data')
        done = clean(site, path)
        if path == 'mount/file':  # named explicitly, and inside of the job directory
            assert done == (0, '', '')
        else:
            assert done.code == 121
            assert (where / 'file').exists()
    finally:
        subprocess.run(['umount', where], check=True)


@pytest.mark.parametrize('loss', ['rmdir "$PWD"', 'chmod 0 "$PWD"'])
def test_job_directory_that_is_lost(user_site: Site, loss: str) -> None:
    staging = {'directory': '', 'cleanup': ['x'], 'cleanup_flags': 14}
    done = user_site.run(staging, job_command=loss)
    assert done.code == 121
    assert 'Cannot find the job directory' in done.output


REPLACEMENTS = {
    'a link': 'ln -s submit ../job',
    'a directory': 'mkdir ../job; echo of somebody else > ../job/x',
    'the directory itself by another way': 'ln -s moved ../job',
}


@pytest.mark.parametrize('by', REPLACEMENTS)
def test_a_job_directory_that_was_replaced(site: Site, by: str) -> None:
    """What has the name now is not what was meant when the job was submitted."""
    (site.job / 'x').write_text('of the job')
    (site.submit / 'x').write_text('of the user')
    done = site.stage(f'mv ../job ../moved; {REPLACEMENTS[by]}', cleanup=['x'], cleanup_flags=StageOutFlags.ALWAYS)
    if by.startswith('the directory itself'):
        assert done == (0, '', '')
        assert not (site.root / 'moved' / 'x').exists()
    else:
        assert done.code == 121
        assert 'is not the one in which the job began' in done.output
        assert (site.root / 'moved' / 'x').exists()
        assert (site.job / 'x').exists()
    assert (site.submit / 'x').exists()
