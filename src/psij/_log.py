"""Loggers that import :mod:`logging` when they are first needed, which keeps ``import psij`` light."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any


class _LazyLogger:
    """Stands for the logger of a module."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute in ('debug', 'info', 'isEnabledFor') and 'logging' not in sys.modules:
            return _ignore  # nobody has asked to see it
        import logging

        value = getattr(logging.getLogger(self._name), attribute)
        setattr(self, attribute, value)  # faster the next time
        return value


def _ignore(*_: object, **__: object) -> None:
    pass


def lazy_logger(name: str) -> logging.Logger:
    """Return an object that behaves like ``logging.getLogger(name)``."""
    return _LazyLogger(name)  # type: ignore[return-value]
