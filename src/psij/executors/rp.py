"""Runs jobs as tasks of RADICAL-Pilot.

RADICAL-Pilot is imported when :class:`RPJobExecutor` is first asked for, and not with this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from psij.job_executor_config import JobExecutorConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from psij.executors._rp_executor import RPJobExecutor

__all__ = ['RPJobExecutor', 'RPJobExecutorConfig']

_DEFAULT_RUNTIME = 60  # minutes


class RPJobExecutorConfig(JobExecutorConfig):
    """Settings of the RADICAL-Pilot executor: the pilot in which jobs run.

    Executors with equal settings share one pilot, as long as the program runs.

    Parameters
    ----------
    launcher_log_file, work_directory
        See :class:`.JobExecutorConfig`. RADICAL-Pilot's own session directory is below the work directory.
    resource
        The resource label, as RADICAL-Pilot calls the name of a machine; ``local.localhost`` by default. The `url` of
        an executor says the same, and comes first.
    cores
        The size of the pilot; by default as many cores as this machine has, or one node of another machine. What
        RADICAL-Pilot allocates is whole nodes.
    gpus
        The number of GPUs of the pilot.
    runtime
        The minutes after which the pilot ends, and all jobs in it. It is also how long a pilot stays that is not ended
        in order, because the program was killed.
    queue, project
        The queue and the project for the pilot, as RADICAL-Pilot takes them. ``PROJECT:RESERVATION`` stands for a
        project and a reservation.
    access_schema
        How to reach the resource, for those that can be reached in several ways.
    sandbox
        The directory for the files of pilots, on the resource; RADICAL-Pilot's default is
        ``~/radical.pilot.sandbox``.
    session
        A ``radical.pilot.Session`` that is open, in which the pilot is started; it is not closed then. By default
        there is a session for each pilot.
    """

    def __init__(
        self,
        launcher_log_file: Optional[Path] = None,
        work_directory: Optional[Path] = None,
        resource: Optional[str] = None,
        cores: Optional[int] = None,
        gpus: Optional[int] = None,
        runtime: int = _DEFAULT_RUNTIME,
        queue: Optional[str] = None,
        project: Optional[str] = None,
        access_schema: Optional[str] = None,
        sandbox: Optional[Path] = None,
        session: Optional[object] = None,
    ) -> None:
        super().__init__(launcher_log_file, work_directory)
        self.resource = resource
        self.cores = cores
        self.gpus = gpus
        self.runtime = runtime
        self.queue = queue
        self.project = project
        self.access_schema = access_schema
        self.sandbox = sandbox
        self.session = session


def __getattr__(name: str) -> object:
    if name == 'RPJobExecutor':
        from psij.executors._rp_executor import RPJobExecutor
        from psij.executors._rp_session import radical_pilot

        radical_pilot()
        return RPJobExecutor
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
