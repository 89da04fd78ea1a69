"""The mark of a test whose world is to be on either database."""

from __future__ import annotations

import pytest

on_both_databases = pytest.mark.parametrize("world", ["sqlite", "postgresql"], indirect=True)
