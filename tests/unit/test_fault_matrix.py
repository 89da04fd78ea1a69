"""docs/explanation/fault-matrix.md: every row is there, has its tests or says why not, and no cell is empty."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
PAGE = (ROOT / "docs/explanation/fault-matrix.md").read_text("utf-8")

SPANS = (
    (1, 10), (20, 25), (30, 39), (40, 52), (60, 67), (70, 84), (90, 108), (110, 126),
    (130, 133), (140, 143), (150, 151), (160, 161), (170, 171), (180, 182),
)  # fmt: skip
FAULTS = [f"F{n:03}" for first, last in SPANS for n in range(first, last + 1)]
INPUTS = ["A3", "A10", "A21", "S10"]
COMPONENTS = [
    "API", "scheduler", "planner", "worker", "commit", "Redis", "SQL", "source", "destination",
    "token service", "network",
]  # fmt: skip
KINDS = 19

_ROW = re.compile(r"^\| ([FAS]\d+) \| (.+?) \| (.+?) \| (.*?) \|$", re.MULTILINE)
_NAMED = re.compile(r"`([\w/.]+\.py)::(\w+)`")
_IN_A_NAME = re.compile(r"_f(\d{3})(?=_)")
NOT_YET = "not yet: "

ROWS = {number: told for number, _, _, told in _ROW.findall(PAGE)}


def cells_of(line: str) -> list[str]:
    """The cells of a line of a table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


GRID = {
    cells[0]: cells[1:]
    for line in PAGE[PAGE.index("## Who meets what") :].splitlines()
    if line.startswith("| ") and (cells := cells_of(line))[0]
}


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text("utf-8"))
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))


@cache
def rows_of_tables() -> frozenset[tuple[str, str]]:
    """(path, row) of the rows that stand as data, `Row("F046", ...)`, in a table of a test."""
    found = set()
    for file in sorted((TESTS / "faults").glob("test_*.py")):
        for row in re.findall(r'\bRow\(\s*"(F\d{3})"', file.read_text("utf-8")):
            found.add((f"faults/{file.name}", row))
    return frozenset(found)


def test_every_row_stands_there_once_and_in_order() -> None:
    assert [number for number, *_ in _ROW.findall(PAGE)] == FAULTS + INPUTS
    assert len(FAULTS) == 115


@pytest.mark.parametrize("row", FAULTS + INPUTS)
def test_a_row_names_tests_that_are_there_or_says_why_there_is_none(row: str) -> None:
    told = ROWS[row]
    if told.startswith(NOT_YET):
        assert len(told) > len(NOT_YET) + 20, "a reason in a few words at least"
        return
    named = _NAMED.findall(told)
    assert named
    assert ", ".join(f"`{path}::{name}`" for path, name in named) == told
    for path, name in named:
        assert name.startswith("test_")
        assert (TESTS / path).is_file(), path
        assert name in functions_of(path), f"{path} has no {name}"


def test_a_test_that_bears_a_row_in_its_name_stands_beside_that_row() -> None:
    missing = [
        f"F{row}: faults/{file.name}::{name}"
        for file in sorted((TESTS / "faults").glob("test_*.py"))
        for name in functions_of(f"faults/{file.name}")
        if name.startswith("test_")
        for row in _IN_A_NAME.findall(name)
        if f"`faults/{file.name}::{name}`" not in ROWS[f"F{row}"]
    ]
    assert missing == []


def test_a_row_of_a_table_stands_beside_its_test() -> None:
    assert rows_of_tables()
    missing = [
        f"{row}: {path}" for path, row in sorted(rows_of_tables()) if f"`{path}::" not in ROWS[row]
    ]
    assert missing == []


def test_a_test_of_a_table_has_the_rows_that_name_it() -> None:
    """A row that names the test of a table is in that table."""
    tables = {path for path, _ in rows_of_tables()}
    for row, told in ROWS.items():
        for path, name in _NAMED.findall(told):
            if path in tables and "strikes_one_copy" in name:
                assert (path, row) in rows_of_tables(), f"{row} is no row of {path}"


def test_the_grid_has_every_component_and_every_fault() -> None:
    assert list(GRID) == COMPONENTS
    assert {component: len(cells) for component, cells in GRID.items()} == dict.fromkeys(
        COMPONENTS, KINDS
    )


@pytest.mark.parametrize("component", COMPONENTS)
def test_no_cell_is_empty_and_every_row_in_it_is_known(component: str) -> None:
    for cell in GRID[component]:
        assert cell, "an empty cell: say - where the fault has no meaning"
        if cell != "-":
            unknown = [row for row in cell.split() if row not in ROWS]
            assert unknown == []
