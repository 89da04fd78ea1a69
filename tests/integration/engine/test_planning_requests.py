"""No request asks for what another one has told: listings of destinations, tags read once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from api.samples.faults import FOREVER
from api.samples.http_messages import Request, Response
from api.samples.storage import StoredManifest, digest_of
from service.model.digest import Digest
from service.model.media_types import OCI_MANIFEST
from service.model.reference import digest_tag
from service.model.rule import Destination, NameFilter, Selection
from service.model.states import CopyState, ExecutionState
from service.store.creation import REPAIR
from tests.integration.engine.databases import on_both_databases
from tests.support.planning import finish, mirror, plan
from tests.support.source_log import RequestCost
from tests.support.world import Image, World, some_bytes

LAYER = some_bytes("one", 5000)
LARGE = some_bytes("large", 17 << 20)
TAGS = [f"v{number}" for number in range(8)]
COPIED, UNCHANGED, SKIPPED, FAILED = (
    CopyState.COPIED,
    CopyState.UNCHANGED,
    CopyState.SKIPPED,
    CopyState.FAILED,
)


def push(world: World, repository: str = "team/app", tags: list[str] = TAGS) -> list[Image]:
    return [world.push(repository, tag, [LAYER], tag) for tag in tags]


def put_at_west(world: World, tag: str, image: Image) -> None:
    """Have somebody else bring an image of the source, blobs and all, to the mirror."""
    repository = f"mirror/{image.repository}"
    found = world.east.storage.manifest(image.repository, image.digest)
    assert found is not None
    for digest in _blobs(found):
        blob = world.east.storage.blob(image.repository, digest)
        assert blob is not None
        world.west.storage.put_blob(repository, digest, blob[0])
    world.west.storage.put_manifest(repository, found, tag)


def _blobs(manifest: StoredManifest) -> list[str]:
    body = json.loads(manifest.raw)
    return [one["digest"] for one in (body["config"], *body["layers"])]


def one_after_the_other(world: World) -> None:
    """Have references compared by one thread."""
    world.services.close()
    world.services = world.open(replace(world.settings, compare_threads=1))


def costs(world: World) -> tuple[RequestCost, RequestCost]:
    return RequestCost.of(world.east.log), RequestCost.of(world.west.log)


def forget(world: World) -> None:
    world.east.log.clear()
    world.west.log.clear()


def heads_of_tags(world: World) -> list[str]:
    """The tags that the mirror was asked for."""
    lines = [line for line in list(world.west.log) if line.method == "HEAD"]
    names = [line.path.rpartition("/manifests/")[2] for line in lines if "/manifests/" in line.path]
    return sorted(name for name in names if ":" not in name)


def lists_nothing(world: World, times: int = FOREVER) -> Any:
    """Let the mirror's listings lag behind: they are empty."""
    return world.west.fault("/tags/list", times=times, body=b'{"name": "x", "tags": []}')


# ---- counts --------------------------------------------------------------------------------------


@on_both_databases
def test_an_empty_destination_is_asked_for_one_tag_and_a_listing(world: World) -> None:
    push(world)
    push(world, "team/other")

    execution = plan(world, mirror("team/*"))

    east, west = costs(world)
    assert (west.kinds["HEAD manifest"], west.kinds["GET tags"]) == (2, 2)
    assert (east.kinds["HEAD manifest"], east.kinds["GET manifest"]) == (0, 0)
    assert finish(world, execution) is ExecutionState.SUCCEEDED
    east, west = costs(world)
    assert east.kinds["GET manifest"] == len(TAGS) * 2, "a tag was read more than once"
    assert east.kinds["HEAD manifest"] == len(TAGS) * 2, "once, as the last request before the PUT"
    assert west.kinds["HEAD manifest"] == 2 + len(TAGS) * 2, "each is read back"


