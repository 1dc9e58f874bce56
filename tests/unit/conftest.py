"""Settings of the unit tests."""

from __future__ import annotations

from hypothesis import settings

# The same examples in every run, and no verdict about the speed of a machine that has other things to do.
settings.register_profile('unit', derandomize=True, deadline=None)
settings.load_profile('unit')
