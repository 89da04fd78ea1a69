"""Keys of a registry that say what it can do, each seen at a registry: with it, and without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api.samples.registry import SampleRegistry
from api.schemas.registry import load_registry
from service import errors
from service.model.endpoint import Credential
from service.registry.blob_copy import copy_blob
from service.registry.client import RegistryClient
from tests.contract.harbor import FakeHarbor
from tests.integration.registry.support import Pauses, blob, client, push

MIB = 1 << 20
USER = Credential("admin", "s3cret")


def configured(url: str, **keys: object) -> RegistryClient:
    """The client of a registry whose document has these keys."""
    endpoint = load_registry({"name": "it", "url": url, **keys}).endpoint
    return RegistryClient(endpoint, lambda: USER, sleep=Pauses())


def capable(registry: SampleRegistry, **capabilities: object) -> RegistryClient:
    return configured(registry.url, capabilities=capabilities)


def paths(registry: SampleRegistry, method: str, part: str) -> list[str]:
    return [one.path for one in list(registry.log) if one.method == method and part in one.path]


@pytest.fixture
def harbor() -> Iterator[FakeHarbor]:
    with FakeHarbor({"admin": "s3cret"}, frozenset({"admin"})) as fake:
        yield fake


def upload(source: RegistryClient, destination: RegistryClient, size: int) -> None:
    """Copy a blob of so many bytes, which the source gets first."""
    data, descriptor = blob(size)
    source.put_blob("a/src", descriptor.digest, data)
    copy_blob(source, "a/src", destination, "b/dst", descriptor)


def test_effect_registries_provider(harbor: FakeHarbor) -> None:
    with pytest.raises(errors.AuthenticationFailed):
        push(configured(harbor.url, provider="generic"), "new/app", "v1", b"x")
    push(configured(harbor.url, provider="harbor"), "new/app", "v1", b"x")

    assert harbor.harbor.projects == {"new"}


def test_effect_registries_api_url(harbor: FakeHarbor, east: SampleRegistry) -> None:
    harbor.project("team")
    keys = {"provider": "harbor"}

    with pytest.raises(errors.RegistryError):
        list(configured(east.url, **keys).list_repositories())
    assert list(configured(east.url, api_url=harbor.url, **keys).list_repositories())
    assert paths(harbor, "GET", "/api/v2.0/projects")


def test_effect_registries_capabilities_catalog(west: SampleRegistry) -> None:
    assert list(capable(west, catalog=True).list_repositories())
    with pytest.raises(errors.Unsupported, match="no catalog"):
        list(capable(west, catalog=False).list_repositories())
    assert len(paths(west, "GET", "_catalog")) == 1


def test_effect_registries_capabilities_digest_lists(harbor: FakeHarbor) -> None:
    made = configured(harbor.url, provider="harbor")
    push(made, "team/app", "v1", b"x")

    assert made.tags_with_digests("team/app") is not None
    off = configured(harbor.url, provider="harbor", capabilities={"digest_lists": False})
    assert off.tags_with_digests("team/app") is None


@pytest.mark.parametrize("uploads", ["whole", "resumable", "chunked"])
def test_effect_registries_capabilities_uploads(
    source: RegistryClient, west: SampleRegistry, uploads: str
) -> None:
    west.fault("/blobs/uploads/.+digest=", method="PUT", reset_request_at=MIB, close=True)

    upload(source, capable(west, uploads=uploads), 3 * MIB)

    patches = paths(west, "PATCH", "/blobs/uploads/")
    assert bool(patches) is (uploads != "whole")
    assert west.storage.blob("b/dst", str(blob(3 * MIB)[1].digest)) is not None


def test_effect_registries_capabilities_chunk_bytes(
    source: RegistryClient, west: SampleRegistry
) -> None:
    upload(source, capable(west, uploads="chunked", chunk_bytes=MIB), 3 * MIB)
    assert len(paths(west, "PATCH", "/blobs/uploads/")) == 3


def test_effect_registries_capabilities_chunk_minimum_bytes(
    source: RegistryClient, west: SampleRegistry
) -> None:
    upload(source, capable(west, uploads="chunked", chunk_minimum_bytes=20 * MIB), 33 * MIB)

    sent = [one.received for one in list(west.log) if one.method == "PATCH"]
    assert sent == [20 * MIB, 13 * MIB]


@pytest.mark.parametrize(("mount", "mounted"), [("yes", 2), ("same-namespace", 1), ("no", 0)])
def test_effect_registries_capabilities_mount(
    west: SampleRegistry, mount: str, mounted: int
) -> None:
    made = capable(west, mount=mount)
    data, descriptor = blob(100)
    made.put_blob("team/a", descriptor.digest, data)

    for name in ("team/b", "other/b"):
        made.mount_blob(name, descriptor.digest, "team/a")

    assert len(paths(west, "POST", "mount=")) == mounted


def test_effect_registries_capabilities_referrers(west: SampleRegistry) -> None:
    pushed = push(client(west.url), "a", "v1", b"x")

    assert capable(west, referrers="api").referrers("a", pushed.digest) == ()
    assert capable(west, referrers="fallback").referrers("a", pushed.digest) is None
    assert len(paths(west, "GET", "/referrers/")) == 1


@pytest.mark.parametrize("how", ["oci", "api", "never"])
def test_effect_registries_capabilities_tag_delete(west: SampleRegistry, how: str) -> None:
    made = capable(west, tag_delete=how)
    push(made, "a", "v1", b"x")

    if how == "oci":
        made.delete_manifest("a", "v1")
    else:
        with pytest.raises(errors.Unsupported):
            made.delete_manifest("a", "v1")

    assert bool(west.storage.tags("a")) is (how != "oci")
    assert len(paths(west, "DELETE", "/manifests/")) == (how == "oci")


def test_refusal_is_told_as_it_was_where_nobody_says_who_it_is(west: SampleRegistry) -> None:
    realm = 'Bearer realm="http://evil.example/token",service="x"'
    asked = west.fault("^/v2/$", status=401, headers={"WWW-Authenticate": realm}, times=9)
    told = b'{"errors":[{"code":"NAME_UNKNOWN","message":"no such project"}]}'
    west.fault("/blobs/uploads/", method="POST", status=404, body=told, times=9)

    with pytest.raises(errors.RepositoryNotFound, match="no such project"):
        configured(west.url).start_upload("team/app")
    assert asked.fired == 1
