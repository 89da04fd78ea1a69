from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import Corrupt, InvalidManifest
from service.model.digest import Digest
from service.model.manifest import MAX_MANIFEST_BYTES, parse_manifest
from service.model.media_types import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1_SIGNED,
)

FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def entry(text: str, size: Any = 3, kind: str = LAYER, **more: Any) -> dict[str, Any]:
    return {"mediaType": kind, "digest": str(Digest.of(text.encode())), "size": size, **more}


def image(**changes: Any) -> dict[str, Any]:
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": entry("config", kind="application/vnd.oci.image.config.v1+json"),
        "layers": [entry("a"), entry("b")],
    }
    body.update(changes)
    return {key: value for key, value in body.items() if value is not ...}


def index(**changes: Any) -> dict[str, Any]:
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            entry("m", kind=OCI_MANIFEST, platform={"os": "linux", "architecture": "arm64"})
        ],
    }
    body.update(changes)
    return {key: value for key, value in body.items() if value is not ...}


def raw(body: Any) -> bytes:
    return json.dumps(body).encode()


def test_an_image_is_read_and_its_bytes_are_kept() -> None:
    data = b" \n" + json.dumps(image(annotations={"x": "y"}), indent=5).encode()
    manifest = parse_manifest(data, f"{OCI_MANIFEST}; charset=utf-8")
    assert manifest.raw is data
    assert manifest.digest == Digest.of(data)
    assert (manifest.kind, manifest.media_type) == ("image", OCI_MANIFEST)
    assert [item.digest for item in manifest.layers] == [Digest.of(b"a"), Digest.of(b"b")]
    assert len(manifest.blobs()) == 3
    assert manifest.children() == ()
    assert manifest.annotations == {"x": "y"}


def test_an_index_is_read() -> None:
    manifest = parse_manifest(raw(index()), OCI_INDEX)
    assert manifest.kind == "index"
    (child,) = manifest.children()
    assert str(child.platform) == "linux/arm64"
    assert manifest.blobs() == ()


@pytest.mark.parametrize(
    ("body", "kind", "media_type"),
    [
        (image(mediaType=...), None, OCI_MANIFEST),
        (image(mediaType=...), DOCKER_MANIFEST, DOCKER_MANIFEST),
        (index(mediaType=...), None, OCI_INDEX),
        (index(mediaType=DOCKER_LIST), DOCKER_LIST, DOCKER_LIST),
        (image(layers=[]), OCI_MANIFEST, OCI_MANIFEST),
        (image(layers=None), OCI_MANIFEST, OCI_MANIFEST),
        (image(layers=..., artifactType="x/y"), OCI_MANIFEST, OCI_MANIFEST),
        (index(manifests=[]), OCI_INDEX, OCI_INDEX),
        (index(manifests=None), OCI_INDEX, OCI_INDEX),
        (index(manifests=[entry("m", kind="x/unknown", platform={"os": "", "variant": None})]),
         OCI_INDEX, OCI_INDEX),
        (image(layers=[entry("e", kind="x/encrypted", size=0)]), OCI_MANIFEST, OCI_MANIFEST),
    ],
)  # fmt: skip
def test_what_registries_hold_is_read(body: Any, kind: str | None, media_type: str) -> None:
    assert parse_manifest(raw(body), kind).media_type == media_type


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (None, OCI_MANIFEST),
        ([], OCI_MANIFEST),
        ("x", OCI_MANIFEST),
        (image(), ""),
        (image(), "text/plain"),
        (image(), "application/json"),
        (image(), OCI_INDEX),
        (image(), DOCKER_MANIFEST),
        (index(), OCI_MANIFEST),
        (image(mediaType=...), OCI_INDEX),
        (index(mediaType=...), OCI_MANIFEST),
        (image(mediaType="x/y"), None),
        (image(mediaType=5), None),
        ({"schemaVersion": 2}, None),
        (image(schemaVersion=...), OCI_MANIFEST),
        (image(schemaVersion=3), OCI_MANIFEST),
        (image(schemaVersion="2"), OCI_MANIFEST),
        (image(schemaVersion=2.0), OCI_MANIFEST),
        (image(schemaVersion=True), OCI_MANIFEST),
        (image(manifests=[]), OCI_MANIFEST),
        (index(layers=[]), OCI_INDEX),
        (index(config={}), OCI_INDEX),
        (index(fsLayers=[]), OCI_INDEX),
        (index(manifests=...), OCI_INDEX),
        (index(manifests={}), OCI_INDEX),
        (image(layers=...), OCI_MANIFEST),
        (image(layers={}), OCI_MANIFEST),
        (image(config=...), OCI_MANIFEST),
        (image(config=None), OCI_MANIFEST),
        (image(layers=[None]), OCI_MANIFEST),
        (image(layers=[{}]), OCI_MANIFEST),
        (image(layers=[entry("a", size=-1)]), OCI_MANIFEST),
        (image(layers=[entry("a", size=1.5)]), OCI_MANIFEST),
        (image(layers=[entry("a", size="10")]), OCI_MANIFEST),
        (image(layers=[entry("a", size=True)]), OCI_MANIFEST),
        (image(layers=[entry("a", size=None)]), OCI_MANIFEST),
        (image(layers=[entry("a", size=2**63)]), OCI_MANIFEST),
        (image(layers=[entry("a", size=3), entry("a", size=4)]), OCI_MANIFEST),
        (image(layers=[{**entry("a"), "digest": "sha256:beef"}]), OCI_MANIFEST),
        (image(layers=[{**entry("a"), "digest": 5}]), OCI_MANIFEST),
        (image(layers=[{**entry("a"), "mediaType": ""}]), OCI_MANIFEST),
        (image(layers=[entry("a", urls="x")]), OCI_MANIFEST),
        (image(layers=[entry("a", annotations={"x": 1})]), OCI_MANIFEST),
        (image(annotations=[]), OCI_MANIFEST),
        (image(artifactType=5), OCI_MANIFEST),
        (image(subject={}), OCI_MANIFEST),
        (index(manifests=[entry("m", platform=5)]), OCI_INDEX),
        (image(layers=[entry(str(n)) for n in range(1001)]), OCI_MANIFEST),
    ],
)
def test_what_must_not_be_copied_is_refused(body: Any, kind: str | None) -> None:
    with pytest.raises(InvalidManifest):
        parse_manifest(raw(body), kind)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (image(schemaVersion=1), None),
        (image(), SCHEMA1_SIGNED),
        ({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": []}, SCHEMA1_SIGNED),
    ],
)
def test_schema_1_is_refused_by_name(body: Any, kind: str | None) -> None:
    with pytest.raises(InvalidManifest, match="schema 1"):
        parse_manifest(raw(body), kind)


