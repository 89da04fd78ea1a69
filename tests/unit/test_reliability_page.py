"""The table of docs/explanation/reliability.md: no promise without a test, and no test that is not there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/explanation/reliability.md").read_text()
ROWS = re.findall(r"^\| (P\d+) \| (.+?) \| (.+) \|$", PAGE, re.MULTILINE)
NAMED = [name for _, _, names in ROWS for name in re.findall(r"`([^`]+)`", names)]


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / path).read_text())
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))


def test_every_promise_stands_there_once() -> None:
    assert [number for number, _, _ in ROWS] == [f"P{n}" for n in range(1, 27)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_promise_names_a_test(row: tuple[str, str, str]) -> None:
    assert re.findall(r"`([^`]+)`", row[2])


@pytest.mark.parametrize("name", sorted(set(NAMED)))
def test_a_test_that_is_named_is_there(name: str) -> None:
    path, _, function = name.partition("::")
    assert function in functions_of(path)
