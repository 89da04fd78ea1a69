"""contract:quirks. Traps of uploads and pushes: each costs a naive client its blob, and ours nothing."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from api.samples.registry import SampleRegistry, WireFault
from service import errors
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.manifest import parse_manifest
from service.model.provider import CapabilityOverrides
from service.registry.blob_copy import copy_blob
from service.registry.client import RegistryClient
from service.registry.results import UploadSession
from tests.contract.quirks import MIB, UPLOADS
from tests.integration.registry.support import blob, client, push

NAME = "c/d"


@pytest.fixture
def source() -> Iterator[RegistryClient]:
    with SampleRegistry() as strict:
        made = client(strict.url, name="source")
        yield made
        made.close()


def begin(naive: httpx.Client) -> str:
    """Open an upload; return its Location."""
    return naive.post(f"/v2/{NAME}{UPLOADS}").headers["location"]


def put(naive: httpx.Client, place: str, digest: Digest, data: bytes = b"") -> int:
    """End an upload; return the status."""
    return naive.put(f"{place}&digest={digest}", content=data).status_code


def stored(registry: SampleRegistry, digest: Digest, name: str = NAME) -> bool:
    return registry.storage.blob(name, str(digest)) is not None


def copied(source: RegistryClient, ours: RegistryClient, size: int = 5 * MIB) -> Descriptor:
    """Copy a blob from the strict registry to the quirky one."""
    data, descriptor = blob(size)
    source.put_blob("a/b", descriptor.digest, data)
    copy_blob(source, "a/b", ours, NAME, descriptor)
    return descriptor


def in_chunks(registry: SampleRegistry, size: int = MIB) -> RegistryClient:
    """Our client, told to go in PATCHes."""
    overrides = CapabilityOverrides(uploads="chunked", chunk_bytes=size)
    return client(registry.url, endpoint={"capabilities": overrides})


def patched(naive: httpx.Client, place: str, start: int, data: bytes) -> httpx.Response:
    """Send a chunk."""
    headers = {"Content-Range": f"{start}-{start + len(data) - 1}"}
    return naive.patch(place, content=data, headers=headers)


def cut(registry: SampleRegistry, at: int) -> None:
    """Have the next whole upload break off after so many bytes."""
    registry.fault("digest=", method="PUT", reset_request_at=at)


# ---- mounts and sessions ----------------------------------------------------------------------------


def test_quirk_mount_202(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    data, descriptor = blob(MIB)
    ours.put_blob("a/b", descriptor.digest, data)
    query = f"mount={descriptor.digest}&from=a/b"
    assert naive.post(f"/v2/{NAME}{UPLOADS}?{query}").is_success
    assert not stored(registry, descriptor.digest), "the naive client takes this for a mount"

    session = ours.mount_blob(NAME, descriptor.digest, "a/b")

    assert isinstance(session, UploadSession)
    copy_blob(ours, "a/b", ours, NAME, descriptor, session=session)
    assert stored(registry, descriptor.digest)


def test_quirk_mount_refused(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    data, descriptor = blob(MIB)
    ours.put_blob("a/b", descriptor.digest, data)
    query = f"mount={descriptor.digest}&from=a/b"
    assert naive.post(f"/v2/{NAME}{UPLOADS}?{query}").is_error

    assert ours.mount_blob(NAME, descriptor.digest, "a/b") is None
    copy_blob(ours, "a/b", ours, NAME, descriptor)
    assert stored(registry, descriptor.digest)


def test_quirk_single_post_202(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    data, descriptor = blob(1000)
    place = f"/v2/{NAME}{UPLOADS}?digest={descriptor.digest}"
    assert naive.post(place, content=data).is_success
    assert not stored(registry, descriptor.digest)

    ours.put_blob(NAME, descriptor.digest, data)
    assert stored(registry, descriptor.digest)


def test_quirk_absolute_location(
    registry: SampleRegistry, source: RegistryClient, ours: RegistryClient, naive: httpx.Client
) -> None:
    data, digest = b"one", Digest.of(b"one")
    host, _, port = registry.host.partition(":")
    with httpx.Client(trust_env=False) as other:
        place = f"http://{host}:{port}{begin(naive)}"  # as if it were a path
        with pytest.raises((httpx.HTTPError, httpx.InvalidURL)):
            other.put(f"{place}&digest={digest}", content=data)

    assert stored(registry, copied(source, ours).digest)


def test_quirk_location_with_query(
    registry: SampleRegistry, source: RegistryClient, ours: RegistryClient, naive: httpx.Client
) -> None:
    digest = Digest.of(b"one")
    place = begin(naive)
    assert naive.put(f"{place}?digest={digest}", content=b"one").is_error, "a second ?"
    bare = begin(naive).partition("?")[0]
    assert naive.put(f"{bare}?digest={digest}", content=b"one").is_error, "without its state"

    assert stored(registry, copied(source, ours).digest)


def test_quirk_location_missing(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    with pytest.raises(KeyError):
        begin(naive)

    session = ours.start_upload(NAME)

    identity = session.target.removeprefix(f"/v2/{NAME}{UPLOADS}")
    assert registry.storage.upload(NAME, identity) is not None


# ---- statuses ---------------------------------------------------------------------------------------


def test_quirk_put_204(
    registry: SampleRegistry, source: RegistryClient, ours: RegistryClient, naive: httpx.Client
) -> None:
    assert put(naive, begin(naive), Digest.of(b"one"), b"one") != 201

    descriptor = copied(source, ours)
    ours.put_blob(NAME, Digest.of(b"small"), b"small")

    assert stored(registry, descriptor.digest)
    assert stored(registry, Digest.of(b"small"))


def test_quirk_patch_201(
    registry: SampleRegistry, source: RegistryClient, naive: httpx.Client
) -> None:
    assert patched(naive, begin(naive), 0, b"one").status_code != 202

    assert stored(registry, copied(source, in_chunks(registry)).digest)


def test_quirk_patch_204(
    registry: SampleRegistry, source: RegistryClient, naive: httpx.Client
) -> None:
    assert patched(naive, begin(naive), 0, b"one").status_code != 202

    assert stored(registry, copied(source, in_chunks(registry)).digest)


def test_quirk_chunk_minimum(registry: SampleRegistry, source: RegistryClient) -> None:
    descriptor = copied(source, in_chunks(registry))

    assert stored(registry, descriptor.digest)
    sent = [one.received for one in registry.log if one.method == "PATCH"]
    assert sent == [2 * MIB, 2 * MIB, MIB], "of 1 MiB each, were it not for the registry's word"


# ---- offsets ----------------------------------------------------------------------------------------


def naive_resume(naive: httpx.Client, place: str, digest: Digest, data: bytes) -> int:
    """Ask where the registry stands, and go on behind the end that its Range names."""
    answer = naive.get(place)
    if answer.is_error:
        return answer.status_code
    start = int(answer.headers["range"].rpartition("-")[2]) + 1
    place = answer.headers.get("location", place)
    answer = patched(naive, place, start, data[start:])
    if answer.is_error:
        return answer.status_code
    return put(naive, answer.headers["location"], digest)


def test_quirk_range_0_minus_1(
    registry: SampleRegistry, source: RegistryClient, ours: RegistryClient, naive: httpx.Client
) -> None:
    data = b"0123456789"
    assert naive_resume(naive, begin(naive), Digest.of(data), data) >= 400

    cut(registry, 0)
    assert stored(registry, copied(source, ours).digest)


def test_quirk_range_0_0(
    registry: SampleRegistry, source: RegistryClient, ours: RegistryClient, naive: httpx.Client
) -> None:
    data = b"0123456789"
    assert naive_resume(naive, begin(naive), Digest.of(data), data) >= 400

    cut(registry, 0)
    assert stored(registry, copied(source, ours).digest)


def test_quirk_range_one_too_high(
    registry: SampleRegistry, source: RegistryClient, ours: RegistryClient, naive: httpx.Client
) -> None:
    data = b"0123456789"
    place = patched(naive, begin(naive), 0, data[:5]).headers["location"]
    assert naive_resume(naive, place, Digest.of(data), data) >= 400

    cut(registry, MIB + 7)
    assert stored(registry, copied(source, ours).digest)


def test_quirk_session_lost(
    registry: SampleRegistry, source: RegistryClient, ours: RegistryClient, naive: httpx.Client
) -> None:
    data, descriptor = blob(3 * MIB, seed=7)
    cut(registry, MIB)
    place = begin(naive)
    with pytest.raises(httpx.HTTPError):
        put(naive, place, descriptor.digest, data)
    assert naive_resume(naive, place, descriptor.digest, data) == 404

    cut(registry, MIB + 7)
    assert stored(registry, copied(source, ours).digest)


def test_quirk_bytes_kept(
    registry: SampleRegistry, source: RegistryClient, ours: RegistryClient, naive: httpx.Client
) -> None:
    data, descriptor = blob(3 * MIB, seed=7)
    cut(registry, MIB)
    place = begin(naive)
    with pytest.raises(httpx.HTTPError):
        put(naive, place, descriptor.digest, data)
    assert put(naive, place, descriptor.digest, data) == 416, "the whole, once more"

    registry.log.clear()
    cut(registry, MIB + 7)
    assert stored(registry, copied(source, ours).digest)
    assert sum(one.received for one in registry.log) < 6 * MIB, "the rest only"


def test_quirk_ranges_ignored(
    registry: SampleRegistry, source: RegistryClient, naive: httpx.Client
) -> None:
    place = patched(naive, begin(naive), 0, b"01234").headers["location"]
    again = patched(naive, place, 0, b"01234").headers["location"]  # its answer was lost
    assert put(naive, again, Digest.of(b"01234")) == 400, "ten bytes"

    lost = registry.fault(UPLOADS, method="PATCH", nth=2, wire=WireFault(reset_at=0))
    assert stored(registry, copied(source, in_chunks(registry)).digest)
    assert lost.fired == 1


def test_quirk_several_patches_corrupt(
    registry: SampleRegistry, source: RegistryClient, ours: RegistryClient
) -> None:
    with pytest.raises(errors.RegistryError):
        copied(source, in_chunks(registry))
    assert registry.storage.blob_digests() == set(), "nothing under a name that it has not"

    assert stored(registry, copied(source, ours).digest)


def test_quirk_no_patch(
    registry: SampleRegistry, source: RegistryClient, naive: httpx.Client
) -> None:
    assert patched(naive, begin(naive), 0, b"one").status_code == 405
    whole = client(registry.url, endpoint={"capabilities": CapabilityOverrides(uploads="whole")})

    cut(registry, MIB)
    assert stored(registry, copied(source, whole).digest)
    assert len([one for one in registry.log if one.method == "PATCH"]) == 1, "the naive one's"


def test_quirk_body_limit(
    registry: SampleRegistry, source: RegistryClient, ours: RegistryClient
) -> None:
    descriptor = copied(source, ours, 20 * MIB)

    assert stored(registry, descriptor.digest)
    assert ours.chunk_bytes == 16 * MIB


# ---- digests and manifests --------------------------------------------------------------------------


def test_quirk_sha512_by_sha256(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    data = b"one"
    digest = Digest.of(data, "sha512")
    answer = naive.put(f"{begin(naive)}&digest={digest}", content=data)
    assert answer.headers["docker-content-digest"] != str(digest)

    ours.put_blob(NAME, digest, data)
    assert ours.head_blob(NAME, digest) == 3


def test_quirk_manifest_put_202(registry: SampleRegistry, ours: RegistryClient) -> None:
    pushed = push(ours, NAME, "v1", b"one")

    found = registry.storage.manifest(NAME, "v1")
    assert found is not None
    assert found.digest == str(pushed.digest)
    assert [one.status for one in registry.log if "/manifests/" in one.path] == [202]


def test_quirk_manifest_digest_invalid(registry: SampleRegistry, ours: RegistryClient) -> None:
    push(ours, NAME, "v1", b"one")

    assert [one.status for one in registry.log if "/manifests/" in one.path] == [400, 201]


def test_quirk_manifest_limit_400(ours: RegistryClient, naive: httpx.Client) -> None:
    small = push(ours, NAME, "v1", b"one")
    large = small.raw.rstrip(b"}") + b" " * (4 * MIB) + b"}"
    headers = {"Content-Type": small.media_type}
    answer = naive.put(f"/v2/{NAME}/manifests/v2", content=large, headers=headers)
    assert answer.status_code == 400

    with pytest.raises(errors.InvalidManifest):  # so it is never sent, nor tried again
        parse_manifest(large, small.media_type)


def test_quirk_head_of_a_collected_blob(
    registry: SampleRegistry, ours: RegistryClient, naive: httpx.Client
) -> None:
    data, descriptor = blob(1000)
    ours.put_blob(NAME, descriptor.digest, data)
    registry.storage.collect_blob(str(descriptor.digest))
    assert naive.head(f"/v2/{NAME}/blobs/{descriptor.digest}").is_success

    assert ours.probe_blob(NAME, descriptor.digest, 1000) is False


def is_told_as_immutable(ours: RegistryClient, naive: httpx.Client) -> None:
    pushed = push(ours, NAME, "v0", b"one")
    headers = {"Content-Type": pushed.media_type}
    answer = naive.put(f"/v2/{NAME}/manifests/v1", content=pushed.raw, headers=headers)
    assert answer.status_code in (400, 409, 412)

    with pytest.raises(errors.TagImmutable):
        ours.put_manifest(NAME, "v1", pushed)


def test_quirk_immutable_400(ours: RegistryClient, naive: httpx.Client) -> None:
    is_told_as_immutable(ours, naive)


def test_quirk_immutable_409(ours: RegistryClient, naive: httpx.Client) -> None:
    is_told_as_immutable(ours, naive)


def test_quirk_immutable_412(ours: RegistryClient, naive: httpx.Client) -> None:
    is_told_as_immutable(ours, naive)
