"""Names of images as other tools write them."""

from __future__ import annotations

from service.errors import InvalidReference
from service.model.digest import Digest
from service.model.reference import (
    DOCKER_HUB,
    DOCKER_HUB_ALIASES,
    Reference,
    validate_repository,
    validate_tag,
)

__all__ = ["hub", "judged", "parted", "tags_of"]


def hub(host: str) -> str:
    """Return the host under which this project knows a registry: Docker Hub has one name."""
    return DOCKER_HUB if host in DOCKER_HUB_ALIASES else host


def parted(text: str) -> tuple[str, str]:
    """Return registry and the rest of a reference as docker reads it, whatever follows the repository.

    Raises InvalidReference.
    """
    cut = min((at for mark in ("@", ":/") if (at := text.find(mark)) >= 0), default=len(text))
    base, rest = text[:cut], text[cut:]
    head, colon, tag = base.rpartition(":")
    if colon and "/" not in tag:
        base, rest = head, f":{tag}{rest}"
    reference = Reference.parse(f"{base}:x")
    return hub(reference.registry), f"{reference.repository}{rest}"


def judged(repository: str) -> str:
    """Return a repository's name; raises InvalidReference for one that no registry could have."""
    return validate_repository(repository)


def tags_of(text: str) -> list[str]:
    """Return the tags of a list `a,b`; raises InvalidReference."""
    return [validate_tag(tag.strip()) for tag in text.split(",")]


def digest_of(text: str) -> str:
    """Return a digest as it is written; raises InvalidReference."""
    try:
        return str(Digest.parse(text))
    except Exception as error:
        raise InvalidReference(f"not a digest: {text[:80]!r}") from error
