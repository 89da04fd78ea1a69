"""Descriptors: media type, digest and size of some content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.errors import InvalidDigest, InvalidManifest
from service.model.digest import Digest
from service.model.media_types import FOREIGN_LAYER_TYPES
from service.model.platform import Platform

MAX_SIZE = 2**63 - 1  # what registries and databases can hold


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says of a blob or of another manifest (image-spec, descriptor.md)."""

    media_type: str
    digest: Digest
    size: int  # bytes
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = None
    urls: tuple[str, ...] = ()

    @property
    def is_foreign(self) -> bool:
        """Whether the bytes are meant to be fetched from `urls`, not from a registry."""
        return bool(self.urls) and self.media_type in FOREIGN_LAYER_TYPES


def parse_descriptor(value: Any, where: str) -> Descriptor:
    """Read one descriptor of parsed JSON; raises InvalidManifest naming the place."""
    if not isinstance(value, dict):
        raise InvalidManifest(f"{where} is not an object", field=where)
    media_type = value.get("mediaType")
    if not isinstance(media_type, str) or not media_type:
        raise InvalidManifest(f"{where}.mediaType is missing or no text", field=where)
    return Descriptor(
        media_type=media_type,
        digest=_digest(value.get("digest"), where),
        size=_size(value.get("size"), where),
        artifact_type=optional_text(value.get("artifactType"), f"{where}.artifactType"),
        annotations=parse_annotations(value.get("annotations"), f"{where}.annotations"),
        platform=_platform(value.get("platform"), f"{where}.platform"),
        urls=_urls(value.get("urls"), f"{where}.urls"),
    )


def parse_annotations(value: Any, where: str) -> dict[str, str]:
    """Read annotations: absent, null or an object of texts; raises InvalidManifest."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise InvalidManifest(f"{where} is not an object of texts", field=where)
    return value


def optional_text(value: Any, where: str) -> str | None:
    """Read a text that may be absent, null or empty (all None); raises InvalidManifest."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise InvalidManifest(f"{where} is not text", field=where)
    return value


def _digest(value: Any, where: str) -> Digest:
    if not isinstance(value, str):
        raise InvalidManifest(f"{where}.digest is missing or no text", field=where)
    try:
        return Digest.parse(value)
    except InvalidDigest as error:
        raise InvalidManifest(f"{where}.digest: {error.message}", field=where) from None


def _size(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_SIZE:
        raise InvalidManifest(
            f"{where}.size is not a whole number of bytes: {str(value)[:40]!r}", field=where
        )
    return value


def _platform(value: Any, where: str) -> Platform | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InvalidManifest(f"{where} is not an object", field=where)
    return Platform(
        os=optional_text(value.get("os"), f"{where}.os") or "",
        architecture=optional_text(value.get("architecture"), f"{where}.architecture") or "",
        variant=optional_text(value.get("variant"), f"{where}.variant"),
        os_version=optional_text(value.get("os.version"), f"{where}.os.version"),
    )


def _urls(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidManifest(f"{where} is not a list of texts", field=where)
    return tuple(value)
