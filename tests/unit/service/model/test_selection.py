"""What a rule takes, and where it goes."""

from __future__ import annotations

import pytest

from service.errors import InvalidConfiguration
from service.model.endpoint import RegistryEndpoint
from service.model.rule import Destination, NameFilter, Selection, SyncRule
from service.model.rule_check import check_rule, suggest
from service.model.selection import RuleSelector, Target, destination_registries, members_of_groups

WEST = Destination(registry="west", repository="mirror/{repository[1:]}")


def rule(*select: Selection, destinations: tuple[Destination, ...] = (WEST,)) -> SyncRule:
    return SyncRule(name="fleet", source="east", select=select, destinations=destinations)


def names(*include: str, exclude: tuple[str, ...] = ()) -> NameFilter:
    return NameFilter(include, exclude)


def test_literal_repositories_need_no_catalog() -> None:
    selector = RuleSelector(
        rule(
            Selection(names("team/a", "team/b", exclude=("team/b",))),
            Selection(names("team/c", "team/a")),
        )
    )

    assert selector.exact_repositories() == ("team/a", "team/c")


def test_one_glob_needs_the_catalog() -> None:
    selector = RuleSelector(rule(Selection(names("team/a")), Selection(names("x/*"))))

    assert selector.exact_repositories() is None
    assert RuleSelector(rule(Selection(NameFilter()))).exact_repositories() is None


def test_literal_tags_need_no_listing_where_every_entry_names_them() -> None:
    selector = RuleSelector(
        rule(
            Selection(names("a/*"), names("v1", "v2", exclude=("v2",))),
            Selection(names("a/x"), names("v3")),
            Selection(names("b"), names("v*")),
        )
    )

    assert selector.exact_tags("a/x") == ("v1", "v3")
    assert selector.exact_tags("a/y") == ("v1",)
    assert selector.exact_tags("b") is None
    assert selector.exact_tags("other") == ()


def test_entries_are_united_and_conditions_of_one_must_all_hold() -> None:
    selector = RuleSelector(rule(Selection(names("a"), names("1")), Selection(names("b"))))

    assert selector.wants("a", "1")
    assert not selector.wants("a", "2")
    assert selector.wants("b", "2")
    assert selector.wants_repository("a")
    assert not selector.wants_repository("c")


def test_first_matching_entry_names_the_target() -> None:
    selector = RuleSelector(
        rule(
            Selection(names("team/a"), to_repository="special/{name}", to_tag="x-{tag}"),
            Selection(names("team/*")),
        )
    )

    assert selector.targets("team/a", "1") == [Target(0, "west", None, "special/a", "x-1")]
    assert selector.targets("team/b", "1") == [Target(0, "west", None, "mirror/b", "1")]
    assert selector.targets("other/b", "1") == []


def test_every_destination_gets_a_target() -> None:
    selector = RuleSelector(
        rule(Selection(names("**")), destinations=(WEST, Destination(group="prod")))
    )

    assert selector.targets("team/a", "1") == [
        Target(0, "west", None, "mirror/a", "1"),
        Target(1, None, "prod", "team/a", "1"),
    ]


def test_host_of_the_source_may_lead_the_name() -> None:
    selector = RuleSelector(
        rule(
            Selection(names("**")),
            destinations=(Destination(registry="west", repository="{host}/{repository}"),),
        ),
        host="docker.io",
    )

    assert selector.targets("library/a", "1")[0].repository == "docker.io/library/a"


def test_digest_stays_a_digest_at_the_destination() -> None:
    digest = "sha256:" + "0" * 64
    selector = RuleSelector(rule(Selection(names("team/a"), names(digest))))

    assert selector.exact_tags("team/a") == (digest,)
    assert selector.targets("team/a", digest)[0].reference == digest


def test_name_that_the_destination_cannot_have_tells_source_and_template() -> None:
    selector = RuleSelector(rule(Selection(names("**"))))

    with pytest.raises(InvalidConfiguration, match=r"east/app:1 .*mirror/\{repository\[1:\]\}"):
        selector.targets("app", "1")


EAST = RegistryEndpoint("east", "https://east.example", groups=("prod",))
NORTH = RegistryEndpoint("north", "https://north.example", groups=("prod", "lab"))
REGISTRIES = {"east": EAST, "north": NORTH, "west": RegistryEndpoint("west", "https://w.example")}


def test_group_means_its_registries_but_the_source() -> None:
    members = members_of_groups(REGISTRIES.values())

    assert members == {"prod": ("east", "north"), "lab": ("north",)}
    assert destination_registries(Destination(group="prod"), "east", members) == ("north",)
    assert destination_registries(WEST, "east", members) == ("west",)
    with pytest.raises(InvalidConfiguration, match="'lab'"):
        destination_registries(Destination(group="lab"), "north", members)


def test_good_rule_has_no_problems() -> None:
    good = rule(Selection(names("**")), destinations=(WEST, Destination(group="prod")))

    assert check_rule(good, REGISTRIES) == ()


def test_problems_name_the_field_and_what_was_meant() -> None:
    bad = SyncRule(
        name="x",
        source="eats",
        select=(Selection(names("**")),),
        destinations=(Destination(registry="wets"), Destination(group="prd")),
    )

    told = [(problem.path, problem.hint) for problem in check_rule(bad, REGISTRIES)]

    assert told == [
        ("source", "did you mean 'east'?"),
        ("destinations[0].registry", "did you mean 'west'?"),
        ("destinations[1].group", "did you mean 'prod'?"),
    ]


def test_rule_onto_itself_is_refused_by_address() -> None:
    twin = {**REGISTRIES, "twin": RegistryEndpoint("twin", "https://east.example")}
    onto_itself = rule(Selection(names("**")), destinations=(Destination(registry="twin"),))
    renamed = rule(
        Selection(names("**")), destinations=(Destination(registry="east", repository="m/{name}"),)
    )

    assert [problem.path for problem in check_rule(onto_itself, twin)] == ["destinations[0]"]
    assert check_rule(renamed, twin) == ()


def test_two_destinations_of_the_same_names_are_refused() -> None:
    double = rule(Selection(names("**")), destinations=(Destination(registry="north"),) * 2)

    assert [problem.path for problem in check_rule(double, REGISTRIES)] == ["destinations[1]"]


def test_suggestion_lists_what_there_is() -> None:
    assert suggest("zzz", ["a", "b"]) == "known: a, b"
    assert suggest("zzz", []) == ""
