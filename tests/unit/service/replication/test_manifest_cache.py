"""Manifests are read once for as long as they fit; what is committed is kept a little while."""

from __future__ import annotations

import json

import pytest

from service.errors import ManifestNotFound, NetworkError
from service.model.digest import Digest
from service.model.manifest import Manifest, parse_manifest
from service.model.media_types import OCI_INDEX
from service.replication import engine as module
from service.replication.engine import ManifestCache


def a_manifest(number: int, size: int = 1000) -> Manifest:
    """An empty index of about so many bytes."""
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
    note = {"annotations": {"note": f"{number:06}" + "x" * (size - 150)}}
    return parse_manifest(json.dumps({**document, **note}).encode(), OCI_INDEX)


HERE = ("east", "team/app")


class Source:
    """Where manifests are read, and how often."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, cache: ManifestCache, manifest: Manifest) -> Manifest:
        def fetch() -> Manifest:
            self.reads += 1
            return manifest

        return cache.get(HERE, manifest.digest, fetch)


def test_a_manifest_is_read_once_and_once_more_when_others_took_its_room() -> None:
    source, cache = Source(), ManifestCache(limit=5000)
    one = a_manifest(0)
    assert source.read(cache, one) is source.read(cache, one) is one
    assert source.reads == 1

    for number in range(1, 10):
        source.read(cache, a_manifest(number))
    source.read(cache, one)

    assert source.reads == 11


def test_what_is_committed_is_there_for_the_next_destination_and_not_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "COMMITTED_BYTES", 3500)
    source, cache = Source(), ManifestCache()
    many = [a_manifest(number) for number in range(10)]
    for manifest in many:
        source.read(cache, manifest)
        cache.committed(HERE, manifest.digest)
        cache.committed(HERE, manifest.digest)  # to its second destination
    assert source.reads == 10

    for manifest in many[-3:]:
        source.read(cache, manifest)
    assert source.reads == 10
    source.read(cache, many[0])
    assert source.reads == 11


def test_committing_what_is_not_here_changes_nothing() -> None:
    source, cache = Source(), ManifestCache()
    cache.committed(HERE, Digest.parse(f"sha256:{'a' * 64}"))

    source.read(cache, a_manifest(1))

    assert source.reads == 1


def test_a_read_that_fails_is_tried_by_the_next() -> None:
    source, cache = Source(), ManifestCache()
    manifest = a_manifest(1)

    def fail() -> Manifest:
        raise NetworkError("away", registry="east")

    with pytest.raises(NetworkError):
        cache.get(HERE, manifest.digest, fail)

    assert source.read(cache, manifest) is manifest


def test_what_is_kept_of_one_repository_is_not_had_through_another() -> None:
    source, cache = Source(), ManifestCache()
    manifest = a_manifest(1)
    source.read(cache, manifest)

    def not_there() -> Manifest:
        raise ManifestNotFound("team-a has none", registry="east")

    for elsewhere in (("east", "team-a/app"), ("west", HERE[1])):
        with pytest.raises(ManifestNotFound):
            cache.get(elsewhere, manifest.digest, not_there)
