"""Runs jobs with Flux, through its Python bindings.

The bindings are imported when :class:`FluxJobExecutor` is first asked for, and not with this module: they come with
Flux, and most machines have none.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from psij.executors._flux_executor import FluxJobExecutor

__all__ = ['FluxJobExecutor']


def __getattr__(name: str) -> object:
    if name == 'FluxJobExecutor':
        from psij.executors._flux_executor import FluxJobExecutor
        from psij.executors._flux_session import bindings

        bindings()
        return FluxJobExecutor
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
