"""A layout's index.json: what its tags name, and what else it has that no manifest names.

Entries of other tools are kept as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

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
MAX_INDEX_BYTES = 64 << 20


class _Entry(NamedTuple):
    """One entry: as it is written, what it says, and its tag."""

    raw: bytes
    descriptor: Descriptor
    digest: str
    tag: str | None

    @property
    def is_root(self) -> bool:
        """Whether it has no name, and is listed as nothing else names it."""
        return REF_NAME not in self.descriptor.annotations


class Index:
    """One repository's index in memory. Who changes it changes a copy, so that others may read on."""

    def __init__(self, document: dict[str, Any] | None = None) -> None:
        """Take a parsed index, or begin one; raises InvalidManifest for one that is none."""
        document = document or {"schemaVersion": 2, "mediaType": OCI_INDEX}
        entries = document.get("manifests") or []
        if not isinstance(entries, list):
            raise InvalidManifest("manifests is not a list", field="manifests")
        self._rest = {key: value for key, value in document.items() if key != "manifests"}
        self._entries = [_entry(item, f"manifests[{n}]") for n, item in enumerate(entries)]
        self.tags: dict[str, Descriptor] = {}
        self.digests: dict[str, Descriptor] = {}
        for entry in self._entries:
            self._note(entry)

    def _note(self, entry: _Entry) -> None:
        self.digests.setdefault(entry.digest, entry.descriptor)
        if entry.tag is not None:
            self.tags.setdefault(entry.tag, entry.descriptor)

    @classmethod
    def parse(cls, raw: bytes) -> Index:
        """Read index.json; raises InvalidManifest."""
        document = strict_json.loads(raw)
        if not isinstance(document, dict):
            raise InvalidManifest("index.json is no JSON object")
        return cls(document)

    def copy(self) -> Index:
        """Return one that may be changed."""
        other = Index()
        other._rest = self._rest
        other._entries = [*self._entries]
        other.tags, other.digests = dict(self.tags), dict(self.digests)
        return other

    def dump(self) -> bytes:
        """Return index.json."""
        rest = json.dumps(self._rest, separators=(",", ":")).encode()[:-1]
        comma = b"," if self._rest else b""
        listed = b",".join(entry.raw for entry in self._entries)
        return b'%s%s"manifests":[%s]}' % (rest, comma, listed)

    def descriptors(self) -> tuple[Descriptor, ...]:
        """Return what is listed, each digest once."""
        return tuple(self.digests.values())

    def put(self, manifest: Manifest, tag: str | None) -> None:
        """List a manifest under a tag, or as a root without one; its children are roots no more."""
        digest = str(manifest.digest)
        if tag is None and digest in self.digests:
            return
        below = {digest, *(str(child.digest) for child in manifest.manifests)}
        if tag in self.tags or not below.isdisjoint(self.digests):
            self._keep(
                lambda one: (
                    (tag is None or one.tag != tag) and not (one.is_root and one.digest in below)
                )
            )
        written: dict[str, Any] = {
            "mediaType": manifest.media_type,
            "digest": digest,
            "size": len(manifest.raw),
        }
        if manifest.artifact_type:
            written["artifactType"] = manifest.artifact_type
        notes = {} if tag is None else {REF_NAME: tag}
        if manifest.subject is not None:
            notes[SUBJECT] = str(manifest.subject.digest)
        if notes:
            written["annotations"] = notes
        entry = _entry(written, "manifests")
        self._entries.append(entry)
        self._note(entry)

    def remove_tag(self, tag: str) -> bool:
        """Forget a tag; whether it was there."""
        return tag in self.tags and self._keep(lambda one: one.tag != tag)

    def remove_digest(self, digest: str) -> bool:
        """Forget a manifest with all of its tags; whether it was listed."""
        return digest in self.digests and self._keep(lambda one: one.digest != digest)

    def _keep(self, wanted: Callable[[_Entry], bool]) -> bool:
        self._entries = [one for one in self._entries if wanted(one)]
        self.tags, self.digests = {}, {}
        for entry in self._entries:
            self._note(entry)
        return True


def _entry(item: Any, where: str) -> _Entry:
    descriptor = parse_descriptor(item, where)
    raw = json.dumps(item, separators=(",", ":")).encode()
    return _Entry(raw, descriptor, str(descriptor.digest), tag_of(descriptor))


def tag_of(entry: Descriptor) -> str | None:
    """Return the tag that an entry has; None for none, and for a name that is no tag."""
    name = entry.annotations.get(REF_NAME)
    if name is None:
        return None
    try:
        return validate_tag(name)
    except InvalidReference:
        return None


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
