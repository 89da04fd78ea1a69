"""Manifests: raw bytes, kept verbatim, and what they name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from service.errors import Corrupt, InvalidManifest
from service.model import strict_json
from service.model.descriptor import (
    Descriptor,
    optional_text,
    parse_annotations,
    parse_descriptor,
)
from service.model.digest import Digest
from service.model.media_types import (
    IMAGE_TYPES,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_ARTIFACT,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1_TYPES,
    normalise,
)

MAX_MANIFEST_BYTES = 4 * 1024 * 1024  # distribution's own limit; larger ones cannot be pushed
MAX_DESCRIPTORS = 1000

Kind = Literal["image", "index"]


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest or an image index; `raw` is what is pushed, never a re-encoding."""

    raw: bytes = field(repr=False)
    media_type: str
    digest: Digest
    kind: Kind
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def size(self) -> int:
        """Bytes of the manifest itself."""
        return len(self.raw)

    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers, each digest once; foreign layers, whose bytes live at URLs, left out.

        A layer of a foreign type without urls is an ordinary blob.
        """
        named = (self.config, *self.layers) if self.config else self.layers
        return unique_descriptors(item for item in named if not item.is_foreign)

    def children(self) -> tuple[Descriptor, ...]:
        """Entries of the index, each digest once."""
        return unique_descriptors(self.manifests)

    def descriptor(self) -> Descriptor:
        """Describe this manifest as a list of referrers does.

        Source: distribution-spec, "Listing Referrers": artifactType, else the config's media type;
        annotations copied.
        """
        artifact_type = self.artifact_type or (self.config.media_type if self.config else None)
        return Descriptor(
            self.media_type, self.digest, len(self.raw), artifact_type, self.annotations
        )


def parse_manifest(raw: bytes, content_type: str | None, digest: Digest | None = None) -> Manifest:
    """Read a manifest as a registry served it; the bytes are kept as they are.

    `content_type` is the header's value, None where there is no header (a layout on disk).
    Raises Corrupt when `digest` is given and the bytes are not its, InvalidManifest for what must
    not be copied: over 4 MiB or 1000 descriptors, not strict JSON, a media type that contradicts
    the body or names both layers and manifests (CVE-2021-41190), schema 1, sizes that are none.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise InvalidManifest(f"over {MAX_MANIFEST_BYTES} bytes: no registry takes it")
    found = Digest.of(raw, digest.algorithm if digest else "sha256")
    if digest and found != digest:
        raise Corrupt(f"the manifest's bytes are {found}, not {digest}")
    value = strict_json.loads(raw)
    if not isinstance(value, dict):
        raise InvalidManifest("the manifest is not a JSON object")
    media_type = _media_type(value, content_type)
    _check_shape(value, media_type)
    is_index = media_type in INDEX_TYPES
    config, layers = _image_parts(value, media_type)
    subject = value.get("subject")
    manifest = Manifest(
        raw=raw,
        media_type=media_type,
        digest=found,
        kind="index" if is_index else "image",
        config=config,
        layers=layers,
        manifests=_descriptors(value, "manifests") if is_index else (),
        subject=None if subject is None else parse_descriptor(subject, "subject"),
        artifact_type=optional_text(value.get("artifactType"), "artifactType"),
        annotations=parse_annotations(value.get("annotations"), "annotations"),
    )
    _check_sizes(manifest)
    return manifest


def _media_type(value: dict[str, Any], content_type: str | None) -> str:
    """Decide the media type: header and body must agree; by shape where both are silent."""
    written = value.get("mediaType")
    if written is not None and not isinstance(written, str):
        raise InvalidManifest("mediaType is not text", field="mediaType")
    header = None if content_type is None else normalise(content_type)
    version = value.get("schemaVersion")
    if header in SCHEMA1_TYPES or written in SCHEMA1_TYPES or _is_number(version, 1):
        raise InvalidManifest(
            "a schema 1 manifest: registries no longer take them",
            hint="push the image again with a current tool, which writes schema 2",
        )
    if not _is_number(version, 2):
        raise InvalidManifest(f"schemaVersion is not 2: {str(version)[:40]!r}")
    if header is not None and header not in MANIFEST_TYPES:
        raise InvalidManifest(f"served as {header[:80]!r}, which is no manifest's media type")
    if written and header and written != header:
        raise InvalidManifest(
            f"served as {header!r} but its mediaType says {written[:80]!r}: refused, "
            "as tools would read it differently",
            field="mediaType",
        )
    media_type = header or written or _by_shape(value)
    if media_type not in MANIFEST_TYPES:
        raise InvalidManifest(f"unknown media type of a manifest: {media_type[:80]!r}")
    return media_type


def _is_number(value: Any, number: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value == number


def _by_shape(value: dict[str, Any]) -> str:
    if "manifests" in value:
        return OCI_INDEX
    if "layers" in value and "config" in value:
        return OCI_MANIFEST
    raise InvalidManifest("no media type, and neither manifests nor config and layers")


def _check_shape(value: dict[str, Any], media_type: str) -> None:
    image_like = {"layers", "config", "fsLayers", "blobs"} & value.keys()
    if "manifests" in value and image_like:
        names = ", ".join(sorted(image_like))
        raise InvalidManifest(f"both manifests and {names}: refused (CVE-2021-41190)")
    if media_type in INDEX_TYPES and "manifests" not in value:
        raise InvalidManifest("an index without manifests", field="manifests")
    if media_type in IMAGE_TYPES and "manifests" in value:
        raise InvalidManifest("an image manifest with manifests", field="manifests")


def _image_parts(
    value: dict[str, Any], media_type: str
) -> tuple[Descriptor | None, tuple[Descriptor, ...]]:
    if media_type in INDEX_TYPES:
        return None, ()
    if media_type == OCI_ARTIFACT:
        return None, _descriptors(value, "blobs")
    config = parse_descriptor(value.get("config"), "config")
    if "layers" not in value and not value.get("artifactType"):
        raise InvalidManifest("an image without layers", field="layers")
    return config, _descriptors(value, "layers")


def _descriptors(value: dict[str, Any], name: str) -> tuple[Descriptor, ...]:
    items = value.get(name)
    if items is None:  # Go writes an empty list as null
        return ()
    if not isinstance(items, list):
        raise InvalidManifest(f"{name} is not a list", field=name)
    if len(items) > MAX_DESCRIPTORS:
        raise InvalidManifest(
            f"{len(items)} {name}, at most {MAX_DESCRIPTORS} are copied", field=name
        )
    return tuple(parse_descriptor(item, f"{name}[{n}]") for n, item in enumerate(items))


def _check_sizes(manifest: Manifest) -> None:
    """Refuse two sizes for one digest: one of them is a lie."""
    sizes: dict[Digest, int] = {}
    named = (manifest.config, *manifest.layers, *manifest.manifests, manifest.subject)
    for item in named:
        if item and sizes.setdefault(item.digest, item.size) != item.size:
            raise InvalidManifest(f"two sizes for {item.digest}")


def unique_descriptors(descriptors: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
    """Return each digest's descriptor once; raises InvalidManifest where two disagree on its size."""
    first: dict[Digest, Descriptor] = {}
    for item in descriptors:
        known = first.setdefault(item.digest, item)
        if known.size != item.size:
            raise InvalidManifest(f"{item.digest} is named with {known.size} and {item.size} bytes")
    return tuple(first.values())
