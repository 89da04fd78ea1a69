"""Tests of providers by contract: named `contract:<provider>`, and marked so."""

from __future__ import annotations

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    """Put the provider in front of a test's name in every report."""
    provider = item.path.stem.split("_")[1]
    item._nodeid = f"contract:{provider}::{item.nodeid}"  # pytest has no other way
