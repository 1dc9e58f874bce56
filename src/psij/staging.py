"""Descriptions of the files to move to a job before it runs and away from it afterwards."""

from __future__ import annotations

from enum import Enum, Flag
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Optional, TypeVar, Union
    from urllib.parse import ParseResult

    Item = TypeVar('Item')


class URI:
    """The location of a file: a plain path, or a URI of the form ``scheme://[user[:password]@]host[:port]/path``.

    A string without ``scheme://`` is a plain path, whatever characters it contains.

    Parameters
    ----------
    urlstring
        The location.

    Raises
    ------
    ValueError
        If the text has a scheme, but is not a URI.

    Examples
    --------
    >>> URI('results#1?.txt').path
    'results#1?.txt'
    >>> URI('https://example.org/a').hostname
    'example.org'
    """

    __slots__ = ('_text', 'parts')

    def __init__(self, urlstring: str) -> None:
        from urllib.parse import ParseResult, urlparse

        scheme, separator, _ = urlstring.partition('://')
        self._text = urlstring
        #: The components, as returned by :func:`urllib.parse.urlparse`.
        self.parts: ParseResult
        if separator and _is_scheme(scheme):
            try:
                self.parts = urlparse(urlstring)
            except ValueError as ex:
                raise ValueError(f'Invalid URI {urlstring!r}: {ex}') from ex
        else:
            self.parts = ParseResult('', '', urlstring, '', '', '')

    @property
    def hostname(self) -> Optional[str]:
        """The name of the host in lower case, or None if there is none."""
        return self.parts.hostname

    @property
    def port(self) -> Optional[int]:
        """The port, or None if there is none."""
        return self.parts.port

    @property
    def scheme(self) -> str:
        """The scheme, such as ``file``, or an empty string for a plain path."""
        return self.parts.scheme

    @property
    def netloc(self) -> str:
        """Host, port and user as they were given."""
        return self.parts.netloc

    @property
    def path(self) -> str:
        """The path on the host."""
        return self.parts.path

    @property
    def params(self) -> str:
        """The parameters of the last path element."""
        return self.parts.params

    @property
    def query(self) -> str:
        """The part after the question mark."""
        return self.parts.query

    @property
    def fragment(self) -> str:
        """The part after the number sign."""
        return self.parts.fragment

    @property
    def username(self) -> Optional[str]:
        """The name of the user, or None if there is none."""
        return self.parts.username

    @property
    def password(self) -> Optional[str]:
        """The password, or None if there is none."""
        return self.parts.password

    def __str__(self) -> str:
        return self._text  # what geturl() makes of the parts is not always the same location

    def __repr__(self) -> str:
        return f'URI({str(self)!r})'

    def __eq__(self, other: object) -> bool:
        return isinstance(other, URI) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)


def _is_scheme(text: str) -> bool:
    """Tell whether a text is a URI scheme (RFC 3986, section 3.1).

    >>> _is_scheme('gsiftp'), _is_scheme('a b'), _is_scheme('')
    (True, False, False)
    """
    return text.isascii() and text[:1].isalpha() and all(c.isalnum() or c in '+-.' for c in text)


class StagingMode(Enum):
    """The ways to bring a file to its target."""

    COPY = 1
    """Copy the file; a directory is copied with all it contains."""

    LINK = 2
    """Make the target a symbolic link to the source."""

    MOVE = 3
    """Move the file or directory."""


class StageOutFlags(Flag):
    """The conditions under which a file is staged out or removed; they can be combined with ``|``."""

    NONE = 0
    """No condition; the same as ``ALWAYS`` for a stage out."""

    IF_PRESENT = 1
    """It is no error if the file does not exist."""

    ON_SUCCESS = 2
    """If the job ended with exit code zero, and was not told to end before."""

    ON_ERROR = 4
    """If the job ended with a non-zero exit code, and was not told to end before."""

    ON_CANCEL = 8
    """If the job was told to end: it was canceled, or its time was over (its state is ``FAILED`` then)."""

    ALWAYS = ON_SUCCESS | ON_ERROR | ON_CANCEL
    """However the job ended."""


