"""Attributes, and walltimes in all their forms."""

from __future__ import annotations

import copy
import pickle
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typeguard import TypeCheckError, suppress_type_checks

from psij import JobAttributes
from psij.job_attributes import as_duration

parse = JobAttributes.parse_walltime
NAMES = ('duration', 'queue_name', 'account', 'reservation_id', 'custom_attributes')


def test_positions_and_defaults() -> None:
    attributes = JobAttributes(timedelta(hours=1), 'q', 'a', 'r', {'slurm.qos': 'x'})
    assert [getattr(attributes, n) for n in NAMES] == [timedelta(hours=1), 'q', 'a', 'r', {'slurm.qos': 'x'}]
    assert [getattr(JobAttributes(), n) for n in NAMES] == [timedelta(minutes=10), None, None, None, None]


def test_text() -> None:
    assert repr(JobAttributes()) == str(JobAttributes())
    assert repr(JobAttributes()) == (
        'JobAttributes(duration=0:10:00, queue_name=None, account=None, reservation_id=None, custom_attributes=None)'
    )
    assert repr(JobAttributes(queue_name='q', custom_attributes={'a': 1})) == (
        "JobAttributes(duration=0:10:00, queue_name=q, account=None, reservation_id=None, custom_attributes={'a': 1})"
    )


DEPRECATED = 'The "project_name" attribute is deprecated. Please use the "account" attribute instead.'


def test_project_name_is_the_account(caplog: pytest.LogCaptureFixture) -> None:
    attributes = JobAttributes(account='a', project_name='p')
    assert (attributes.account, attributes.project_name) == ('p', 'p')
    attributes.account = 'b'
    assert attributes.project_name == 'b'
    assert [(record.name, record.levelname, record.message) for record in caplog.records] == [
        ('psij.job_attributes', 'WARNING', DEPRECATED)
    ]


def test_no_project_name_is_no_reason_to_warn(caplog: pytest.LogCaptureFixture) -> None:
    attributes = JobAttributes(account='a', project_name=None)
    assert attributes.account == 'a'
    attributes.project_name = None
    assert attributes.account is None
    assert not caplog.records


def test_custom_attributes() -> None:
    given = {'slurm.qos': 'x'}
    attributes = JobAttributes(custom_attributes=given)  # type: ignore[arg-type]  # dictionaries are invariant
    assert attributes.custom_attributes is given, 'not copied'
    attributes.set_custom_attribute('a', 1)
    assert given == {'slurm.qos': 'x', 'a': 1}
    attributes.custom_attributes = None
    assert attributes.get_custom_attribute('a') is None
    attributes.set_custom_attribute('b', 2)
    assert attributes.custom_attributes == {'b': 2}
    assert (attributes.get_custom_attribute('b'), attributes.get_custom_attribute('c')) == (2, None)