def test_where_nothing_changed_each_side_is_asked_once_a_tag(world: World) -> None:
    push(world)
    for number, tag in enumerate(TAGS):
        put_at_west(world, tag, push(world, tags=TAGS)[number])
    for _ in range(2):  # by somebody else's copies, and by records of ours
        forget(world)
        execution = plan(world, mirror("team/*"))

        east, west = costs(world)
        assert west.kinds == {"GET ping": west.pings, "HEAD manifest": len(TAGS)}
        assert east.kinds["HEAD manifest"] == len(TAGS)
        assert east.requests == len(TAGS) + east.listings + east.pings
        assert finish(world, execution) is ExecutionState.SUCCEEDED
        assert world.copies(execution) == []


@on_both_databases
def test_where_some_of_our_own_tags_changed_nothing_is_listed(world: World) -> None:
    one_after_the_other(world)  # or the two that are new may be all that is known for a moment
    push(world)
    assert finish(world, plan(world, mirror("team/*"))) is ExecutionState.SUCCEEDED
    world.push("team/app", "v3", [LAYER], "new")
    world.push("team/app", "v9", [LAYER], "new")
    forget(world)

    plan(world, mirror("team/*"))

    east, west = costs(world)
    assert (west.kinds["HEAD manifest"], west.kinds["GET tags"]) == (len(TAGS) + 1, 0)
    assert east.kinds["HEAD manifest"] == len(TAGS), "v9 is read when it is copied"


def test_a_listing_is_kept_for_the_repositorys_other_pages(world: World) -> None:
    world.east.api.tag_page = 4
    push(world)

    plan(world, mirror("team/*"))

    _, west = costs(world)
    assert (west.kinds["HEAD manifest"], west.kinds["GET tags"]) == (1, 1)


def test_sources_that_share_a_destination_share_its_listing(world: World) -> None:
    push(world, "a/app", ["a1", "a2", "a3"])
    push(world, "b/app", ["b1", "b2", "b3"])

    plan(world, mirror("*/app", to="all/{name}"))

    _, west = costs(world)
    assert west.kinds["GET tags"] == 1
    assert west.kinds["HEAD manifest"] <= 4, "each page may have begun before the listing came"


def test_a_tag_with_several_names_is_read_once_at_the_source(world: World) -> None:
    images = push(world)
    rule = mirror(
        "team/*",
        destinations=(
            Destination(registry="west", repository="mirror/{repository}"),
            Destination(registry="west", repository="second/{repository}"),
        ),
    )

    execution = plan(world, rule)

    assert sorted({c.digest for c in world.copies(execution)}) == sorted(i.digest for i in images)
    assert finish(world, execution) is ExecutionState.SUCCEEDED
    east, west = costs(world)
    assert east.kinds["GET manifest"] == len(TAGS)
    assert east.kinds["HEAD manifest"] == len(TAGS) * 3, "to compare, and before each PUT"
    assert west.kinds["GET tags"] == 2


def test_a_plan_asks_for_every_tag_and_tells_digests(world: World) -> None:
    images = push(world)

    execution = world.services.saved_plans.create(mirror("team/*"), trigger="test")
    assert world.services.planner.plan(execution, world.services.boot)

    assert [c.digest for c in world.copies(execution)] == [i.digest for i in images]
    _, west = costs(world)
    assert west.kinds["GET tags"] == 0
    assert heads_of_tags(world) == TAGS


def test_names_and_filters_that_need_digests_have_them(world: World) -> None:
    images = push(world)
    by_digest = mirror("team/*", to="by/{digest}")
    filtered = mirror(
        select=(Selection(NameFilter(("team/*",)), types=("image",)),), name="filtered"
    )

    for rule in (by_digest, filtered):
        execution = plan(world, rule)
        assert [c.digest for c in world.copies(execution)] == [i.digest for i in images]
        assert finish(world, execution) is ExecutionState.SUCCEEDED


def test_signatures_of_what_is_not_there_cost_nothing(world: World) -> None:
    images = push(world)
    for image in images:
        _sign(world, image)

    execution = plan(world, mirror("team/*"))

    east, west = costs(world)
    assert east.kinds["HEAD manifest"] == 0
    assert west.kinds["HEAD manifest"] == 1
    assert finish(world, execution) is ExecutionState.SUCCEEDED
    assert all(world.tag_at_west("team/app", _signature(image)) for image in images)


