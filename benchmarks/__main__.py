"""Run the benchmarks that are named on the command line, or all."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path


def main() -> int:
    """Print a line for each figure."""
    here = Path(__file__).parent
    names = sys.argv[1:] or ['core', 'local', 'batch']
    known = {path.stem for path in here.glob('*.py')} - {'__init__', '__main__', 'measure'}
    for name in names:
        if name not in known:
            print(f'no such benchmark: {name}; there are {", ".join(sorted(known))}', file=sys.stderr)
            return 2
    print(f'{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}: on a busy machine only ratios mean something')
    for name in names:
        for figure in importlib.import_module(f'benchmarks.{name}').run():
            print(figure, flush=True)
    return 0


if __name__ == '__main__':
    code = main()
    sys.stdout.flush()
    os._exit(code)  # jobs of pretended schedulers would never end
