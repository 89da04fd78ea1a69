"""A layout's index.json: what its tags name, and what else it has that no manifest names.

Entries of other tools are kept as they are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from service.errors import InvalidManifest, InvalidReference
from service.model import strict_json
from service.model.descriptor import Descriptor, parse_descriptor
from service.model.manifest import Manifest
from service.model.media_types import OCI_INDEX
from service.model.reference import validate_tag

REF_NAME = "org.opencontainers.image.ref.name"
SUBJECT = "dev.transship.subject"
"""Annotation of an entry: the digest that the manifest is attached to, so that its list needs no reading."""

VERSION = "1.0.0"
LAYOUT = json.dumps({"imageLayoutVersion": VERSION}).encode()
MAX_INDEX_BYTES = 256 << 20


class Index:
    """One repository's index, read and changed in memory."""

    def __init__(self, document: dict[str, Any] | None = None) -> None:
        """Take a parsed index, or begin one; raises InvalidManifest for one that is none."""
        self._document = document or {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [],
        }
        entries = self._document.get("manifests")
        if entries is None:
            entries = []
        if not isinstance(entries, list):
            raise InvalidManifest("manifests is not a list", field="manifests")
        self._entries: list[tuple[dict[str, Any], Descriptor]] = [
            (item, parse_descriptor(item, f"manifests[{n}]")) for n, item in enumerate(entries)
        ]
        self._note()

    def _note(self) -> None:
        self.tags: dict[str, Descriptor] = {}
        self.digests: dict[str, Descriptor] = {}
        for _, entry in self._entries:
            self.digests.setdefault(str(entry.digest), entry)
            tag = tag_of(entry)
            if tag is not None:
                self.tags.setdefault(tag, entry)

    @classmethod
    def parse(cls, raw: bytes) -> Index:
        """Read index.json; raises InvalidManifest."""
        document = strict_json.loads(raw)
        if not isinstance(document, dict):
            raise InvalidManifest("index.json is no JSON object")
        return cls(document)

    def dump(self) -> bytes:
        """Return index.json."""
        document = {**self._document, "manifests": [item for item, _ in self._entries]}
        return json.dumps(document, separators=(",", ":")).encode()

    def descriptors(self) -> tuple[Descriptor, ...]:
        """Return what is listed, each digest once."""
        return tuple(self.digests.values())

    def put(self, manifest: Manifest, tag: str | None) -> None:
        """List a manifest under a tag, or as a root without one; its children are roots no more."""
        if tag is not None:
            self._keep(lambda entry: tag_of(entry) != tag)
        elif str(manifest.digest) in self.digests:
            return
        below = {str(child.digest) for child in manifest.manifests}
        below.add(str(manifest.digest))
        self._keep(lambda entry: _has_name(entry) or str(entry.digest) not in below)
        written: dict[str, Any] = {
            "mediaType": manifest.media_type,
            "digest": str(manifest.digest),
            "size": len(manifest.raw),
        }
        if manifest.artifact_type:
            written["artifactType"] = manifest.artifact_type
        notes = {} if tag is None else {REF_NAME: tag}
        if manifest.subject is not None:
            notes[SUBJECT] = str(manifest.subject.digest)
        if notes:
            written["annotations"] = notes
        self._entries.append((written, parse_descriptor(written, "manifests")))
        self._note()

    def remove_tag(self, tag: str) -> bool:
        """Forget a tag; whether it was there."""
        if tag not in self.tags:
            return False
        self._keep(lambda entry: tag_of(entry) != tag)
        self._note()
        return True

    def remove_digest(self, digest: str) -> bool:
        """Forget a manifest with all of its tags; whether it was listed."""
        if digest not in self.digests:
            return False
        self._keep(lambda entry: str(entry.digest) != digest)
        self._note()
        return True

    def _keep(self, wanted: Any) -> None:
        self._entries = [pair for pair in self._entries if wanted(pair[1])]


def tag_of(entry: Descriptor) -> str | None:
    """Return the tag that an entry has; None for none, and for a name that is no tag."""
    name = entry.annotations.get(REF_NAME)
    if name is None:
        return None
    try:
        return validate_tag(name)
    except InvalidReference:
        return None


def _has_name(entry: Descriptor) -> bool:
    return REF_NAME in entry.annotations


def check_layout(raw: bytes) -> None:
    """Hold the file oci-layout to the version that is read here; raises InvalidManifest."""
    document = strict_json.loads(raw)
    version = document.get("imageLayoutVersion") if isinstance(document, Mapping) else None
    if version != VERSION:
        raise InvalidManifest(
            f"oci-layout names the version {str(version)[:40]!r}, and {VERSION} is read"
        )


def reserved(repository: str, names: Collection[str]) -> str | None:
    """Return the part of a repository's name that the layout itself has a file for."""
    return next((part for part in repository.split("/") if part in names), None)