def test_a_signature_follows_its_image_into_a_repository_that_lists_none(world: World) -> None:
    images = push(world)
    put_at_west(world, "v0", images[0])
    signed, unsigned = _sign(world, images[0]), _sign(world, images[1])
    lists_nothing(world)

    execution = plan(world, mirror("team/*", tags=("v0", "x*")))

    assert [c.source_reference for c in world.copies(execution)] == [signed]
    assert finish(world, execution) is ExecutionState.SUCCEEDED
    assert world.tag_at_west("team/app", signed)
    assert world.tag_at_west("team/app", unsigned) is None


def _signature(image: Image) -> str:
    return f"{digest_tag(Digest.parse(image.digest))}.sig"


def _sign(world: World, image: Image) -> str:
    world.push(image.repository, _signature(image), [some_bytes(image.digest, 90)], "signature")
    return _signature(image)


# ---- listings that are not the whole truth -------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b""),
        (403, b'{"errors": [{"code": "DENIED"}]}'),
        (404, b"<html>no such page</html>"),
        (404, b'{"errors": [{"code": "NOT_FOUND"}]}'),
        (405, b'{"errors": [{"code": "UNSUPPORTED"}]}'),
        (500, b""),
        (503, b""),
    ],
)
def test_a_destination_that_does_not_list_is_asked_for_each_tag(
    world: World, status: int, body: bytes
) -> None:
    images = push(world)
    put_at_west(world, "v5", images[5])
    refused = world.west.fault("/tags/list", times=FOREVER, status=status, body=body)

    execution = plan(world, mirror("team/*"))

    assert refused.fired
    assert heads_of_tags(world) == TAGS
    assert finish(world, execution) is ExecutionState.SUCCEEDED
    assert {c.source_reference for c in world.copies(execution)} == set(TAGS) - {"v5"}
    assert [world.tag_at_west("team/app", tag) for tag in TAGS] == [i.digest for i in images]
    assert world.services.executions.get(execution).warnings == ()


@pytest.mark.parametrize(
    ("policy", "same", "other"),
    [
        ("overwrite", COPIED, COPIED),
        ("keep", COPIED, SKIPPED),
        ("fail", COPIED, FAILED),
    ],
)
def test_a_listing_that_lags_is_no_reason_to_write_over_a_tag(
    world: World, policy: str, same: CopyState, other: CopyState
) -> None:
    """The tags are missing in the listing: of the same image, of another one, and of none."""
    images = push(world)
    there = world.push("team/app", "theirs", [LAYER], "theirs")
    put_at_west(world, "v4", images[4])
    put_at_west(world, "v5", there)
    lag = lists_nothing(world)

    execution = plan(world, mirror("team/app", tags=("v*",), on_conflict=policy))
    ended = finish(world, execution)

    assert lag.fired
    states = {c.source_reference: c.state for c in world.copies(execution)}
    assert states == dict.fromkeys(TAGS, COPIED) | {"v4": same, "v5": other}
    assert world.tag_at_west("team/app", "v4") == images[4].digest
    assert world.tag_at_west("team/app", "v5") == (
        images[5].digest if policy == "overwrite" else there.digest
    )
    assert ended is (ExecutionState.PARTIAL if policy == "fail" else ExecutionState.SUCCEEDED), (
        world.copies(execution)
    )


@pytest.mark.parametrize(
    ("policy", "state"), [("overwrite", COPIED), ("keep", SKIPPED), ("fail", FAILED)]
)
def test_a_tag_that_appears_after_the_listing_is_judged_before_it_is_written(
    world: World, policy: str, state: CopyState
) -> None:
    images = push(world)
    execution = plan(world, mirror("team/*", on_conflict=policy))
    assert costs(world)[1].kinds["GET tags"] == 1
    put_at_west(world, "v6", images[0])

    finish(world, execution)

    states = {c.source_reference: c.state for c in world.copies(execution)}
    assert states == dict.fromkeys(TAGS, COPIED) | {"v6": state}
    expected = images[6] if policy == "overwrite" else images[0]
    assert world.tag_at_west("team/app", "v6") == expected.digest


