"""Functions for templates: ``{{#psij.lib.NAME}}text{{/psij.lib.NAME}}`` gives the result for the text."""

from __future__ import annotations

from datetime import timedelta
from typing import Callable, Dict, Union


def walltime_to_minutes(walltime: Union[timedelta, int, str]) -> int:
    """Return a walltime in minutes, rounded down.

    Parameters
    ----------
    walltime
        A duration, a number of minutes, or a text of the form ``HH:MM:SS``, ``HH:MM`` or ``MM``.

    Raises
    ------
    ValueError
        If it is something else.

    Examples
    --------
    >>> walltime_to_minutes('01:30:59')
    90
    """
    if isinstance(walltime, timedelta):
        return int(walltime.total_seconds() // 60)
    if isinstance(walltime, int):
        return walltime
    if not isinstance(walltime, str):
        raise ValueError(f'Invalid walltime: {walltime} of type {type(walltime)}')
    parts = walltime.split(':')
    form = {1: 'MM', 2: 'HH:MM', 3: 'HH:MM:SS'}.get(len(parts))
    if form is None:
        raise ValueError(f'Invalid walltime format ({walltime}). Expected HH:MM:SS or HH:MM or MM.')
    try:
        numbers = [int(part) for part in parts]
    except ValueError as ex:
        raise ValueError(f'Error parsing walltime ({walltime}) as {form}: {ex}') from ex
    if len(numbers) == 1:
        return numbers[0]
    return 60 * numbers[0] + numbers[1]


ALL: Dict[str, Callable[..., object]] = {'walltime_to_minutes': walltime_to_minutes}
"""The functions, by their names."""
