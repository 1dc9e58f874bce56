"""The executors that come with the library, imported when they are asked for."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from psij.executors.batch.cobalt import CobaltJobExecutor
    from psij.executors.batch.lsf import LsfJobExecutor
    from psij.executors.batch.slurm import SlurmJobExecutor
    from psij.executors.local import LocalJobExecutor

__all__ = ['CobaltJobExecutor', 'LocalJobExecutor', 'LsfJobExecutor', 'SlurmJobExecutor']

_MODULES = {
    'CobaltJobExecutor': 'batch.cobalt',
    'LocalJobExecutor': 'local',
    'LsfJobExecutor': 'batch.lsf',
    'SlurmJobExecutor': 'batch.slurm',
}


def __getattr__(name: str) -> object:
    import importlib

    if name in _MODULES:
        return getattr(importlib.import_module(f'{__name__}.{_MODULES[name]}'), name)
    if name in ('batch', 'local', 'flux', 'rp'):
        return importlib.import_module(f'{__name__}.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
