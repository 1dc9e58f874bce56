"""Type checks of constructor arguments.

Typeguard gives the verdict and the message, but importing it takes ten times as long as starting Python, and
asking it about one argument takes longer than creating the whole object. So constructors look first, with a
few ``isinstance`` calls, and come here only when something looks wrong.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def verify(**arguments: tuple[object, Any]) -> None:
    """Check arguments, given as ``name=(value, type)``, against their types, every element of collections included.

    Raises
    ------
    typeguard.TypeCheckError
        For the first argument that does not match, named in the message.
    """
    import typeguard

    for name, (value, expected) in arguments.items():
        try:
            typeguard.check_type(value, expected, collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS)
        except typeguard.TypeCheckError as ex:
            ex.append_path_element(f'argument "{name}"')
            raise