class StageIn:
    """A file or directory to be brought to the job before it runs.

    Parameters
    ----------
    source
        Where it is. A relative path is relative to the directory in which the submitting program runs.
    target
        Where the job wants it. A relative path is relative to the job's directory.
    mode
        How to bring it there.
    """

    __slots__ = ('__dict__', '__weakref__', 'mode', 'source', 'target')

    def __init__(
        self, source: Union[URI, Path, str], target: Union[str, Path], mode: StagingMode = StagingMode.COPY
    ) -> None:
        self.source = _uri(source)
        self.target = _path(target)
        self.mode = _mode(mode)

    def __str__(self) -> str:
        return f'StageIn[{self.source} -> {self.target}, {self.mode}]'

    def __repr__(self) -> str:
        return str(self)

    def _key(self) -> tuple[object, ...]:
        return self.source, self.target, self.mode

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StageIn) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


class StageOut:
    """A file or directory to be brought away after the job has ended.

    Parameters
    ----------
    source
        Where the job leaves it. A relative path is relative to the job's directory.
    target
        Where it is wanted. A relative path is relative to the directory in which the submitting program runs.
    flags
        The conditions. If none of ``ON_SUCCESS``, ``ON_ERROR`` and ``ON_CANCEL`` is given, all three are meant.
    mode
        How to bring it there.
    """

    __slots__ = ('__dict__', '__weakref__', '_flags', 'mode', 'source', 'target')

    def __init__(
        self,
        source: Union[str, Path],
        target: Union[str, Path, URI],
        flags: StageOutFlags = StageOutFlags.ALWAYS,
        mode: StagingMode = StagingMode.COPY,
    ) -> None:
        self.source = _path(source)
        self.target = _uri(target)
        self.flags = flags
        self.mode = _mode(mode)

    @property
    def flags(self) -> StageOutFlags:
        """The conditions under which the file is staged out."""
        return self._flags

    @flags.setter
    def flags(self, flags: StageOutFlags) -> None:
        if not isinstance(flags, StageOutFlags):
            raise TypeError(f'flags must be StageOutFlags, not {flags!r}')
        self._flags = flags if flags & StageOutFlags.ALWAYS else flags | StageOutFlags.ALWAYS

    def __str__(self) -> str:
        # spelled out: Python versions differ in how they write combined flags
        flags = 'ALWAYS' if self.flags is StageOutFlags.ALWAYS else '|'.join(flag_names(self.flags))
        return f'StageOut[{self.source} -> {self.target}, StageOutFlags.{flags}, {self.mode}]'

    def __repr__(self) -> str:
        return str(self)

    def _key(self) -> tuple[object, ...]:
        return self.source, self.target, self.flags, self.mode

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StageOut) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


def flag_names(flags: StageOutFlags) -> list[str]:
    """Return the names of the single flags in a combination.

    >>> flag_names(StageOutFlags.IF_PRESENT | StageOutFlags.ON_ERROR)
    ['IF_PRESENT', 'ON_ERROR']
    """
    single = ('IF_PRESENT', 'ON_SUCCESS', 'ON_ERROR', 'ON_CANCEL')
    return [name for name in single if StageOutFlags[name] & flags]


def _uri(location: object) -> URI:
    """Return the URI that a location stands for; a path is never taken for a URI with a scheme."""
    if isinstance(location, URI):
        return location
    if isinstance(location, (str, Path)):
        return URI(str(location))  # a Path has no two slashes in a row, hence no scheme
    raise TypeError(f'a location must be a URI, a path or a string, not {location!r}')


def _path(path: object) -> Path:
    """Return a path for a path or a string."""
    if isinstance(path, (str, Path)):
        return Path(path)
    raise TypeError(f'a path must be a string or a Path, not {path!r}')


def _mode(mode: object) -> StagingMode:
    """Return a mode if it is one."""
    if isinstance(mode, StagingMode):
        return mode
    raise TypeError(f'a mode must be a StagingMode, not {mode!r}')


def in_order(items: Collection[Item]) -> list[Item]:
    """Return a collection as a list: in the order given if it has one, else in an order that is always the same.

    >>> in_order(['b', 'a']), in_order({'b', 'a'})
    (['b', 'a'], ['a', 'b'])
    """
    return sorted(items, key=str) if isinstance(items, (set, frozenset)) else list(items)
