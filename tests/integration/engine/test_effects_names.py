"""Each condition on names, seen at the destination: what arrives with it, and what without."""

from __future__ import annotations

import contextlib
import time

import pytest

from service.errors import InvalidFields
from tests.support.content import CHART_CONFIG, push_artifact, push_image
from tests.support.effects import arrived, effect_rule
from tests.support.world import World, some_bytes

LAYER = some_bytes("one", 2000)


def push(world: World, *names: str) -> None:
    for name in names:
        repository, _, tag = name.partition(":")
        world.push(repository, tag, [LAYER], name)


def test_effect_select_repositories_regex(world: World) -> None:
    push(world, "team1/app:v1", "team22/app:v1", "teams/app:v1", "x/team1/app:v1")

    taken = arrived(world, {"repositories": {"regex": "^team[0-9]+/"}})

    assert taken == {"team1/app:v1", "team22/app:v1"}
    assert len(arrived(world, {"repositories": ["**"]})) == 4


def test_effect_select_tags_regex(world: World) -> None:
    push(world, "app:v1", "app:v10", "app:dev-v1", "app:latest")

    taken = arrived(world, {"repositories": ["app"], "tags": {"regex": "^v1", "exclude": ["v10"]}})

    assert taken == {"app:v1"}
    assert len(arrived(world, {"repositories": ["app"]})) == 4


def test_effect_select_tags_semver(world: World) -> None:
    push(
        world,
        *(f"app:{tag}" for tag in ("1.1", "1.2", "v2.9.1", "3.0.0", "2.0-rc1", "2.0-alpine", "x")),
    )

    taken = arrived(world, {"repositories": ["app"], "tags": {"semver": ">=1.2 <3"}})

    assert taken == {"app:1.2", "app:v2.9.1", "app:2.0-alpine"}
    assert len(arrived(world, {"repositories": ["app"]})) == 7


def test_conditions_of_one_entry_must_all_hold(world: World) -> None:
    push(world, "app:1.1", "app:1.2", "app:1.2-alpine", "app:1.2-slim", "app:1.3")

    taken = arrived(
        world,
        {
            "repositories": ["app"],
            "tags": {
                "include": ["1*"],
                "exclude": ["*-slim"],
                "regex": r"^\d",
                "semver": "<1.3 !=1.1",
            },
        },
    )

    assert taken == {"app:1.2", "app:1.2-alpine"}


@pytest.mark.parametrize("key", ["regex", "semver"])
def test_a_named_tag_that_a_condition_leaves_out_needs_no_listing(world: World, key: str) -> None:
    push(world, "app:1.1", "app:2.0")

    taken = arrived(
        world,
        {
            "repositories": ["app"],
            "tags": {"include": ["1.1", "2.0"], key: "^1" if key == "regex" else "1.x"},
        },
    )

    assert taken == {"app:1.1"}
    assert not [line for line in world.east.log if "/tags/list" in line.path]


# ---- templates -----------------------------------------------------------------------------------


def test_effect_select_to_repository(world: World) -> None:
    push(world, "team/app:v1")

    taken = arrived(world, {"repositories": ["**"], "to": {"repository": "flat-{name}"}})

    assert taken == {"flat-app:v1"}


def test_effect_select_to_tag(world: World) -> None:
    push(world, "team/app:v1")

    taken = arrived(world, {"repositories": ["**"], "to": {"tag": "from-{registry}-{tag}"}})

    assert taken == {"team/app:from-east-v1"}


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{repository}", "a/b/c"),
        ("mirror/{repository}", "mirror/a/b/c"),
        ("{repository[1:]}", "b/c"),
        ("{repository[2:]}", "c"),
        ("all/{name}", "all/c"),
        ("{namespace}/x", "a/b/x"),
        ("from/{registry}/{repository}", "from/east/a/b/c"),
    ],
)
def test_templates_name_repositories(world: World, template: str, name: str) -> None:
    push(world, "a/b/c:v1")

    taken = arrived(
        world,
        {"repositories": ["**"]},
        destinations=[{"registry": "west", "repository": template}],
    )

    assert taken == {f"{name}:v1"}


def test_entries_that_part_one_repository_by_type_do_not_collide(world: World) -> None:
    """Flattened names of images and of charts are told apart by what they are, not refused."""
    for team in ("a", "b"):
        push_image(world.east.storage, f"{team}/app", f"{team}1", mark=team)
        push_artifact(world.east.storage, f"{team}/app", f"{team}2", config=CHART_CONFIG)

    taken = arrived(
        world,
        {"repositories": ["**"], "types": ["image"], "to": {"repository": "images/{name}"}},
        {"repositories": ["**"], "types": ["chart"], "to": {"repository": "charts/{name}"}},
    )

    assert taken == {"images/app:a1", "images/app:b1", "charts/app:a2", "charts/app:b2"}


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*a){20}", "((a{100}){100}){100}"])
def test_a_rule_with_an_evil_pattern_is_read_at_once(pattern: str) -> None:
    effect_rule({"repositories": {"regex": "warm"}})
    begun = time.thread_time()

    with contextlib.suppress(InvalidFields):
        effect_rule({"repositories": ["a"], "tags": {"regex": pattern}})

    assert time.thread_time() - begun < 0.05
