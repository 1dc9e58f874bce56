"""How a plugin tells what it offers."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional

    from packaging.version import Version


class Descriptor:
    """Describes an executor or a launcher, without loading it.

    Parameters
    ----------
    name
        The name by which users ask for it.
    version
        Its version.
    cls
        The full name of the class, such as ``acme.psij.AcmeJobExecutor``.
    aliases
        Other names by which it can be asked for.
    nice_name
        A name to show to people; the same as `name` by default.
    """

    def __init__(
        self,
        name: str,
        version: Version,
        cls: str,
        aliases: Optional[List[str]] = None,
        nice_name: Optional[str] = None,
    ) -> None:
        self.name = name
        self.version = version
        self.cls = cls
        self.aliases = aliases
        self.nice_name = name if nice_name is None else nice_name
        #: The file in which the descriptor was found, once it was.
        self.path: Optional[str] = None

    def __repr__(self) -> str:
        return f'Descriptor(name={self.name}, path={self.path})'
