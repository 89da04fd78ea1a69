"""Manifests that were accepted in an execution are not sent again: indexes share their children."""

from __future__ import annotations

import json

from api.samples.storage import StoredManifest, digest_of
from service.model.media_types import OCI_INDEX, OCI_MANIFEST
from service.model.states import CopyState
from service.model.work import LedgerDistrusted
from tests.support.world import World, some_bytes

LAYER = some_bytes("one", 5000)


def test_children_that_two_indexes_share_are_put_once(world: World) -> None:
    children = [world.push("team/app", mark, [LAYER], mark).digest for mark in ("amd64", "arm64")]
    for tag in ("v1", "v2", "v3"):
        _index(world, tag, children, note=tag)

    for mark in ("amd64", "arm64"):
        world.east.storage.delete_tag("team/app", mark)
    execution = world.plan("team/*")
    world.run_to_end(execution, world.party())

    assert world.states(execution) == [CopyState.COPIED] * 3
    assert [_puts(world, child) for child in children] == [1, 1]


def _index(world: World, tag: str, digests: list[str], note: str) -> None:
    storage = world.east.storage
    entries = []
    for digest in digests:
        found = storage.manifest("team/app", digest)
        assert found is not None
        entries.append({"mediaType": OCI_MANIFEST, "digest": digest, "size": len(found.raw)})
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": entries,
            "annotations": {"org.example.note": note},
        }
    ).encode()
    storage.put_manifest("team/app", StoredManifest(raw, OCI_INDEX, digest_of(raw)), tag)


def _puts(world: World, digest: str) -> int:
    path = f"/v2/mirror/team/app/manifests/{digest}"
    return sum(1 for line in list(world.west.log) if (line.method, line.path) == ("PUT", path))


def test_what_was_put_before_the_ledger_was_voided_is_put_again(world: World) -> None:
    child = world.push("team/app", "amd64", [LAYER]).digest
    world.east.storage.delete_tag("team/app", "amd64")
    for tag in ("v1", "v2"):
        _index(world, tag, [child], note=tag)
    execution = world.plan("team/*")
    party = world.party()
    first, second = world.dispatch()

    party.replicate(first)
    party.services.state.post([LedgerDistrusted("west", "", "a test says so")])
    party.replicate(second)
    world.run_to_end(execution, party)

    assert world.states(execution) == [CopyState.COPIED] * 2
    assert _puts(world, child) == 2


def test_a_registry_that_refuses_an_upload_is_not_asked_with_other_bytes(world: World) -> None:
    image = world.push("team/app0", "v1", [LAYER])
    world.push("team/app1", "v1", [LAYER])
    world.west.fault("mount=", method="POST", refuse_mount=True, times=99)
    execution = world.plan("team/*")
    party = world.party()
    first, second = world.dispatch()

    party.replicate(first)
    refused = world.west.fault("/blobs/uploads/", method="PUT", status=503, times=5)
    party.replicate(second)
    world.run_to_end(execution, party)

    assert refused.fired
    assert world.reads(image.layers[0]) == 1, "the source's link was crossed again"
    assert world.states(execution) == [CopyState.COPIED] * 2
