"""What ``psij doctor`` finds."""

from __future__ import annotations

from typing import NamedTuple

from psij.cli._output import one_line


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes
    ----------
    level
        ``ok``, ``warning`` (it may matter) or ``problem`` (something does not work).
    about
        What was looked at, in a word or two.
    text
        What was seen.
    repair
        What to do about it, unless it is ok.
    """

    level: str
    about: str
    text: str
    repair: str = ''

    def __str__(self) -> str:
        text = f'{self.level:8} {self.about}: {one_line(self.text)}'
        return f'{text} -> {self.repair}' if self.repair else text
