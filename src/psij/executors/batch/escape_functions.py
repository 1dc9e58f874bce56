"""Functions that turn values into text that is safe at a certain place of a script."""

from __future__ import annotations

import shlex
from pathlib import Path


def bash_escape(o: object) -> str:
    """Return a value as one word of bash.

    >>> bash_escape("it's $HOME"), bash_escape(''), bash_escape(5)
    ('\\'it\\'"\\'"\\'s $HOME\\'', "''", '5')
    """
    if isinstance(o, (int, float)):
        return str(o)
    if isinstance(o, Path):
        o = o.absolute()
    return shlex.quote(str(o))