@pytest.mark.parametrize(
    'wrong',
    [
        {'duration': None},
        {'duration': 5},
        {'duration': '1:00'},
        {'queue_name': 1},
        {'account': 1},
        {'reservation_id': 1},
        {'project_name': 1},
        {'custom_attributes': []},
        {'custom_attributes': {'a': 1, 2: 'b'}},
    ],
)
def test_wrong_types(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(TypeCheckError, match=f'argument "{name}"'):
        JobAttributes(**wrong)
    with suppress_type_checks():
        assert getattr(JobAttributes(**wrong), name) == wrong[name]


def test_assignments_are_not_checked() -> None:
    attributes: Any = JobAttributes()
    attributes.duration = 30
    assert attributes.duration == 30


@pytest.mark.parametrize('name', NAMES)
def test_every_attribute_counts_for_equality(name: str) -> None:
    attributes = JobAttributes()
    assert attributes == JobAttributes()
    setattr(attributes, name, {'x': [1]})
    assert attributes != JobAttributes()
    assert copy.deepcopy(attributes) == pickle.loads(pickle.dumps(attributes)) == attributes


def test_unhashable_since_it_changes() -> None:
    with pytest.raises(TypeError):
        hash(JobAttributes())


@pytest.mark.parametrize(
    ('text', 'duration'),
    [
        ('01:02:03', timedelta(hours=1, minutes=2, seconds=3)),
        ('1:2:3', timedelta(hours=1, minutes=2, seconds=3)),
        ('100:00:00', timedelta(hours=100)),
        ('01:02', timedelta(hours=1, minutes=2)),
        ('90', timedelta(minutes=90)),
        ('0', timedelta(0)),
        ('2y', timedelta(days=730)),
        ('2M', timedelta(days=60)),
        ('9d', timedelta(days=9)),
        ('5h', timedelta(hours=5)),
        ('5 h', timedelta(hours=5)),
        ('7m', timedelta(minutes=7)),
        ('8s', timedelta(seconds=8)),
        ('8ms', timedelta(milliseconds=8)),
        ('1.5h', timedelta(minutes=90)),
        ('.5 h', timedelta(minutes=30)),
        ('600.0 s', timedelta(seconds=600)),
        ('0.0005 ms', timedelta(microseconds=1)),
        ('999999999 d', timedelta(days=999999999)),
    ],
)
def test_walltimes(text: str, duration: timedelta) -> None:
    assert parse(text) == duration


@pytest.mark.parametrize(
    'text',
    [
        *('', ' ', ' 5 ', '-5', '+5', '5.', '1.5', '1e3 s', '1_000', '٣', 'abc', 'a:b'),
        *('1:', ':1', '1:2:3:4', '1:2h', '-1:00', '1:00:00.5'),
        *('5 H', '5 S', '5 D', '5min', '10min', 'x5sx', '1h30m', '5 h ', 'h', '5 . 5 h', '5h\n', '90\n'),
    ],
)
def test_anything_else_is_refused_as_a_whole(text: str) -> None:
    with pytest.raises(ValueError, match='Unknown walltime format: ') as raised:
        parse(text)
    assert text in str(raised.value)
    assert r'hh:mm:ss, hh:mm, mm, or n\s*[y|M|d|h|m|s|ms]' in str(raised.value)


@pytest.mark.parametrize('text', ['1000000000 d', '9' * 20 + ':00', '9' * 20])
def test_more_than_can_be_expressed(text: str) -> None:
    with pytest.raises(ValueError, match='too long'):
        parse(text)


MICROSECONDS = {'y': 31536 * 10**9, 'M': 2592 * 10**9, 'd': 864 * 10**8, 'h': 36 * 10**8, 'm': 6 * 10**7, 's': 10**6}


@given(st.integers(0, 10**6), st.sampled_from([*MICROSECONDS, 'ms']), st.sampled_from(['', ' ', '  ', '\t']))
def test_numbers_with_units(number: int, unit: str, blanks: str) -> None:
    assert parse(f'{number}{blanks}{unit}') == timedelta(microseconds=number * MICROSECONDS.get(unit, 1000))


@given(st.integers(0, 10**15))
def test_fractions_are_exact(microseconds: int) -> None:
    text = f'{microseconds // 10**6}.{microseconds % 10**6:06}'
    assert parse(f'{text} s') == timedelta(microseconds=microseconds)


@given(st.integers(0, 9999), st.integers(0, 99), st.integers(0, 99))
def test_clocks(first: int, second: int, third: int) -> None:
    assert parse(f'{first}:{second:02}:{third:02}') == timedelta(hours=first, minutes=second, seconds=third)
    assert parse(f'{first}:{second:02}') == timedelta(hours=first, minutes=second)
    assert parse(f'{first}') == timedelta(minutes=first)


@given(st.text(st.sampled_from('0123456789:.hmsdyM -'), max_size=8))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        duration = parse(text)
    except ValueError:
        return
    assert duration >= timedelta(0)


@given(st.timedeltas(timedelta(0), timedelta(days=400)))
def test_the_text_of_a_timedelta_is_understood(duration: timedelta) -> None:
    assert as_duration(str(duration)) == as_duration(duration) == duration


def test_numbers_are_minutes() -> None:
    assert as_duration(30) == as_duration('30') == timedelta(minutes=30)
    assert as_duration(0.5) == timedelta(seconds=30)


@pytest.mark.parametrize('value', [True, None, b'5', [5]])
def test_not_a_duration(value: object) -> None:
    with pytest.raises(TypeError, match='a duration must be a timedelta, a walltime or a number of minutes, not'):
        as_duration(value)


@pytest.mark.parametrize('value', [float('inf'), float('nan'), 1e300, 'soon'])
def test_not_a_possible_duration(value: object) -> None:
    with pytest.raises(ValueError, match=r'minutes|walltime|NaN'):
        as_duration(value)
