"""Trees over registries: held to every tree there is, for small graphs."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator, Mapping, Sequence

import pytest

from service.model.borders import Borders
from service.model.region import Feeders, Link
from service.model.states import CopyState
from service.model.work import Selected
from service.replication.compare import InPlace, Wanted
from service.replication.route import Route, plan_route, with_hops

SEED = int(os.environ.get("TEST_RUN_SEED", "1"))


def linked(*pairs: tuple[str, str, float]) -> list[Link]:
    return [Link(source, target, None, cost) for source, target, cost in pairs]


def both_ways(*pairs: tuple[str, str, float]) -> list[Link]:
    return [one for a, b, cost in pairs for one in linked((a, b, cost), (b, a, cost))]


def route(
    destinations: Sequence[str], links: Sequence[Link], regions: Mapping[str, str] | None = None
) -> Route:
    """A route from `src` in region src; each registry is in the region of its name if not told otherwise."""
    of = dict(regions or {})
    names = ["src", *destinations]
    declared = {of.get(name, name) for name in names}
    drawn = Borders(dict.fromkeys(declared, "one"))
    return plan_route("src", destinations, lambda name: of.get(name, name), drawn, links)


def test_nothing_is_known_of_links_and_all_comes_from_the_source() -> None:
    found = route(["a", "b"], [])

    assert found.parents == {"a": "src", "b": "src"}
    assert found.fed_by == {}


def test_a_relay_is_cheaper_than_the_border_twice() -> None:
    links = linked(("src", "a", 0.05), ("src", "b", 0.05), ("a", "b", 0.01))

    found = route(["b", "a"], links)

    assert found.parents == {"a": "src", "b": "a"}
    assert found.fed_by == {"b": Feeders(("a",))}


def test_links_have_one_direction() -> None:
    links = linked(("src", "a", 0.05), ("src", "b", 0.05), ("a", "b", 0.09))

    assert route(["a", "b"], links).parents == {"a": "src", "b": "src"}


def test_a_pair_without_a_link_is_no_relay() -> None:
    found = route(["a", "b", "c"], linked(("src", "a", 1.0), ("a", "c", 1.0)))

    assert found.parents == {"a": "src", "b": "src", "c": "a"}


def test_nobody_abroad_feeds_whom_the_rule_does_not_name() -> None:
    links = linked(("src", "a", 1), ("src", "b", 9), ("a", "b", 1))
    drawn = Borders({"src": "here", "a": "there", "b": "here"})

    def parents(*named: str) -> Mapping[str, str]:
        return plan_route("src", ["a", "b"], lambda name: name, drawn, links, named=named).parents

    assert parents("a", "b") == {"a": "src", "b": "a"}
    assert parents("a") == {"a": "src", "b": "src"}


def test_registries_of_one_region_feed_each_other() -> None:
    place = {"a": "eu", "b": "eu", "c": "eu"}

    found = route(["a", "b", "c"], linked(("src", "eu", 0.02)), place)

    assert sum(parent == "src" for parent in found.parents.values()) == 1


def test_a_region_that_nobody_declared_feeds_nobody() -> None:
    found = plan_route("src", ["a", "b"], lambda _: "local", Borders(), [])

    assert found.parents == {"a": "src", "b": "src"}


def test_equal_ways_spare_the_source_and_slow_senders() -> None:
    names = [f"r{number}" for number in range(8)]
    links = both_ways(*((a, b, 0.02) for a, b in itertools.combinations(["src", *names], 2)))

    found = route(names, links)

    senders = list(found.parents.values())
    assert senders.count("src") == 1
    assert max(senders.count(name) for name in names) == 2
    depths = {"src": 0}
    while len(depths) <= len(names):
        depths |= {n: depths[p] + 1 for n, p in found.parents.items() if p in depths}
    assert max(depths.values()) == 4
    assert set(found.fed_by) == {n for n in names if found.parents[n] != "src"}
    for name, feeders in found.fed_by.items():
        assert feeders.near[0] == found.parents[name]
        assert {*feeders.near} == {*names} - {name}


def test_a_narrow_link_is_left_to_a_wide_one() -> None:
    links = [
        Link("src", "a", 50_000_000),
        Link("src", "b", 50_000_000),
        Link("a", "b", 1_000_000),
        Link("b", "a", 50_000_000),
    ]

    assert route(["a", "b"], links).parents == {"b": "src", "a": "b"}


def test_others_that_may_feed_a_registry_come_by_their_cost() -> None:
    links = linked(
        ("src", "a", 9),
        ("src", "b", 9),
        ("src", "c", 9),
        ("a", "b", 1),
        ("b", "c", 1),
        ("a", "c", 2),
    )

    assert route(["a", "b", "c"], links).fed_by == {
        "b": Feeders(("a",)),
        "c": Feeders(("b",), ("a",)),
    }


@pytest.mark.parametrize("number", range(60))
def test_no_tree_costs_less(number: int) -> None:
    dice = random.Random(f"{SEED}-{number}")
    names = [f"r{position}" for position in range(dice.randint(2, 5))]
    links = [
        Link(
            a, b, dice.choice([None, 10_000_000, 100_000_000]), dice.choice([0.0, 0.01, 0.02, 0.09])
        )
        for a, b in itertools.permutations(["src", *names], 2)
        if dice.random() < 0.6 and b != "src"
    ]
    print(f"TEST_RUN_SEED={SEED}", links)
    unlinked = 1.0 + sum(link.cost_per_gib or 0 for link in links)
    costs = {(link.source, link.target): link.cost_per_gib or 0.0 for link in links}
    for name in names:
        costs.setdefault(("src", name), unlinked)

    found = route(names, links)

    def cost(parents: Mapping[str, str]) -> float:
        return sum(costs[parent, name] for name, parent in parents.items())

    least = min(cost(tree) for tree in _every_tree(names, costs))
    assert set(found.parents) == set(names)
    assert cost(found.parents) == pytest.approx(least)


def _every_tree(
    names: Sequence[str], costs: Mapping[tuple[str, str], float]
) -> Iterator[dict[str, str]]:
    options = [[sender for sender in ("src", *names) if (sender, name) in costs] for name in names]
    for parents in itertools.product(*options):
        tree = dict(zip(names, parents, strict=True))
        if all(_reaches_source(name, tree) for name in names):
            yield tree


def _reaches_source(name: str, tree: Mapping[str, str]) -> bool:
    for _ in range(len(tree) + 1):
        if name == "src":
            return True
        name = tree[name]
    return False


# ---- the names at which copies go on --------------------------------------------------------------


def copy_to(registry: str, state: CopyState = CopyState.PENDING) -> Selected:
    return Selected(
        "app", "v1", registry, f"{registry}/app", "v1", "sha256:1", "eu", True, True, state=state
    )


def in_place(registry: str) -> InPlace:
    return InPlace(Wanted("app", "v1", registry, f"{registry}/app", "v1"), "sha256:1")


CHAIN = {"b": "a", "c": "b"}


def test_each_copy_goes_on_from_its_parents_name() -> None:
    found = with_hops([copy_to("a"), copy_to("b"), copy_to("c")], [], CHAIN)

    assert [item.via for item in found] == [
        ("", "", ""),
        ("a", "a/app", "v1"),
        ("b", "b/app", "v1"),
    ]


def test_what_is_in_place_is_gone_on_from() -> None:
    (found,) = with_hops([copy_to("c")], [in_place("b")], CHAIN)

    assert found.via == ("b", "b/app", "v1")


@pytest.mark.parametrize("state", [CopyState.FAILED, CopyState.SKIPPED])
def test_a_parent_that_will_have_nothing_is_passed_over(state: CopyState) -> None:
    found = with_hops([copy_to("a"), copy_to("b", state), copy_to("c")], [], CHAIN)

    assert [item.via for item in found] == [("", "", ""), ("", "", ""), ("a", "a/app", "v1")]
