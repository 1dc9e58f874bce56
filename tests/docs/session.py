"""Runs Python blocks one after the other in one process; the blocks come as JSON on stdin.

A block that begins with imports can be copied alone, and so gets a namespace of its own; the others go on in that of
the block before. A traceback shows the lines of the page. What a block prints is compared with what the page says that
it does.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import sys


def main() -> int:
    """Run the blocks, and return an exit code."""
    namespace: dict[str, object] = {}
    for page, line, code, output in json.load(sys.stdin):
        if code.startswith(('import ', 'from ')):
            namespace = {}
        namespace['__name__'] = '__main__'
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile('\n' * (line - 1) + code, page, 'exec'), namespace)  # the blank lines make line numbers right
        sys.stdout.write(printed.getvalue())
        if output is not None and not same(output, printed.getvalue()):
            sys.stderr.write(f'{page}:{line}: the page says that this prints\n{output}\nbut it prints\n')
            sys.stderr.write(printed.getvalue())
            return 1
    return 0


def same(expected: str, printed: str) -> bool:
    """Tell whether something was printed as expected, where ``...`` stands for anything."""
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(expected, printed, options)


if __name__ == '__main__':
    sys.exit(main())
