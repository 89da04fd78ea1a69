"""What a manifest is: image, chart or another artifact, and for which platforms.

The type of an artifact is its artifactType, else the media type of its config (image-spec,
manifest.md "Guidelines for Artifact Usage"); an index is an image unless its artifactType says
otherwise. Platforms are those of the entries of an index, or of the config of a single image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from service.errors import InvalidConfiguration
from service.model.descriptor import Descriptor
from service.model.manifest import Manifest
from service.model.platform import Platform

IMAGE, CHART, ARTIFACT = "image", "chart", "artifact"
WORDS = (IMAGE, CHART, ARTIFACT)
"""`artifact` is whatever is neither an image nor a chart."""

CREATED = "org.opencontainers.image.created"
IMAGE_CONFIGS = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
        "application/octet-stream",  # what very old pushes to schema 2 named their config
    }
)
CHART_CONFIG = "application/vnd.cncf.helm.config.v1+json"
UNKNOWN = "unknown/unknown"
ATTESTS = "vnd.docker.reference.digest"
"""Annotation of an index's entry: the digest of the image that the entry is an attestation of."""

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][\w!#$&^.+-]{0,126}")
_PLATFORM = re.compile(r"([a-z0-9_.-]{1,32})/([a-z0-9_.-]{1,32})(?:/([a-z0-9_.-]{1,32}))?")
_USUAL_VARIANT = {"arm64": "v8", "arm": "v7"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a rule's conditions ask of a manifest; of a digest they never change.

    `types` are its word and its media types. `platforms`: of an index those that its entries name,
    of a single image its own, once its config was read (`deep`). `created`: seconds since 1970.
    """

    types: tuple[str, ...]
    index: bool = False
    platforms: tuple[str, ...] = ()
    created: float | None = None
    deep: bool = False

    @property
    def word(self) -> str:
        """What to call it: image, chart, or its artifact type."""
        return self.types[0] if self.types[0] != ARTIFACT else self.types[-1]


def types_of(manifest: Manifest) -> tuple[str, ...]:
    """Return the word of a manifest, then the media types that say what it is."""
    if manifest.kind == "index":
        told = [manifest.artifact_type] if manifest.artifact_type else []
    else:
        config = manifest.config.media_type if manifest.config else None
        told = [kind for kind in (config, manifest.artifact_type) if kind]
    decisive = told[-1] if told else None
    if decisive is None or decisive in IMAGE_CONFIGS:
        word = IMAGE
    elif decisive == CHART_CONFIG:
        word = CHART
    else:
        word = ARTIFACT
    return (word, *told)


def validate_type(text: str) -> str:
    """Return a type of `types` as it is; raises InvalidConfiguration for what is none."""
    if text in WORDS or _MEDIA_TYPE.fullmatch(text):
        return text
    raise InvalidConfiguration(
        f"{text[:80]!r} is no type",
        hint=f"write {', '.join(WORDS)}, or an artifact type such as application/vnd.example+json",
    )


def parse_platform(text: str) -> Platform:
    """Read `os/architecture[/variant]`; raises InvalidConfiguration."""
    match = _PLATFORM.fullmatch(text)
    if match is None:
        raise InvalidConfiguration(
            f"{text[:80]!r} is no platform", hint="write linux/amd64, linux/arm64 or linux/arm/v7"
        )
    return Platform(match[1], match[2], match[3])


class PlatformFilter:
    """The platforms that a rule takes."""

    def __init__(self, platforms: Iterable[str]) -> None:
        """Raise InvalidConfiguration for what is no platform."""
        self._wanted = tuple(parse_platform(text) for text in platforms)

    def takes(self, platform: Platform) -> bool:
        """Whether the platform is wanted: no variant wants any, arm64 is arm64/v8, arm is arm/v7."""
        return any(
            (wanted.os, wanted.architecture) == (platform.os, platform.architecture)
            and (wanted.variant is None or wanted.variant == _variant(platform))
            for wanted in self._wanted
        )

    def takes_any(self, platforms: Iterable[str]) -> bool:
        """Whether one of these, as `Facts` has them, is wanted."""
        return any(self.takes(parse_platform(text)) for text in platforms)

    def children(self, index: Manifest) -> tuple[Descriptor, ...]:
        """Return the entries to copy: wanted platforms, their attestations, and what names none.

        Entries of `unknown/unknown` that belong to no wanted entry are left out.
        """
        entries = index.children()
        kept = {
            str(entry.digest)
            for entry in entries
            if entry.platform is not None
            and not entry.platform.unknown
            and self.takes(entry.platform)
        }
        return tuple(
            entry
            for entry in entries
            if str(entry.digest) in kept
            or entry.annotations.get(ATTESTS) in kept
            or (entry.platform is None and ATTESTS not in entry.annotations)
        )


def platforms_of(index: Manifest) -> tuple[str, ...]:
    """Return the platforms that an index names; none when an entry names none, which is then copied."""
    named = [entry.platform for entry in index.children() if ATTESTS not in entry.annotations]
    if None in named:
        return ()
    told = {str(platform) for platform in named if platform is not None and not platform.unknown}
    return tuple(sorted(told)) or (UNKNOWN,)


def spell_platforms(platforms: Iterable[str]) -> str:
    """Return one text for a set of platforms, the same whatever their order."""
    return ",".join(sorted(set(platforms)))


def facts_of_config(raw: bytes) -> tuple[str | None, str | None]:
    """Return platform and creation time of an image's config; None for what it does not tell."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(value, dict):
        return None, None
    parts = [value.get(key) for key in ("os", "architecture", "variant")]
    texts = [part for part in parts if isinstance(part, str) and part]
    platform = "/".join(texts) if all(isinstance(part, str) for part in parts[:2]) else None
    if platform is not None and not _PLATFORM.fullmatch(platform):
        platform = None
    created = value.get("created")
    return platform, created if isinstance(created, str) else None


def parse_time(text: str | None) -> float | None:
    """Return seconds since 1970 of an RFC 3339 time; None for none, and for the zero of Go and Unix."""
    if not text:
        return None
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = moment.timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if seconds > 0 else None


def _variant(platform: Platform) -> str | None:
    return platform.variant or _USUAL_VARIANT.get(platform.architecture)
