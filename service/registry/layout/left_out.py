"""What a layout was made without, as the other side had confirmed it by receipt (docs/adr/0025).

While a command with --since runs, `.transship/since.json` has what the receipts confirm, and what is left out for
that is noted beside it, line by line. At its end `left-out.json` is made of these notes, and is what the layout
says of itself wherever it is carried.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.errors import (
    InvalidDigest,
    InvalidManifest,
    InvalidReference,
    ManifestNotFound,
    Rejected,
)
from service.model import strict_json
from service.model.digest import Digest
from service.model.manifest import Manifest
from service.model.reference import validate_repository, validate_tag
from service.registry.layout.folder import OURS, Folder

FILE = "left-out.json"
SINCE = (OURS, "since.json")
USED = (OURS, "since-used.jsonl")
BLOBS = (OURS, "since-blobs")
VERSION = 1
MAX_BYTES = 128 << 20
MAX_IMAGES = 1000
"""Of a repository, so many confirmed images are asked for their blobs at most."""
LEARN_SECONDS = 600.0

Confirmed = dict[str, dict[str, str]]
"""Repository to tag to digest, as a receipt names the copy's source."""


@dataclass
class Known:
    """What one file says: by repository, tags with their digests, and blobs with their bytes."""

    tags: Confirmed = field(default_factory=dict)
    blobs: dict[str, dict[str, int]] = field(default_factory=dict)

    def has_digest(self, repository: str, digest: str) -> bool:
        """Whether an image of this digest was left out."""
        return digest in self.tags.get(repository, {}).values()


class LeftOutParts:
    """What one layout leaves out. For any number of threads."""

    def __init__(self, folder: Folder, registry: str) -> None:
        self._folder = folder
        self._registry = registry
        self._lock = threading.Lock()
        self._files: dict[tuple[str, ...], tuple[object, Known]] = {}
        self._blobs: dict[str, dict[str, int]] = {}
        self._noted: set[tuple[str, str]] = set()

    # ---- at the destination's side, while a command with --since runs ---------------------------

    def confirmed_tag(self, repository: str, tag: str) -> str | None:
        """Return the digest that the other side has under a tag, and note that it is left out."""
        digest = self._read(SINCE).tags.get(repository, {}).get(tag)
        if digest is not None:
            self._note(repository, f":{tag}", {"tag": tag, "digest": digest})
        return digest

    def confirmed_tags(self, repository: str) -> Iterable[str]:
        """Return the tags that the other side has."""
        return self._read(SINCE).tags.get(repository, {})

    def confirmed_blob(self, repository: str, digest: Digest) -> int | None:
        """Return the bytes of a blob that the other side has in the repository, and note that it is left out."""
        size = self._blobs.get(repository, {}).get(str(digest))
        if size is not None:
            self._note(repository, str(digest), {"blob": str(digest), "size": size})
        return size

    @property
    def running(self) -> bool:
        """Whether a command with --since is at work."""
        return bool(self._read(SINCE).tags)

    def learn(
        self,
        repository: str,
        read: Callable[[Digest], Manifest],
        each: Callable[[Sequence[Digest], Callable[[Digest], None]], object],
    ) -> None:
        """Ask the source which blobs the confirmed images of a repository have; one process asks for all.

        An image that the source no longer has is passed by: its blobs are not left out.
        """
        images = self._read(SINCE).tags.get(repository)
        if not images or repository in self._blobs:
            return
        name = Digest.of(repository.encode()).encoded
        kept = (*BLOBS, f"{name}.json")
        with self._folder.lock(f"since-{name}", LEARN_SECONDS):
            raw = self._folder.read(kept, MAX_BYTES)
            if raw is None:
                found: dict[str, int] = {}
                wanted = [Digest.parse(one) for one in dict.fromkeys(images.values())]
                each(wanted[:MAX_IMAGES], lambda digest: _gather(digest, read, found))
                self._folder.replace(kept, json.dumps(found).encode())
            else:
                found = json.loads(raw)
            self._blobs[repository] = found

    def _note(self, repository: str, what: str, line: Mapping[str, Any]) -> None:
        with self._lock:
            if (repository, what) in self._noted:
                return
            self._noted.add((repository, what))
        self._folder.append(USED, json.dumps({"repository": repository, **line}).encode() + b"\n")

    # ---- at the source's side, wherever the layout was carried ----------------------------------

    @property
    def tags(self) -> Confirmed:
        """The tags that the layout names and does not have."""
        return self._read((FILE,)).tags

    def has_left_out(self, repository: str, digest: Digest) -> bool:
        """Whether a blob or an image was left out."""
        known = self._read((FILE,))
        text = str(digest)
        return text in known.blobs.get(repository, {}) or known.has_digest(repository, text)

    def forget_tag(self, repository: str, tag: str) -> bool:
        """Name a tag no more; whether it was named."""
        with self._folder.lock("left-out"):
            document = self._document((FILE,))
            tags = (document or {}).get("repositories", {}).get(repository, {}).get("tags", {})
            if tag not in tags:
                return False
            del tags[tag]
            self._folder.replace((FILE,), _dump(document))
            return True

    # ---- both -----------------------------------------------------------------------------------

    def _read(self, parts: tuple[str, ...]) -> Known:
        about = self._folder.about(parts) if self._folder.is_there() else None
        key = None if about is None else (about.st_ino, about.st_mtime_ns, about.st_size)
        with self._lock:
            known = self._files.get(parts)
        if known is not None and known[0] == key:
            return known[1]
        found = Known() if key is None else self._known(self._document(parts), parts)
        with self._lock:
            self._files[parts] = (key, found)
        return found

    def _document(self, parts: tuple[str, ...]) -> dict[str, Any] | None:
        raw = self._folder.read(parts, MAX_BYTES)
        if raw is None:
            return None
        try:
            document = strict_json.loads(raw)
        except InvalidManifest as error:
            raise self._wrong(parts, error.message) from None
        if not isinstance(document, dict) or document.get("transship_left_out") != VERSION:
            raise self._wrong(parts, f"is not of version {VERSION}")
        return document

    def _known(self, document: dict[str, Any] | None, parts: tuple[str, ...]) -> Known:
        known = Known()
        try:
            for name, one in (document or {}).get("repositories", {}).items():
                validate_repository(name)
                known.tags[name] = {
                    validate_tag(tag): str(Digest.parse(it))
                    for tag, it in one.get("tags", {}).items()
                }
                known.blobs[name] = {
                    str(Digest.parse(it)): int(size) for it, size in one.get("blobs", {}).items()
                }
        except (AttributeError, TypeError, ValueError, InvalidDigest, InvalidReference) as error:
            raise self._wrong(parts, f"cannot be understood: {error}") from None
        return known

    def _wrong(self, parts: tuple[str, ...], why: str) -> Rejected:
        return Rejected(
            f"{self._registry}: {self._folder.root}/{'/'.join(parts)} {why}",
            registry=self._registry,
            hint="bring the layout over anew",
        )


