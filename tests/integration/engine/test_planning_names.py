"""Two sources of one name, and a source that would be written over: refused before any write."""

from __future__ import annotations

import pytest

from service.errors import InvalidConfiguration
from service.model.endpoint import RegistryEndpoint
from service.model.rule import Destination, NameFilter, Selection
from service.model.states import ExecutionState
from service.replication.collisions import HASHES_AT_ONCE, CollisionCheck
from service.replication.compare import Ask, Unnamed
from service.replication.select import Selector
from service.store.planning import Cursor
from tests.support.planning import asked, finish, mirror, plan
from tests.support.world import World, some_bytes

LAYER = some_bytes("one", 5000)


# ---- collisions ----------------------------------------------------------------------------------


def test_names_that_the_templates_keep_apart_cost_no_request(world: World) -> None:
    for name in ("a", "b"):
        world.push(f"team/{name}", "v1", [LAYER])

    plan(world, mirror("team/*", to="mirror/{repository}"))

    assert asked(world, "GET", "/tags/list") == 2


def test_only_repositories_that_meet_are_listed_before(world: World) -> None:
    for repository, tag in (("a/app", "v1"), ("b/app", "v2"), ("a/tool", "v1")):
        world.push(repository, tag, [LAYER])

    execution = plan(world, mirror("**", to="all/{name}"))

    assert finish(world, execution) is ExecutionState.SUCCEEDED
    assert sorted(world.west.storage.tags("all/app") or {}) == ["v1", "v2"]
    assert [asked(world, "GET", f"{r}/tags/list") for r in ("a/app", "b/app", "a/tool")] == [
        2,
        2,
        1,
    ]


@pytest.mark.parametrize(
    "to, tag", [("all/{name}", "{tag}"), ("all/{tag}", "{tag}"), ("{repository}", "latest")]
)
def test_one_name_for_two_sources_is_refused(world: World, to: str, tag: str) -> None:
    world.push("a/app", "v1", [LAYER])
    world.push("b/app", "v1", [LAYER], "other")
    world.push("b/app", "v2", [LAYER], "another")

    execution = plan(
        world,
        mirror("**", destinations=(Destination(registry="west", repository=to, tag=tag),)),
    )

    assert finish(world, execution) is ExecutionState.FAILED
    record = world.services.executions.get(execution)
    assert "would both become" in record.reason
    assert "nothing was written" in record.reason
    assert world.copies(execution) == []


def test_two_entries_of_one_rule_may_not_meet_in_a_repository(world: World) -> None:
    world.push("a/app", "v1", [LAYER])
    world.push("a/app", "x-v1", [LAYER], "other")
    rule = mirror(
        select=(
            Selection(NameFilter(("a/*",)), NameFilter(("v*",)), to_tag="x-{tag}"),
            Selection(NameFilter(("a/*",))),
        )
    )

    execution = plan(world, rule)

    assert finish(world, execution) is ExecutionState.FAILED
    assert "x-v1" in world.services.executions.get(execution).reason


@pytest.mark.parametrize("count", [2, 5 * HASHES_AT_ONCE])
def test_meetings_are_found_in_as_many_passes_as_memory_asks_for(world: World, count: int) -> None:
    for team in ("a", "b"):
        for number in range(20):
            world.push(f"{team}/app{number}", f"{team}1", [])
    world.push("b/app13", "a1", [], "other")
    cursors = [Cursor(name, "") for name in world.east.storage.repositories()]
    selector = _selector(world, "all/{name}")

    def give_up(_cursor: Cursor, error: Exception) -> None:
        raise error

    with pytest.raises(InvalidConfiguration, match=r"a/app13:a1 and b/app13:a1 would both become"):
        CollisionCheck(selector, lambda: iter(cursors), count, give_up).refuse()


def test_a_repository_that_cannot_be_looked_at_is_left_out_of_the_plan(world: World) -> None:
    for repository in ("a/app", "b/app"):
        world.push(repository, f"v-{repository[0]}", [LAYER])
    denied = world.east.fault("b/app/tags", times=1, status=403)

    execution = plan(world, mirror("**", to="all/{name}"))

    assert finish(world, execution) is ExecutionState.PARTIAL
    assert denied.fired
    assert list(world.west.storage.tags("all/app") or {}) == ["v-a"]


# ---- one registry as source and destination ------------------------------------------------------


@pytest.mark.parametrize("name", ["east", "alias"])
def test_a_rule_that_would_feed_itself_is_refused(world: World, name: str) -> None:
    world.services.registries.put(RegistryEndpoint("alias", world.east.url), document={})
    world.push("app", "v1", [LAYER])

    execution = plan(world, mirror("**", registry=name))

    assert finish(world, execution) is ExecutionState.FAILED
    record = world.services.executions.get(execution)
    assert "app:v1 would become mirror/app:v1" in record.reason
    assert "exclude" in record.reason
    assert record.failure_class == "invalid"
    assert world.east.storage.repositories() == ["app"]


def test_a_rule_never_writes_over_a_name_that_it_takes(world: World) -> None:
    world.push("app", "v1", [LAYER])
    own = world.push("mirror/app", "v1", [LAYER], "own")

    execution = plan(world, mirror("app", "mirror/app", registry="east"))

    assert finish(world, execution) is ExecutionState.FAILED
    found = world.east.storage.manifest("mirror/app", "v1")
    assert found is not None
    assert found.digest == own.digest


def test_a_name_that_it_takes_only_later_is_not_written_over_either(world: World) -> None:
    """The tag comes to the source between the look at all names and the plan."""
    selector = _selector(world, "{repository}", tag="x-{tag}", tags=("v*", "x-*"), at="east")

    (unnamed,) = selector.names_at(Ask("app", "v1"), 0, None)

    assert isinstance(unnamed, Unnamed)
    assert isinstance(unnamed.error, InvalidConfiguration)


def test_other_names_in_the_same_registry_may_be_written(world: World) -> None:
    image = world.push("team/app", "v1", [LAYER])

    for _ in range(2):
        copied = plan(world, mirror("team/*", registry="east"))
        assert finish(world, copied) is ExecutionState.SUCCEEDED
    promoted = plan(
        world,
        mirror(
            "team/*",
            tags=("v*",),
            name="promote",
            destinations=(Destination(registry="east", tag="stable-{tag}"),),
        ),
    )

    assert finish(world, promoted) is ExecutionState.SUCCEEDED
    assert world.east.storage.repositories() == ["mirror/team/app", "team/app"]
    tags = world.east.storage.tags("team/app")
    assert tags == {"v1": image.digest, "stable-v1": image.digest}


def _selector(
    world: World, to: str, *, tag: str = "{tag}", tags: tuple[str, ...] = (), at: str = ""
) -> Selector:
    services = world.services
    registry = at or "west"
    destination = Destination(registry=registry, repository=to, tag=tag)
    return Selector(
        mirror("**", tags=tags, destinations=(destination,)),
        services.clients.get("east"),
        [(registry,)],
        services.plans,
        "none",
        {at} if at else (),
    )
