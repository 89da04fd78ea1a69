"""What a look at a fleet holds: repositories, tags, blobs, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.model.migration import SurveyState

REPOSITORIES, TAGS, DESTINATION, CLOSING = "repositories", "tags", "destination", "closing"
"""The phases of a look; a proof begins with the destination, so that it sees the source last."""

OPEN = (SurveyState.PENDING, SurveyState.RUNNING)


@dataclass(frozen=True, slots=True)
class Survey:
    """One look, as saved. `figures`: what it came to, once it has ended."""

    id: int
    migration: str
    kind: str
    state: SurveyState
    phase: str
    cursor: str
    attempts: int
    figures: dict[str, Any]
    reason: str
    created_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class SeenRepository:
    """A repository with what it holds; `wave` is a position, -1 for none yet."""

    repository: str
    wave: int
    tags: int
    bytes: int
    unique_bytes: int


@dataclass(frozen=True, slots=True)
class SeenTag:
    """A tag of the source, what it names, and its name at the destination."""

    repository: str
    tag: str
    digest: str
    bytes: int
    destination_repository: str
    destination_tag: str
    entry: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one tag, or with a repository (`tag` is "" then)."""

    repository: str
    tag: str
    kind: str
    destination: str = ""
    wanted: str = ""
    found: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SeenBlob:
    """A blob or manifest that a repository needs; `image_bytes`: of an image's manifest, all of the image."""

    digest: str
    size: int
    image_bytes: int = 0


Findings = Sequence[Finding]
