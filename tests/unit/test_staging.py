"""Locations, and what is to be staged."""

from __future__ import annotations

import copy
import pickle
import weakref
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psij import URI, StageIn, StageOut, StageOutFlags, StagingMode
from psij.staging import in_order

PLAIN = ['a', '/a#b', 'a?b', 'a;b', 'a%20b', 'a b', 'C:/x', ':', 'a:b', '//host/path', '', 'ä/ö', 'a b://c', '1s://x']


@pytest.mark.parametrize('text', PLAIN)
def test_a_text_without_scheme_is_a_plain_path(text: str) -> None:
    uri = URI(text)
    assert (str(uri), uri.path, uri.scheme, uri.netloc, uri.query, uri.fragment) == (text, text, '', '', '', '')
    assert (uri.hostname, uri.port, uri.username, uri.password, uri.params) == (None, None, None, None, '')


@given(st.text())
def test_a_path_is_never_taken_for_a_uri(text: str) -> None:
    path = Path(text)
    for uri in (StageIn(path, 'x').source, StageOut('x', path).target):
        assert (uri.scheme, uri.netloc, uri.path, str(uri)) == ('', '', str(path), str(path))


def test_a_path_that_looks_like_a_uri_is_not_that_uri() -> None:
    assert StageIn(Path('x://a'), 'b') == StageIn('x:/a', 'b') != StageIn('x://a', 'b') == StageIn(URI('x://a'), 'b')


def test_parts_of_a_uri() -> None:
    uri = URI('sftp://Alice:pw@Example.ORG:22/dir/file;type=a?x=1#top')
    assert (uri.scheme, uri.hostname, uri.port, uri.path) == ('sftp', 'example.org', 22, '/dir/file')
    assert (uri.netloc, uri.username, uri.password) == ('Alice:pw@Example.ORG:22', 'Alice', 'pw')
    assert (uri.params, uri.query, uri.fragment) == ('type=a', 'x=1', 'top')
    assert uri.parts.geturl() == str(uri)


@pytest.mark.parametrize('text', ['https://h', 'https://h/p', 'file:///x', 'x:////a', 'x://', 'a+b-1.2://h/p?', *PLAIN])
def test_the_text_of_a_location_is_that_location(text: str) -> None:
    assert URI(str(URI(text))) == URI(text)
    assert str(URI(text)) == text
    assert repr(URI(text)) == f'URI({text!r})'


def test_equality_and_hash_of_locations() -> None:
    assert URI('a') == URI('a') != URI('b')
    assert URI('a') != 'a'
    assert len({URI('a'), URI('a'), URI('x://a')}) == 2


def test_modes_and_flags() -> None:
    assert {mode.name: mode.value for mode in StagingMode} == {'COPY': 1, 'LINK': 2, 'MOVE': 3}
    values = {name: flag.value for name, flag in StageOutFlags.__members__.items()}
    assert values == {'NONE': 0, 'IF_PRESENT': 1, 'ON_SUCCESS': 2, 'ON_ERROR': 4, 'ON_CANCEL': 8, 'ALWAYS': 14}


def test_stage_in() -> None:
    item = StageIn('a', 'b')
    assert (item.source, item.target, item.mode) == (URI('a'), Path('b'), StagingMode.COPY)
    assert StageIn(URI('x://a'), Path('b'), StagingMode.LINK).source.scheme == 'x'
    assert str(item) == repr(item) == 'StageIn[a -> b, StagingMode.COPY]'


def test_stage_out(capsys: pytest.CaptureFixture[str]) -> None:
    item = StageOut('a', 'b')
    assert (item.source, item.target, item.mode) == (Path('a'), URI('b'), StagingMode.COPY)
    assert str(item) == repr(item) == 'StageOut[a -> b, StageOutFlags.ALWAYS, StagingMode.COPY]'
    assert capsys.readouterr() == ('', ''), 'the library prints nothing'


IF_PRESENT, ON_CANCEL, ON_ERROR = StageOutFlags.IF_PRESENT, StageOutFlags.ON_CANCEL, StageOutFlags.ON_ERROR


@pytest.mark.parametrize(
    ('given', 'value', 'text'),
    [
        (StageOutFlags.NONE, 14, 'ALWAYS'),
        (StageOutFlags.IF_PRESENT, 15, 'IF_PRESENT|ON_SUCCESS|ON_ERROR|ON_CANCEL'),
        (ON_CANCEL | IF_PRESENT, 9, 'IF_PRESENT|ON_CANCEL'),
        (ON_ERROR, 4, 'ON_ERROR'),
    ],
)
def test_without_a_condition_all_are_meant(given: StageOutFlags, value: int, text: str) -> None:
    item = StageOut('a', 'b', given)
    assert item.flags.value == value
    assert f'StageOutFlags.{text},' in str(item)
    item.flags = StageOutFlags.ON_SUCCESS
    item.flags = given
    assert item.flags.value == value


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        (StageIn('a', 'b'), StageIn('a', 'b', StagingMode.MOVE)),
        (StageIn('a', 'b'), StageIn('a', 'c')),
        (StageIn('a', 'b'), StageIn('c', 'b')),
        (StageOut('a', 'b'), StageOut('a', 'b', ON_ERROR)),
        (StageOut('a', 'b'), StageOut('a', 'b', mode=StagingMode.MOVE)),
        (StageOut('a', 'b'), StageOut('a', 'c')),
        (StageOut('a', 'b'), StageOut('c', 'b')),
        (StageIn('a', 'b'), StageOut('a', 'b')),
    ],
)
def test_every_attribute_counts_for_equality(one: object, other: object) -> None:
    assert one == copy.copy(one)
    assert one != other
    assert len({one, other, copy.copy(one)}) == 2


@pytest.mark.parametrize('item', [URI('a'), URI('x://h/p'), StageIn('a', 'b'), StageOut('a', Path('x://b'), ON_ERROR)])
def test_copies(item: object) -> None:
    assert copy.deepcopy(item) == item
    assert pickle.loads(pickle.dumps(item)) == item


def test_what_is_staged_can_be_referred_to_weakly() -> None:
    item = StageIn('a', 'b')
    assert weakref.ref(item)() is item


# what a program that is not type-checked may give
WRONG: Any = 5
WRONG_TARGET: Any = URI('b')


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: StageIn(WRONG, 'b'), 'location must be a URI, a path or a string, not 5'),
        (lambda: StageIn('a', WRONG), 'path must be a string or a Path, not 5'),
        (lambda: StageIn('a', WRONG_TARGET), 'path must be a string or a Path, not URI'),
        (lambda: StageIn('a', 'b', WRONG), 'mode must be a StagingMode, not 5'),
        (lambda: StageOut(WRONG, 'b'), 'path must be a string or a Path, not 5'),
        (lambda: StageOut('a', WRONG), 'location must be'),
        (lambda: StageOut('a', 'b', WRONG), 'flags must be StageOutFlags, not 5'),
        (lambda: StageOut('a', 'b', mode=WRONG), 'mode must be'),
    ],
)
def test_wrong_types(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


def test_lists_keep_their_order_and_sets_get_one() -> None:
    items = [StageIn(name, name) for name in 'cab']
    assert in_order(items) == items
    assert in_order(tuple(items)) == items
    assert in_order(set(items)) == in_order(frozenset(items)) == sorted(items, key=str)
