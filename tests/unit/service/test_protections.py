"""Protections are on unless a test of ours turns them off, and can be turned off nowhere else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import protections
from service.errors import InvalidConfiguration
from service.settings import Settings
from workers.main import main

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def on() -> Iterator[None]:
    yield
    protections.turn_off("")


def test_there_are_fifteen_and_each_says_what_holds() -> None:
    assert len(protections.PROTECTIONS) == 15
    assert len(set(protections.PROTECTIONS.values())) == 15
    assert all(len(line) > 20 for line in protections.PROTECTIONS.values())


def test_all_are_on_until_they_are_turned_off() -> None:
    assert not any(map(protections.without, protections.PROTECTIONS))

    protections.turn_off("fence, read-back,")

    off = {name for name in protections.PROTECTIONS if protections.without(name)}
    assert off == {"fence", "read-back"}
    protections.turn_off("")
    assert not any(map(protections.without, protections.PROTECTIONS))


@pytest.mark.parametrize("text", ["fences", "fence,nothing", "Fence", "fence;lease", "all"])
def test_what_is_no_protection_is_refused_and_changes_nothing(text: str) -> None:
    protections.turn_off("outbox")
    with pytest.raises(InvalidConfiguration, match="TRANSSHIP_WITHOUT") as caught:
        protections.turn_off(text)
    assert "read-back" in caught.value.hint
    assert protections.without("outbox")
    assert not protections.without("fence")


def test_outside_of_tests_the_setting_is_refused() -> None:
    variables = {"TRANSSHIP_WITHOUT": "fence"}
    with pytest.raises(InvalidConfiguration, match="for tests of Transship itself"):
        Settings.from_env(variables)
    with pytest.raises(InvalidConfiguration, match="for tests of Transship itself"):
        Settings.from_env({**variables, "TRANSSHIP_TESTING": "false"})
    assert Settings.from_env({**variables, "TRANSSHIP_TESTING": "true"}).without == "fence"


@pytest.mark.parametrize("kind", ["worker", "scheduler"])
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"TRANSSHIP_WITHOUT": "fence"}, "for tests of Transship itself"),
        ({"TRANSSHIP_WITHOUT": "fnece", "TRANSSHIP_TESTING": "true"}, "'fnece'"),
    ],
    ids=["no-test", "unknown"],
)
def test_a_process_that_may_not_have_it_does_not_start(
    kind: str,
    variables: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert main([kind]) == 2
    assert said in capsys.readouterr().err


def test_the_list_is_what_the_code_asks() -> None:
    """Each protection is asked for somewhere, by its name as it stands there."""
    named = set()
    for folder in ("api", "service", "workers"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "without":
                    (argument,) = node.args
                    assert isinstance(argument, ast.Constant)
                    named.add(argument.value)

    assert named == protections.PROTECTIONS.keys()


def test_the_page_says_what_happens_without_each() -> None:
    page = (ROOT / "docs/explanation/reliability.md").read_text("utf-8")
    teeth = page.partition("\n## Teeth\n")[2].partition("\n## ")[0]

    told = re.findall(r"^\| `([a-z-]+)` \| .+ \| .+ \|$", teeth, re.MULTILINE)

    assert len(told) == len(set(told))
    assert set(told) == protections.PROTECTIONS.keys()
