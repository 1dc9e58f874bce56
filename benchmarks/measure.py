"""How things are measured: CPU over the whole process tree, floors interleaved, medians of ratios."""

from __future__ import annotations

import resource
import statistics
import time
from typing import Callable, NamedTuple, Optional


class Cost(NamedTuple):
    """What something costs."""

    cpu: float
    wall: float


class Figure(NamedTuple):
    """One line of the report; smaller is better unless `at_least` is given instead of `at_most`."""

    name: str
    value: float
    unit: str
    at_most: Optional[float] = None
    at_least: Optional[float] = None

    def __str__(self) -> str:
        target, verdict = '', ''
        if self.at_most is not None:
            target, good = f'at most {self.at_most:g}', self.value <= self.at_most
            verdict = 'ok' if good else 'MISSED'
        elif self.at_least is not None:
            target, good = f'at least {self.at_least:g}', self.value >= self.at_least
            verdict = 'ok' if good else 'MISSED'
        return f'{self.name:<64} {self.value:>10.3g} {self.unit:<8} {target:<16} {verdict}'


def cpu() -> float:
    """Return the CPU seconds of this process and of the children that it has waited for."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def cost(function: Callable[[], object]) -> Cost:
    """Measure one call."""
    begin_cpu, begin = cpu(), time.perf_counter()
    function()
    return Cost(cpu() - begin_cpu, time.perf_counter() - begin)


def compare(floor: Callable[[], object], *others: Callable[[], object], rounds: int = 5) -> tuple[Cost, list[Cost]]:
    """Run a floor and others in turn; return the medians of the ratios to the floor, and the floor's medians first."""
    rows = []
    for _ in range(rounds):
        base = cost(floor)
        rows.append((base, [cost(other) for other in others]))
    ratios = [
        Cost(
            statistics.median(row[1][i].cpu / row[0].cpu for row in rows),
            statistics.median(row[1][i].wall / row[0].wall for row in rows),
        )
        for i in range(len(others))
    ]
    return Cost(statistics.median(r[0].cpu for r in rows), statistics.median(r[0].wall for r in rows)), ratios