def test_tags_of_ours_that_a_listing_lacks_are_neither_lost_nor_copied_again(world: World) -> None:
    images = push(world)
    assert finish(world, plan(world, mirror("team/*"))) is ExecutionState.SUCCEEDED
    new = [f"w{number}" for number in range(20)]
    images += push(world, tags=new)
    lag = lists_nothing(world)
    forget(world)

    execution = plan(world, mirror("team/*"))

    assert lag.fired
    assert set(heads_of_tags(world)) >= set(TAGS)
    assert {c.source_reference for c in world.copies(execution)} == set(new)
    assert world.services.executions.get(execution).warnings == ()
    assert finish(world, execution) is ExecutionState.SUCCEEDED
    assert [world.tag_at_west("team/app", t) for t in TAGS + new] == [i.digest for i in images]


def test_tags_of_ours_that_are_gone_are_evidence_of_loss(world: World) -> None:
    images = push(world)
    assert finish(world, plan(world, mirror("team/*"))) is ExecutionState.SUCCEEDED
    for tag in TAGS:
        world.west.storage.delete_tag("mirror/team/app", tag)

    execution = plan(world, mirror("team/*"))

    (warning,) = world.services.executions.get(execution).warnings
    assert "lost tags" in warning
    assert finish(world, execution) is ExecutionState.SUCCEEDED
    assert [world.tag_at_west("team/app", tag) for tag in TAGS] == [i.digest for i in images]


def test_a_tag_that_may_not_move_is_no_failure_when_it_is_where_it_should_be(world: World) -> None:
    """An immutable tag in place, in a registry whose listing leaves it out."""
    images = push(world)
    put_at_west(world, "v4", images[4])
    put_at_west(world, "v5", images[4])
    lists_nothing(world)
    immutable = b'{"errors": [{"code": "TAG_IMMUTABLE", "message": "no"}]}'
    for tag in ("v4", "v5"):
        world.west.fault(
            f"/manifests/{tag}$", method="PUT", times=FOREVER, status=400, body=immutable
        )

    execution = plan(world, mirror("team/*"))
    finish(world, execution)

    states = {c.source_reference: c.state for c in world.copies(execution)}
    assert states == dict.fromkeys(TAGS, COPIED) | {"v5": FAILED}
    assert world.tag_at_west("team/app", "v5") == images[4].digest


def test_a_repair_believes_no_listing(world: World) -> None:
    push(world)
    lists_nothing(world)
    execution = world.services.executions.create(mirror("team/*"), trigger=REPAIR).id

    assert world.services.planner.plan(execution, world.services.boot)

    assert heads_of_tags(world) == TAGS


# ---- tags that move ------------------------------------------------------------------------------


def at_read_of(world: World, tag: str, then: Callable[[], object]) -> Any:
    """Do something once the source has answered a GET of a tag."""

    def after(_request: Request, _response: Response) -> None:
        then()

    return world.east.fault(f"/manifests/{tag}$", method="GET", after=after)


