"""Specifications as JSON: the format, exact round trips, errors that name the key, and the older format."""

from __future__ import annotations

import io
import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import psij
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
)
from psij._spec_check import check_spec
from psij.serialize import Export, Import, JSONSerializer

JSON = JSONSerializer()

FULL = JobSpec(
    '/bin/date',
    ['a'],
    Path('/d'),
    'n',
    False,
    {'A': 1},
    *(Path('i'), Path('o'), Path('e')),
    ResourceSpecV1(2, 6, 3, 4, 5, True, 1024),
    JobAttributes(timedelta(seconds=3600.5), 'q', 'acct', 'r', {'slurm.qos': 'x', 'n': 1, 't': timedelta(seconds=90)}),
    *(Path('p'), Path('q')),
    'mpirun',
)

FULL_TREE = {
    'executable': '/bin/date',
    'arguments': ['a'],
    'directory': '/d',
    'name': 'n',
    'inherit_environment': False,
    'environment': {'A': '1'},
    'stdin_path': 'i',
    'stdout_path': 'o',
    'stderr_path': 'e',
    'resources': {
        'node_count': 2,
        'process_count': 6,
        'processes_per_node': 3,
        'cpu_cores_per_process': 4,
        'gpu_cores_per_process': 5,
        'exclusive_node_use': True,
        'memory': 1024,
        '__version': 1,
    },
    'attributes': {
        'duration': '3600.5 s',
        'queue_name': 'q',
        'account': 'acct',
        'reservation_id': 'r',
        'custom_attributes': {'slurm.qos': 'x', 'n': 1, 't': '90.0 s'},
        'project_name': 'acct',
    },
    'pre_launch': 'p',
    'post_launch': 'q',
    'launcher': 'mpirun',
}


@pytest.mark.parametrize(
    ('spec', 'text'),
    [
        (JobSpec(), '{"attributes": {}}'),
        (JobSpec('/bin/date'), '{"executable": "/bin/date", "name": "/bin/date", "attributes": {}}'),
        (JobSpec(resources=ResourceSpecV1()), '{"resources": {"__version": 1}, "attributes": {}}'),
        (FULL, json.dumps(FULL_TREE)),
    ],
)
def test_format(spec: JobSpec, text: str) -> None:
    """Files are exchanged with other versions, which write and read exactly this."""
    assert JSON.dumps(spec) == text


def test_staging_format() -> None:
    spec: Any = JobSpec(stage_in={StageIn('x://h/a', 'b', StagingMode.LINK)}, cleanup_flags=StageOutFlags.ON_ERROR)
    spec.stage_out = [StageOut('c', 'd'), StageOut('a', 'b', StageOutFlags.IF_PRESENT | StageOutFlags.ON_CANCEL)]
    spec.cleanup = ['z', 'y']
    assert json.loads(JSON.dumps(spec)) == {
        'attributes': {},
        'stage_in': {'set': [{'source': 'x://h/a', 'target': 'b', 'mode': 'LINK'}]},
        'stage_out': [
            {'source': 'c', 'target': 'd', 'flags': ['ON_SUCCESS', 'ON_ERROR', 'ON_CANCEL'], 'mode': 'COPY'},
            {'source': 'a', 'target': 'b', 'flags': ['IF_PRESENT', 'ON_CANCEL'], 'mode': 'COPY'},
        ],
        'cleanup': ['z', 'y'],
        'cleanup_flags': ['ON_ERROR'],
    }


def test_hand_written_staging() -> None:
    """What is left out has its default, and the order in the file is the order of staging."""
    spec = JSON.loads(
        '{"executable": "x", "stage_in": [{"source": "b", "target": "b"}, {"source": "a", "target": "a"}],'
        ' "stage_out": [{"source": "b", "target": "b"}], "cleanup": ["b", "a"], "cleanup_flags": []}'
    )
    assert [str(item) for item in spec.stage_in or ()] == [str(StageIn('b', 'b')), str(StageIn('a', 'a'))]
    assert list(spec.stage_out or ()) == [StageOut('b', 'b')]
    assert list(spec.cleanup or ()) == [Path('b'), Path('a')]
    assert spec.cleanup_flags is StageOutFlags.NONE


