"""What a *yes* of the table of providers means, column by column: bytes that move, or a state that changes, at a server.

Each proof is given a stand and a client under test, which is the provider's own or a generic one; what has to be
there before is done by the stand's owner. A proof raises AssertionError or a RegistryError where it does not hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest

from service import errors
from service.model.endpoint import Credential
from service.registry.blob_copy import copy_blob
from service.registry.client import RegistryClient
from service.registry.providers.strategies import Receiver
from service.registry.results import MOUNTED
from tests.contract.stands import Stand
from tests.integration.registry.support import blob, image, push

MIB = 1 << 20
ROLE = "arn:aws:iam::123456789012:role/teller"
GENERIC = "generic"

Proof = Callable[[Stand, str], None]
"""A stand, and the provider that the client under test takes it for."""


def under_test(stand: Stand, provider: str) -> RegistryClient:
    """A client that the registry takes, whatever it knows of the provider."""
    ready = stand.ready_made() if provider == GENERIC else None
    return stand.client(ready, provider)


def auth(stand: Stand, provider: str) -> None:
    """The configured credential pushes and pulls; another one does neither."""
    push(stand.client(), stand.repository("made"), "v1", b"one")
    tested = stand.client(provider=provider)

    pushed = push(tested, stand.repository("made"), "v2", b"two")

    assert tested.get_manifest(stand.repository("made"), "v2").digest == pushed.digest
    wrong = stand.client(Credential(stand.credential.username, "wr0ng-s3cret"), provider)
    with pytest.raises((errors.AuthenticationFailed, errors.Denied, errors.InvalidConfiguration)):
        push(wrong, stand.repository("made"), "v3", b"three")
    assert sorted(stand.registry.storage.tags(stand.repository("made")) or ()) == ["v1", "v2"]


def listing(stand: Stand, provider: str) -> None:
    """All repositories are listed, and tags with their digests where the provider has a list of those."""
    names = [stand.repository(f"app{number}") for number in range(5)]
    owner = stand.client()
    pushed = {name: push(owner, name, "v1", name.encode()) for name in names}
    tested = under_test(stand, provider)

    pages = list(tested.list_repositories())

    assert sorted(name for page in pages for name in page.repositories) == names
    if owner.capabilities.digest_lists:
        told = tested.tags_with_digests(names[0])
        assert told is not None
        assert [dict(page) for page in told] == [{"v1": str(pushed[names[0]].digest)}]


def create(stand: Stand, provider: str) -> None:
    """The first push makes what has to be there."""
    pushed = push(under_test(stand, provider), stand.repository(), "v1", b"one")

    found = stand.registry.storage.manifest(stand.repository(), "v1")
    assert found is not None
    assert found.digest == str(pushed.digest)


def pushing(stand: Stand, provider: str) -> None:
    """An upload that breaks off in its middle ends all the same, by requests that the provider has."""
    owner = stand.client()
    data, descriptor = blob(7 * MIB)
    push(owner, stand.repository("made"), "v1", data)
    push(owner, stand.repository("other"), "v1", b"one")
    tested = under_test(stand, provider)
    broken = stand.registry.fault(
        f"{stand.repository('other')}/blobs/uploads/.+digest=",
        method="PUT",
        reset_request_at=MIB,
        close=True,
    )

    copy_blob(tested, stand.repository("made"), tested, stand.repository("other"), descriptor)

    assert broken.fired == 1
    storage = stand.registry.storage
    assert storage.blob(stand.repository("other"), str(descriptor.digest)) is not None
    patches = [one.status for one in list(stand.registry.log) if one.method == "PATCH"]
    assert 405 not in patches, "a request that the provider does not have"


def pull(stand: Stand, provider: str) -> None:
    """A manifest and its blobs are read by tag."""
    data, descriptor = blob(MIB)
    owner = stand.client()
    pushed = push(owner, stand.repository(), "v1", data)

    tested = under_test(stand, provider)

    assert tested.get_manifest(stand.repository(), "v1").digest == pushed.digest
    assert tested.read_blob(stand.repository(), descriptor.digest, MIB, MIB) == data


def delete(stand: Stand, provider: str) -> None:
    """A tag goes, and its sibling on the same manifest stays."""
    owner = stand.client()
    pushed = push(owner, stand.repository(), "v1", b"one")
    owner.put_manifest(stand.repository(), "v2", pushed)

    under_test(stand, provider).delete_manifest(stand.repository(), "v1")

    assert stand.registry.storage.tags(stand.repository()) == {"v2": str(pushed.digest)}


def mount(stand: Stand, provider: str) -> None:
    """A blob comes from a sibling repository without an upload; where that cannot be, nothing is asked."""
    owner = stand.client()
    data, descriptor = blob(1000)
    for name in ("one", "two"):
        push(owner, stand.repository(name), "v1", name.encode())
    owner.put_blob(stand.repository("one"), descriptor.digest, data)
    tested = under_test(stand, provider)

    found = tested.mount_blob(stand.repository("two"), descriptor.digest, stand.repository("one"))

    assert found is MOUNTED
    storage = stand.registry.storage
    assert storage.blob(stand.repository("two"), str(descriptor.digest)) is not None
    if stand.client().capabilities.mount == "same-namespace":
        tested.mount_blob(stand.repository("two"), descriptor.digest, "else/where/app")
        asked = [unquote(one.path) for one in list(stand.registry.log)]
        assert not [one for one in asked if "from=else/where" in one]


def referrers(stand: Stand, provider: str) -> None:
    """The registry's own list of what is attached to an image is read, and kept by it at a push."""
    owner = stand.client()
    pushed = push(owner, stand.repository(), "v1", b"one")
    tested = under_test(stand, provider)
    subject = {
        "mediaType": pushed.media_type,
        "digest": str(pushed.digest),
        "size": pushed.size,
    }
    kind = "application/vnd.example.signature"
    signature, (config, described) = image(subject=subject, artifactType=kind)
    tested.put_blob(stand.repository(), described.digest, config)

    result = tested.put_manifest(stand.repository(), str(signature.digest), signature)

    assert result.subject_stored
    found = tested.referrers(stand.repository(), pushed.digest)
    assert found is not None
    assert [one.digest for one in found] == [signature.digest]