def test_a_tag_that_moves_after_it_was_read_is_copied_as_it_is_then(world: World) -> None:
    world.push("team/app", "v1", [LAYER], "old")
    moved: list[Image] = []
    execution = plan(world, mirror("team/*"))
    fault = at_read_of(
        world, "v1", lambda: moved.append(world.push("team/app", "v1", [LAYER], "new"))
    )

    assert finish(world, execution) is ExecutionState.SUCCEEDED

    assert fault.fired
    (copy,) = world.copies(execution)
    assert (copy.state, copy.digest) == (COPIED, moved[0].digest)
    assert world.tag_at_west("team/app", "v1") == moved[0].digest
    assert world.tag_puts("team/app", "v1") == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_tag_that_goes_before_it_is_copied_is_skipped(world: World, when: str) -> None:
    image = world.push("team/app", "v1", [LAYER])
    execution = plan(world, mirror("team/*"))

    def go() -> None:
        world.east.storage.delete_tag("team/app", "v1")

    if when == "before":
        go()
    else:
        at_read_of(world, "v1", go)

    assert finish(world, execution) is ExecutionState.SUCCEEDED
    (copy,) = world.copies(execution)
    assert (copy.state, copy.reason) == (SKIPPED, "the source no longer has this tag")
    assert copy.digest == ("" if when == "before" else image.digest)
    assert world.tag_at_west("team/app", "v1") is None


def ask_for(world: World, *tags: str, trigger: str = "event") -> str:
    """Plan single tags, as an event or a retry does."""
    references = [("team/app", tag) for tag in tags]
    rule = mirror("team/*", referrers=False)
    execution = world.services.executions.create_tags(rule, references, trigger=trigger).id
    assert world.services.planner.plan(execution, world.services.boot)
    return execution


@pytest.mark.parametrize("trigger", ["event", "retry"])
def test_a_new_tag_that_was_asked_for_is_read_once(world: World, trigger: str) -> None:
    image = world.push("team/app", "v1", [LAYER])

    execution = ask_for(world, "v1", trigger=trigger)
    assert finish(world, execution) is ExecutionState.SUCCEEDED

    east, west = costs(world)
    assert world.tag_at_west("team/app", "v1") == image.digest
    assert (east.kinds["GET manifest"], east.kinds["HEAD manifest"]) == (1, 1)
    assert west.kinds["HEAD manifest"] == 2, "is it there, and the read-back"


def test_a_tag_that_was_asked_for_and_is_gone_is_no_failure(world: World) -> None:
    world.push("team/app", "v1", [LAYER])
    execution = ask_for(world, "v1", "never")
    world.east.storage.delete_tag("team/app", "v1")

    assert finish(world, execution) is ExecutionState.SUCCEEDED

    gone = "the source no longer has this tag"
    assert [(c.state, c.reason) for c in world.copies(execution)] == [(SKIPPED, gone)] * 2


def test_a_tag_that_the_rule_names_fails_where_it_is_not(world: World) -> None:
    world.push("team/app", "v1", [LAYER])
    select = (Selection(NameFilter(("team/app",)), NameFilter(("v1", "v2"))),)

    execution = plan(world, mirror(select=select))

    assert finish(world, execution) is ExecutionState.PARTIAL
    ended = {c.source_reference: (c.state, c.failure_class) for c in world.copies(execution)}
    assert ended == {"v1": (COPIED, ""), "v2": (FAILED, "gone")}


# ---- the digest of a copy ------------------------------------------------------------------------


@on_both_databases
def test_a_copy_knows_its_digest_from_its_first_step_on(world: World) -> None:
    image = world.push("team/app", "v1", [LARGE])
    execution = plan(world, mirror("team/*"))
    (before,) = world.copies(execution)
    (ref,) = world.dispatch()
    party = world.party()

    party.replicate(ref)

    (copy,) = world.copies(execution)
    assert (before.digest, copy.digest) == ("", image.digest)
    assert copy.state is CopyState.COPYING
    ((fanned_out, parts),) = party.publisher.fanned_out
    for part in range(parts):
        party.copy_part(fanned_out, part)
    party.commit(fanned_out)
    assert world.states(execution) == [COPIED]
    assert costs(world)[0].kinds["GET manifest"] == 1


def test_a_copy_that_fails_after_its_tag_was_read_tells_the_digest(world: World) -> None:
    image = world.push("team/app", "v1", [LAYER])
    world.east.fault("/blobs/", times=FOREVER, status=403)

    execution = plan(world, mirror("team/*"))
    finish(world, execution)

    (copy,) = world.copies(execution)
    assert (copy.state, copy.digest) == (FAILED, image.digest)