# Text of any kind, and bytes that are not UTF-8 in the way in which Python spells them in paths.
TEXT = st.text(max_size=8) | st.binary(max_size=8).map(os.fsdecode)
PATHS = TEXT.map(Path)
COUNT = st.integers(1, 2**40)
DURATIONS = st.timedeltas(timedelta(0), timedelta(days=10**6))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXT, values, max_size=3),
    max_leaves=5,
)
ATTRIBUTES = st.builds(
    JobAttributes,
    DURATIONS,
    *(st.none() | TEXT,) * 3,
    custom_attributes=st.none() | st.dictionaries(TEXT, JSON_VALUES, max_size=3),
)
RESOURCES = st.builds(
    ResourceSpecV1,
    *(st.none() | COUNT, st.none(), *(st.none() | COUNT,) * 3),
    exclusive_node_use=st.booleans(),
    memory=st.none() | COUNT,
)
FLAGS = st.sets(st.sampled_from([1, 2, 4, 8])).map(lambda values: StageOutFlags(sum(values)))
MODES = st.sampled_from(list(StagingMode))
LOCATIONS = TEXT | st.builds(
    '{}://{}'.format, st.sampled_from(['file', 'x', 'A+b']), st.text('ab/:#?;%@ \n', max_size=8)
)
STAGE_IN = st.builds(StageIn, LOCATIONS, PATHS, MODES)
STAGE_OUT = st.builds(StageOut, PATHS, LOCATIONS, FLAGS, MODES)


