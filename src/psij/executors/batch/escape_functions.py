"""Functions that turn values into text that is safe at a certain place of a script."""

from __future__ import annotations

import shlex
from pathlib import Path


def bash_escape(o: object) -> str:
    """Return a value as one word of bash.

    The word has no carriage return: ``qsub`` of OpenPBS refuses scripts with one at the end of a line.

    >>> bash_escape("it's $HOME"), bash_escape(''), bash_escape(5)
    ('\\'it\\'"\\'"\\'s $HOME\\'', "''", '5')
    >>> print(bash_escape('a\\rb'))
    'a'$'\\r''b'
    """
    if isinstance(o, (int, float)):
        return str(o)
    if isinstance(o, Path):
        o = o.absolute()
    return shlex.quote(str(o)).replace('\r', "'$'\\r''")  # it can only be inside of single quotes
