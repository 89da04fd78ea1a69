"""RegistryClient against Debian's docker-registry (distribution 2.8.2)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service import errors
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.endpoint import Credential
from service.registry.blob_copy import copy_blob
from service.registry.client import RegistryClient
from service.registry.results import MOUNTED, UploadSession
from tests.integration.registry.support import blob, client, push
from tests.support.servers import RealRegistry

MIB = 1024 * 1024
ABSENT = Digest.of(b"never pushed")


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[RealRegistry, RealRegistry]]:
    with RealRegistry() as east, RealRegistry() as west:
        yield east, west


@pytest.fixture
def source(servers: tuple[RealRegistry, RealRegistry]) -> Iterator[RegistryClient]:
    made = client(servers[0].url, name="east")
    yield made
    made.close()


@pytest.fixture
def destination(servers: tuple[RealRegistry, RealRegistry]) -> Iterator[RegistryClient]:
    made = client(servers[1].url, name="west")
    yield made
    made.close()


def test_an_image_goes_from_one_registry_to_the_other(
    source: RegistryClient, destination: RegistryClient
) -> None:
    source.ping()
    layers = [blob(size, seed=size)[0] for size in (0, 10, 300_000, 5 * MIB)]
    manifest = push(source, "go/a", "v1", *layers)

    for descriptor in manifest.blobs():
        assert copy_blob(source, "go/a", destination, "go/b", descriptor) == descriptor.size
    result = destination.put_manifest("go/b", "v1", manifest)

    assert result.digest == manifest.digest
    assert result.subject_stored is False
    head = destination.head_manifest("go/b", "v1")
    assert head is not None
    assert (head.digest, head.size) == (manifest.digest, manifest.size)
    assert destination.get_manifest("go/b", "v1").raw == manifest.raw
    for descriptor in manifest.blobs():
        assert destination.head_blob("go/b", descriptor.digest) == descriptor.size
        assert destination.probe_blob("go/b", descriptor.digest, descriptor.size)


def test_what_is_not_there_is_told_apart(source: RegistryClient) -> None:
    assert source.head_manifest("no/such", "v1") is None
    assert source.head_blob("no/such", ABSENT) is None
    assert source.probe_blob("no/such", ABSENT, 1) is False
    with pytest.raises(errors.ManifestNotFound):
        source.get_manifest("no/such", "v1")
    with pytest.raises(errors.RepositoryNotFound):
        list(source.list_tags("no/such"))
    assert source.referrers("no/such", ABSENT) is None


def test_mounts(source: RegistryClient) -> None:
    data, descriptor = blob(1000)
    source.put_blob("mount/a", descriptor.digest, data)

    assert source.mount_blob("mount/b", descriptor.digest, "mount/a") is MOUNTED
    opened = source.mount_blob("mount/b", ABSENT, "mount/a")
    assert isinstance(opened, UploadSession)
    other, described = blob(3 * MIB, seed=3)
    source.put_blob("mount/a", described.digest, other)
    copy_blob(source, "mount/a", source, "mount/b", described, session=opened)
    assert source.probe_blob("mount/b", described.digest, described.size)


def test_a_manifest_whose_layer_is_missing_is_refused(
    source: RegistryClient, destination: RegistryClient
) -> None:
    manifest = push(source, "lack/a", "v1", b"one")
    with pytest.raises(errors.ManifestBlobUnknown):
        destination.put_manifest("lack/b", "v1", manifest)


def test_chunks(source: RegistryClient, destination: RegistryClient) -> None:
    data, descriptor = blob(5 * MIB, seed=5)
    source.put_blob("chunk/a", descriptor.digest, data)
    destination.learnt_chunk_bytes = 2 * MIB

    copy_blob(source, "chunk/a", destination, "chunk/b", descriptor)

    assert destination.read_blob("chunk/b", descriptor.digest, 5 * MIB, 5 * MIB) == data


def test_a_digest_that_does_not_hold_is_refused_by_the_registry(source: RegistryClient) -> None:
    with pytest.raises(errors.Rejected) as caught:
        source.put_blob("bad/a", ABSENT, b"other bytes")
    assert caught.value.oci_code == "DIGEST_INVALID"


def test_sha512_blobs_are_kept_though_the_registry_names_them_otherwise(
    source: RegistryClient, destination: RegistryClient
) -> None:
    for size in (1000, 2 * MIB):
        data, _ = blob(size, seed=512)
        digest = Digest.of(data, "sha512")
        source.put_blob("long/a", digest, data)
        copy_blob(source, "long/a", destination, "long/b", Descriptor("x/y", digest, size))
        assert destination.read_blob("long/b", digest, size, size) == data


def test_basic_credentials(tmp_path: Path) -> None:
    users = tmp_path / "htpasswd"
    # bcrypt of "U*U", a test vector of the algorithm's authors
    users.write_text("u:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n")
    auth = {"htpasswd": {"realm": "real", "path": str(users)}}
    with RealRegistry(configuration={"auth": auth}) as server:
        told: list[int] = []
        good = Credential("u", "U*U")
        made = client(server.url, credential=good, on_request=lambda *what: told.append(what[2]))
        made.ping()
        manifest = push(made, "auth/a", "v1", b"one", blob(MIB)[0])
        assert made.get_manifest("auth/a", "v1") == manifest
        assert told.count(401) == 1
        made.close()
        for wrong, said in (
            (Credential("u", "U*V"), "does not accept the credentials"),
            (Credential(), "asks for credentials and none are configured"),
        ):
            refused = client(server.url, credential=wrong)
            with pytest.raises(errors.AuthenticationFailed, match=said):
                refused.ping()
            refused.close()


def test_a_session_that_was_cancelled_is_lost_and_replaced(destination: RegistryClient) -> None:
    opened = destination.start_upload("lost/a")
    destination.cancel_upload(opened)
    with pytest.raises(errors.UploadLost):
        destination.uploads.status(opened)
    data, descriptor = blob(1000)
    destination.put_blob("lost/a", descriptor.digest, data, opened)
    assert destination.probe_blob("lost/a", descriptor.digest, 1000)


def test_a_tag_cannot_be_deleted_and_a_digest_can(source: RegistryClient) -> None:
    manifest = push(source, "del/a", "v1", b"one")
    with pytest.raises(errors.Unsupported):
        source.delete_manifest("del/a", "v1")
    source.delete_manifest("del/a", str(manifest.digest))
    assert source.head_manifest("del/a", "v1") is None


def test_lists(source: RegistryClient) -> None:
    for tag in ("v2", "v1", "v3"):
        push(source, "list/a", tag, b"one")
    assert sorted(tag for page in source.list_tags("list/a") for tag in page.tags) == [
        "v1",
        "v2",
        "v3",
    ]
    names = [name for page in source.list_repositories(2) for name in page.repositories]
    assert "list/a" in names


def test_a_probe_is_not_fooled_after_garbage_collection() -> None:
    data, descriptor = blob(1000)
    with RealRegistry() as server:
        made = client(server.url)
        push(made, "gc/a", "v1", data)
        assert made.probe_blob("gc/a", descriptor.digest, 1000)
        manifest = made.get_manifest("gc/a", "v1")
        made.delete_manifest("gc/a", str(manifest.digest))
        server.collect_garbage()

        assert made.head_blob("gc/a", descriptor.digest) == 1000  # its cache still says so
        assert made.probe_blob("gc/a", descriptor.digest, 1000) is False
        made.close()


def test_a_destination_that_is_killed_within_an_upload_is_come_back_to(
    source: RegistryClient,
) -> None:
    data, descriptor = blob(32 * MIB, seed=7)
    source.put_blob("kill/a", descriptor.digest, data)
    with RealRegistry() as server:
        struck: list[int] = []

        def strike(count: int) -> None:
            struck.append(count)
            if sum(struck) >= 8 * MIB and sum(struck) - count < 8 * MIB:
                server.kill()
                server.start()

        made = client(server.url)
        copy_blob(source, "kill/a", made, "kill/b", descriptor, progress=strike)
        assert sum(struck) > 32 * MIB
        assert made.read_blob("kill/b", descriptor.digest, 32 * MIB, 32 * MIB) == data
        made.close()


def test_memory_does_not_grow_with_the_blob(
    source: RegistryClient, destination: RegistryClient
) -> None:
    peaks = []
    for size in (4 * MIB, 64 * MIB):
        data, descriptor = blob(size, seed=size)
        source.put_blob("mem/a", descriptor.digest, data)
        del data
        tracemalloc.start()
        copy_blob(source, "mem/a", destination, "mem/b", descriptor)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 2 * MIB, peaks


def test_many_threads_share_two_clients(
    source: RegistryClient, destination: RegistryClient
) -> None:
    items = [blob(2000 + number, seed=100 + number) for number in range(60)]
    items += [blob(2 * MIB, seed=200 + number) for number in range(6)]
    for data, descriptor in items:
        source.put_blob("many/a", descriptor.digest, data)

    def copy(descriptor: Descriptor) -> int:
        return copy_blob(source, "many/a", destination, "many/b", descriptor)

    with ThreadPoolExecutor(16) as pool:
        read = list(pool.map(copy, [descriptor for _, descriptor in items]))

    assert sum(read) == sum(len(data) for data, _ in items)
    for data, descriptor in items:
        assert destination.read_blob("many/b", descriptor.digest, len(data), 4 * MIB) == data
