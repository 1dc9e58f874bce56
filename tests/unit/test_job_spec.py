"""Specifications: what constructors and assignments accept, equality, copies."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typeguard import TypeCheckError, suppress_type_checks

from psij import JobAttributes, JobSpec, ResourceSpecV1, StageIn, StageOut, StageOutFlags
from psij.job_spec import FIELDS

PATHS = ('directory', 'stdin_path', 'stdout_path', 'stderr_path', 'pre_launch', 'post_launch')

# a value for each parameter that is not the default
VALUES: dict[str, Any] = {
    'executable': '/bin/date',
    'arguments': ['-u', 'a b'],
    'directory': Path('/d'),
    'name': 'n',
    'inherit_environment': False,
    'environment': {'A': '1'},
    'stdin_path': Path('i'),
    'stdout_path': Path('o'),
    'stderr_path': Path('e'),
    'resources': ResourceSpecV1(node_count=2),
    'attributes': JobAttributes(timedelta(hours=1)),
    'pre_launch': Path('p'),
    'post_launch': Path('q'),
    'launcher': 'mpirun',
    'stage_in': {StageIn('a', 'b')},
    'stage_out': {StageOut('a', 'b')},
    'cleanup': {Path('c')},
    'cleanup_flags': StageOutFlags.ON_ERROR,
}


def test_parameters_in_order() -> None:
    """The order is part of the interface: version 0.9.0 had another one, and programs use positions."""
    assert tuple(inspect.signature(JobSpec).parameters) == tuple(VALUES) == FIELDS
    spec = JobSpec(*VALUES.values())
    assert {name: getattr(spec, name) for name in FIELDS} == VALUES


def test_defaults() -> None:
    spec = JobSpec()
    values = {name: getattr(spec, name) for name in FIELDS}
    assert values.pop('inherit_environment') is True
    assert values.pop('cleanup_flags') is StageOutFlags.ALWAYS
    assert values.pop('attributes') == JobAttributes()
    assert set(values.values()) == {None}


def test_each_specification_has_attributes_of_its_own() -> None:
    assert JobSpec().attributes is not JobSpec().attributes


def test_the_name_is_the_executable_until_it_is_set() -> None:
    spec = JobSpec('/bin/date')
    assert spec.name == '/bin/date'
    spec.executable = '/bin/true'
    assert spec.name == '/bin/true'
    spec.name = 'n'
    assert spec.name == 'n'
    spec.name = None
    assert spec.name == '/bin/true'


def test_numbers_in_the_environment_become_strings() -> None:
    given = {'INT': 42, 'BOOL': True, 'STR': 'x', 'EMPTY': ''}
    spec = JobSpec(environment=given)  # type: ignore[arg-type]  # dictionaries are invariant
    assert spec.environment == {'INT': '42', 'BOOL': 'True', 'STR': 'x', 'EMPTY': ''}
    assert given['INT'] == 42, 'the dictionary of the caller is not changed'
    spec.environment = {'bar': 42}
    assert spec.environment == {'bar': '42'}
    spec.environment = None
    assert spec.environment is None


@pytest.mark.parametrize('name', PATHS)
def test_paths(name: str) -> None:
    spec = JobSpec(**{name: 'a/b'})  # type: ignore[arg-type]
    assert getattr(spec, name) == Path('a/b')
    for value in (Path('/x'), None):
        setattr(spec, name, value)
        assert getattr(spec, name) == value
    setattr(spec, name, '~/x')
    assert getattr(spec, name) == Path('~/x'), 'neither expanded nor made absolute'
    with pytest.raises(AssertionError, match=f'{name} must be a string or a Path, not 5'):
        setattr(spec, name, 5)


def test_cleanup_becomes_paths_and_drops_none() -> None:
    spec = JobSpec(cleanup={'a', Path('b')})
    assert spec.cleanup == {Path('a'), Path('b')}
    spec.cleanup = {'c', None}  # type: ignore[arg-type]
    assert spec.cleanup == {Path('c')}
    spec.cleanup = None
    assert spec.cleanup is None


@pytest.mark.parametrize('kind', [list, tuple, iter])
def test_cleanup_keeps_an_order_that_is_given(kind: Callable[[list[str]], Any]) -> None:
    spec = JobSpec()
    spec.cleanup = kind(['b', 'a', 'c'])
    assert spec.cleanup == [Path('b'), Path('a'), Path('c')]


@pytest.mark.parametrize('path', ['/data', Path('/data')])
def test_a_single_path_is_not_taken_apart(path: Any) -> None:
    """As a collection of characters, ``/data`` would ask to remove ``/``."""
    with pytest.raises(AssertionError, match='not the single path'):
        JobSpec().cleanup = path


def test_cleanup_of_something_else() -> None:
    with pytest.raises(AssertionError, match='cleanup must be a string or a Path, not 5'):
        JobSpec().cleanup = [5]  # type: ignore[list-item]


@pytest.mark.parametrize('name', ['stage_in', 'stage_out'])
def test_lists_stay_lists(name: str) -> None:
    spec, items = JobSpec(), [VALUES[name]]
    setattr(spec, name, items)
    assert getattr(spec, name) is items


def test_other_assignments_are_taken_as_they_come() -> None:
    spec: Any = JobSpec()
    for name in set(FIELDS) - {*PATHS, 'environment', 'cleanup'}:
        setattr(spec, name, 5)
        assert getattr(spec, name) == 5


def test_an_environment_that_is_no_dictionary() -> None:
    with pytest.raises(TypeError, match='environment must be a dictionary or None, not'):
        JobSpec().environment = ['A=1']  # type: ignore[assignment]


@pytest.mark.parametrize(
    'wrong',
    [
        {'executable': Path('/bin/date')},
        {'arguments': ('a',)},
        {'arguments': 'a'},
        {'arguments': [1]},
        {'arguments': ['a', 1]},
        {'directory': 5},
        {'name': 5},
        {'inherit_environment': 'x'},
        {'environment': ['A=1']},
        {'environment': {'A': 1.5}},
        {'environment': {'A': '1', 'B': 1.5}},
        {'environment': {'A': '1', 2: '2'}},
        {'stdin_path': 5},
        {'stdout_path': 5},
        {'stderr_path': 5},
        {'resources': {}},
        {'attributes': {}},
        {'pre_launch': 5},
        {'post_launch': 5},
        {'launcher': 5},
        {'stage_in': [StageIn('a', 'b')]},
        {'stage_in': {StageIn('a', 'b'), StageOut('a', 'b')}},
        {'stage_out': {'a'}},
        {'cleanup': ['a']},
        {'cleanup': {'a', 5}},
        {'cleanup_flags': 14},
    ],
    ids=''.join,
)
def test_wrong_types_are_refused_at_once(wrong: dict[str, Any]) -> None:
    """Every element of a collection is looked at, and the message names the argument."""
    (name,) = wrong
    with pytest.raises(TypeCheckError, match=f'argument "{name}"'):
        JobSpec(**wrong)


def test_paths_among_the_arguments_are_accepted() -> None:
    assert JobSpec(arguments=['a', Path('b')]).arguments == ['a', Path('b')]  # type: ignore[list-item]


def test_type_checks_can_be_suppressed() -> None:
    with suppress_type_checks():
        assert JobSpec(environment={1: 'foo'}).environment == {1: 'foo'}  # type: ignore[dict-item, comparison-overlap]


def test_unknown_arguments() -> None:
    with pytest.raises(TypeError):
        JobSpec(walltime=5)  # type: ignore[call-arg]


@pytest.mark.parametrize('name', FIELDS)
def test_every_attribute_counts_for_equality(name: str) -> None:
    spec = JobSpec()
    assert spec == JobSpec()
    setattr(spec, name, VALUES[name])
    assert spec != JobSpec()
    twin = JobSpec()
    setattr(twin, name, copy.deepcopy(VALUES[name]))
    assert spec == twin


def test_the_order_of_lists_counts_for_equality() -> None:
    one, other = JobSpec(), JobSpec()
    one.cleanup, other.cleanup = ['a', 'b'], ['b', 'a']
    assert one != other


def test_unhashable_since_it_changes() -> None:
    with pytest.raises(TypeError):
        hash(JobSpec())


def test_copies() -> None:
    spec: Any = JobSpec(**VALUES)
    spec.note = 'mine'  # programs hang their own things on it
    for twin in (copy.copy(spec), copy.deepcopy(spec), pickle.loads(pickle.dumps(spec))):
        assert twin == spec
        assert twin.note == 'mine'
    deep = copy.deepcopy(spec)
    assert deep.arguments is not spec.arguments
    assert deep.attributes is not spec.attributes


def test_text_shows_what_is_set_and_no_secrets() -> None:
    spec = JobSpec('/bin/date', environment={'TOKEN': 'secret'}, attributes=JobAttributes(queue_name='q'))
    assert repr(spec).startswith("JobSpec(executable='/bin/date', environment='<TOKEN>', attributes=JobAttributes(")
    assert 'secret' not in repr(spec)
    assert 'cleanup_flags' not in repr(spec)
    assert "name='n'" in repr(JobSpec(name='n'))
