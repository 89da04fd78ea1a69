"""Only the newest of a repository, by version and by creation; digests by name; entries united."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import select

from service.model.states import CopyState, ExecutionState
from service.replication import select as select_module
from service.store.tables import copies as copies_table
from tests.support.content import push_artifact, push_image, push_index
from tests.support.effects import arrived, copies_by_tag, effect_rule, requests, run, standing
from tests.support.planning import Watched, failing, finish, planner_over
from tests.support.world import World, some_bytes

LAYER = some_bytes("one", 2000)


def test_effect_select_tags_newest(world: World) -> None:
    for tag in ("1.0", "1.9", "1.10", "1.10-rc1", "latest", "0.1"):
        world.push("app", tag, [LAYER], tag)
        world.push("tool", tag, [LAYER], tag)

    entry = {"repositories": ["*"], "tags": {"newest": {"count": 2}}}
    taken = arrived(world, entry)

    assert taken == {"app:1.10", "app:1.10-rc1", "tool:1.10", "tool:1.10-rc1"}
    assert len(arrived(world, {"repositories": ["*"]})) == 12


def test_effect_select_tags_newest_count(world: World) -> None:
    for tag in ("1.0", "1.1", "1.2"):
        world.push("app", tag, [LAYER], tag)

    def newest(count: int) -> dict[str, object]:
        return {"repositories": ["app"], "tags": {"newest": {"count": count}}}

    assert arrived(world, newest(1)) == {"app:1.2"}
    assert arrived(world, newest(2)) == {"app:1.2", "app:1.1"}


def test_effect_select_tags_newest_by(world: World) -> None:
    """By creation time: of the config, of an index's annotation or first image; none is the oldest."""
    east = world.east.storage
    push_image(east, "app", "9.0", created="2020-01-01T00:00:00Z")
    push_image(east, "app", "1.0", created="2024-05-01T00:00:00.123456789Z", mark="1")
    push_index(east, "app", "multi", ["linux/amd64"], created="2023-01-01T00:00:00Z")
    push_index(
        east,
        "app",
        "noted",
        ["linux/arm64"],
        annotations={"org.opencontainers.image.created": "2025-01-01T00:00:00+02:00"},
    )
    push_image(east, "app", "zero", created="0001-01-01T00:00:00Z", mark="0")
    push_artifact(east, "app", "chart")

    def newest(count: int, by: str) -> dict[str, object]:
        return {"repositories": ["app"], "tags": {"newest": {"count": count, "by": by}}}

    assert arrived(world, newest(1, "semver")) == {"app:9.0"}
    assert arrived(world, newest(3, "created")) == {"app:9.0", "app:noted", "app:1.0", "app:multi"}


def test_creation_times_are_read_once(world: World) -> None:
    for number in range(5):
        push_image(world.east.storage, "app", f"t{number}", created=f"202{number}-01-01T00:00:00Z")
    rule = effect_rule({"repositories": ["app"], "tags": {"newest": {"count": 2, "by": "created"}}})
    run(world, rule)
    before = requests(world, "GET", "/manifests/") + requests(world, "GET", "/blobs/")

    run(world, rule)

    assert requests(world, "GET", "/manifests/") + requests(world, "GET", "/blobs/") == before
    assert standing(world) == {"app:t3", "app:t4"}


def test_newest_comes_after_the_other_conditions_of_its_entry(world: World) -> None:
    east = world.east.storage
    for tag in ("1.0", "1.1", "2.0-alpine", "2.0", "3.0"):
        world.push("app", tag, [LAYER], tag)
    push_artifact(east, "app", "4.0", config="application/vnd.cncf.helm.config.v1+json")

    taken = arrived(
        world,
        {
            "repositories": ["app"],
            "tags": {"semver": "*", "exclude": ["3.*", "*-alpine"], "newest": {"count": 2}},
            "types": ["image"],
        },
    )

    assert taken == {"app:2.0", "app:1.1"}


@pytest.mark.parametrize("page", [1, 3, None])
def test_other_entries_take_what_newest_leaves(world: World, page: int | None) -> None:
    for tag in ("1.0", "1.1", "1.2", "main", "x-1"):
        world.push("app", tag, [LAYER], tag)
    world.east.api.tag_page = page

    execution = run(
        world,
        effect_rule(
            {"repositories": ["app"], "tags": {"newest": {"count": 1}}, "to": {"tag": "new-{tag}"}},
            {"repositories": ["app"], "tags": ["1.*"]},
        ),
    )

    assert standing(world) == {"app:new-1.2", "app:1.0", "app:1.1"}
    assert _entries(world, execution) == {"1.2": 0, "1.0": 1, "1.1": 1}


