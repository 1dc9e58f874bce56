"""The place and name of :class:`.Descriptor` in the first versions of the API."""

from psij.descriptor import Descriptor as _Descriptor

__all__ = ['_Descriptor']
