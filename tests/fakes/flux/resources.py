"""The nodes of a pretended Flux instance, and which job has which cores."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple, Optional

    Place = list[list[int]]  # the cores of each node
else:
    from typing import NamedTuple


class Unsatisfiable(Exception):
    """There will never be enough; the text is what sched-simple says."""


class Wish(NamedTuple):
    """What a jobspec asks for."""

    nodes: Optional[int]
    exclusive: bool
    slots: int  # on each node, or in total
    cores: int  # of each slot
    gpus: int


def read(jobspec: dict[str, Any]) -> Wish:
    """Return what a jobspec asks for."""
    level = jobspec['resources'][0]
    nodes, exclusive = None, False
    if level['type'] == 'node':
        nodes, exclusive = level['count'], level.get('exclusive', False)
        level = level['with'][0]
    content = {item['type']: item['count'] for item in level['with']}
    return Wish(nodes, exclusive, level['count'], content['core'], content.get('gpu', 0))


class Nodes:
    """The nodes."""

    def __init__(self, count: int, cores: int) -> None:
        self.names = [f'node{i + 1:02}' for i in range(count)]
        self._cores = cores
        self._free = [list(range(cores)) for _ in range(count)]

    def check(self, jobspec: dict[str, Any]) -> None:
        """Raise if this can never be had."""
        wish = read(jobspec)
        count, total = len(self.names), len(self.names) * self._cores
        if wish.gpus:
            raise Unsatisfiable(
                f'need {wish.slots} slot(s) with {wish.gpus} GPU(s) each, only 0 available (total GPUs: 0)'
            )
        if wish.nodes is not None:
            fitting = count if wish.slots * wish.cores <= self._cores else 0
            if wish.nodes > fitting:
                needed = wish.slots * wish.cores
                raise Unsatisfiable(f'need {wish.nodes} node(s) with {needed} cores each, only {fitting} eligible')
        available = count * (self._cores // wish.cores)
        if wish.nodes is None and wish.slots > available:
            raise Unsatisfiable(
                f'need {wish.slots} slot(s) of {wish.cores} core(s), only {available} such slot(s) available '
                f'(total cores: {total})'
            )

    def allocate(self, jobspec: dict[str, Any]) -> Optional[Place]:
        """Return the cores for a job, or None if they are not free now."""
        wish = read(jobspec)
        place: Place = [[] for _ in self.names]
        needed = wish.slots if wish.nodes is None else wish.nodes
        for i, free in enumerate(self._free):
            if wish.nodes is None:
                taken = min(needed, len(free) // wish.cores)
                place[i], needed = free[: taken * wish.cores], needed - taken
            elif needed and (len(free) == self._cores if wish.exclusive else len(free) >= wish.slots * wish.cores):
                place[i], needed = free[:] if wish.exclusive else free[: wish.slots * wish.cores], needed - 1
        if needed:
            return None
        for free, cores in zip(self._free, place):
            del free[: len(cores)]
        return place

    def free(self, place: Optional[Place]) -> None:
        """Take back the cores of a job."""
        for free, cores in zip(self._free, place or ()):
            free.extend(cores)
            free.sort()