def _collections(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | st.sets(items, max_size=3) | st.lists(items, max_size=3)


@st.composite
def specs(draw: st.DrawFn) -> Any:
    values: dict[str, Any] = {
        'executable': draw(st.none() | TEXT),
        'arguments': draw(st.none() | st.lists(TEXT, max_size=3)),
        'name': draw(st.none() | TEXT),
        'inherit_environment': draw(st.booleans()),
        'environment': draw(st.none() | st.dictionaries(TEXT, TEXT | st.integers(), max_size=3)),
        'resources': draw(st.none() | RESOURCES),
        'attributes': draw(ATTRIBUTES),
        'launcher': draw(st.none() | TEXT),
        'cleanup_flags': draw(FLAGS),
    }
    paths = ('directory', 'stdin_path', 'stdout_path', 'stderr_path', 'pre_launch', 'post_launch')
    values.update((name, draw(st.none() | PATHS)) for name in paths)
    spec: Any = JobSpec(**values)
    spec.stage_in, spec.stage_out = draw(_collections(STAGE_IN)), draw(_collections(STAGE_OUT))
    spec.cleanup = draw(_collections(PATHS))
    return spec


@given(specs())
def test_round_trip(spec: Any) -> None:
    """Everything comes back as it was: a list in its order, a set as a set, durations to the microsecond."""
    text = JSON.dumps(spec)
    assert text.isascii(), 'so that it can be written to any file'
    twin: Any = JSON.loads(text)
    assert twin == spec
    assert JSON.dumps(twin) == text
    for name in ('stage_in', 'stage_out', 'cleanup'):
        assert type(getattr(twin, name)) is type(getattr(spec, name))


@given(DURATIONS)
def test_durations_are_exact(duration: timedelta) -> None:
    assert JSON.loads(JSON.dumps(JobSpec(attributes=JobAttributes(duration)))).attributes == JobAttributes(duration)


def test_round_trip_of_what_is_none() -> None:
    spec: Any = JobSpec('/bin/date')
    spec.attributes.duration = None
    assert JSON.loads(JSON.dumps(spec)) == spec
    spec.attributes = None
    assert JSON.loads(JSON.dumps(spec)) == spec


def test_a_name_that_was_not_set_is_not_set_afterwards() -> None:
    spec = JSON.loads(JSON.dumps(JobSpec('/bin/date')))
    spec.executable = '/bin/true'
    assert spec.name == '/bin/true'


def test_loaded_resources_compute_their_counts() -> None:
    resources = JSON.loads('{"resources": {"node_count": 2, "processes_per_node": 3, "__version": 1}}').resources
    assert isinstance(resources, ResourceSpecV1)
    assert resources.computed_process_count == 6


def test_streams() -> None:
    stream = io.StringIO()
    JSON.dump(FULL, stream)
    stream.seek(0)
    assert JSON.dumps(JSON.load(stream)) == stream.getvalue() == JSON.dumps(FULL)


def test_no_warning_about_the_project_name(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    assert JSON.loads(JSON.dumps(FULL)).attributes.account == 'acct'  # type: ignore[union-attr]
    assert not caplog.records
    assert capsys.readouterr() == ('', ''), 'the library prints nothing'


def test_the_project_name_of_old_files_is_the_account() -> None:
    attributes = JSON.loads('{"attributes": {"project_name": "p"}}').attributes
    assert attributes is not None
    assert attributes.account == 'p'
    attributes = JSON.loads('{"attributes": {"project_name": "p", "account": "a"}}').attributes
    assert attributes is not None
    assert attributes.account == 'a', 'an edited file: the newer name counts'


def _near(**values: Any) -> JobSpec:
    spec = JobSpec('/bin/date')
    for name, value in values.items():
        target, _, attribute = name.rpartition('__')
        setattr(getattr(spec, target) if target else spec, attribute, value)
    return spec


@pytest.mark.parametrize(
    ('spec', 'key', 'expected'),
    [
        (_near(executable=Path('/bin/true'), name='n'), 'executable', '/bin/true'),
        (_near(arguments=[Path('a'), 5]), 'arguments', ['a', '5']),
        (_near(arguments=('a',)), 'arguments', ['a']),
        (_near(name=5), 'name', '5'),
        (_near(attributes__duration=30), 'attributes', {'duration': '1800.0 s'}),
        (_near(attributes__duration='1 day, 0:00:00'), 'attributes', {'duration': '86400.0 s'}),
        (_near(resources={'node_count': '2'}), 'resources', {'node_count': 2, '__version': 1}),
    ],
)
def test_near_types_are_written_as_what_they_mean(spec: JobSpec, key: str, expected: object) -> None:
    """Clients assign them and export the specification again."""
    before = repr(spec)
    assert json.loads(JSON.dumps(spec))[key] == expected
    assert repr(spec) == before, 'the specification is not changed'
    JSON.loads(JSON.dumps(spec))


class _OtherResources(ResourceSpec):
    version = 2


@pytest.mark.parametrize(
    ('spec', 'message'),
    [
        (_near(executable=['x']), 'executable: Cannot convert type "<class \'list\'>".'),
        (_near(arguments={'a'}), 'arguments: Cannot convert'),
        (_near(launcher=[]), 'launcher: Cannot convert'),
        (_near(arguments=[None]), 'arguments[0]: Cannot convert type "<class \'NoneType\'>".'),
        (_near(environment={'A': []}), "environment['A']: Cannot convert"),
        (_near(inherit_environment=0), 'inherit_environment: Cannot convert'),
        (_near(inherit_environment=None), 'inherit_environment: Cannot convert'),
        (_near(cleanup_flags=3), 'cleanup_flags: Cannot convert'),
        (_near(attributes={}), 'attributes: Cannot convert'),
        (_near(attributes__queue_name=[]), 'attributes.queue_name: Cannot convert'),
        (_near(attributes__duration='soon'), 'attributes.duration: Unknown walltime format'),
        (_near(attributes__duration=timedelta(seconds=-1)), 'attributes.duration: a walltime cannot be negative'),
        (
            _near(attributes__custom_attributes={'p': Path('x')}),
            "attributes.custom_attributes['p']: Cannot convert type",
        ),
        (_near(attributes__custom_attributes={'p': (1, 2)}), "attributes.custom_attributes['p']: Cannot convert type"),
        (_near(attributes__custom_attributes={'p': {1: 2}}), "attributes.custom_attributes['p']: Cannot convert type"),
        (_near(attributes__custom_attributes={'p': float('nan')}), "attributes.custom_attributes['p']: Cannot convert"),
        (_near(resources='2 nodes'), 'resources: Invalid resources'),
        (_near(resources=_OtherResources()), 'resources: Cannot convert type'),
        (_near(stage_in=['a']), 'stage_in: Cannot convert'),
        (_near(stage_out=5), 'stage_out: Cannot convert'),
    ],
)
def test_what_cannot_be_written(spec: JobSpec, message: str) -> None:
    with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
        JSON.dumps(spec)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'Not valid JSON: '),
        ('{"executable": }', 'Not valid JSON: '),
        ('[' * 100_000, 'Not valid JSON: '),
        ('[]', 'Expected a JSON object that describes a job, got list.'),
        ('null', 'Expected a JSON object that describes a job, got NoneType.'),
        ('{"foo": 1}', 'Unexpected key "foo"'),
        ('{"__version": 1}', 'Unexpected key "__version"'),
        ('{"executable": 5}', 'executable: expected a string, got 5'),
        ('{"arguments": "a"}', "arguments: expected a list, got 'a'"),
        ('{"arguments": ["a", 5]}', 'arguments[1]: expected a string, got 5'),
        ('{"directory": true}', 'directory: expected a string, got True'),
        ('{"inherit_environment": "yes"}', "inherit_environment: expected true or false, got 'yes'"),
        ('{"inherit_environment": null}', 'inherit_environment: expected true or false, got None'),
        ('{"environment": ["A"]}', "environment: expected an object, got ['A']"),
        ('{"environment": {"A": 1.5}}', "environment['A']: expected a string or a number, got 1.5"),
        ('{"resources": {"__version": null}}', 'resources.__version: expected 1, got None'),
        ('{"resources": {"__version": 2}}', 'resources.__version: expected 1, got 2'),
        ('{"resources": {"__version": 1, "nodes": 2}}', 'Unexpected key "nodes" in resources'),
        (
            '{"resources": {"__version": 1, "node_count": "2"}}',
            "resources.node_count: expected a whole number, got '2'",
        ),
        ('{"resources": {"__version": 1, "node_count": true}}', 'resources.node_count: expected a whole number'),
        ('{"resources": {"__version": 1, "node_count": 0}}', 'resources: The node_count must be'),
        ('{"resources": {"__version": 1, "exclusive_node_use": 1}}', 'resources.exclusive_node_use: expected true or'),
        ('{"attributes": []}', 'attributes: expected an object, got []'),
        ('{"attributes": {"foo": 1}}', 'Unexpected key "foo" in attributes'),
        ('{"attributes": {"duration": 5}}', 'attributes.duration: expected a string, got 5'),
        ('{"attributes": {"duration": "soon"}}', 'attributes.duration: Unknown walltime format: soon.'),
        ('{"attributes": {"account": 5}}', 'attributes.account: expected a string, got 5'),
        ('{"attributes": {"project_name": 5}}', 'attributes.project_name: expected a string, got 5'),
        ('{"attributes": {"custom_attributes": 5}}', 'attributes.custom_attributes: expected an object, got 5'),
        ('{"stage_in": {}}', 'stage_in: expected a list, got None'),
        ('{"stage_in": {"set": [], "x": 1}}', 'Unexpected key "x" in stage_in'),
        ('{"stage_in": ["a"]}', "stage_in[0]: expected an object, got 'a'"),
        ('{"stage_in": [{"source": "a"}]}', 'stage_in[0].target: expected a string, got None'),
        ('{"stage_in": [{"target": "a"}]}', 'stage_in[0].source: expected a string, got None'),
        ('{"stage_in": [{"source": "a", "target": "b", "x": 1}]}', 'Unexpected key "x" in stage_in[0]'),
        (
            '{"stage_in": [{"source": "a", "target": "b", "mode": "copy"}]}',
            "stage_in[0].mode: expected one of COPY, LINK, MOVE, got 'copy'",
        ),
        (
            '{"stage_in": [{"source": "http://[", "target": "b"}]}',
            "stage_in[0].source: Invalid URI 'http://[': ",
        ),
        (
            '{"stage_out": {"set": [{"source": "a", "target": "b", "flags": ["x"]}]}}',
            "stage_out[0].flags: expected names of StageOutFlags, got 'x'",
        ),
        (
            '{"stage_out": [{"source": "a", "target": "http://["}]}',
            "stage_out[0].target: Invalid URI 'http://[': ",
        ),
        ('{"cleanup": [5]}', 'cleanup[0]: expected a string, got 5'),
        ('{"cleanup": "x"}', "cleanup: expected a list, got 'x'"),
        ('{"cleanup_flags": null}', 'cleanup_flags: expected a list, got None'),
        ('{"cleanup_flags": [5]}', 'cleanup_flags: expected names of StageOutFlags, got 5'),
    ],
)
def test_malformed_files(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
        JSON.loads(text)


def test_null_is_the_default() -> None:
    names = [name for name in FULL_TREE if name not in ('inherit_environment', 'attributes')]
    assert JSON.loads(json.dumps(dict.fromkeys(names))) == JobSpec()
    assert JSON.loads('{"resources": {"__version": 1, "node_count": null}}').resources == ResourceSpecV1()
    assert JSON.loads('{"resources": {"node_count": 2}}').resources == ResourceSpecV1(node_count=2)


OLD_TREE = {
    'name': 'n',
    'executable': '/bin/date',
    'arguments': ['a'],
    'directory': '/d',
    'inherit_environment': False,
    'environment': {'A': '1'},
    'stdin_path': 'i',
    'stdout_path': 'o',
    'stderr_path': 'e',
    'resources': {
        'node_count': 2,
        'process_count': 6,
        'process_per_node': None,
        'cpu_cores_per_process': 4,
        'gpu_cores_per_process': 5,
        'exclusive_node_use': True,
    },
    'attributes': {
        'duration': '1:00:00.500000',
        'queue_name': 'q',
        'project_name': 'acct',
        'reservation_id': 'r',
        'custom_attributes': {'slurm.qos': 'x', 'n': '1', 't': '0:01:30'},
    },
    'launcher': None,
}


def test_older_format(tmp_path: Path) -> None:
    file = tmp_path / 'job.json'
    assert Export().export(FULL, str(file)) is True
    assert file.read_text(encoding='utf-8') == json.dumps(
        {'version': 0.1, 'type': 'JobSpec', 'data': OLD_TREE}, indent=4, ensure_ascii=False
    )
    assert list(Export().to_dict(FULL)) == list(OLD_TREE)


def test_older_format_of_an_empty_specification() -> None:
    tree = Export().to_dict(JobSpec('/bin/date'))
    assert (tree['name'], tree['arguments'], tree['directory'], tree['resources']) == ('/bin/date', None, None, None)
    spec = JobSpec('/bin/date')
    spec.attributes = None
    assert Export().to_dict(spec)['attributes'] is None


def test_export_has_the_attributes_it_had() -> None:
    assert (Export().version, Export().name) == ('', '')
    assert Export().envelope() == {'version': 0.1, 'type': None, 'data': None}
    assert Export().envelope(type='X')['type'] == 'X'
    with pytest.raises(TypeError, match="Can't create dict, type int not supported"):
        Export().to_dict(5)


def test_import_gives_what_it_gave(tmp_path: Path) -> None:
    file = tmp_path / 'job.json'
    Export().export(FULL, str(file))
    spec: Any = Import().load(str(file))
    assert spec.resources == OLD_TREE['resources'], 'clients subscript the dictionary'
    assert spec.attributes.duration == '1:00:00.500000'
    assert (spec.attributes.account, spec.attributes.queue_name) == ('acct', 'q')
    assert (spec.directory, spec.stdout_path) == (Path('/d'), Path('o'))
    assert (spec.name, spec.executable, spec.arguments) == ('n', '/bin/date', ['a'])
    assert (spec.inherit_environment, spec.environment) == (False, {'A': '1'})


def test_what_import_gives_can_be_submitted_and_written_again(tmp_path: Path) -> None:
    file = tmp_path / 'job.json'
    Export().export(FULL, str(file))
    spec = Import().load(str(file))
    tree = json.loads(JSON.dumps(spec))
    assert (tree['resources']['process_count'], tree['attributes']['duration']) == (6, '3600.5 s')
    check_spec(spec)
    assert spec.resources == ResourceSpecV1(2, 6, None, 4, 5, True)
    assert spec.attributes is not None
    assert spec.attributes.duration == timedelta(seconds=3600.5)


def test_import_accepts_the_private_spelling_of_the_name() -> None:
    tree: dict[str, Any] = {**OLD_TREE, '_name': 'm'}
    assert Import().from_dict(tree, target_type='JobSpec').name == 'n'
    del tree['name']
    assert Import().from_dict(tree, target_type='JobSpec').name == 'm'


@pytest.mark.parametrize(
    'key', ['executable', 'arguments', 'inherit_environment', 'environment', 'resources', 'attributes']
)
def test_import_misses_a_key(key: str) -> None:
    tree = {name: value for name, value in OLD_TREE.items() if name != key}
    with pytest.raises(KeyError, match=key):
        Import().from_dict(tree, target_type='JobSpec')


def test_import_of_another_type() -> None:
    with pytest.raises(TypeError, match="Can't create object, type Foo not supported"):
        Import().from_dict({}, target_type='Foo')


@given(text=TEXT, path=TEXT)
def test_older_files_hold_any_text(tmp_path_factory: pytest.TempPathFactory, text: str, path: str) -> None:
    file = tmp_path_factory.getbasetemp() / 'any text.json'
    Export().export(JobSpec('x', [text], directory=path), str(file))
    spec = Import().load(str(file))
    assert (spec.arguments, spec.directory) == ([text], Path(path))


def test_names_of_the_package() -> None:
    assert psij.Export is Export
    assert psij.Import is Import


def test_invalid_resources_of_a_file_are_refused_at_submission() -> None:
    spec: Any = Import().from_dict({**OLD_TREE, 'resources': {'node_count': 2, 'process_count': 3}}, 'JobSpec')
    with pytest.raises(InvalidJobException, match='integral multiple'):
        check_spec(spec)
