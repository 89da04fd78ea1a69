"""Who is foreign to whom."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.model.borders import HINT, REPLICATE_HINT, Borders, check_borders
from service.model.rule import Destination, NameFilter, Selection, SyncRule

DRAWN = Borders({"eu-1": "eu", "eu-2": "eu", "us": "us", "sea": None, "air": None})


@pytest.mark.parametrize(
    ("one", "other", "foreign"),
    [
        ("eu-1", "eu-2", False),
        ("eu-1", "us", True),
        ("sea", "sea", False),
        ("sea", "air", True),
        ("sea", "eu-1", True),
        ("nowhere", "eu-1", True),
        ("nowhere", "nowhere", False),
        ("nowhere", "elsewhere", True),
    ],
)
def test_what_lies_between_two_regions(one: str, other: str, foreign: bool) -> None:
    assert DRAWN.lies_between(one, other) is foreign
    assert DRAWN.lies_between(other, one) is foreign


def test_nobody_is_foreign_until_a_region_is_declared() -> None:
    none = Borders()

    assert not none.lies_between("here", "there")
    assert none.may_work("anywhere", ["here"])


def test_workers_stand_in_inside_a_jurisdiction_alone() -> None:
    alive = ["us", "eu-2", "sea", "nowhere"]

    assert DRAWN.substitutes("eu-1", alive) == ["eu-2"]
    assert DRAWN.substitutes("us", alive) == []
    assert DRAWN.substitutes("sea", alive) == []
    assert DRAWN.substitutes("nowhere", alive) == []


def rule(*destinations: Destination) -> SyncRule:
    return SyncRule("fleet", "east", (Selection(NameFilter(("**",))),), destinations)


PLACES = {"east": "eu-1", "west": "eu-2", "abroad": "us"}
MEMBERS = {"near": ("east", "west"), "all": ("abroad", "east", "west")}


def test_a_group_reaches_across_no_border() -> None:
    found = check_borders(
        rule(Destination(group="near"), Destination(group="all")), PLACES.get, MEMBERS, DRAWN
    )

    assert [(one.path, one.hint) for one in found] == [("destinations[1].group", HINT)]
    assert found[0].message == "abroad of group all is in us, and east in eu"


def test_a_named_destination_does() -> None:
    assert check_borders(rule(Destination(registry="abroad")), PLACES.get, MEMBERS, DRAWN) == ()


def test_nothing_is_replicated_across_a_border() -> None:
    across = replace(rule(Destination(registry="abroad")), mode="replicate")
    inside = replace(rule(Destination(registry="west")), mode="replicate")

    (found,) = check_borders(across, PLACES.get, MEMBERS, DRAWN)

    assert (found.path, found.hint) == ("destinations[0].registry", REPLICATE_HINT)
    assert check_borders(inside, PLACES.get, MEMBERS, DRAWN) == ()
