"""The table of docs/explanation/security.md: every row there, each with tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.test_reliability_page import functions_of

PAGE = (Path(__file__).parents[2] / "docs/explanation/security.md").read_text("utf-8")
ROWS = re.findall(r"^\| (S\d+) \| (.+?) \| (.+?) \| (.+) \|$", PAGE, re.MULTILINE)
NAMED = sorted({name for row in ROWS for name in re.findall(r"`([^`]+)`", row[3])})


def test_every_row_stands_there_once() -> None:
    assert [row[0] for row in ROWS] == [f"S{number}" for number in range(1, 40)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_a_test_or_says_that_there_is_none(row: tuple[str, ...]) -> None:
    assert re.search(r"`[^`]+::test_|\(none: ", row[3])


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_is_named_is_there(name: str) -> None:
    path, _, function = name.partition("::")
    assert function in functions_of(path)
