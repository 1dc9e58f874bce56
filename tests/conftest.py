"""Options and settings of all tests."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the tests."""
    parser.addoption(
        '--executors',
        default='auto',
        help='what the contract suite runs over: EXECUTOR[:LAUNCHER],... (default: all here)',
    )
    parser.addoption(
        '--update-golden', action='store_true', help='write the golden files anew, to be looked at in a diff'
    )
