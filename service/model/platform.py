"""Platforms: which system an image of an index runs on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system and architecture by GOOS and GOARCH names (image-spec, image-index.md)."""

    os: str
    architecture: str
    variant: str | None = None
    os_version: str | None = None

    @property
    def unknown(self) -> bool:
        """Whether this marks no system but an attestation, as BuildKit writes it."""
        return self.os == "unknown" and self.architecture == "unknown"

    def __str__(self) -> str:
        text = f"{self.os}/{self.architecture}"
        return f"{text}/{self.variant}" if self.variant else text
