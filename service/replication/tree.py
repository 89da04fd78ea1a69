"""The tree of manifests behind a reference: children, root, and what refers to them, in commit order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from service.errors import Corrupt, InvalidManifest, ManifestNotFound, RegistryError
from service.model.content import PlatformFilter
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.manifest import Manifest, parse_manifest, unique_descriptors
from service.model.media_types import MANIFEST_TYPES
from service.model.reference import digest_tag, is_digest_tag
from service.model.work import CopyWork
from service.registry.client import RegistryClient
from service.replication.engine import Engine, Reads
from service.replication.holders import is_away

T = TypeVar("T")
R = TypeVar("R")

MAX_DEPTH = 5
MAX_MANIFESTS = 2000
COSIGN_SUFFIXES = ("", ".sig", ".att", ".sbom")


@dataclass(slots=True)
class Tree:
    """Everything that has to be at the destination before the tag moves.

    `children` come in the order of their commits; `referrers` are pushed by digest; `tagged` are
    the fallback and cosign tags that point at referrers.
    """

    root: Manifest
    source_digest: (
        Digest  # what the source's tag names; the root's own, but for a mended fallback tag
    )
    children: list[Manifest] = field(default_factory=list)
    referrers: list[Manifest] = field(default_factory=list)
    tagged: list[tuple[str, Manifest]] = field(default_factory=list)
    extra_blobs: list[Descriptor] = field(default_factory=list)
    sparse: bool = False  # entries of the index are left out: of other platforms than the rule's

    def blobs(self) -> list[Descriptor]:
        """Return every blob once; raises InvalidManifest where two manifests disagree on its size."""
        manifests = [*self.children, self.root, *self.referrers, *(m for _, m in self.tagged)]
        named = [blob for manifest in manifests for blob in manifest.blobs()]
        return list(unique_descriptors([*named, *self.extra_blobs]))

    def manifests(self) -> list[Manifest]:
        """Return every manifest of the tree."""
        return [*self.children, self.root, *self.referrers, *(m for _, m in self.tagged)]


class TreeReader:
    """Reads the tree of one copy from its source."""

    def __init__(self, engine: Engine | Reads, work: CopyWork) -> None:
        self._engine = engine
        self._work = work
        self._source: RegistryClient = engine.clients.get(work.source_registry)
        self._reader: RegistryClient = engine.clients.get(work.reads_from.registry)
        self._repository = work.reads_from.repository
        self._place = work.source_registry, work.source_repository
        self._seen: set[Digest] = set()
        self._platforms = PlatformFilter(work.platforms) if work.platforms else None

    def root(self, digest: Digest) -> Manifest:
        """Return the manifest of a digest; raises as read does."""
        return self._fetch(digest)

    def read(self, digest: Digest) -> Tree:
        """Return the tree of a digest.

        Raises ManifestNotFound when the source lacks part of it, InvalidManifest and Corrupt for
        what may not be copied.
        """
        root = self._fetch(digest)
        reference = self._work.source_reference
        if root.kind == "index" and is_digest_tag(reference) and "." not in reference:
            root = self._without_lost(root)
        tree = Tree(root, digest)
        self._seen.add(digest)
        platforms = None if is_digest_tag(reference) else self._platforms
        self._children(root, tree.children, tree, depth=1, platforms=platforms)
        if self._work.referrers and not is_digest_tag(self._work.source_reference):
            self._referrers(tree)
        return tree

    def _fetch(self, digest: Digest, size: int | None = None) -> Manifest:
        manifest = self._engine.manifests.get(
            self._place,
            digest,
            lambda: self._reader.get_manifest(self._repository, str(digest)),
        )
        if size is not None and len(manifest.raw) != size:
            raise Corrupt(
                f"the manifest {digest} has {len(manifest.raw)} bytes, but its descriptor says {size}",
                registry=self._reader.name,
            )
        return manifest

    def _children(
        self,
        parent: Manifest,
        into: list[Manifest],
        tree: Tree,
        *,
        depth: int,
        platforms: PlatformFilter | None = None,
    ) -> None:
        if depth > MAX_DEPTH:
            raise InvalidManifest(f"the index nests deeper than {MAX_DEPTH} levels")
        entries = parent.children()
        if platforms is not None:
            kept = platforms.children(parent)
            tree.sparse = tree.sparse or len(kept) < len(entries)
            entries = kept
        fresh: dict[Digest, Descriptor] = {}
        for descriptor in entries:
            if descriptor.digest not in self._seen:
                fresh.setdefault(descriptor.digest, descriptor)
        if len(self._seen) + len(fresh) > MAX_MANIFESTS:
            raise InvalidManifest(f"the index reaches more than {MAX_MANIFESTS} manifests")
        found = self._each(fresh.values(), self._child)
        for descriptor, child in zip(fresh.values(), found, strict=True):
            if descriptor.digest in self._seen:
                continue  # an entry before it has it, too
            self._seen.add(descriptor.digest)
            if child is None:
                tree.extra_blobs.append(descriptor)  # an index may name a blob of an unknown type
                continue
            if (
                descriptor.media_type in MANIFEST_TYPES
                and child.media_type != descriptor.media_type
            ):
                raise InvalidManifest(
                    f"the child {descriptor.digest} is a {child.media_type}, "
                    f"but the index says {descriptor.media_type}"
                )
            self._children(child, into, tree, depth=depth + 1, platforms=platforms)
            into.append(child)

    def _child(self, descriptor: Descriptor) -> Manifest | None:
        """Return what an entry of an index names; None for something that is no manifest."""
        try:
            return self._fetch(descriptor.digest, descriptor.size)
        except ManifestNotFound:
            if descriptor.media_type in MANIFEST_TYPES:
                raise
            return None

    def _each(self, items: Iterable[T], do: Callable[[T], R]) -> list[R]:
        """Ask the source for each of the items, at once where it is far."""
        return self._engine.beside.each(
            items, do, answers=lambda: self._reader.answers_within("manifest")
        )

    def _referrers(self, tree: Tree) -> None:
        subjects = [tree.root, *tree.children]
        for listed in self._each(subjects, lambda subject: self._attached(subject.digest)):
            for descriptor in listed:
                self._referrer(descriptor, tree)
        for tag in self._digest_tags(subjects):
            self._tagged(tag, tree)

    def _referrer(self, descriptor: Descriptor, tree: Tree, depth: int = 1) -> None:
        """Add a referrer, its own children and what refers to it, each before what it refers to."""
        if descriptor.digest in self._seen or depth > MAX_DEPTH:
            return
        self._seen.add(descriptor.digest)
        manifest = self._fetch(descriptor.digest, descriptor.size)
        self._children(manifest, tree.referrers, tree, depth=1)
        for further in self._attached(manifest.digest):
            self._referrer(further, tree, depth + 1)
        tree.referrers.append(manifest)

    def _attached(self, digest: Digest) -> tuple[Descriptor, ...]:
        def ask(client: RegistryClient, repository: str) -> tuple[Descriptor, ...]:
            return client.referrers(repository, digest) or ()

        return self._recently("referrers", str(digest), lambda: self._of_source(ask))

    def _of_source(self, ask: Callable[[RegistryClient, str], T]) -> T:
        """Return what the source says belongs to an image; while it is away, what its copy's place says.

        Another registry may lack what was attached since, and have what is none of the rule's business.
        """
        work = self._work
        try:
            return ask(self._source, work.source_repository)
        except RegistryError as error:
            if work.holder is None or not is_away(error):
                raise
        return ask(self._reader, self._repository)

    def _recently(self, what: str, name: str, read: Callable[[], T]) -> T:
        """Return what this execution has read of late; a copy that is tried again believes nothing."""
        work = self._work
        if work.retried:
            return read()
        key = (work.execution, work.source_registry, work.source_repository, what, name)
        return self._engine.recent.get(key, read)

    def _digest_tags(self, subjects: Iterable[Manifest]) -> list[str]:
        """Return the tags that belong to these: as listed, and as probed until the list is complete."""
        prefixes = [digest_tag(subject.digest) for subject in subjects]
        found: dict[str, None] = {}
        if self._work.listed:
            listed, complete = self._engine.state.digest_tags(
                self._work.execution, self._work.source_repository, prefixes
            )
            if complete:
                return listed
            found.update((tag, None) for tag in listed)
        candidates = [prefix + suffix for prefix in prefixes for suffix in COSIGN_SUFFIXES]
        found.update(
            (tag, None)
            for tag in candidates
            if tag not in found and self._recently("probe", tag, partial(self._is_there, tag))
        )
        return list(found)

    def _is_there(self, tag: str) -> bool:
        return (
            self._of_source(lambda client, repository: client.head_manifest(repository, tag))
            is not None
        )

    def _tagged(self, tag: str, tree: Tree) -> None:
        digest = self._recently("tag", tag, partial(self._read_tag, tag))
        if digest is None:
            return  # it was there when the tags were listed
        try:
            manifest = self._fetch(digest)
        except ManifestNotFound:  # it has moved since, and nobody here has kept what it was
            manifest = self._of_source(
                lambda client, repository: client.get_manifest(repository, tag)
            )
        if manifest.kind == "index":
            manifest = self._without_lost(manifest)
            for descriptor in manifest.children():
                self._referrer(descriptor, tree)
        else:
            self._seen.add(manifest.digest)
        tree.tagged.append((tag, manifest))

    def _read_tag(self, tag: str) -> Digest | None:
        try:
            manifest = self._of_source(
                lambda client, repository: client.get_manifest(repository, tag)
            )
        except ManifestNotFound:
            return None
        return self._engine.manifests.get(self._place, manifest.digest, lambda: manifest).digest

    def _without_lost(self, index: Manifest) -> Manifest:
        """Leave out entries of a fallback tag that the source has deleted; its clients skip them."""
        lost = set()
        for descriptor in index.children():
            try:
                self._fetch(descriptor.digest, descriptor.size)
            except ManifestNotFound:
                lost.add(str(descriptor.digest))
        if not lost:
            return index
        document = json.loads(index.raw)
        document["manifests"] = [e for e in document["manifests"] if e.get("digest") not in lost]
        return parse_manifest(json.dumps(document).encode(), index.media_type)
