"""Options and settings of all tests."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the tests."""
    parser.addoption(
        '--executors',
        default='auto',
        help='what the contract suite runs over: EXECUTOR[:LAUNCHER[:URL]],... (default: all here)',
    )
    parser.addoption('--queue', help='the queue for jobs of the contract suite on real schedulers (default: theirs)')
    parser.addoption(
        '--account', help='the account for jobs of the contract suite on real schedulers (default: theirs)'
    )
    parser.addoption(
        '--update-golden', action='store_true', help='write the golden files anew, to be looked at in a diff'
    )


# Modules of the stand-ins run as commands, in environments of their own; there is nothing to collect in them.
collect_ignore_glob = ['fakes/*/*.py']
