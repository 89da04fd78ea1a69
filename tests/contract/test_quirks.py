"""contract:quirks. Every trap has a profile, and every profile its test."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.contract.quirks import QUIRKS

HERE = Path(__file__).parent


def test_every_quirk_has_its_test_and_every_test_its_quirk() -> None:
    tests = [
        one.name.removeprefix("test_quirk_")
        for file in sorted(HERE.glob("test_quirks_*.py"))
        for one in ast.parse(file.read_text("utf-8")).body
        if isinstance(one, ast.FunctionDef) and one.name.startswith("test_quirk_")
    ]

    assert sorted(tests) == sorted(QUIRKS)


def test_every_quirk_says_where_it_was_seen() -> None:
    assert [name for name, quirk in QUIRKS.items() if not quirk.seen] == []
