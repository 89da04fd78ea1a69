"""Tests of providers by contract: `pytest -m contract` runs all, `-k contract:harbor` those of one provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.leaks import Watch, watching

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, and let them be called by their provider."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.contract)
            item.extra_keyword_matches.add(
                f"contract:{item.path.stem.removeprefix('test_').replace('_', '-')}"
            )


@pytest.fixture(autouse=True)
def watch() -> Iterator[Watch]:
    """What all servers of a test are asked; at its end none has seen a credential that is not for it."""
    with watching() as made:
        yield made
    assert made.leaks() == []
