"""Helpers for plugins."""

from __future__ import annotations

import os
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar, Dict, Optional, Tuple, Type, TypeVar

    Self = TypeVar('Self', bound='SingletonThread')


class SingletonThread(threading.Thread):
    """A thread of which there is one for each subclass in each process, also after a fork.

    Parameters
    ----------
    name
        The name of the thread.
    daemon
        Whether the process may end while the thread runs.
    """

    _instances: ClassVar[Dict[Tuple[int, Type[SingletonThread]], SingletonThread]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, name: Optional[str] = None, daemon: bool = False) -> None:
        super().__init__(name=name, daemon=daemon)

    @classmethod
    def get_instance(cls: Type[Self]) -> Self:
        """Return the thread of this class in this process; the first call creates and starts it."""
        key = (os.getpid(), cls)
        with SingletonThread._lock:
            thread = SingletonThread._instances.get(key)
            if thread is None:
                thread = cls()
                thread.start()
                SingletonThread._instances[key] = thread
        assert isinstance(thread, cls)
        return thread


# The lock is taken before a fork, so that the child does not get it locked by a thread that it does not have.
os.register_at_fork(
    before=SingletonThread._lock.acquire,
    after_in_parent=SingletonThread._lock.release,
    after_in_child=SingletonThread._lock.release,
)
