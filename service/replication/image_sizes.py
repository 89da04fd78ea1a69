"""What an image is made of, with sizes: every manifest and blob of its tree, each once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from service.errors import InvalidManifest, ManifestNotFound
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.manifest import Manifest
from service.model.media_types import MANIFEST_TYPES
from service.registry.client import RegistryClient
from service.replication.tree import MAX_DEPTH, MAX_MANIFESTS

Children = Callable[[Manifest], Iterable[Descriptor]]


def image_sizes(
    client: RegistryClient,
    repository: str,
    digest: Digest,
    *,
    children: Children = Manifest.children,
) -> dict[str, int]:
    """Return the size of all that a digest names, by digest; what refers to it is not counted.

    `children` gives those entries of an index that are copied. Raises RegistryError, and InvalidInput
    for what is no manifest.
    """
    sizes: dict[str, int] = {}
    waiting: list[tuple[Digest, Descriptor | None, int]] = [(digest, None, 0)]
    manifests = 0
    while waiting:
        one, named_by, depth = waiting.pop()
        if str(one) in sizes:
            continue
        manifests += 1
        if depth > MAX_DEPTH or manifests > MAX_MANIFESTS:
            raise InvalidManifest(f"the image {digest} reaches too many manifests, or too deep")
        try:
            manifest = client.get_manifest(repository, str(one))
        except ManifestNotFound:
            if named_by is None or named_by.media_type in MANIFEST_TYPES:
                raise
            sizes[str(one)] = named_by.size  # an index may name a blob of an unknown type
            continue
        sizes[str(one)] = len(manifest.raw)
        for blob in manifest.blobs():
            sizes[str(blob.digest)] = blob.size
        waiting.extend((child.digest, child, depth + 1) for child in children(manifest))
    return sizes
