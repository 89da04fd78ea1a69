"""Images, indexes, charts and other artifacts put into a sample registry's storage, past HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from api.samples.manifests import OCI_IMAGE, OCI_INDEX
from api.samples.storage import Storage, StoredManifest, digest_of

IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
CHART_CONFIG = "application/vnd.cncf.helm.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def put(storage: Storage, repository: str, tag: str | None, document: Mapping[str, Any]) -> str:
    """Put a manifest as it is; return its digest."""
    raw = json.dumps(document).encode()
    kind = str(document["mediaType"])
    manifest = StoredManifest(raw, kind, digest_of(raw))
    subject = document.get("subject")
    referrer = None
    if subject is not None:
        config = document.get("config", {})
        entry = {
            "mediaType": kind,
            "digest": manifest.digest,
            "size": len(raw),
            "artifactType": document.get("artifactType") or config.get("mediaType"),
            "annotations": document.get("annotations", {}),
        }
        referrer = (subject["digest"], entry)
    storage.put_manifest(repository, manifest, tag, referrer)
    return manifest.digest


def describe(storage: Storage, repository: str, media_type: str, data: bytes) -> dict[str, Any]:
    """Put a blob; return its descriptor."""
    storage.put_blob(repository, digest_of(data), data)
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def push_image(
    storage: Storage,
    repository: str,
    tag: str | None,
    *,
    platform: str = "linux/amd64",
    created: str | None = None,
    mark: str = "",
    annotations: Mapping[str, str] | None = None,
    layer: bytes | None = None,
) -> str:
    """Put an image of one platform and one layer; return its digest."""
    os, architecture, *variant = platform.split("/")
    config: dict[str, Any] = {"os": os, "architecture": architecture, "mark": mark}
    if variant:
        config["variant"] = variant[0]
    if created is not None:
        config["created"] = created
    if layer is None:
        layer = f"{repository} {platform} {mark}".encode()
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": describe(storage, repository, IMAGE_CONFIG, json.dumps(config).encode()),
        "layers": [describe(storage, repository, LAYER, layer)],
    }
    if annotations:
        document["annotations"] = dict(annotations)
    return put(storage, repository, tag, document)


def push_artifact(
    storage: Storage,
    repository: str,
    tag: str | None,
    *,
    config: str = "application/vnd.oci.empty.v1+json",
    artifact_type: str | None = None,
    subject: str | None = None,
    mark: str = "",
) -> str:
    """Put an artifact that is no image; return its digest."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "config": describe(storage, repository, config, b"{}"),
        "layers": [
            describe(storage, repository, "application/octet-stream", mark.encode() or b"x")
        ],
    }
    if artifact_type is not None:
        document["artifactType"] = artifact_type
    if subject is not None:
        found = storage.manifest(repository, subject)
        assert found is not None
        document["subject"] = {
            "mediaType": found.media_type,
            "digest": found.digest,
            "size": len(found.raw),
        }
    return put(storage, repository, tag, document)


def push_index(
    storage: Storage,
    repository: str,
    tag: str | None,
    platforms: Sequence[str],
    *,
    attested: bool = False,
    created: str | None = None,
    mark: str = "",
    annotations: Mapping[str, str] | None = None,
) -> tuple[str, dict[str, str]]:
    """Put an index over an image a platform; return its digest and those of its entries.

    `attested` adds an attestation a platform, as BuildKit does, under `att:PLATFORM`.
    """
    entries: list[dict[str, Any]] = []
    digests: dict[str, str] = {}
    for platform in platforms:
        os, architecture, *variant = platform.split("/")
        digest = push_image(
            storage, repository, None, platform=platform, created=created, mark=mark
        )
        digests[platform] = digest
        entries.append(_entry(storage, repository, digest))
        entries[-1]["platform"] = {"os": os, "architecture": architecture}
        if variant:
            entries[-1]["platform"]["variant"] = variant[0]
    for platform in platforms if attested else ():
        statement = push_artifact(storage, repository, None, mark=f"attests {platform} {mark}")
        digests[f"att:{platform}"] = statement
        entries.append(_entry(storage, repository, statement))
        entries[-1]["platform"] = {"os": "unknown", "architecture": "unknown"}
        entries[-1]["annotations"] = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": digests[platform],
        }
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": entries,
        "annotations": {"mark": mark, **(annotations or {})},
    }
    return put(storage, repository, tag, document), digests


def _entry(storage: Storage, repository: str, digest: str) -> dict[str, Any]:
    found = storage.manifest(repository, digest)
    assert found is not None
    return {"mediaType": found.media_type, "digest": digest, "size": len(found.raw)}
