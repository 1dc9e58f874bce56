"""The programs of docs/examples run."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest

from docs.stand_ins import EXAMPLES, STAND_INS


def test_demo(tmp_path: Path) -> None:
    """The demo of the README works."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / 'demo.py')],
        env={**os.environ, 'HOME': str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == 'Exit code: 0'


@pytest.mark.parametrize(
    ('executor', 'queue', 'stand_in'),
    [
        ('local', None, None),
        ('slurm', 'debug', 'slurm'),
        ('pbs', 'workq', 'pbs'),
        ('pbs_classic', 'batch', 'torque'),
        ('lsf', 'normal', 'lsf'),
        ('cobalt', 'default', 'cobalt'),
        ('flux', None, 'flux'),
        ('rp', None, 'rp'),
    ],
)
def test_first_job(executor: str, queue: Optional[str], stand_in: Optional[str], tmp_path: Path) -> None:
    """The program of "Getting started" runs on every scheduler of which there is a stand-in."""
    bring_up = contextlib.nullcontext({}) if stand_in is None else STAND_INS[stand_in](tmp_path)
    with bring_up as variables:
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / 'first_job.py'), executor, *([queue] if queue else [])],
            cwd=tmp_path,
            env={**os.environ, 'HOME': str(tmp_path), **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith('Hello from ')


@pytest.mark.parametrize(
    ('arguments', 'expected'), [([], 'usage: python first_job.py EXECUTOR'), (['frob'], 'No such executor "frob"')]
)
def test_first_job_called_in_a_wrong_way(arguments: list[str], expected: str, tmp_path: Path) -> None:
    """A reader is told what is wrong, and gets no traceback."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / 'first_job.py'), *arguments],
        cwd=tmp_path,
        env={**os.environ, 'HOME': str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr.startswith(expected)
    assert done.stderr.count('\n') == 1
