"""Copies what jobs write to files to the standard output and error, while they write it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK = 1 << 20  # bytes


class Follower:
    """Reads what was added to a file since the last time.

    Parameters
    ----------
    path
        The file, which exists.
    whole_lines
        Whether to keep back a line that is not complete yet, because others write to the same place.
    """

    def __init__(self, path: Path, whole_lines: bool) -> None:
        self._path = path
        self._whole_lines = whole_lines
        self._offset = 0

    def read(self, last: bool = False) -> Iterator[bytes]:
        """Yield what is new; with `last` also a line that will never be complete."""
        if self._path.stat().st_size <= self._offset:
            return
        with self._path.open('rb') as file:
            file.seek(self._offset)
            while data := file.read(_CHUNK):
                complete = len(data) == _CHUNK or not self._whole_lines
                if not complete and not last:
                    data = data[: data.rfind(b'\n') + 1]
                self._offset += len(data)
                if not complete and last and not data.endswith(b'\n'):
                    data += b'\n'
                if not data:
                    return
                file.seek(self._offset)
                yield data
