"""The table of those who come from other tools keeps its word (issue 3)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/how-to/migrate.md"
TOOLS = ("Harbor", "Tencent TCR", "regsync", "skopeo sync", "image-syncer", "ocync")


def rows() -> list[str]:
    text = PAGE.read_text("utf-8")
    return [
        line for line in text.splitlines() if line.startswith("| ") and "your setting" not in line
    ]


@pytest.mark.parametrize("tool", TOOLS)
def test_tool_has_a_table(tool: str) -> None:
    assert re.search(rf"^## {tool}$\n\n\| your setting \| ours \|", PAGE.read_text(), re.MULTILINE)


def test_at_most_five_rows_are_not_offered_and_each_has_a_way_round() -> None:
    missing = [row for row in rows() if "**not offered**" in row]

    assert 0 < len(missing) <= 5
    assert all("Instead " in row for row in missing)
    assert len(rows()) > 50
