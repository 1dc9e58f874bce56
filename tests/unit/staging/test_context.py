"""What a specification becomes for the script, and what is refused before submission."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from psij import InvalidJobException, JobSpec
from psij._runtime.staging import staging_context
from psij.staging import URI, StageIn, StageOut, StageOutFlags, StagingMode

HERE = Path('/home/me')
ON_SUCCESS, ON_ERROR, ON_CANCEL = StageOutFlags.ON_SUCCESS, StageOutFlags.ON_ERROR, StageOutFlags.ON_CANCEL


def context(directory: Any = '/job', **fields: Any) -> dict[str, Any]:
    spec = JobSpec('/bin/true', directory=directory)
    for name, value in fields.items():
        setattr(spec, name, value)
    return staging_context(spec, HERE)


def test_nothing_to_stage() -> None:
    assert context(None) == {'directory': '', 'stage_in': [], 'stage_out': [], 'cleanup': [], 'cleanup_flags': 14}


def test_everything() -> None:
    assert context(
        stage_in={StageIn('a', 'b', StagingMode.LINK)},
        stage_out={StageOut('c', 'd', ON_ERROR | StageOutFlags.IF_PRESENT, StagingMode.MOVE)},
        cleanup={'e'},
        cleanup_flags=ON_SUCCESS,
    ) == {
        'directory': '/job',
        'stage_in': [{'source': '/home/me/a', 'target': 'b', 'mode': 2}],
        'stage_out': [{'source': 'c', 'target': '/home/me/d', 'flags': 5, 'mode': 3}],
        'cleanup': ['e'],
        'cleanup_flags': 2,
    }


@pytest.mark.parametrize(('directory', 'expected'), [('/job', '/job'), ('sub', '/home/me/sub'), (None, '')])
def test_directory_is_absolute(directory: Any, expected: str) -> None:
    assert context(directory)['directory'] == expected


@pytest.mark.parametrize('flags', [StageOutFlags(bits) for bits in range(16)], ids=lambda flags: str(flags.value))
def test_no_condition_stages_out_always_and_removes_never(flags: StageOutFlags) -> None:
    assert context(stage_out=[StageOut('a', 'b', flags)])['stage_out'][0]['flags'] & 14 == (flags.value & 14 or 14)
    assert context(cleanup_flags=flags)['cleanup_flags'] == flags.value & 14


def test_lists_keep_their_order_and_sets_have_one() -> None:
    items = [StageIn('a', name) for name in ('b', 'a/x', 'c', 'a')]
    assert [item['target'] for item in context(stage_in=items)['stage_in']] == ['b', 'a/x', 'c', 'a']
    assert [item['target'] for item in context(stage_in=set(items))['stage_in']] == ['a', 'a/x', 'b', 'c']
    assert context(cleanup=['b', 'a'])['cleanup'] == ['b', 'a']
    assert context(cleanup={'b', 'a', 'c'})['cleanup'] == ['a', 'b', 'c']


@pytest.mark.parametrize(
    ('location', 'path'),
    [
        ('a', '/home/me/a'),
        ('../a', '/home/me/../a'),
        ('/x/a', '/x/a'),
        ('a%20b#c?d;e', '/home/me/a%20b#c?d;e'),
        ('http:/a', '/home/me/http:/a'),
        (Path('file://a'), '/home/me/file:/a'),
        ('file:///x/a', '/x/a'),
        ('FILE://LOCALHOST/x/a', '/x/a'),
        (URI('file://localhost/a%20b%23%3F;c'), '/a b#?;c'),
        ('file:///%FF', '/\udcff'),
        ('file:///a+b', '/a+b'),
    ],
    ids=str,
)
def test_locations(location: Any, path: str) -> None:
    assert context(stage_in=[StageIn(location, 'x')])['stage_in'][0]['source'] == path
    assert context(stage_out=[StageOut('x', location)])['stage_out'][0]['target'] == path


@pytest.mark.parametrize(
    ('location', 'message'),
    [
        ('https://example.org/a', "the scheme 'https' of https://example.org/a is not supported"),
        ('gsiftp://example.org:2811/a', "the scheme 'gsiftp' of gsiftp://example.org/a is not supported"),
        ('s3://bucket/key', "the scheme 's3'"),
        ('file://example.org/a', "the host 'example.org' of file://example.org/a is not supported"),
        ('file://localhost:80/a', 'is not supported'),
        ('file://me@localhost/a', 'is not supported'),
        ('file:///a?b', 'has a query or a fragment'),
        ('file:///a#b', 'has a query or a fragment'),
        ('file:///a%00b', 'names no file'),
        ('file://', 'names no file'),
        ('', 'names no file'),
    ],
    ids=str,
)
def test_locations_that_are_refused(location: str, message: str) -> None:
    for fields in ({'stage_in': {StageIn(location, 'x')}}, {'stage_out': {StageOut('x', location)}}):
        with pytest.raises(InvalidJobException) as info:
            context(**fields)
        assert message in str(info.value)
        assert str(info.value).startswith(f'Invalid {next(iter(fields))}: ')
        if 'not supported' in message:
            assert 'file:///path' in str(info.value)


def test_secrets_are_kept_out_of_the_message() -> None:
    with pytest.raises(InvalidJobException) as info:
        context(stage_in={StageIn('https://me:secret@example.org/a?signature=secret', 'x')})
    assert 'secret' not in str(info.value)


@pytest.mark.parametrize('target', ['', '.', '..', 'a/..', '/', '/..'])
def test_targets_that_name_no_file(target: str) -> None:
    for fields in ({'stage_in': {StageIn('a', target)}}, {'stage_out': {StageOut('a', Path(target))}}):
        with pytest.raises(InvalidJobException, match='the name of a file or directory'):
            context(**fields)


@pytest.mark.parametrize('target', ['../a', 'a/../../b', './../a'])
def test_relative_targets_outside_of_the_job_directory(target: str) -> None:
    with pytest.raises(InvalidJobException, match='leads out of the directory of the job'):
        context(stage_in={StageIn('a', target)})


@pytest.mark.parametrize('target', ['..a', 'a/../b', '/elsewhere/a', '/job/../a'])
def test_targets_that_may_be(target: str) -> None:
    assert context(stage_in={StageIn('a', target)})['stage_in'][0]['target'] == target


@pytest.mark.parametrize(('one', 'other'), [('x', 'x'), ('x', './x'), ('x', 'a/../x'), ('x', '/job/x'), ('x', 'x/')])
def test_same_target_twice(one: str, other: str) -> None:
    """What would be there in the end would depend on an order that sets do not have."""
    with pytest.raises(InvalidJobException) as info:
        context(stage_in=[StageIn('a', one), StageIn('b', other)])
    assert "'/home/me/a' and '/home/me/b' have the same target" in str(info.value)


def test_same_item_twice_is_one() -> None:
    assert len(context(stage_in=[StageIn('a', 'x'), StageIn('a', 'x')])['stage_in']) == 1


@pytest.mark.parametrize(
    ('one', 'other', 'refused'),
    [
        (ON_SUCCESS, ON_ERROR, False),
        (ON_SUCCESS | ON_CANCEL, ON_ERROR, False),
        (ON_SUCCESS | StageOutFlags.IF_PRESENT, ON_ERROR | StageOutFlags.IF_PRESENT, False),
        (ON_SUCCESS | ON_CANCEL, ON_CANCEL, True),
        (ON_SUCCESS, StageOutFlags.ALWAYS, True),
        (StageOutFlags.IF_PRESENT, StageOutFlags.IF_PRESENT, True),
    ],
)
def test_same_target_for_different_outcomes(one: StageOutFlags, other: StageOutFlags, refused: bool) -> None:
    items = [StageOut('result', 'out', one), StageOut('log', 'out', other)]
    if refused:
        with pytest.raises(InvalidJobException, match='have the same target'):
            context(stage_out=items)
    else:
        assert [item['source'] for item in context(stage_out=items)['stage_out']] == ['result', 'log']


@pytest.mark.parametrize('path', ['a', 'a/b', './a', 'a/../b', '../job/a', '..a', '/job/a', '/job/../job/a', '//job/a'])
def test_cleanup_inside_of_the_job_directory(path: str) -> None:
    assert context(cleanup=[path])['cleanup'] == [str(Path(path))]


OUTSIDE = [
    '',
    '.',
    '..',
    '/',
    '../a',
    'a/../../b',
    '../job',
    '../job2/a',
    '/a',
    '/job',
    '/job/.',
    '/job/..',
    '/job/../a',
]


@pytest.mark.parametrize('path', [*OUTSIDE, '/job2', '/job2/a', '/jo', 'a/..', '/home/me/a'])
@pytest.mark.parametrize('directory', ['/job', '/job/', '/x/../job', '//job'])
def test_cleanup_outside_of_the_job_directory(path: str, directory: str) -> None:
    with pytest.raises(InvalidJobException, match='Invalid cleanup: '):
        context(directory, cleanup=['inside', path])


@pytest.mark.parametrize('path', OUTSIDE)
def test_cleanup_without_a_directory(path: str) -> None:
    with pytest.raises(InvalidJobException, match='Invalid cleanup: '):
        context(None, cleanup=[path])


@pytest.mark.parametrize('path', ['a', 'a/b', './a', '..a', 'a/../b'])
def test_relative_cleanup_in_a_directory_that_the_scheduler_chooses(path: str) -> None:
    assert context(None, cleanup=[path])['cleanup'] == [str(Path(path))]


@pytest.mark.parametrize('directory', ['/', '//', '/x/..'])
def test_cleanup_in_the_root_directory(directory: str) -> None:
    with pytest.raises(InvalidJobException, match='Invalid cleanup: '):
        context(directory, cleanup=['home'])


def test_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are on another machine, perhaps."""
    monkeypatch.setattr(os, 'stat', None)
    monkeypatch.setattr(os, 'lstat', None)
    monkeypatch.setattr(os, 'getcwd', None)
    context(stage_in={StageIn('a', 'b')}, stage_out={StageOut('c', 'd')}, cleanup={'e'})
