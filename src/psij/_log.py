"""Loggers that import :mod:`logging` when they are first used, which keeps ``import psij`` light."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any


class _LazyLogger:
    """Stands for the logger of a module until something is logged."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        import logging

        return getattr(logging.getLogger(self._name), attribute)


def lazy_logger(name: str) -> logging.Logger:
    """Return an object that behaves like ``logging.getLogger(name)``."""
    return _LazyLogger(name)  # type: ignore[return-value]
