"""A real RADICAL-Pilot: what it leaves behind, and what happens when a part of it dies.

``tests/schedulers/rp/run`` runs this; it is skipped where RADICAL-Pilot is not installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, List

import psutil
import pytest

from psij import Job, JobExecutor, JobSpec, JobState, SubmitException
from psij.executors.rp import RPJobExecutorConfig

from .rp.pilot import missing

_MISSING = missing()

pytestmark = [
    pytest.mark.skipif(_MISSING is not None, reason=f'no RADICAL-Pilot: {_MISSING}'),
    pytest.mark.timeout(300),
]

PATIENCE = timedelta(seconds=120)

PROGRAM = """
import sys
from pathlib import Path
from psij import Job, JobExecutor, JobSpec, JobState
from psij.executors.rp import RPJobExecutorConfig
config = RPJobExecutorConfig(work_directory=Path(sys.argv[1]), cores=1, runtime=10)
executor = JobExecutor.get_instance('rp', config=config)
job = Job(JobSpec('/bin/sleep', ['300']))
executor.submit(job)
job.wait(target_states=JobState[sys.argv[2]])
"""


def processes_in(directory: Path) -> List[str]:
    """Return what still runs in a directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(f'{directory}/'):
                found.append(' '.join(process.cmdline()))
        except (psutil.Error, OSError):
            continue
    return found


@pytest.mark.parametrize('state', ['QUEUED', 'ACTIVE'])
def test_nothing_is_left_at_the_end_of_the_program(tmp_path: Path, state: str) -> None:
    """It neither closes the executor nor waits for its job, and may end before the pilot runs."""
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM, str(tmp_path / 'work'), state],
        env={**os.environ, 'HOME': str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    assert processes_in(tmp_path) == []
    assert os.listdir(tmp_path / 'work' / 'rp') == []


def test_the_agent_dies(tmp_path: Path) -> None:
    config = RPJobExecutorConfig(work_directory=tmp_path / 'work', cores=1, runtime=10, sandbox=tmp_path / 'sandbox')
    executor: Any = JobExecutor.get_instance('rp', config=config)
    try:
        job = Job(JobSpec('/bin/sleep', ['300']))
        executor.submit(job)
        assert job.wait(PATIENCE, JobState.ACTIVE) is not None
        (agent,) = (
            process
            for process in psutil.process_iter()
            if _name(process) == 'rp.agent_executing.0000' and process.cwd().startswith(f'{tmp_path}/')
        )
        agent.kill()
        status = job.wait(PATIENCE)
        assert status is not None
        assert status.state is JobState.FAILED
        assert 'rp.agent_executing.0000' in str(status.message)
        again = Job(JobSpec('/bin/true'))
        with pytest.raises(SubmitException, match=r'rp\.agent_executing\.0000'):
            executor.submit(again)
        executor.submit(again)
        status = again.wait(PATIENCE)
        assert status is not None
        assert status.state is JobState.COMPLETED
    finally:
        executor.close()
    assert processes_in(tmp_path) == []


def _name(process: psutil.Process) -> str:
    try:
        return (process.cmdline() or [''])[0].strip()
    except psutil.Error:
        return ''
