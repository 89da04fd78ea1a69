"""Commit: children, root, referrers, the source's tag read once more, the tag, and its read-back.

Trusts no count of a chord: what is not proved in this execution is looked for again. The tag moves
last, so that a reader at the destination sees the old image or the whole new one.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from functools import cached_property

from service.crashpoints import crashpoint
from service.errors import (
    Cancelled,
    Corrupt,
    Denied,
    ManifestBlobUnknown,
    RegistryError,
    Rejected,
    ServerError,
    SparseIndexRefused,
    TagImmutable,
)
from service.model.content import spell_platforms
from service.model.digest import Digest
from service.model.manifest import Manifest
from service.model.reference import digest_tag, is_digest_tag
from service.model.states import CopyState
from service.model.work import (
    CopyEnded,
    CopyPostponed,
    CopyWork,
    Counters,
    LedgerDistrusted,
)
from service.protections import without
from service.registry.client import RegistryClient
from service.registry.results import ManifestHead
from service.replication.conditions import renamed
from service.replication.conflict import standing
from service.replication.engine import Engine
from service.replication.fallback_tags import FallbackTags
from service.replication.held_tags import give_back
from service.replication.holders import is_away
from service.replication.signatures import require_signature
from service.replication.tree import Tree
from service.telemetry import get_logger

READ_BACK_PAUSES = (0.0, 0.05, 0.2)
"""Before each look at a tag that was put: some registries take a moment to show it."""

log = get_logger("commit")


class Committer:
    """Commits one copy whose blobs are all proved."""

    def __init__(self, engine: Engine, work: CopyWork, counters: Counters) -> None:
        self._engine = engine
        self._work = work
        self._counters = counters
        self._source: RegistryClient = engine.clients.get(work.source_registry)
        self._destination: RegistryClient = engine.clients.get(work.destination_registry)
        self._cancelled = engine.cancelled(work, every_seconds=0.5)
        self._fallback_tags = FallbackTags(engine, work, self._destination, self._cancelled)

    def commit(self, tree: Tree) -> CopyEnded | CopyPostponed:
        """Put the tree's manifests and move the tag.

        Returns the outcome; raises RegistryError as the registries do, and Cancelled when the copy
        was stopped or taken over before the tag moved.
        """
        work = self._work
        try:
            listed = _listed(tree)
            self._put_children(tree, listed)
            if tree.referrers or tree.tagged:
                self._put_once(tree.root, listed)
            for referrer in tree.referrers:
                self._put_once(referrer, listed)
            for tag, manifest in tree.tagged:
                self._put_digest_tag(tag, manifest)
            crashpoint("commit.children_done")
            crashpoint("commit.before_reread")
            moved = self._moved(tree.source_digest)
            if moved is not None:
                return moved
            taken = standing(self._engine, self._work, self._counters, tree.source_digest)
            if taken is not None:
                return taken
            asked = time.monotonic()
            if not self._engine.state.holds(self._work.ref):
                raise Cancelled
            if time.monotonic() - asked > self._engine.settings.dead_after_seconds / 2:
                raise Cancelled  # this process stood still: others may count it as dead
            crashpoint("commit.before_put")
            self._put_tag(tree)
            if not self._engine.state.holds(self._work.ref):
                self._undo_late_write(tree.source_digest)
                raise Cancelled
        except ManifestBlobUnknown as error:
            lost = self._look_for_losses(tree)
            if tree.sparse and not lost and self._has_children(tree):
                raise SparseIndexRefused(
                    f"{work.destination_registry} does not take the index "
                    f"{tree.root.digest} without all of its platforms: {error.message}",
                    registry=work.destination_registry,
                ) from error
            raise
        place = work.source_registry, work.source_repository
        self._engine.manifests.committed(place, tree.root.digest)
        return CopyEnded(
            work,
            CopyState.COPIED,
            self._counters,
            digest=str(tree.source_digest),
            platforms=spell_platforms(work.platforms) if tree.sparse else "",
        )

    def _has_children(self, tree: Tree) -> bool:
        """Whether the destination has every manifest that the index was copied with."""
        repository = self._work.destination_repository
        return all(
            self._destination.head_manifest(repository, str(child.digest)) is not None
            for child in tree.children
        )

    def _look_for_losses(self, tree: Tree) -> bool:
        """Void the registry's ledger when a blob that it was proved to have cannot be read."""
        work = self._work
        for blob in tree.blobs():
            if not self._destination.probe_blob(
                work.destination_repository, blob.digest, blob.size
            ):
                self._engine.state.post(
                    [
                        LedgerDistrusted(
                            work.destination_registry,
                            self._engine.clients.scope(work.destination_registry),
                            f"{blob.digest} was proved in {work.destination_repository} and is gone",
                        )
                    ]
                )
                return True
        return False

    # ---- manifests by digest ---------------------------------------------------------------------

    def _put_children(self, tree: Tree, listed: Collection[tuple[str, Digest]]) -> None:
        """Put what the root is made of: images at once where the destination is far, then indexes of them."""
        self._engine.beside.each(
            [child for child in tree.children if child.kind != "index"],
            lambda child: self._put_once(child, listed),
            answers=lambda: self._destination.answers_within("manifest"),
        )
        for child in tree.children:
            if child.kind == "index":
                self._put_once(child, listed)

    def _put_once(self, manifest: Manifest, listed: Collection[tuple[str, Digest]]) -> None:
        """Put a manifest by its digest, unless this execution has: indexes share their children."""
        digest = str(manifest.digest)
        if not self._was_put(digest):
            self._put(manifest, digest, listed)
            if self._epoch > 0:
                self._make_sure([manifest])
            self._engine.put.add(self._work, digest, self._epoch)

    def _was_put(self, what: str) -> bool:
        """Whether this execution has put it here; a copy that is tried again believes nothing."""
        seconds = self._engine.settings.proof_seconds
        return not self._work.retried and self._engine.put.knows(
            self._work, what, self._epoch, seconds
        )

    @cached_property
    def _epoch(self) -> int:
        work = self._work
        return self._engine.state.epoch(
            work.destination_registry, self._engine.clients.scope(work.destination_registry)
        )

    def _put(
        self,
        manifest: Manifest,
        reference: str,
        listed: Collection[tuple[str, Digest]] = (),
    ) -> None:
        """Put a manifest, and list it as a referrer where the registry does not do that itself.

        `listed`: what the fallback tags list that are put afterwards.
        """
        if self._cancelled():
            raise Cancelled
        result = self._destination.put_manifest(
            self._work.destination_repository, reference, manifest
        )
        if manifest.subject is None or result.subject_stored:
            return
        if (digest_tag(manifest.subject.digest), manifest.digest) not in listed:
            self._fallback_tags.list_referrer(manifest)

    def _put_digest_tag(self, tag: str, manifest: Manifest) -> None:
        """Put a cosign or fallback tag, unless a copy of another tag of the image has."""
        name = f"{tag}@{manifest.digest}"
        if self._was_put(name):
            return
        self._fallback_tags.put(tag, manifest, put_meanwhile=lambda: self._was_put(name))
        self._engine.put.add(self._work, name, self._epoch)

    # ---- the tag ---------------------------------------------------------------------------------

    def _moved(self, digest: Digest) -> CopyEnded | CopyPostponed | None:
        """Read the source's tag once more, as the last request before the destination's tag moves."""
        reference = self._work.source_reference
        if ":" in reference:
            return None
        head = self._tag_now(reference)
        if head is None:
            return CopyEnded(
                self._work,
                CopyState.SKIPPED,
                self._counters,
                reason="the source no longer has this tag",
            )
        if head.digest == digest:
            return None
        if self._work.named_by_digest:
            return renamed(self._work, self._counters)
        if self._work.replans >= self._engine.settings.max_replans:
            return CopyEnded(
                self._work,
                CopyState.SUPERSEDED,
                self._counters,
                failure_class="superseded",
                reason="the source's tag moves faster than it can be copied",
                hint="run the rule again when the tag is at rest",
            )
        return CopyPostponed(
            self._work,
            self._counters,
            replanned=True,
            digest=str(head.digest),
            reason="the tag moved",
        )

    def _tag_now(self, reference: str) -> ManifestHead | None:
        """Return what the source has under its tag; while it is away, what is where the copy is read.

        That was the source's when it was committed there (docs/adr/0015).
        """
        holder = self._work.holder
        try:
            return self._source.head_manifest(self._work.source_repository, reference)
        except RegistryError as error:
            if holder is None or not is_away(error):
                raise
            there = self._engine.clients.get(holder.registry)
            head = there.head_manifest(holder.repository, holder.reference)
            if head is None or str(head.digest) != self._work.digest:
                raise
            return head

    def _undo_late_write(self, written: Digest) -> None:
        """Put right what this process wrote after its fence was gone (reliability.md P4).

        Registries have no compare-and-swap: a process that stood still between its last look and its
        PUT may have put an older manifest over a newer one. The source says which one is wanted, and
        whoever took the copy over has put its parts in place.
        """
        work = self._work
        if ":" in work.source_reference:
            return
        released = self._engine.state.released_digest(work)
        if released is not None:
            give_back(self._destination, work, released, str(written))
            return
        head = self._source.head_manifest(work.source_repository, work.source_reference)
        if head is None or head.digest == written or work.named_by_digest:
            return
        require_signature(self._engine, work, head.digest)
        log.warning("late_write_undone", copy=work.ref.id, tag=work.destination_reference)
        newer = self._source.get_manifest(work.source_repository, str(head.digest))
        self._destination.put_manifest(
            work.destination_repository, work.destination_reference, newer
        )

    def _put_tag(self, tree: Tree) -> None:
        """Move the tag, and read it back; bring back what the registry has lost, the tag last."""
        work, root = self._work, tree.root
        reference = work.destination_reference
        if is_digest_tag(reference) and root.kind == "index" and "." not in reference:
            self._put_digest_tag(reference, root)
            return
        try:
            self._put(root, reference)
        except TagImmutable:
            if self._read_back(reference) == root.digest:
                return  # it was there, though the registry did not list it
            raise
        crashpoint("commit.before_readback")
        if without("read-back"):
            return
        for pause in READ_BACK_PAUSES:
            if pause:  # a sleep of nothing is an error under a shifted clock
                time.sleep(pause)
            back = self._read_back(reference)
            if back == root.digest:
                return
        if back is None:
            self._make_sure([*tree.children, *tree.referrers])
            back = self._put_anew(root, reference)
        if back != root.digest:
            raise Corrupt(
                f"{work.destination_repository}:{reference} reads back as {back}, not as {root.digest}",
                registry=work.destination_registry,
            )

    def _make_sure(self, manifests: Iterable[Manifest]) -> None:
        """Bring back what a registry that has lost content accepted by its digest and did not write."""
        for manifest in manifests:
            if self._read_back(str(manifest.digest)) is None:
                self._put_anew(manifest, str(manifest.digest))

    def _read_back(self, reference: str) -> Digest | None:
        head = self._destination.head_manifest(self._work.destination_repository, reference)
        return None if head is None else head.digest

    def _put_anew(self, manifest: Manifest, reference: str) -> Digest:
        """Put a manifest that was accepted and is not there; returns what is there under its name now.

        distribution keeps in mind which digests it has; one that its garbage collector took meanwhile
        it accepts and does not write (reliability M8, F079). An upload as a blob writes the bytes.

        Raises ServerError when nothing is there.
        """
        work = self._work
        name = f"{work.destination_repository}:{reference}"
        scope = self._engine.clients.scope(work.destination_registry)
        reason = f"{name} was accepted and is not there"
        self._engine.state.post([LedgerDistrusted(work.destination_registry, scope, reason)])
        try:
            self._destination.put_blob(work.destination_repository, manifest.digest, manifest.raw)
            self._destination.put_manifest(work.destination_repository, reference, manifest)
        except (Rejected, Denied) as error:  # a registry that has it, and is slow to say so
            log.info("not_brought_back", name=name, error=str(error))
        found = self._read_back(reference)
        if found is None:
            raise ServerError(reason, registry=work.destination_registry)
        log.info("manifest_brought_back", name=name, digest=str(manifest.digest))
        return found


def _listed(tree: Tree) -> frozenset[tuple[str, Digest]]:
    """Return the fallback tags that come with an image, each with the digests that it lists."""
    return frozenset(
        (tag, entry.digest)
        for tag, manifest in tree.tagged
        if manifest.kind == "index"
        for entry in manifest.children()
    )
