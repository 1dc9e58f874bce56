"""Resources: what follows from what is given, and what is refused."""

from __future__ import annotations

import copy
import pickle
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typeguard import TypeCheckError, suppress_type_checks

from psij import InvalidJobException, ResourceSpec, ResourceSpecV1

NAMES = (
    'node_count',
    'process_count',
    'processes_per_node',
    'cpu_cores_per_process',
    'gpu_cores_per_process',
    'exclusive_node_use',
    'memory',
)
COUNT = st.none() | st.integers(1, 40)


def _computed(spec: ResourceSpecV1) -> tuple[int, int, int]:
    return spec.computed_node_count, spec.computed_process_count, spec.computed_processes_per_node


def test_positions_and_defaults() -> None:
    spec = ResourceSpecV1(2, 6, 3, 4, 5, True, 1024)
    assert [getattr(spec, name) for name in NAMES] == [2, 6, 3, 4, 5, True, 1024]
    assert [getattr(ResourceSpecV1(), name) for name in NAMES] == [None, None, None, None, None, False, None]
    assert spec.version == 1


@pytest.mark.parametrize(
    ('nodes', 'processes', 'per_node', 'computed'),
    [
        (None, None, None, (1, 1, 1)),
        (4, None, None, (4, 4, 1)),
        (None, 4, None, (1, 4, 4)),
        (None, None, 4, (1, 4, 4)),
        (2, None, 3, (2, 6, 3)),
        (None, 6, 3, (2, 6, 3)),
        (2, 6, None, (2, 6, 3)),
        (2, 6, 3, (2, 6, 3)),
    ],
)
def test_computed_counts(
    nodes: Optional[int], processes: Optional[int], per_node: Optional[int], computed: tuple[int, int, int]
) -> None:
    assert _computed(ResourceSpecV1(nodes, processes, per_node)) == computed


@given(COUNT, COUNT, COUNT)
def test_what_is_accepted_is_consistent(
    nodes: Optional[int], processes: Optional[int], per_node: Optional[int]
) -> None:
    try:
        spec = ResourceSpecV1(nodes, processes, per_node)
    except InvalidJobException:
        assert processes is not None, 'only a total can contradict the other counts'
        assert processes % ((nodes or 1) * (per_node or 1)) or (nodes and per_node)
        return
    n, p, k = _computed(spec)
    assert p == n * k
    assert (n, p, k) == (nodes or n, processes or p, per_node or k), 'what is given stays'
    # the same when it is filled in attribute by attribute, as clients do
    filled = ResourceSpecV1()
    filled.node_count, filled.process_count, filled.processes_per_node = nodes, processes, per_node
    filled.validate()
    assert (filled, _computed(filled)) == (spec, (n, p, k))


@pytest.mark.parametrize(
    ('counts', 'message'),
    [
        (
            {'process_count': 5, 'processes_per_node': 2},
            'The process_count (5) must be an integral multiple of processes_per_node (2)',
        ),
        ({'process_count': 5, 'node_count': 2}, 'The process_count (5) must be an integral multiple of node_count (2)'),
        (
            {'process_count': 8, 'node_count': 2, 'processes_per_node': 2},
            'The resources must satisfy the constraint process_count (8) = node_count (2) * processes_per_node (2).',
        ),
        ({'node_count': 0}, 'The node_count must be a whole number and at least 1, not 0.'),
        ({'process_count': -1}, 'The process_count must be a whole number and at least 1, not -1.'),
        ({'processes_per_node': 0}, 'The processes_per_node must be a whole number and at least 1, not 0.'),
        ({'cpu_cores_per_process': 0}, 'The cpu_cores_per_process must be a whole number and at least 1, not 0.'),
        ({'gpu_cores_per_process': -1}, 'The gpu_cores_per_process must be a whole number and at least 0, not -1.'),
        ({'memory': -1}, 'The memory must be a number of bytes, not -1.'),
    ],
)
def test_refused_at_construction_and_when_assigned(counts: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidJobException) as raised:
        ResourceSpecV1(**counts)  # type: ignore[arg-type]
    assert raised.value.message == message
    spec = ResourceSpecV1()
    for name, value in counts.items():
        setattr(spec, name, value)
    with pytest.raises(InvalidJobException) as raised:
        spec.validate()
    assert raised.value.message == message


def test_no_gpus_can_be_said_in_so_many_words() -> None:
    assert ResourceSpecV1(gpu_cores_per_process=0).gpu_cores_per_process == 0


@pytest.mark.parametrize(
    'wrong', [{'node_count': '2'}, {'process_count': 2.0}, {'exclusive_node_use': 1}, {'memory': '1G'}]
)
def test_wrong_types(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(TypeCheckError, match=f'argument "{name}"'):
        ResourceSpecV1(**wrong)


def test_type_checks_can_be_suppressed() -> None:
    with suppress_type_checks(), pytest.raises(InvalidJobException, match="at least 1, not '2'"):
        ResourceSpecV1(node_count='2')  # type: ignore[arg-type]


def test_computed_counts_cannot_be_set() -> None:
    spec: Any = ResourceSpecV1()
    with pytest.raises(AttributeError):
        spec.computed_node_count = 2


@pytest.mark.parametrize(('memory', 'kilobytes'), [(None, None), (0, None), (1023, 0), (1024, 1), (2047, 1)])
def test_memory_kb(memory: Optional[int], kilobytes: Optional[int]) -> None:
    assert ResourceSpecV1(memory=memory).memory_kb == kilobytes


@pytest.mark.parametrize('name', NAMES)
def test_every_attribute_counts_for_equality(name: str) -> None:
    spec = ResourceSpecV1()
    assert spec == ResourceSpecV1()
    setattr(spec, name, True if name == 'exclusive_node_use' else 1)
    assert spec != ResourceSpecV1()
    assert copy.deepcopy(spec) == pickle.loads(pickle.dumps(spec)) == spec


def test_unhashable_since_it_changes() -> None:
    with pytest.raises(TypeError):
        hash(ResourceSpecV1())


def test_text() -> None:
    assert repr(ResourceSpecV1()) == 'ResourceSpecV1()'
    spec = ResourceSpecV1(node_count=2, exclusive_node_use=True, memory=0)
    assert repr(spec) == 'ResourceSpecV1(node_count=2, exclusive_node_use=True, memory=0)'


def test_get_instance() -> None:
    assert ResourceSpec.get_instance(1) == ResourceSpecV1()
    with pytest.raises(ValueError, match='only version is 1'):
        ResourceSpec.get_instance(2)


def test_the_base_class_is_abstract() -> None:
    with pytest.raises(TypeError):
        ResourceSpec()  # type: ignore[abstract]
