"""The check at submission: what is converted without loss, and what is refused with which message."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from psij import (
    InvalidJobException,
    JobAttributes,
    JobSpec,
    ResourceSpec,
    ResourceSpecV1,
    StageIn,
    StageOut,
    StageOutFlags,
    StagingMode,
    _spec_check,
)
from psij._spec_check import check_spec

LATIN = '\udcff'  # how Python spells a byte that is not UTF-8


def _spec(**values: Any) -> Any:
    """Fill in a specification attribute by attribute, as clients do."""
    spec = JobSpec('/bin/true')
    for name, value in values.items():
        setattr(spec, name, value)
    return spec


def _attributes(**values: Any) -> Any:
    attributes = JobAttributes()
    for name, value in values.items():
        setattr(attributes, name, value)
    return _spec(attributes=attributes)


def _resources(**values: Any) -> Any:
    resources = ResourceSpecV1()
    for name, value in values.items():
        setattr(resources, name, value)
    return _spec(resources=resources)


def _staging(item: Union[StageIn, StageOut], **values: Any) -> Any:
    for name, value in values.items():
        setattr(item, name, value)
    return _spec(**{'stage_in' if isinstance(item, StageIn) else 'stage_out': [item]})


def _value(spec: JobSpec, path: str) -> Any:
    value: Any = spec
    for name in path.split('.'):
        value = value[int(name)] if name.isdigit() else getattr(value, name)
    return value


@pytest.mark.parametrize(
    ('spec', 'path', 'expected'),
    [
        (_spec(executable=Path('/bin/date')), 'executable', '/bin/date'),
        (_spec(arguments=('a', 'b')), 'arguments', ['a', 'b']),
        (_spec(arguments=['a', Path('b'), 3, 1.5]), 'arguments', ['a', 'b', '3', '1.5']),
        (_spec(arguments=['ä', LATIN]), 'arguments', ['ä', LATIN]),
        (_spec(name=5), 'name', '5'),
        (_spec(attributes=None), 'attributes', JobAttributes()),
        (_attributes(queue_name=5, account=6, reservation_id=7), 'attributes.queue_name', '5'),
        (_attributes(queue_name=5, account=6, reservation_id=7), 'attributes.account', '6'),
        (_attributes(queue_name=5, account=6, reservation_id=7), 'attributes.reservation_id', '7'),
        (_attributes(duration=30), 'attributes.duration', timedelta(minutes=30)),
        (_attributes(duration='1:30:00'), 'attributes.duration', timedelta(minutes=90)),
        (_attributes(duration='1 day, 0:00:00'), 'attributes.duration', timedelta(days=1)),
        (_attributes(duration=None), 'attributes.duration', None),
        (_spec(resources=None), 'resources', None),
        (_resources(node_count='2', memory=1024.0), 'resources', ResourceSpecV1(node_count=2, memory=1024)),
        (
            _spec(resources={'node_count': 2, 'process_per_node': '3', 'cpu_cores_per_process': None}),
            'resources',
            ResourceSpecV1(node_count=2, processes_per_node=3),
        ),
        (_staging(StageIn('a', 'b'), source='x://a', target='c'), 'stage_in.0', StageIn('x://a', 'c')),
        (_staging(StageOut('a', 'b'), source='c', target=Path('d')), 'stage_out.0', StageOut('c', 'd')),
    ],
)
def test_converted(spec: JobSpec, path: str, expected: object) -> None:
    check_spec(spec)
    value = _value(spec, path)
    assert value == expected
    assert type(value) is type(expected)
    check_spec(spec)
    assert _value(spec, path) == expected, 'checking again changes nothing'


def test_what_is_put_into_collections_later_is_converted() -> None:
    spec: Any = _spec(environment={'A': '1'}, cleanup={'a'})
    spec.environment['B'] = 2
    spec.cleanup.add('b')
    check_spec(spec)
    assert spec.environment == {'A': '1', 'B': '2'}
    assert spec.cleanup == {Path('a'), Path('b')}


def test_numbers_of_other_libraries_are_whole_numbers() -> None:
    class Int64:
        def __index__(self) -> int:
            return 4

    spec = _resources(node_count=Int64())
    check_spec(spec)
    assert spec.resources == ResourceSpecV1(node_count=4)


def _in_place(put: Callable[[Any], object]) -> JobSpec:
    spec = _spec(environment={'A': '1'}, cleanup={'a'})
    put(spec)
    assert isinstance(spec, JobSpec)
    return spec


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        (JobSpec(), 'Invalid executable: got None (NoneType), expected the name or the path of a program.'),
        (_spec(executable=''), "Invalid executable: got '' (str), expected the name or the path of a program."),
        (_spec(executable=['/bin/true']), 'Invalid executable: got '),
        (_spec(executable='a\0b'), r"Invalid executable: got 'a\x00b' (str), expected text without NUL characters"),
        (_spec(arguments='-u'), "Invalid arguments: got '-u' (str), expected a list of strings."),
        (_spec(arguments=['a', None]), 'Invalid arguments[1]: got None (NoneType), expected a string.'),
        (_spec(arguments=[b'a']), "Invalid arguments[0]: got b'a' (bytes), expected a string."),
        (_spec(arguments=['\0']), r"Invalid arguments[0]: got '\x00' (str), expected text without NUL"),
        (_spec(arguments=['\ud800']), r"Invalid arguments[0]: '\ud800' cannot be expressed in the encoding of"),
        (_spec(directory='a\0'), r"Invalid directory: got 'a\x00'"),
        (_spec(stdin_path='a\0'), r"Invalid stdin_path: got 'a\x00'"),
        (_spec(stdout_path='a\0'), r"Invalid stdout_path: got 'a\x00'"),
        (_spec(stderr_path='a\0'), r"Invalid stderr_path: got 'a\x00'"),
        (_spec(pre_launch='a\0'), r"Invalid pre_launch: got 'a\x00'"),
        (_spec(post_launch='a\0'), r"Invalid post_launch: got 'a\x00'"),
        (_spec(name=['n']), "Invalid name: got ['n'] (list), expected a string."),
        (_spec(launcher=['n']), "Invalid launcher: got ['n'] (list), expected a string."),
        (_spec(inherit_environment='no'), "Invalid inherit_environment: got 'no' (str), expected True or False."),
        (_spec(environment={'1A': ''}), "Invalid environment: '1A' is not the name of a variable."),
        (_spec(environment={'A B': ''}), "Invalid environment: 'A B' is not the name of a variable."),
        (_spec(environment={'A=': ''}), "Invalid environment: 'A=' is not the name of a variable."),
        (_spec(environment={'A\n': ''}), r"Invalid environment: 'A\n' is not the name of a variable."),
        (_spec(environment={'': ''}), "Invalid environment: '' is not the name of a variable."),
        (_spec(environment={'Ä': ''}), "Invalid environment: 'Ä' is not the name of a variable."),
        (_spec(environment={'A': 'a\0'}), r"Invalid environment['A']: got 'a\x00'"),
        (_spec(resources='2 nodes'), "Invalid resources: got '2 nodes' (str), expected a ResourceSpec."),
        (_spec(resources={'nodes': 2}), "Invalid resources: got {'nodes': 2} (dict), expected a ResourceSpec, which"),
        (_resources(node_count='two'), "Invalid resources.node_count: got 'two' (str), expected a whole number."),
        (_resources(node_count=1.5), 'Invalid resources.node_count: got 1.5 (float), expected a whole number.'),
        (
            _resources(node_count=float('nan')),
            'Invalid resources.node_count: got nan (float), expected a whole number.',
        ),
        (_resources(memory=[]), 'Invalid resources.memory: got [] (list), expected a whole number.'),
        (_resources(node_count=0), 'The node_count must be a whole number and at least 1, not 0.'),
        (_resources(exclusive_node_use='x'), "The exclusive_node_use must be True or False, not 'x'."),
        (_resources(node_count=2, process_count=3), 'The process_count (3) must be an integral multiple of'),
        (_spec(attributes={}), 'Invalid attributes: got {} (dict), expected JobAttributes.'),
        (_attributes(queue_name=['q']), "Invalid attributes.queue_name: got ['q'] (list), expected a string."),
        (_attributes(account='a\0'), r"Invalid attributes.account: got 'a\x00'"),
        (_attributes(reservation_id=b'r'), "Invalid attributes.reservation_id: got b'r' (bytes), expected a string."),
        (_attributes(duration='soon'), "Invalid attributes.duration: 'soon': Unknown walltime format: soon."),
        (_attributes(duration=[5]), 'Invalid attributes.duration: [5]: a duration must be a timedelta'),
        (_attributes(duration=0), 'Invalid attributes.duration: got 0 (int), expected a positive duration.'),
        (_attributes(duration=timedelta(seconds=-1)), 'Invalid attributes.duration: got datetime.timedelta('),
        (_attributes(custom_attributes=['a']), "Invalid attributes.custom_attributes: got ['a'] (list), expected a"),
        (
            _attributes(custom_attributes={1: 'a'}),
            "Invalid attributes.custom_attributes: got {1: 'a'} (dict), expected",
        ),
        (_spec(stage_in='a'), "Invalid stage_in: got 'a' (str), expected a set or a list of StageIn objects."),
        (_spec(stage_in=[StageOut('a', 'b')]), 'Invalid stage_in: got StageOut['),
        (_spec(stage_out={'a'}), "Invalid stage_out: got 'a' (str), expected a StageOut object."),
        (
            _staging(StageIn('a', 'b'), source=5),
            'Invalid stage_in: StageIn[5 -> b, StagingMode.COPY]: a location must be',
        ),
        (_staging(StageIn('a', 'b'), mode='copy'), 'Invalid stage_in: StageIn[a -> b, copy]: a mode must be a'),
        (_staging(StageOut('a', 'b'), source=5), 'Invalid stage_out: StageOut[5 -> b, StageOutFlags.ALWAYS, Stag'),
        (
            _staging(StageOut('a', 'b'), target='http://['),
            'Invalid stage_out: StageOut[a -> http://[, StageOutFlags.ALWAYS, StagingMode.COPY]: Invalid URI',
        ),
        (_staging(StageIn('a', 'b'), target=Path('\0')), r"Invalid stage_in: got '\x00'"),
        (_in_place(lambda spec: spec.cleanup.add(5)), 'Invalid cleanup: cleanup must be a string or a Path, not 5'),
        (_spec(cleanup=['a\0']), r"Invalid cleanup: got 'a\x00'"),
        (_spec(cleanup_flags=14), 'Invalid cleanup_flags: got 14 (int), expected StageOutFlags.'),
    ],
)
def test_refused(spec: JobSpec, message: str) -> None:
    with pytest.raises(InvalidJobException, match=f'^{re.escape(message)}'):
        check_spec(spec)


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        (_spec(environment={1: 'foo'}), 'environment key "1" is not a string (<class \'int\'>)'),
        (
            _in_place(lambda spec: spec.environment.update(A=['x'])),
            'environment value for key "A" must be string or int type (<class \'list\'>)',
        ),
        (_spec(environment={'A': None}), 'environment value for key "A" must be string or int type ('),
    ],
)
def test_an_environment_of_wrong_types_is_a_type_error_too(spec: JobSpec, message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)) as raised:
        check_spec(spec)
    assert isinstance(raised.value, InvalidJobException)


def test_causes_are_kept() -> None:
    with pytest.raises(InvalidJobException) as raised:
        check_spec(_attributes(duration='soon'))
    assert isinstance(raised.value.__cause__, ValueError)
    assert raised.value.exception is raised.value.__cause__


def test_resources_of_another_kind_are_left_to_the_executor() -> None:
    class ResourceSpecV2(ResourceSpec):
        version = 2

    spec = _spec(resources=ResourceSpecV2())
    check_spec(spec)
    assert spec.resources.version == 2


def test_a_full_specification_passes() -> None:
    spec = JobSpec(
        '/bin/date',
        ['-u'],
        Path('/d'),
        'n',
        False,
        {'A_1': 'x', '_b': ''},
        *(Path('a'), Path('b'), Path('c')),
        ResourceSpecV1(2, 6, 3, 1, 0, True, 0),
        JobAttributes(timedelta(hours=1), 'q', 'a', 'r', {'slurm.qos': 1}),
        *(Path('p'), Path('q')),
        'mpirun',
        {StageIn('a', 'b', StagingMode.LINK)},
        {StageOut('a', 'b', StageOutFlags.IF_PRESENT)},
        {Path('c')},
        StageOutFlags.NONE,
    )
    before = repr(spec)
    check_spec(spec)
    assert repr(spec) == before


KERNEL_TEXT = st.binary().map(lambda data: data.replace(b'\0', b'').decode('utf-8', 'surrogateescape'))


@given(st.lists(KERNEL_TEXT), st.dictionaries(st.from_regex('[A-Za-z_][A-Za-z0-9_]*', fullmatch=True), KERNEL_TEXT))
def test_what_the_kernel_accepts_is_accepted(arguments: list[str], environment: dict[str, str]) -> None:
    spec = _spec(arguments=list(arguments), environment=environment)
    check_spec(spec)
    assert (spec.arguments, spec.environment) == (arguments, environment)


def test_attributes_that_mean_nothing_are_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs may keep data of their own in a specification, but a misspelt name must not go unnoticed."""
    monkeypatch.setattr(_spec_check, '_warned', set())
    for _ in range(2):
        spec: Any = JobSpec('/bin/true', resources=ResourceSpecV1())
        spec._own = 1
        spec.stdout = 'x'
        spec.attributes.queue = 'gpu'
        spec.resources.zebra = 3
        check_spec(spec)
    assert [record.getMessage() for record in caplog.records] == [
        "JobSpec has no attribute 'stdout', so it is ignored; did you mean 'stdout_path'?",
        "ResourceSpecV1 has no attribute 'zebra', so it is ignored",
        "JobAttributes has no attribute 'queue', so it is ignored; did you mean 'queue_name'?",
    ]
