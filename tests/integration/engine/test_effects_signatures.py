"""A rule with a key copies nothing that the key has not signed, and commits what it verified (P25)."""

from __future__ import annotations

import pytest

from api.schemas.rule import load_rule
from service.errors import InvalidFields
from service.model.states import CopyState, ExecutionState
from tests.support.content import push_index
from tests.support.effects import copies_by_tag, effect_rule, run, standing
from tests.support.planning import finish
from tests.support.signing import Signer
from tests.support.world import World, some_bytes

LAYER = some_bytes("one", 2000)
APP = {"repositories": ["app"]}


def signed_by(signer: Signer) -> dict[str, object]:
    return {"require": {"signature": {"key": signer.public}}}


@pytest.mark.parametrize("kind", ["ecdsa", "rsa", "ed25519"])
@pytest.mark.parametrize("referrer", [False, True])
def test_effect_require_signature_key(world: World, kind: str, referrer: bool) -> None:
    signer = Signer(kind)
    good = world.push("app", "good", [LAYER], "good")
    world.push("app", "bad", [LAYER], "bad")
    signer.attach(world.east.storage, "app", good.digest, referrer=referrer)

    execution = run(world, effect_rule(APP, **signed_by(signer)), ExecutionState.PARTIAL)

    bad = copies_by_tag(world, execution)["bad"]
    assert (bad.state, bad.failure_class, bad.attempts) == (CopyState.FAILED, "policy", 1)
    assert "has no signature" in bad.reason
    assert "cosign sign" in bad.hint
    assert {name.partition(":")[2][:4] for name in standing(world)} <= {"good", "sha2"}
    assert world.west.storage.manifest("app", bad.digest) is None

    run(world, effect_rule(APP))
    assert "app:bad" in standing(world)


def test_effect_require_signature_key_file(world: World, tmp_path) -> None:
    signer = Signer()
    file = tmp_path / "cosign.pub"
    file.write_text(signer.public)
    image = world.push("app", "v1", [LAYER])
    rule = effect_rule(APP, require={"signature": {"key_file": str(file)}})

    run(world, rule, ExecutionState.FAILED)
    assert standing(world) == set()

    signer.attach(world.east.storage, "app", image.digest)
    run(world, rule)
    assert "app:v1" in standing(world)


def test_a_signature_of_another_key_counts_for_nothing(world: World) -> None:
    image = world.push("app", "v1", [LAYER])
    Signer().attach(world.east.storage, "app", image.digest)

    execution = run(world, effect_rule(APP, **signed_by(Signer())), ExecutionState.FAILED)

    (copy,) = world.copies(execution)
    assert "none of its 1 signatures is the key's" in copy.reason
    assert standing(world) == set()


@pytest.mark.parametrize("referrer", [False, True])
def test_a_signature_moved_from_another_image_counts_for_nothing(
    world: World, referrer: bool
) -> None:
    signer = Signer()
    image = world.push("app", "v1", [LAYER])
    other = world.push("app", "v0", [LAYER], "other")
    world.east.storage.delete_tag("app", "v0")
    signer.attach(world.east.storage, "app", image.digest, named=other.digest, referrer=referrer)

    run(world, effect_rule(APP, **signed_by(signer)), ExecutionState.FAILED)

    assert standing(world) == set()


def test_a_payload_of_another_kind_counts_for_nothing(world: World) -> None:
    signer = Signer()
    image = world.push("app", "v1", [LAYER])
    signer.attach(world.east.storage, "app", image.digest, payload_type="something else")

    run(world, effect_rule(APP, **signed_by(signer)), ExecutionState.FAILED)

    assert standing(world) == set()


def test_a_tag_that_moves_after_it_was_verified_is_verified_again(world: World) -> None:
    """The source's tag moves to an unsigned image while the blobs of the signed one are copied."""
    signer = Signer()
    image = world.push("app", "v1", [LAYER])
    signer.attach(world.east.storage, "app", image.digest)
    rule = effect_rule(APP, **signed_by(signer))
    moved = world.west.fault(
        "/blobs/uploads/",
        method="POST",
        times=1,
        after=lambda *_: world.push("app", "v1", [some_bytes("evil", 100)], "evil"),
    )

    execution = run(world, rule, ExecutionState.FAILED)

    assert moved.fired
    (copy,) = world.copies(execution)
    assert copy.failure_class == "policy"
    assert copy.digest != image.digest
    assert "app:v1" not in standing(world)


def test_an_index_is_verified_by_its_own_digest(world: World) -> None:
    signer = Signer()
    index, digests = push_index(world.east.storage, "app", "v1", ["linux/amd64"])
    signer.attach(world.east.storage, "app", digests["linux/amd64"])
    rule = effect_rule(APP, **signed_by(signer))

    run(world, rule, ExecutionState.FAILED)
    signer.attach(world.east.storage, "app", index)
    run(world, rule)

    assert world.west.storage.tags("app")["v1"] == index  # type: ignore[index]


def test_attachments_of_an_unsigned_image_are_not_copied_either(world: World) -> None:
    """An image that came before the rule had a key: what is attached to it now is held to the key."""
    signer = Signer()
    image = world.push("app", "v1", [LAYER])
    run(world, effect_rule(APP))
    Signer().attach(world.east.storage, "app", image.digest)

    run(world, effect_rule(APP, **signed_by(signer)), ExecutionState.PARTIAL)

    assert standing(world) == {"app:v1"}


def test_an_unreadable_signature_is_tried_again_and_never_taken_for_none(world: World) -> None:
    signer = Signer()
    image = world.push("app", "v1", [LAYER])
    signer.attach(world.east.storage, "app", image.digest)
    broken = world.east.fault(r"\.sig$", method="GET", times=3, status=503)
    rule = effect_rule(APP, **signed_by(signer))
    execution = world.services.executions.create(rule, trigger="test").id
    assert world.services.planner.plan(execution, world.services.boot)

    assert finish(world, execution) is ExecutionState.SUCCEEDED
    assert broken.fired


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (Signer("weak").public, "1024 bits is too weak"),
        (Signer().private, "private key"),
        ("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nx\n", "private key"),
        ("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n", "certificate"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
        ("", "no public key"),
        (5, "public key in PEM"),
    ],
)
def test_a_key_that_is_none_is_refused_and_not_repeated(key: object, words: str) -> None:
    with pytest.raises(InvalidFields, match=words) as caught:
        effect_rule(APP, require={"signature": {"key": key}})

    (problem,) = caught.value.problems
    assert problem.path == "require.signature.key"
    if isinstance(key, str) and len(key) > 100:
        assert key.split("\n")[1] not in str(caught.value)


def test_a_key_pasted_as_a_file_or_a_missing_file_is_refused() -> None:
    signer = Signer()
    for text, words in (
        (signer.private, "not a key"),
        ("/nonexistent/cosign.pub", "cannot be read"),
    ):
        with pytest.raises(InvalidFields, match=words) as caught:
            load_rule(
                {
                    "name": "r",
                    "source": "east",
                    "select": [APP],
                    "destinations": [{"registry": "west"}],
                    "require": {"signature": {"key_file": text}},
                }
            )
        assert signer.private.split("\n")[1] not in str(caught.value)
