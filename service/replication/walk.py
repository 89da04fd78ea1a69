"""Walk what a registry serves under a digest: every child manifest read, a byte of every blob.

HEAD is no evidence (reliability.md M8): a blob counts as there when its last byte was read.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from service.errors import InvalidInput, ManifestNotFound
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.manifest import Manifest
from service.model.media_types import MANIFEST_TYPES
from service.registry.client import RegistryClient
from service.replication.tree import MAX_DEPTH, MAX_MANIFESTS

MAX_HOLES = 20
Children = Callable[[Manifest], Iterable[Descriptor]]
MAX_REMEMBERED = 200_000


class Remembered:
    """Blobs that were read a moment ago, so that shared layers are read once; thread safe, bounded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: set[tuple[str, str, Digest]] = set()

    def has(self, registry: str, repository: str, digest: Digest) -> bool:
        """Whether the blob was read in this repository."""
        with self._lock:
            return (registry, repository, digest) in self._seen

    def add(self, registry: str, repository: str, digest: Digest) -> None:
        """Remember a blob that was read."""
        with self._lock:
            if len(self._seen) >= MAX_REMEMBERED:
                self._seen.clear()
            self._seen.add((registry, repository, digest))


def holes(
    client: RegistryClient,
    repository: str,
    digest: Digest,
    *,
    remembered: Remembered | None = None,
    children: Children = Manifest.children,
) -> list[str]:
    """Return what cannot be read of the tree of a digest, in words; empty when it is whole.

    `children` gives those of an index that have to be there: a sparse one lacks some on purpose. At most MAX_HOLES are told. Raises RegistryError when the registry cannot be asked.
    """
    return _Walk(client, repository, remembered or Remembered(), children).look(digest)


class _Walk:
    def __init__(
        self,
        client: RegistryClient,
        repository: str,
        remembered: Remembered,
        children: Children,
    ) -> None:
        self._client = client
        self._repository = repository
        self._remembered = remembered
        self._children = children
        self._seen: set[Digest] = set()
        self._holes: list[str] = []

    def look(self, digest: Digest) -> list[str]:
        self._manifest(digest, "manifest", depth=0)
        return self._holes

    def _manifest(self, digest: Digest, kind: str, *, depth: int) -> None:
        if digest in self._seen or len(self._holes) >= MAX_HOLES:
            return
        self._seen.add(digest)
        if depth > MAX_DEPTH or len(self._seen) > MAX_MANIFESTS:
            self._holes.append(f"{kind} {digest} lies too deep to be looked at")
            return
        try:
            manifest = self._client.get_manifest(self._repository, str(digest))
        except ManifestNotFound:
            self._holes.append(f"{kind} {digest} is missing")
            return
        except InvalidInput as error:  # its bytes are not what the digest says, or no manifest
            self._holes.append(f"{kind} {digest} cannot be read: {error.message}")
            return
        self._inside(manifest, depth)

    def _inside(self, manifest: Manifest, depth: int) -> None:
        for blob in manifest.blobs():
            self._blob(blob)
        for child in self._children(manifest):
            if child.media_type in MANIFEST_TYPES:
                self._manifest(child.digest, "child manifest", depth=depth + 1)
            else:
                self._unknown(child, depth)

    def _unknown(self, child: Descriptor, depth: int) -> None:
        """Look for an entry of an unknown type as a manifest first, then as a blob."""
        try:
            manifest = self._client.get_manifest(self._repository, str(child.digest))
        except (ManifestNotFound, InvalidInput):
            self._blob(child)
        else:
            self._inside(manifest, depth + 1)

    def _blob(self, blob: Descriptor) -> None:
        name, digest = self._client.name, blob.digest
        if len(self._holes) >= MAX_HOLES or self._remembered.has(name, self._repository, digest):
            return
        if self._client.probe_blob(self._repository, digest, blob.size):
            self._remembered.add(name, self._repository, digest)
        else:
            self._holes.append(f"blob {digest} ({blob.size} bytes) cannot be read")
