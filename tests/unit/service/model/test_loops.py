"""Rules that lead back to where they began: those that come to rest, and those that never do."""

from __future__ import annotations

from typing import Any

import pytest

from api.schemas.rule import load_rule
from service.model.loops import check_loops, find_loops
from service.model.rule import SyncRule

MEMBERS = {"all": ["a", "b", "c"]}


def a_rule(name: str, source: str, *to: str, names: str = "**", **more: Any) -> SyncRule:
    """A rule; each of `to` is REGISTRY, or REGISTRY=TEMPLATE, or @GROUP."""
    destinations = []
    for one in to:
        registry, _, template = one.partition("=")
        place = {"group": registry[1:]} if registry.startswith("@") else {"registry": registry}
        destinations.append({**place, **({"repository": template} if template else {})})
    document = {
        "name": name,
        "source": source,
        "select": [{"repositories": [names]}],
        "destinations": destinations,
        **more,
    }
    return load_rule(document)


def loops(*rules: SyncRule) -> list[tuple[tuple[str, ...], bool]]:
    """The loops that begin with the first rule: who is in it, and whether it grows."""
    return [(one.rules, one.grows) for one in find_loops(rules[0], rules, MEMBERS)]


def test_rules_in_opposite_directions_come_to_rest() -> None:
    assert loops(a_rule("one", "a", "b"), a_rule("two", "b", "a")) == [(("one", "two"), False)]
    assert check_loops(a_rule("one", "a", "b"), [a_rule("two", "b", "a")], MEMBERS) == ()


def test_names_that_change_in_each_round_never_end() -> None:
    one, two = a_rule("one", "a", "b=mirror/{repository}"), a_rule("two", "b", "a")

    (problem,) = check_loops(one, [two], MEMBERS)

    assert "one -> two lead back to a" in problem.message
    assert "comes round as mirror/" in problem.message
    assert check_loops(two, [one], MEMBERS)


@pytest.mark.parametrize(
    "rules",
    [
        (a_rule("one", "a", "b"), a_rule("two", "b", "c")),
        (a_rule("one", "a", "b", names="in/**"), a_rule("two", "b", "a", names="out/**")),
        (a_rule("one", "a", "b"), a_rule("two", "b", "a", enabled=False)),
        (
            a_rule("one", "a", "b=from-a/{repository}", names="team/**"),
            a_rule("two", "b", "a", names="from-b/**"),
        ),
        (a_rule("one", "a", "b=mirror/{repository}", names="team/**"), a_rule("two", "b", "a")),
        (a_rule("one", "a", "b", enabled=False), a_rule("two", "b", "a")),
    ],
    ids=["chain", "other names", "disabled", "apart", "comes back unwanted", "is disabled"],
)
def test_rules_that_do_not_lead_back_are_no_loop(rules: tuple[SyncRule, ...]) -> None:
    assert loops(*rules) == []


def test_name_that_its_template_takes_back_comes_to_rest() -> None:
    there = a_rule("there", "a", "b=mirror/{repository}", names="team/**")
    back = a_rule("back", "b", "a={repository[1:]}", names="mirror/**")

    assert loops(there, back) == [(("there", "back"), False)]


def test_loop_over_three_registries_and_a_group_is_found() -> None:
    rules = (
        a_rule("one", "a", "b", names="team/**"),
        a_rule("two", "b", "c"),
        a_rule("three", "c", "@all", names="team/app"),
    )

    assert loops(rules[2], *rules[:2]) == [
        (("three", "two"), False),
        (("three", "one", "two"), False),
    ]


def test_names_that_are_soon_not_taken_any_more_are_no_loop() -> None:
    one = a_rule("one", "a", "b=mirror/{repository}", names="team/*")
    two = a_rule("two", "b", "a")

    assert check_loops(two, [one], MEMBERS) == ()
