"""Each condition on names, seen at the destination: what arrives with it, and what without."""

from __future__ import annotations

import pytest

from tests.support.effects import arrived
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