def limits(stand: Stand, provider: str) -> None:
    """A call that is refused as the provider spells "too much" is made again."""
    if stand.throttle is not None:
        struck = stand.throttle()
    else:
        push(stand.client(), stand.repository(), "v0", b"zero")
        struck = stand.registry.fault(
            "/manifests/v1", method="PUT", status=429, headers={"Retry-After": "0"}, times=2
        )

    push(under_test(stand, provider), stand.repository(), "v1", b"one")

    assert struck.fired == 2
    assert "v1" in (stand.registry.storage.tags(stand.repository()) or {})


def webhooks(stand: Stand, provider: str) -> None:
    """A receiver's webhook is made once, corrected when its secret is another one, and removed."""
    push(stand.client(), stand.repository(), "v1", b"one")
    hooks = under_test(stand, provider).provided.strategies().webhooks
    assert hooks is not None
    place = hooks.place(stand.repository())
    address = "https://transship.example/hooks/x/it"
    receiver = Receiver("transship-it", address, "tsh_old-s3cret", ROLE)
    other = replace(receiver, secret="tsh_new-s3cret")

    assert hooks.register(place, receiver)
    assert not hooks.register(place, receiver)
    hooks.register(place, other)

    def made() -> Mapping[Any, tuple[str, Any]]:
        found: Mapping[Any, tuple[str, Any]] = getattr(stand.registry, "hooks")  # noqa: B009
        return found

    ((where, told),) = made().values()
    assert stand.repository().startswith(where)
    assert receiver.address in json.dumps(told)
    assert other.secret in json.dumps(told)
    assert receiver.secret not in json.dumps(told)
    assert hooks.remove(place, other)
    assert not hooks.remove(place, other)
    assert not made()


OF: Mapping[str, Proof] = {
    "auth": auth,
    "listing": listing,
    "create": create,
    "push": pushing,
    "pull": pull,
    "delete": delete,
    "mount": mount,
    "referrers": referrers,
    "limits": limits,
    "webhooks": webhooks,
}
"""By column of Offers."""
