"""Images put into a sample registry past HTTP."""

from __future__ import annotations

import json
from collections.abc import Sequence

from api.samples.manifests import OCI_IMAGE
from api.samples.registry import SampleRegistry
from api.samples.storage import StoredManifest, digest_of

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def push_image(
    registry: SampleRegistry,
    repository: str,
    tag: str,
    mark: str = "",
    layers: Sequence[bytes] | None = None,
) -> str:
    """Put an image of one small layer (or of `layers`) under a tag; returns its digest."""
    blobs = [
        json.dumps({"of": repository, "tag": tag, "mark": mark}).encode(),
        *(layers if layers is not None else [f"{repository} {tag} {mark}".encode()]),
    ]
    for blob in blobs:
        registry.storage.put_blob(repository, digest_of(blob), blob)
    described = [
        {"mediaType": LAYER if index else CONFIG, "digest": digest_of(blob), "size": len(blob)}
        for index, blob in enumerate(blobs)
    ]
    raw = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE,
            "config": described[0],
            "layers": described[1:],
        }
    ).encode()
    manifest = StoredManifest(raw, OCI_IMAGE, digest_of(raw))
    registry.storage.put_manifest(repository, manifest, tag)
    return manifest.digest


def digest_at(registry: SampleRegistry, repository: str, tag: str) -> str | None:
    """The digest under a tag."""
    found = registry.storage.manifest(repository, tag)
    return None if found is None else found.digest
