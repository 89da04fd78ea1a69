"""What the client returns."""

from __future__ import annotations

from dataclasses import dataclass

from service.model.digest import Digest
from service.registry.origin import Origin


@dataclass(frozen=True, slots=True)
class ManifestHead:
    """What HEAD says of a manifest."""

    digest: Digest
    media_type: str
    size: int


@dataclass(frozen=True, slots=True)
class PutResult:
    """A stored manifest; `subject_stored` says that the registry keeps its referrers itself."""

    digest: Digest
    subject_stored: bool


@dataclass(frozen=True, slots=True)
class TagPage:
    """A page of tags and the cursor of the next one, None at the end."""

    tags: tuple[str, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class RepositoryPage:
    """A page of repositories and the cursor of the next one, None at the end."""

    repositories: tuple[str, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Mounted:
    """The registry took the blob from its other repository (201)."""


MOUNTED = Mounted()


@dataclass(frozen=True, slots=True)
class UploadSession:
    """An open upload: where its next request goes, and what it holds."""

    repository: str
    origin: Origin
    target: str  # path and query as the registry gave them
    offset: int = 0  # bytes the registry has acknowledged
    minimum_chunk: int = 0  # OCI-Chunk-Min-Length, 0 when none was named