def test_what_the_planner_could_not_judge_is_judged_however_often_it_is_tried(world: World) -> None:
    """The image's platform is told by its config, which fails once after the tag was read."""
    world.push("team/app", "v1", [LAYER])
    world.east.fault("/manifests/v1", method="HEAD", status=500, times=FOREVER)
    select = (Selection(NameFilter(("team/*",)), platforms=("linux/amd64",)),)
    execution = plan(world, mirror(select=select))
    world.east.faults.clear()
    fault = world.east.fault("/blobs/", method="GET", status=500, times=5)

    finish(world, execution)

    assert fault.fired
    (copy,) = world.copies(execution)
    assert copy.state is SKIPPED
    assert copy.reason == "it has none of the platforms linux/amd64"


# ---- tags of one image ---------------------------------------------------------------------------


ALIASES = ["1", "1.2", "1.2.3", "latest"]


def _image_with_aliases(world: World) -> tuple[Image, str]:
    """An image under several tags, with a signature by cosign's tag and a referrer by its subject."""
    image = world.push("team/app", ALIASES[0], [LAYER])
    for alias in ALIASES[1:]:
        world.east.storage.move_tag("team/app", alias, image.digest)
    signature = _sign(world, image)
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": "application/spdx+json",
            "config": {
                "mediaType": "application/vnd.oci.empty.v1+json",
                "digest": digest_of(b"{}"),
                "size": 2,
            },
            "layers": [],
            "subject": {
                "mediaType": OCI_MANIFEST,
                "digest": image.digest,
                "size": len(_manifest(world, image).raw),
            },
        }
    ).encode()
    world.east.storage.put_blob("team/app", digest_of(b"{}"), b"{}")
    referrer = StoredManifest(raw, OCI_MANIFEST, digest_of(raw))
    listed = {"mediaType": OCI_MANIFEST, "digest": referrer.digest, "size": len(raw)}
    world.east.storage.put_manifest("team/app", referrer, None, (image.digest, listed))
    return image, signature


def _manifest(world: World, image: Image) -> StoredManifest:
    found = world.east.storage.manifest(image.repository, image.digest)
    assert found is not None
    return found


def reads_of(world: World, ending: str) -> int:
    return sum(
        1 for line in list(world.east.log) if line.method == "GET" and line.path.endswith(ending)
    )


def test_tags_of_one_image_read_its_signatures_and_referrers_once(world: World) -> None:
    image, signature = _image_with_aliases(world)

    execution = plan(world, mirror("team/*"))
    assert finish(world, execution) is ExecutionState.SUCCEEDED

    assert world.states(execution) == [COPIED] * len(ALIASES)
    assert world.tag_at_west("team/app", signature)
    assert reads_of(world, f"/manifests/{signature}") == 1
    assert reads_of(world, f"/referrers/{image.digest}") == 1
    assert costs(world)[0].kinds["GET referrers"] == 2, "of the image, and of its referrer"
    assert len(world.west.storage.referrers("mirror/team/app", image.digest)) == 1


def test_a_copy_that_is_tried_again_reads_them_again(world: World) -> None:
    image, signature = _image_with_aliases(world)
    fault = world.west.fault("/blobs/uploads/", method="POST", times=5, status=503)

    execution = plan(world, mirror("team/app", tags=("1",)))
    assert finish(world, execution) is ExecutionState.SUCCEEDED

    assert fault.fired
    assert reads_of(world, f"/manifests/{signature}") == 2
    assert reads_of(world, f"/referrers/{image.digest}") == 2


def test_another_execution_reads_them_again(world: World) -> None:
    image, signature = _image_with_aliases(world)
    party = world.party()
    for tag in ("1", "1.2"):
        execution = plan(world, mirror("team/app", tags=(tag,)))
        world.run_to_end(execution, party)
        world.services.dispatching.end_executions()

    assert reads_of(world, f"/referrers/{image.digest}") == 2
    assert reads_of(world, f"/manifests/{signature}") >= 2
