"""A proof stands on one freeze and one state of the source, and covers what is attached to its images."""

from __future__ import annotations

import pytest

from api.samples.manifests import OCI_IMAGE, OCI_INDEX
from api.samples.storage import Storage, digest_of
from service.errors import Conflict
from service.model.migration import FREEZE, INVENTORY, PROOF, SurveyState, Wave
from service.replication.migration_proof import DestinationProof
from service.replication.migration_steps import is_proved
from tests.integration.engine.moving import Move
from tests.support.content import describe, push_image, put
from tests.support.world import World


def is_proven(move: Move) -> bool | None:
    return is_proved(move.store.waves("move"), move.surveys.latest("move"))


def frozen(move: Move) -> Move:
    """All of it moved, frozen, and moved once more."""
    move.survey(INVENTORY)
    move.run(*(wave.name for wave in move.store.waves("move")))
    move.survey(FREEZE)
    move.delta()
    return move


@pytest.mark.parametrize("kind", [FREEZE, INVENTORY])
def test_nothing_is_looked_at_anew_while_a_proof_stands_on_it(world: World, kind: str) -> None:
    move = Move(world)
    move.push("a:v1")
    frozen(move)
    move.services.migration_steps.survey("move", PROOF)

    with pytest.raises(Conflict, match="the proof of migration move is not at its end"):
        move.services.migration_steps.survey("move", kind)

    move.look_to_its_end(PROOF)
    assert is_proven(move)
    move.survey(kind)


@pytest.mark.parametrize(
    ("open_one", "refused"), [(FREEZE, INVENTORY), (INVENTORY, FREEZE), (FREEZE, PROOF)]
)
def test_looks_of_two_kinds_are_not_open_at_once(world: World, open_one: str, refused: str) -> None:
    """An inventory amid a freeze left repositories of a freeze without a wave: its delta did not move them."""
    move = Move(world, waves=(Wave("small", max_bytes=100_000_000), Wave("rest")))
    move.push("a:v1")
    frozen(move)
    move.services.migration_steps.survey("move", open_one)

    with pytest.raises(Conflict, match=f"the {open_one} of migration move"):
        move.services.migration_steps.survey("move", refused)

    move.look_to_its_end(open_one)
    waves = {one.wave for one in move.surveys.every_repository(move.latest(open_one).id)}
    assert waves == {0}


def test_proof_of_an_older_freeze_is_none_of_the_newer(world: World) -> None:
    move = Move(world)
    move.push("a:v1")
    frozen(move)
    move.survey(PROOF)
    assert is_proven(move)

    move.survey(FREEZE)

    assert is_proven(move) is None


def attach(storage: Storage, digest: str, layer: bytes) -> str:
    """Have an artifact refer to an image of `a` at the source; its digest."""
    subject = storage.manifest("a", digest)
    assert subject is not None
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "artifactType": "application/vnd.example.note",
        "config": describe(storage, "a", "application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [describe(storage, "a", "text/plain", layer)],
        "subject": {"mediaType": OCI_IMAGE, "digest": digest, "size": len(subject.raw)},
    }
    return put(storage, "a", None, document)


def signature_of(digest: str) -> str:
    return f"{digest.replace(':', '-')}.sig"


def test_signature_that_is_lost_at_the_destination_is_found(world: World) -> None:
    move = Move(world)
    digest = move.push("a:v1")
    push_image(world.east.storage, "a", signature_of(digest), mark="signature")
    frozen(move)
    assert f"mirror/a:{signature_of(digest)}" in move.holds()

    world.west.storage.delete_tag("mirror/a", signature_of(digest))
    move.survey(PROOF)

    assert is_proven(move) is False
    assert list(move.findings(PROOF)) == [("hole", f"a:{signature_of(digest)}")]


def test_signature_that_is_another_one_at_the_destination_is_found(world: World) -> None:
    move = Move(world)
    digest = move.push("a:v1")
    push_image(world.east.storage, "a", signature_of(digest), mark="signature")
    frozen(move)

    push_image(world.west.storage, "mirror/a", signature_of(digest), mark="somebody else's")
    move.survey(PROOF)

    assert is_proven(move) is False
    ((_, reason),) = move.findings(PROOF).items()
    assert "is another one" in reason


def test_attachment_whose_blob_is_lost_is_found(world: World) -> None:
    """HEAD of its manifest still says that it is there."""
    move = Move(world)
    digest = move.push("a:v1")
    layer = b"the bytes of an attachment"
    attached = attach(world.east.storage, digest, layer)
    frozen(move)
    world.west.storage.drop_blob(digest_of(layer))

    move.survey(PROOF)

    assert is_proven(move) is False
    ((key, reason),) = move.findings(PROOF).items()
    assert key == ("hole", "a:v1")
    assert attached in reason


def test_what_is_attached_to_images_that_do_not_move_is_not_asked_for(world: World) -> None:
    move = Move(world)
    move.push("a:v1")
    other = "sha256-" + "0" * 64 + ".sig"
    push_image(world.east.storage, "a", other, mark="of nothing here")
    frozen(move)

    move.survey(PROOF)

    assert is_proven(move)


def test_list_of_referrers_by_tag_is_proved_by_what_it_names(world: World) -> None:
    """The source keeps it as a tag; the destination lists referrers by itself, and has no such tag."""
    move = Move(world)
    digest = move.push("a:v1")
    storage = world.east.storage
    attached = attach(storage, digest, b"attached")
    found = storage.manifest("a", attached)
    assert found is not None
    row = {"mediaType": OCI_IMAGE, "digest": attached, "size": len(found.raw)}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [row]}
    put(storage, "a", digest.replace(":", "-"), index)
    frozen(move)

    move.survey(PROOF)

    assert is_proven(move), move.findings(PROOF)
    assert move.latest(PROOF).state is SurveyState.ENDED


def test_wave_waits_for_an_inventory_that_was_begun_in_the_same_moment(world: World) -> None:
    move = Move(world)
    move.push("a:v1")
    move.survey(INVENTORY)
    move.services.migration_steps.start("move", "all")
    move.surveys.begin("move", INVENTORY)

    move.keeper.step()
    assert move.holds() == {}
    move.look_to_its_end(INVENTORY)
    move.carry_out("all")

    assert list(move.holds()) == ["mirror/a:v1"]


def test_what_was_read_is_believed_for_a_while_only(world: World) -> None:
    """A proof that was paused over night reads blobs anew: they may have been collected since."""
    move = Move(world)
    move.push("a:v1")
    frozen(move)
    move.services.migration_steps.survey("move", PROOF)
    survey = move.latest(PROOF)
    now = [0.0]
    proof = DestinationProof(
        move.surveys, move.services.clients, proof_seconds=3600, clock=lambda: now[0]
    )
    first = proof.attached(survey, move.migration).remembered
    now[0] = 3599.0
    assert proof.attached(survey, move.migration).remembered is first

    now[0] = 3601.0
    assert proof.attached(survey, move.migration).remembered is not first
