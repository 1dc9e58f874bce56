"""What a job needs: nodes, processes, cores, GPUs, memory."""

from __future__ import annotations

from abc import ABC, abstractmethod

from psij.exceptions import InvalidJobException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional


class ResourceSpec(ABC):
    """The base class of all resource specifications."""

    __slots__ = ('__dict__', '__weakref__')

    @property
    @abstractmethod
    def version(self) -> int:
        """The version of this class of specifications."""

    @staticmethod
    def get_instance(version: int) -> ResourceSpec:
        """Create an empty resource specification of a certain version.

        Raises
        ------
        ValueError
            If there is no such version; there is only version 1.
        """
        if version == 1:
            return ResourceSpecV1()
        raise ValueError(f'There is no resource specification version {version!r}; the only version is 1.')


COUNTS = (
    'node_count',
    'process_count',
    'processes_per_node',
    'cpu_cores_per_process',
    'gpu_cores_per_process',
)
"""The attributes of a :class:`ResourceSpecV1` that are whole numbers and count something."""

FIELDS = (*COUNTS, 'exclusive_node_use', 'memory')
"""The names of the parameters of a :class:`ResourceSpecV1`, in order."""


class ResourceSpecV1(ResourceSpec):
    """The resources of a job that runs identical processes on a number of identical nodes.

    Of `node_count`, `process_count` and `processes_per_node`, what is left out follows from what is given
    (see the ``computed_`` properties); if nothing is given, the job has one process.

    Parameters
    ----------
    node_count
        The number of nodes.
    process_count
        The number of processes on all nodes together.
    processes_per_node
        The number of processes on each node.
    cpu_cores_per_process
        The number of CPU cores of each process.
    gpu_cores_per_process
        The number of GPUs of each process; zero is the same as none.
    exclusive_node_use
        Whether no other job may run on the nodes.
    memory
        The memory of the whole job in bytes.

    Raises
    ------
    InvalidJobException
        If the counts contradict each other, or one is too small.
    typeguard.TypeCheckError
        If an argument has a wrong type.
    """

    __slots__ = FIELDS

    def __init__(
        self,
        node_count: Optional[int] = None,
        process_count: Optional[int] = None,
        processes_per_node: Optional[int] = None,
        cpu_cores_per_process: Optional[int] = None,
        gpu_cores_per_process: Optional[int] = None,
        exclusive_node_use: bool = False,
        memory: Optional[int] = None,
    ) -> None:
        self.node_count = node_count
        self.process_count = process_count
        self.processes_per_node = processes_per_node
        self.cpu_cores_per_process = cpu_cores_per_process
        self.gpu_cores_per_process = gpu_cores_per_process
        self.exclusive_node_use = exclusive_node_use
        self.memory = memory
        self._check_types()
        self.validate()

    def _check_types(self) -> None:
        counts = {name: getattr(self, name) for name in (*COUNTS, 'memory')}
        if isinstance(self.exclusive_node_use, bool) and all(
            value is None or isinstance(value, int) for value in counts.values()
        ):
            return
        from typing import Optional

        from psij._checks import verify

        verify(
            **{name: (value, Optional[int]) for name, value in counts.items()},
            exclusive_node_use=(self.exclusive_node_use, bool),
        )

    def validate(self) -> None:
        """Check the present values; executors do this again at submission.

        Raises
        ------
        InvalidJobException
            If a value has a wrong type or is too small, or the counts contradict each other.
        """
        for name in COUNTS:
            value = getattr(self, name)
            least = 0 if name == 'gpu_cores_per_process' else 1
            if value is not None and not (isinstance(value, int) and value >= least):
                raise InvalidJobException(f'The {name} must be a whole number and at least {least}, not {value!r}.')
        if self.memory is not None and not (isinstance(self.memory, int) and self.memory >= 0):
            raise InvalidJobException(f'The memory must be a number of bytes, not {self.memory!r}.')
        if not isinstance(self.exclusive_node_use, bool):
            raise InvalidJobException(f'The exclusive_node_use must be True or False, not {self.exclusive_node_use!r}.')
        nodes, processes, per_node = self.node_count, self.process_count, self.processes_per_node
        if processes is None:
            return
        if nodes is not None and per_node is not None:
            if processes != nodes * per_node:
                raise InvalidJobException(
                    f'The resources must satisfy the constraint process_count ({processes}) = '
                    f'node_count ({nodes}) * processes_per_node ({per_node}).'
                )
        elif per_node is not None and processes % per_node:
            raise InvalidJobException(
                f'The process_count ({processes}) must be an integral multiple of processes_per_node ({per_node})'
            )
        elif nodes is not None and processes % nodes:
            raise InvalidJobException(
                f'The process_count ({processes}) must be an integral multiple of node_count ({nodes})'
            )

    @property
    def version(self) -> int:
        """The version of this class of specifications, which is 1."""
        return 1

    @property
    def computed_node_count(self) -> int:
        """The number of nodes, as given, else computed from the two other counts, else 1."""
        if self.node_count is not None:
            return self.node_count
        if self.process_count is not None and self.processes_per_node is not None:
            return self.process_count // self.processes_per_node
        return 1

    @property
    def computed_process_count(self) -> int:
        """The number of processes, as given, else nodes times processes per node, each 1 if not given."""
        if self.process_count is not None:
            return self.process_count
        return (self.node_count or 1) * (self.processes_per_node or 1)

    @property
    def computed_processes_per_node(self) -> int:
        """The number of processes on each node, as given, else processes divided by nodes."""
        if self.processes_per_node is not None:
            return self.processes_per_node
        return self.computed_process_count // self.computed_node_count

    @property
    def memory_kb(self) -> Optional[int]:
        """The memory of the job in units of 1024 bytes, rounded down, or None if it is not limited."""
        return self.memory // 1024 if self.memory else None

    def _key(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in FIELDS)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResourceSpecV1) and self._key() == other._key()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        given = [f'{name}={getattr(self, name)}' for name in COUNTS if getattr(self, name) is not None]
        if self.exclusive_node_use:
            given.append('exclusive_node_use=True')
        if self.memory is not None:
            given.append(f'memory={self.memory}')
        return f'ResourceSpecV1({", ".join(given)})'
