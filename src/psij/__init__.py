"""PSI/J: one API to submit jobs to any HPC scheduler.

The main classes are :class:`Job`, with its :class:`JobSpec`, and :class:`JobExecutor`.
Importing the package has no side effects: plugins are looked for when the first one is asked for, and threads,
files and sockets are made when the first job needs them.
"""

from psij.descriptor import Descriptor
from psij.exceptions import InvalidJobException, SubmitException, UnreachableStateException
from psij.job import Job, JobStatusCallback
from psij.job_attributes import JobAttributes
from psij.job_executor import JobExecutor
from psij.job_executor_config import JobExecutorConfig
from psij.job_launcher import Launcher
from psij.job_spec import JobSpec
from psij.job_state import JobState
from psij.job_status import JobStatus
from psij.resource_spec import ResourceSpec, ResourceSpecV1
from psij.staging import URI, StageIn, StageOut, StageOutFlags, StagingMode
from psij.version import VERSION

__version__ = VERSION

__all__ = [
    'URI',
    'VERSION',
    'Descriptor',
    'Export',
    'Import',
    'InvalidJobException',
    'Job',
    'JobAttributes',
    'JobExecutor',
    'JobExecutorConfig',
    'JobSpec',
    'JobState',
    'JobStatus',
    'JobStatusCallback',
    'Launcher',
    'ResourceSpec',
    'ResourceSpecV1',
    'StageIn',
    'StageOut',
    'StageOutFlags',
    'StagingMode',
    'SubmitException',
    'UnreachableStateException',
]


TYPE_CHECKING = False
if TYPE_CHECKING:
    from psij import executors as executors
    from psij import launcher as launcher
    from psij import launchers as launchers
    from psij import serialize as serialize
    from psij import utils as utils
    from psij.serialize import Export, Import
else:  # type checkers would take every name for one of the package's

    def __getattr__(name: str) -> object:
        """Import what few programs use when it is asked for, to keep ``import psij`` light."""
        import importlib

        if name in ('Export', 'Import'):
            return getattr(importlib.import_module('psij.serialize'), name)
        if name in ('executors', 'launcher', 'launchers', 'serialize', 'utils'):
            return importlib.import_module(f'psij.{name}')
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
