"""Content that changes under a copy, at the source and at the destination: rows F034, F045, F065-F081, F116."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api.samples.http_messages import Request
from tests.faults.lab import PREFIX, Lab, Scene
from tests.oracle.history import Sampler
from tests.support.processes import wait_until
from tests.support.wire import Wire, image_body

pytestmark = pytest.mark.timeout(180)


def whole(scene: Scene, tags: int, blobs: int) -> None:
    verdict = scene.verdict(tags=tags, blobs=blobs)
    assert verdict.faults == [], str(verdict)


def once(action: Callable[[], object]) -> Callable[[Request], None]:
    """A side effect of the first request that a rule strikes."""
    return lambda _request: (action(), None)[1]


@pytest.fixture
def sampled(lab: Lab) -> Iterator[Callable[[Scene], Sampler]]:
    """Samples the destination's tags of a scene from now to the end of the test, and judges them."""
    samplers: list[Sampler] = []

    def sample(scene: Scene) -> Sampler:
        sampler = Sampler(lab.destination.url, scene.expected, scene.pushes, every=0.02)
        samplers.append(sampler.__enter__())
        return sampler

    yield sample
    for sampler in samplers:
        sampler.__exit__()
        assert sampler.looks > 0
        assert sampler.faults() == [], str(sampler)


# ---- the source ----------------------------------------------------------------------------------


def test_f034_a_tag_that_goes_after_it_was_listed_is_left_out(lab: Lab) -> None:
    scene = lab.scene("f034")
    scene.push("app:v1")
    scene.push("neighbour:v1")
    rule = scene.east.fault(
        scene.at_source("app/manifests/"),
        method="GET",
        before=once(lambda: scene.remove("app:v1")),
    )

    assert scene.run()["state"] == "succeeded"

    assert rule.fired
    copy = scene.copy("app:v1")
    assert copy["state"] == "skipped"
    assert "no longer" in copy["reason"]
    whole(scene, tags=1, blobs=3)


@pytest.mark.parametrize("back", [False, True], ids=["a-b", "a-b-a"])
def test_f076_a_tag_that_moves_during_its_copy_ends_where_it_is(
    lab: Lab, sampled: Callable[[Scene], Sampler], back: bool
) -> None:
    scene = lab.scene(f"f076-{back}".lower())
    scene.push("app:v1", seed="a")
    sampler = sampled(scene)

    def move() -> None:
        first = scene.manifest("app:v1")
        scene.push("app:v1", seed="b")
        if back:
            scene.retag("app:v1", first)

    rule = scene.east.fault(scene.at_source("app/blobs/"), method="GET", before=once(move))

    assert scene.run()["state"] == "succeeded"

    assert rule.fired
    whole(scene, tags=1, blobs=3)
    place = (f"{PREFIX}{scene.name}/app", "v1")
    wait_until(lambda: sampler.samples(place)[-1:], what="a sight of the tag")


def test_f116_a_layer_that_goes_under_the_plan_fails_its_copy_alone(lab: Lab) -> None:
    scene = lab.scene("f116")
    image = scene.push("app:v1")
    scene.push("neighbour:v1")
    layer = image["layers"][1]["digest"]

    def lose() -> None:
        with Wire(lab.source.url) as wire:
            path = f"/v2/{scene.name}/app/blobs/{layer}"
            assert wire.request("DELETE", path).status == 202

    rule = scene.east.fault(scene.at_source("app/manifests/"), method="GET", before=once(lose))

    assert scene.run()["state"] == "partial"

    assert rule.fired
    copy = scene.copy("app:v1")
    assert (copy["state"], copy["class"]) == ("failed", "gone")
    assert layer in copy["reason"]
    assert scene.tag_puts("app:v1") == []
    assert scene.copy("neighbour:v1")["state"] == "copied"


# ---- one blob in many images ---------------------------------------------------------------------


