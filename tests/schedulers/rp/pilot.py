"""A real RADICAL-Pilot for the tests, where it is installed."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Optional

from psij import Job, JobExecutor, JobSpec, JobState, SubmitException
from psij.executors.rp import RPJobExecutorConfig

_PATIENCE = timedelta(seconds=110)  # for a pilot to start; it takes 20 seconds on an idle machine
_RUNTIME = 45  # minutes, after which everything ends if the tests are killed; no job may ask for more


def missing() -> Optional[str]:
    """Return why there is no RADICAL-Pilot here, if there is none."""
    from psij.executors._rp_session import check_installation, radical_pilot

    try:
        radical_pilot()
        check_installation()
    except (ImportError, SubmitException) as ex:
        return str(ex)
    return None


def config(path: Path) -> RPJobExecutorConfig:
    """Return a configuration with a work directory, and the pilot that all tests share."""
    return RPJobExecutorConfig(work_directory=path, cores=8, runtime=_RUNTIME)


@contextlib.contextmanager
def pilot() -> Iterator[Mapping[str, str]]:
    """Start the pilot, wait until it runs, and end it."""
    with tempfile.TemporaryDirectory(prefix='psij-rp-') as directory:
        executor = JobExecutor.get_instance('rp', config=config(Path(directory)))
        job = Job(JobSpec('/bin/true'))
        executor.submit(job)
        status = job.wait(_PATIENCE)
        assert status is not None, 'the pilot does not start'
        assert status.state is JobState.COMPLETED, status
        try:
            yield {}
        finally:
            executor.close()  # type: ignore[attr-defined]  # of this executor only
