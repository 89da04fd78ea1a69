"""Signatures and other referrers come before the tag of their image, wherever the list has them."""

from __future__ import annotations

import pytest

from service.model.digest import Digest
from service.model.reference import digest_tag
from service.model.states import ExecutionState
from service.replication import select as select_module
from service.replication.select import Selector
from service.store.planning import Cursor
from tests.support.planning import Watched, finish, mirror, plan
from tests.support.world import Image, World, some_bytes

LAYER = some_bytes("one", 5000)


def test_a_page_cut_in_pieces_copies_no_tag_before_its_signature(world: World) -> None:
    image = world.push("team/app", "a000", [LAYER])
    for number in range(1, select_module.PAGE + 20):
        world.east.storage.move_tag("team/app", f"a{number:03}", image.digest)
    signature = _sign(world, image)
    seen: list[bool] = []

    def at_page(name: str, number: int) -> None:
        if name == "add_page" and number == 1:
            seen.append(_copy_one(world, image, signature))

    plans = Watched(world.services.plans, after=at_page)
    plan(world, mirror("team/*"), plans)

    assert plans.calls["add_page"] == 2
    assert seen == [True]
    assert _probes(world, image) == 0


def test_copies_of_an_early_page_look_for_what_later_pages_may_hold(world: World) -> None:
    world.east.api.tag_page = 1
    image = world.push("team/app", "a1", [LAYER])
    signature = _sign(world, image)
    world.push("team/app", "z1", [LAYER], "other")
    seen: list[bool] = []

    def at_page(name: str, number: int) -> None:
        if name == "add_page" and number == 1:
            seen.append(_copy_one(world, image, signature))

    plans = Watched(world.services.plans, after=at_page)
    execution = plan(world, mirror("team/*"), plans)

    assert seen == [True]
    assert _probes(world, image) > 0
    assert finish(world, execution) is ExecutionState.SUCCEEDED


def test_a_repository_of_one_page_is_not_probed_for_signatures(world: World) -> None:
    image = world.push("team/app", "a1", [LAYER])
    signature = _sign(world, image)

    assert finish(world, plan(world, mirror("team/*"))) is ExecutionState.SUCCEEDED

    assert world.tag_at_west("team/app", signature)
    assert _probes(world, image) == 0


@pytest.mark.parametrize("tags", [("a1", "a2"), ("v1", "v2")])
def test_a_signature_on_a_page_of_its_own_follows_an_image_that_is_there(
    world: World, tags: tuple[str, str]
) -> None:
    """Its page comes after those of a1 and a2, and before those of v1 and v2."""
    world.east.api.tag_page = 1
    image = world.push("team/app", tags[0], [LAYER])
    world.push("team/app", tags[1], [LAYER], "other")
    assert finish(world, plan(world, mirror("team/*"))) is ExecutionState.SUCCEEDED
    signature = _sign(world, image)

    execution = plan(world, mirror("team/*"))

    assert finish(world, execution) is ExecutionState.SUCCEEDED
    assert world.tag_at_west("team/app", signature)
    assert [c.source_reference for c in world.copies(execution)] == [signature]


def test_a_signature_goes_beside_its_image_where_the_repository_depends_on_the_tag(
    world: World,
) -> None:
    rule = mirror("team/*", to="by-tag/{name}/{tag}")
    image = world.push("team/app", "v1", [LAYER])
    world.push("team/app", "v2", [LAYER], "other")
    assert finish(world, plan(world, rule)) is ExecutionState.SUCCEEDED
    signature = _sign(world, image)

    assert finish(world, plan(world, rule)) is ExecutionState.SUCCEEDED

    assert signature in (world.west.storage.tags("by-tag/app/v1") or {})
    assert signature not in (world.west.storage.tags("by-tag/app/v2") or {})


def test_a_signature_of_an_image_that_nobody_wants_is_left_out(world: World) -> None:
    wanted = world.push("team/app", "v1", [LAYER])
    other = world.push("team/app", "x1", [LAYER], "other")
    signature = _sign(world, other)
    rule = mirror("team/*", tags=("v*",))

    for _ in range(2):
        assert finish(world, plan(world, rule)) is ExecutionState.SUCCEEDED

    assert world.tag_at_west("team/app", "v1") == wanted.digest
    assert world.tag_at_west("team/app", signature) is None


@pytest.mark.parametrize("tag", ["sha512-" + "a" * 64, "sha256-" + "b" * 70 + ".sig"])
def test_a_digest_tag_of_no_digest_stops_nothing(world: World, tag: str) -> None:
    world.push("team/app", "v1", [LAYER])
    world.push("team/app", tag, [LAYER], "odd")

    assert finish(world, plan(world, mirror("team/*"))) is ExecutionState.SUCCEEDED


def test_a_crash_amid_a_page_goes_on_at_that_page(world: World) -> None:
    world.east.api.tag_page = 1
    for tag in ("a1", "a2", "a3"):
        world.push("team/app", tag, [LAYER])
    services = world.services
    selector = Selector(
        mirror("team/*"),
        services.clients.get("east"),
        [("west",)],
        services.plans,
        "none",
    )
    first, second, third = selector.pages(Cursor("team/app", ""))

    resumed = list(selector.pages(Cursor("team/app", second.position)))

    assert [page.tags for page in (first, second, third)] == [["a1"], ["a2"], ["a3"]]
    assert resumed == [third]
    assert [page.complete for page in (first, second, third)] == [False, False, True]


def _sign(world: World, image: Image) -> str:
    tag = digest_tag(Digest.parse(image.digest), ".sig")
    world.push(image.repository, tag, [b"signature"], "sig")
    return tag


def _copy_one(world: World, image: Image, signature: str) -> bool:
    """Carry out what is planned so far; whether the tag came with its signature."""
    refs = world.dispatch()
    world.party().replicate(refs[0])
    assert world.tag_at_west(image.repository, next(iter(_ordinary(world, image))))
    return world.tag_at_west(image.repository, signature) is not None


def _ordinary(world: World, image: Image) -> list[str]:
    tags = world.west.storage.tags(f"mirror/{image.repository}") or {}
    return [tag for tag in tags if not tag.startswith("sha256-")]


def _probes(world: World, image: Image) -> int:
    """How often the source was asked for an attestation that nobody listed."""
    ending = digest_tag(Digest.parse(image.digest), ".att")
    return sum(1 for line in list(world.east.log) if line.path.endswith(ending))