def test_f045_a_layer_of_twenty_images_crosses_once(lab: Lab) -> None:
    scene = lab.scene("f045")
    images = [scene.push(f"app{n % 5}:v{n}", (300_000, 9_000), seed="shared") for n in range(20)]

    assert scene.run(60)["state"] == "succeeded"

    for layer in images[0]["layers"]:
        assert scene.reads(layer["digest"]) == 1
    whole(scene, tags=20, blobs=30)


# ---- a destination that collects garbage ---------------------------------------------------------


@pytest.mark.parametrize("repository", ["app", "other"])
def test_f074_blobs_that_a_registry_has_collected_and_still_tells_of_are_sent_again(
    lab: Lab, repository: str
) -> None:
    scene = lab.scene(f"f074-{repository}")
    push_again_after_collection(lab, scene, repository)

    assert scene.run()["state"] == "succeeded"

    whole(scene, tags=1, blobs=3)


def push_again_after_collection(lab: Lab, scene: Scene, repository: str) -> None:
    """Push an image whose layers the destination has had, has collected, and still tells of.

    HEAD 200, mount 201 and the tag's 201 prove nothing on a stock registry after its collector (M8).
    """
    image = scene.push("app:v1", seed=scene.name)
    assert scene.run()["state"] == "succeeded"
    scene.remove("app:v1")
    _collect(lab, scene, "app", "v1")
    with Wire(lab.destination.url) as wire:
        path = f"/v2/{PREFIX}{scene.name}/app/blobs/{image['layers'][0]['digest']}"
        assert wire.request("HEAD", path).status == 200, "the registry does not lie: no such fault"
    scene.push(f"{repository}:v2", seed=scene.name)


def test_f079_a_manifest_that_was_collected_and_is_accepted_unwritten_is_brought_back(
    lab: Lab,
) -> None:
    """A stock registry keeps in mind that it has a manifest, answers 201 and does not write it (M8)."""
    scene = lab.scene("f079-collected")
    scene.push("app:v1")
    assert scene.run()["state"] == "succeeded"
    name = f"{PREFIX}{scene.name}/app"
    _lose(lab, _digest_of(scene, "app:v1"))  # as a collector does that runs beside a push
    with Wire(lab.destination.url) as wire:
        assert wire.get_manifest(name, "v1").status == 404
        assert wire.put_manifest(name, "v1", scene.manifest("app:v1")).status == 201
        assert wire.get_manifest(name, "v1").status == 404, (
            "the registry does not lie: no such fault"
        )

    assert scene.run()["state"] == "succeeded"

    whole(scene, tags=1, blobs=3)


def test_f079_parts_of_an_index_are_brought_back_with_it(lab: Lab) -> None:
    scene = lab.scene("f079-index")
    parts = scene.push_index("app:v1")
    assert scene.run()["state"] == "succeeded"
    _lose(lab, _digest_of(scene, "app:v1"), parts[0])

    assert scene.run()["state"] == "succeeded"

    whole(scene, tags=1, blobs=4)


def test_f075_a_blob_collected_between_its_proof_and_the_put_is_sent_again(lab: Lab) -> None:
    scene = lab.scene("f075")
    image = scene.push("app:v1")
    layer = image["layers"][0]["digest"]

    def lose() -> None:
        with Wire(lab.destination.url) as wire:
            path = f"/v2/{PREFIX}{scene.name}/app/blobs/{layer}"
            assert wire.request("DELETE", path).status == 202

    rule = scene.west.fault(scene.at_destination("app/manifests/"), method="PUT", before=once(lose))

    assert scene.run()["state"] == "succeeded"

    assert rule.fired
    whole(scene, tags=1, blobs=3)


def _digest_of(scene: Scene, place: str) -> str:
    repository, _, tag = place.partition(":")
    with Wire(scene.lab.source.url) as wire:
        digest = wire.get_manifest(f"{scene.name}/{repository}", tag)["Docker-Content-Digest"]
    assert digest
    return digest


