"""The recordings of a real Flux 0.88."""

from __future__ import annotations

import json
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DIRECTORY = Path(__file__).parents[2] / 'recordings' / 'flux'


def load(name: str) -> dict[str, Any]:
    """Return a recording."""
    recording: dict[str, Any] = json.loads((DIRECTORY / f'{name}.json').read_text(encoding='utf-8'))
    return recording


def eventlog(name: str) -> list[dict[str, Any]]:
    """Return the events of the job of a recording."""
    events: list[dict[str, Any]] = load(name)['eventlog']
    return events


def with_eventlog() -> list[str]:
    """Return the names of the recordings of one job."""
    names = [path.stem for path in sorted(DIRECTORY.glob('*.json'))]
    return [name for name in names if 'eventlog' in load(name)]
