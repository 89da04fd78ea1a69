"""Crash points do nothing unless a test of ours arms them, and cannot be armed elsewhere."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import crashpoints
from service.errors import InvalidConfiguration
from service.settings import Settings

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    crashpoints.arm("")


def test_a_point_is_nothing_until_it_is_armed_and_then_strikes_once() -> None:
    crashpoints.crashpoint("commit.before_put")
    crashpoints.arm("commit.before_put:2:raise")
    crashpoints.crashpoint("commit.before_put")
    with pytest.raises(crashpoints.CrashRaised, match=r"commit\.before_put"):
        crashpoints.crashpoint("commit.before_put")
    crashpoints.crashpoint("commit.before_put")
    crashpoints.crashpoint("copy.begun")


@pytest.mark.parametrize(
    "text", ["nowhere:1:kill9", "copy.begun", "copy.begun:0:raise", "copy.begun:1:sleep", "x"]
)
def test_what_is_no_point_or_way_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfiguration, match="TRANSSHIP_CRASH") as caught:
        crashpoints.arm(text)
    assert "commit.before_put" in caught.value.hint


def test_outside_of_tests_the_setting_is_refused() -> None:
    variables = {"TRANSSHIP_CRASH": "copy.begun:1:kill9"}
    with pytest.raises(InvalidConfiguration, match="for tests of Transship itself"):
        Settings.from_env(variables)
    assert Settings.from_env({**variables, "TRANSSHIP_TESTING": "true"}).crash


def test_the_list_is_what_the_code_names() -> None:
    named = set()
    for folder in ("api", "service", "workers"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "crashpoint":
                    (argument,) = node.args
                    assert isinstance(argument, ast.Constant)
                    named.add(argument.value)

    assert named == crashpoints.POINTS