def test_4_mib_are_read_and_a_byte_more_is_not() -> None:
    body = raw(image())
    padded = body + b" " * (MAX_MANIFEST_BYTES - len(body))
    assert parse_manifest(padded, OCI_MANIFEST).raw == padded
    with pytest.raises(InvalidManifest):
        parse_manifest(padded + b" ", OCI_MANIFEST)


def test_other_bytes_than_the_digest_names_are_corrupt() -> None:
    data = raw(image())
    for algorithm in ("sha256", "sha512"):
        digest = Digest.of(data, algorithm)
        assert parse_manifest(data, OCI_MANIFEST, digest).digest == digest
    with pytest.raises(Corrupt):
        parse_manifest(data, OCI_MANIFEST, Digest.of(b"other"))
    with pytest.raises(Corrupt):
        parse_manifest(b"<html>", "text/html", Digest.of(b"other"))


def test_foreign_layers_are_left_at_their_urls() -> None:
    layers = [
        entry("a"),
        entry("f", kind=FOREIGN, urls=["https://x.example/f"]),
        entry("g", kind=FOREIGN),
        entry("h", urls=["file:///etc/passwd"]),
    ]
    manifest = parse_manifest(raw(image(layers=layers)), OCI_MANIFEST)
    names = [item.digest for item in manifest.blobs()]
    assert names == [Digest.of(text.encode()) for text in ("config", "a", "g", "h")]


def test_blobs_and_children_are_named_once_in_order() -> None:
    layers = [entry("b"), entry("a"), entry("b"), entry("config")]
    manifest = parse_manifest(raw(image(layers=layers)), OCI_MANIFEST)
    assert len(manifest.layers) == 4
    assert [item.digest for item in manifest.blobs()] == [
        Digest.of(text) for text in (b"config", b"b", b"a")
    ]
    twice = parse_manifest(raw(index(manifests=[entry("m"), entry("n"), entry("m")])), OCI_INDEX)
    assert [item.digest for item in twice.children()] == [Digest.of(b"m"), Digest.of(b"n")]


def test_an_old_artifact_manifest_names_its_blobs() -> None:
    body = {"schemaVersion": 2, "mediaType": OCI_ARTIFACT, "blobs": [entry("a")]}
    manifest = parse_manifest(raw(body), OCI_ARTIFACT)
    assert [item.digest for item in manifest.blobs()] == [Digest.of(b"a")]


def test_a_referrer_is_described_as_the_specification_says() -> None:
    typed = parse_manifest(
        raw(image(artifactType="x/sig", subject=entry("s"), annotations={"k": "v"})), OCI_MANIFEST
    )
    assert typed.subject is not None
    described = typed.descriptor()
    assert (described.artifact_type, described.annotations) == ("x/sig", {"k": "v"})
    assert (described.digest, described.size) == (typed.digest, typed.size)
    untyped = parse_manifest(raw(image()), OCI_MANIFEST)
    assert untyped.descriptor().artifact_type == "application/vnd.oci.image.config.v1+json"


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    with pytest.raises(InvalidManifest):
        parse_manifest(data, OCI_MANIFEST)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "schemaVersion",
                "mediaType",
                "config",
                "layers",
                "manifests",
                "subject",
                "annotations",
            ]
        ),
        st.none()
        | st.integers(0, 3)
        | st.sampled_from([OCI_MANIFEST, OCI_INDEX, [], {}, [{}], [entry("a")], entry("a")]),
    )
)
def test_odd_shapes_are_refused_or_read_and_never_crash(body: dict[str, Any]) -> None:
    try:
        manifest = parse_manifest(raw(body), None)
    except InvalidManifest:
        return
    assert not (manifest.layers and manifest.manifests)
    assert manifest.raw == raw(body)