def _lose(lab: Lab, *digests: str) -> None:
    """Take the bytes of manifests from under the destination, which keeps in mind that it has them."""
    for digest in digests:
        lab.destination.blob_path(digest).unlink()


def _collect(lab: Lab, scene: Scene, repository: str, tag: str) -> None:
    """Remove a tag's manifest at the destination and run its garbage collector beside it."""
    name = f"{PREFIX}{scene.name}/{repository}"
    with Wire(lab.destination.url) as wire:
        digest = wire.get_manifest(name, tag)["Docker-Content-Digest"]
        assert wire.request("DELETE", f"/v2/{name}/manifests/{digest}").status == 202
    lab.destination.collect_garbage()


# ---- others at the destination -------------------------------------------------------------------


def test_f081_what_somebody_else_tags_meanwhile_is_overwritten_where_the_rule_says_so(
    lab: Lab,
) -> None:
    scene = lab.scene("f081")
    scene.push("app:v1")
    rule = scene.west.fault(
        scene.at_destination("app/manifests/v1"),
        method="PUT",
        before=once(lambda: _tag_at_destination(lab, scene, "app", "v1")),
    )

    assert scene.run()["state"] == "succeeded"

    assert rule.fired
    whole(scene, tags=1, blobs=3)


def test_f081_what_somebody_else_tags_meanwhile_stays_where_the_rule_says_so(lab: Lab) -> None:
    scene = lab.scene("f081-keep", on_conflict="keep")
    scene.push("app:v1")
    scene.push("neighbour:v1")
    others: list[str] = []
    rule = scene.west.fault(
        scene.at_destination("app/blobs/uploads/"),
        method="POST",
        before=once(lambda: others.append(_tag_at_destination(lab, scene, "app", "v1"))),
    )

    scene.run()

    assert rule.fired
    copy = scene.copy("app:v1")
    assert copy["state"] == "skipped"
    assert copy["reason"]
    with Wire(lab.destination.url) as wire:
        found = wire.get_manifest(f"{PREFIX}{scene.name}/app", "v1")
    assert found["Docker-Content-Digest"] == others[0]


def _tag_at_destination(lab: Lab, scene: Scene, repository: str, tag: str) -> str:
    """Push another image under the name at the destination; its digest."""
    name = f"{PREFIX}{scene.name}/{repository}"
    config, layer = json.dumps({"somebody": "else"}).encode(), b"something else"
    with Wire(lab.destination.url) as wire:
        for blob in (config, layer):
            assert wire.push_blob(name, blob).status == 201
        answer = wire.put_manifest(name, tag, image_body(config, [layer]))
    assert answer.status == 201
    return str(answer["Docker-Content-Digest"])


# ---- a destination that dies ---------------------------------------------------------------------


def test_f123_a_destination_that_is_killed_in_an_upload_gets_it_after_its_restart(
    lab: Lab, tmp_path: Path
) -> None:
    scene = lab.scene("f123")
    scene.push("app:v1", (3_000_000, 50_000))
    killed = scene.west.fault(
        scene.at_destination("app/blobs/uploads/"),
        method="PATCH",
        before=once(lab.destination.kill),
    )
    also = scene.west.fault(
        scene.at_destination("app/blobs/uploads/"),
        method="PUT",
        before=once(lambda: lab.destination.kill() if not killed.fired else None),
    )

    identity = scene.start()
    wait_until(lambda: killed.fired or also.fired, what="the strike")
    wait_until(lambda: not lab.destination.alive, what="its death")
    scene.heal()
    lab.destination.start()

    assert lab.wait(identity)["state"] == "succeeded"
    assert scene.tag_puts("app:v1")
    verdict = scene.verdict(
        tags=1, blobs=3, uploads=True
    )  # nobody can end a session of a dead server
    assert verdict.faults == [], str(verdict)
