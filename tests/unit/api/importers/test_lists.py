"""Plain lists and CSV."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.importers.formats import Options
from tests.unit.api.importers.said import imported, lines, told


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a.example/x:v1,b.example/y", "a.example/x[v1] -> b.example/y"),
        ("a.example/x:v1 b.example/y:u", "a.example/x[v1] -> b.example/y:u"),
        ('"a.example/x:v1","b.example/y"', "a.example/x[v1] -> b.example/y"),
        ("a.example/x, b.example/y", "a.example/x[*] -> b.example/y"),
        ("nginx:1.27", "docker.io/library/nginx[1.27] -> to.example/m/library/nginx"),
        (f"a.example/x@sha256:{'1' * 64}", f"a.example/x[sha256:{'1' * 64}] -> to.example/m/x"),
    ],
)
def test_a_line(tmp_path: Path, line: str, expected: str) -> None:
    found = imported(tmp_path, "list", f"# a list\n\n{line}\n", options=Options(to="to.example/m"))

    assert lines(found) == [expected]
    assert found.whole


def test_a_head_is_passed_over(tmp_path: Path) -> None:
    found = imported(tmp_path, "list", "source,destination\na.example/x:v1,b.example/x\r\n")

    assert lines(found) == ["a.example/x[v1] -> b.example/x"]


@pytest.mark.parametrize(
    "line", ["a.example/x:v1", "a.example/X:v1,b.example/x", "a.example/x:v1,b.example/x:", "a.example/x,b.example/x:v1"]
)  # fmt: skip
def test_a_line_that_cannot_be_carried_over_is_told_of(tmp_path: Path, line: str) -> None:
    found = imported(tmp_path, "list", f"a.example/k:v1,b.example/k\n{line}")

    assert len(lines(found)) == 1
    assert len(told(found, "lost")) == 1
    assert told(found, "lost")[0].startswith("0.yaml:2 ")