def _gather(
    digest: Digest, read: Callable[[Digest], Manifest], into: dict[str, int], depth: int = 0
) -> None:
    try:
        manifest = read(digest)
    except ManifestNotFound:
        return
    into.update({str(blob.digest): blob.size for blob in manifest.blobs()})
    if depth < 3:
        for child in manifest.children():
            _gather(child.digest, read, into, depth + 1)


def _dump(document: Any) -> bytes:
    return json.dumps(document, indent=1).encode() + b"\n"


# ---- the command's part ---------------------------------------------------------------------------


def begin(folder: Folder, confirmed: Confirmed, receipts: list[dict[str, Any]]) -> None:
    """Have what receipts confirm left out from now on; what an earlier command has noted, is kept."""
    keep_notes(folder)
    for parts in _blob_files(folder):
        folder.remove(parts)
    document = {
        "transship_left_out": VERSION,
        "receipts": receipts,
        "repositories": {name: {"tags": tags} for name, tags in confirmed.items()},
    }
    folder.replace(SINCE, _dump(document))


def end(folder: Folder) -> None:
    """Say in left-out.json what was left out, and leave nothing out any more."""
    keep_notes(folder)
    for parts in _blob_files(folder):
        folder.remove(parts)
    folder.remove(SINCE)


def keep_notes(folder: Folder) -> None:
    """Make left-out.json of what was noted, and of what it says already."""
    notes = folder.read(USED, MAX_BYTES)
    since = folder.read(SINCE, MAX_BYTES)
    if notes is None or since is None:
        return
    raw = folder.read((FILE,), MAX_BYTES)
    document: dict[str, Any] = {
        "transship_left_out": VERSION,
        "receipts": [],
        "repositories": {},
    }
    if raw is not None:
        document = json.loads(raw)
    for one in json.loads(since)["receipts"]:
        if one not in document["receipts"]:
            document["receipts"].append(one)
    for line in notes.splitlines():
        try:
            noted = json.loads(line)
        except ValueError:  # cut off by a crash: nothing was left out for it yet
            continue
        of = document["repositories"].setdefault(noted["repository"], {"tags": {}, "blobs": {}})
        if "tag" in noted:
            of["tags"][noted["tag"]] = noted["digest"]
        else:
            of["blobs"][noted["blob"]] = noted["size"]
    folder.replace((FILE,), _dump(document))
    folder.remove(USED)


def _blob_files(folder: Folder) -> list[tuple[str, ...]]:
    return [(*BLOBS, name) for name in folder.files(BLOBS)]