def test_the_choice_needs_no_more_memory_than_it_keeps_and_survives_a_crash(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(select_module, "PAGE", 2)
    seed = random.randrange(1 << 30)
    print("seed", seed)
    tags = [f"1.{number}" for number in range(30)]
    for tag in random.Random(seed).sample(tags, len(tags)):
        world.push("app", tag, [LAYER], tag)
    world.east.api.tag_page = 4
    rule = effect_rule({"repositories": ["app"], "tags": {"newest": {"count": 5}}})
    services = world.services
    execution = services.executions.create(rule, trigger="test").id
    watch = Watched(services.plans)
    crash = failing("add_page", times=0)

    def before(name: str, number: int) -> None:
        crash(name, number)
        if name == "add_page" and number == 2:
            raise KeyboardInterrupt  # as kill -9: nothing more is written

    watch._before = before
    with pytest.raises(KeyboardInterrupt):
        planner_over(world, watch).plan(execution, services.boot)
    services.plans.postpone(execution, 0.0, reason="", failure_class="")
    assert len(world.copies(execution)) == 2

    assert services.planner.plan(execution, services.boot)

    assert finish(world, execution) is ExecutionState.SUCCEEDED
    assert standing(world) == {f"app:1.{number}" for number in range(25, 30)}
    assert services.plans.matched(execution) == 5


def test_an_event_of_an_old_tag_brings_nothing_that_newest_leaves(world: World) -> None:
    for tag in ("1.0", "1.1"):
        world.push("app", tag, [LAYER], tag)
    rule = effect_rule({"repositories": ["app"], "tags": {"newest": {"count": 1}}})
    services = world.services
    for tag in ("1.0", "1.1"):
        execution = services.executions.create_tags(rule, [("app", tag)]).id
        assert services.planner.plan(execution, services.boot)
        finish(world, execution)

    assert standing(world) == {"app:1.1"}


# ---- digests -------------------------------------------------------------------------------------


def test_effect_select_tags_include_digest(world: World) -> None:
    old = world.push("app", "v1", [LAYER], "old")
    world.push("app", "v1", [LAYER], "new")

    execution = run(
        world,
        effect_rule(
            {
                "repositories": ["app"],
                "tags": [old.digest],
                "to": {"repository": "pinned/{name}", "tag": "pin-{digest}"},
            }
        ),
    )

    assert world.west.storage.tags("pinned/app") == {f"pin-{old.digest[7:]}": old.digest}
    assert requests(world, "GET", "/tags/list") == 0
    assert requests(world, "HEAD", "/manifests/v1") == 0
    assert [copy.state for copy in world.copies(execution)] == [CopyState.COPIED]


def test_digests_beside_globs_and_conditions_are_taken(world: World) -> None:
    old = world.push("app", "v0", [LAYER], "old")
    world.push("app", "v0", [LAYER], "moved")
    world.push("app", "1.0", [LAYER], "one")
    world.push("app", "1.1", [LAYER], "two")

    run(
        world,
        effect_rule(
            {
                "repositories": ["*"],
                "tags": {
                    "include": ["1.*", old.digest],
                    "semver": "*",
                    "newest": {"count": 1},
                },
            }
        ),
    )

    assert standing(world) == {"app:1.1"}
    assert world.west.storage.manifest("app", old.digest) is not None


def test_a_digest_that_is_not_there_fails_its_copy_alone(world: World) -> None:
    world.push("app", "v1", [LAYER])
    missing = "sha256:" + "0" * 64

    execution = run(
        world,
        effect_rule({"repositories": ["app"], "tags": ["v1", missing]}),
        ExecutionState.PARTIAL,
    )

    assert copies_by_tag(world, execution)[missing].failure_class == "gone"
    assert standing(world) == {"app:v1"}


def test_effect_destinations_tag_digest(world: World) -> None:
    """A name that holds the digest: each image that a tag ever had keeps a name of its own."""
    rule = effect_rule(
        {"repositories": ["app"]},
        destinations=[{"registry": "west", "tag": "{tag}-{digest}"}],
    )
    first = world.push("app", "v1", [LAYER], "one")
    run(world, rule)
    second = world.push("app", "v1", [LAYER], "two")
    run(world, rule)

    assert world.west.storage.tags("app") == {
        f"v1-{image.digest[7:]}": image.digest for image in (first, second)
    }
    before = len(world.west.log)
    assert world.copies(run(world, rule)) == []
    assert not [line for line in world.west.log[before:] if line.method == "PUT"]


def test_a_tag_that_moves_is_not_written_under_the_digest_it_had(world: World) -> None:
    world.push("app", "v1", [LAYER], "one")
    rule = effect_rule(
        {"repositories": ["app"]}, destinations=[{"registry": "west", "tag": "at-{digest}"}]
    )
    execution = world.services.executions.create(rule, trigger="test").id
    assert world.services.planner.plan(execution, world.services.boot)
    moved = world.push("app", "v1", [LAYER], "two")

    finish(world, execution)

    (copy,) = world.copies(execution)
    assert copy.state is CopyState.SUPERSEDED
    assert "name of its own" in copy.hint
    assert standing(world) == set()
    run(world, rule)
    assert world.west.storage.tags("app") == {f"at-{moved.digest[7:]}": moved.digest}


# ---- entries -------------------------------------------------------------------------------------


def test_effect_select_to(world: World) -> None:
    push_image(world.east.storage, "a/app", "v1")
    push_image(world.east.storage, "b/app", "v1", mark="b")

    execution = run(
        world,
        effect_rule(
            {"repositories": ["a/*"], "to": {"repository": "first/{name}", "tag": "one-{tag}"}},
            {"repositories": ["**"]},
        ),
    )

    assert standing(world) == {"first/app:one-v1", "b/app:v1"}
    with world.services.database.read() as connection:
        rows = connection.execute(
            select(copies_table.c.source_repository, copies_table.c.entry).where(
                copies_table.c.execution_id == execution
            )
        ).all()
    assert {(row.source_repository, row.entry) for row in rows} == {("a/app", 0), ("b/app", 1)}


def _entries(world: World, execution: str) -> dict[str, int]:
    with world.services.database.read() as connection:
        rows = connection.execute(
            select(copies_table.c.source_reference, copies_table.c.entry).where(
                copies_table.c.execution_id == execution
            )
        ).all()
    return {row.source_reference: row.entry for row in rows}
