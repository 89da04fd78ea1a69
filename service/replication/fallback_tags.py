"""Tags that stand for relations: fallback tags of the referrers API, and cosign's (distribution-spec 1.1).

Several copies may change one at a time: each change is made alone, under a claim.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.errors import Cancelled, ManifestNotFound, ServerError
from service.model.manifest import Manifest, parse_manifest
from service.model.media_types import OCI_INDEX
from service.model.ports import ClaimState
from service.model.reference import digest_tag
from service.model.work import CopyWork
from service.registry.client import RegistryClient
from service.replication.engine import Engine

LOCK_SECONDS = 30.0
LOOK_SECONDS = 0.02


class FallbackTags:
    """Those of one copy's destination repository."""

    def __init__(
        self,
        engine: Engine,
        work: CopyWork,
        destination: RegistryClient,
        cancelled: Callable[[], bool],
    ) -> None:
        """Touch nothing yet; `cancelled` says whether the copy is to stop: waiting raises Cancelled then."""
        self._claims = engine.claims
        self._scope = engine.clients.scope(work.destination_registry)
        self._boot = engine.boot
        self._registry = work.destination_registry
        self._repository = work.destination_repository
        self._destination = destination
        self._cancelled = cancelled

    def list_referrer(self, manifest: Manifest) -> None:
        """List a manifest under its subject's tag, for a registry without the API (end-7)."""
        subject = manifest.subject
        if subject is None:
            return
        tag = digest_tag(subject.digest)
        with self._alone_with(tag):
            entries = self._entries(tag)
            if all(entry.get("digest") != str(manifest.digest) for entry in entries):
                self._put_index(tag, [*entries, _entry(manifest)])

    def put(self, tag: str, manifest: Manifest, *, put_meanwhile: Callable[[], bool]) -> None:
        """Put a tag: the source's bytes, or a union where the destination lists more.

        `put_meanwhile`: whether another copy has put the same, asked once no other changes it.
        """
        if manifest.kind != "index" or "." in tag:
            self._destination.put_manifest(self._repository, tag, manifest)
            return
        with self._alone_with(tag):
            if put_meanwhile():
                return
            source = json.loads(manifest.raw).get("manifests", [])
            digests = {entry.get("digest") for entry in source}
            extra = [entry for entry in self._entries(tag) if entry.get("digest") not in digests]
            if extra:
                self._put_index(tag, [*source, *extra])
            else:
                self._destination.put_manifest(self._repository, tag, manifest)

    @contextmanager
    def _alone_with(self, tag: str) -> Iterator[None]:
        """Keep other copies from changing a tag meanwhile: registries have no compare-and-swap."""
        name = f"tag:{self._repository}:{tag}"
        token = f"{self._boot}/{os.urandom(6).hex()}"
        deadline = time.monotonic() + LOCK_SECONDS
        while self._claims.claim(self._registry, self._scope, name, token)[0] is ClaimState.HELD:
            if self._cancelled():
                raise Cancelled
            if time.monotonic() > deadline:
                raise ServerError(
                    f"{tag} is being changed by another copy for too long", registry=self._registry
                )
            time.sleep(LOOK_SECONDS)
        try:
            yield
        finally:
            self._claims.give_up(self._registry, self._scope, name, token, corrupt=False)

    def _entries(self, tag: str) -> list[dict[str, object]]:
        """Return the entries of a tag at the destination; none when there is no such tag."""
        try:
            manifest = self._destination.get_manifest(self._repository, tag)
        except ManifestNotFound:
            return []
        document = json.loads(manifest.raw)
        entries: list[dict[str, object]] = document.get("manifests", [])
        return entries

    def _put_index(self, tag: str, entries: list[dict[str, object]]) -> None:
        raw = json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        ).encode()
        self._destination.put_manifest(self._repository, tag, parse_manifest(raw, OCI_INDEX))


def _entry(manifest: Manifest) -> dict[str, object]:
    entry: dict[str, object] = {
        "mediaType": manifest.media_type,
        "digest": str(manifest.digest),
        "size": len(manifest.raw),
    }
    kind = manifest.artifact_type or (manifest.config.media_type if manifest.config else None)
    if kind:
        entry["artifactType"] = kind
    if manifest.annotations:
        entry["annotations"] = dict(manifest.annotations)
    return entry
