"""What the sample registry holds, in memory. Blobs are kept once, each repository links its own.

The methods of the last section plant damage for tests; nothing else breaks the rules.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from dataclasses import dataclass, field

Data = bytes | bytearray


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest's bytes as they were pushed."""

    raw: bytes
    media_type: str
    digest: str


@dataclass(slots=True)
class Upload:
    """An open upload session; `offset` is what the client has been told to have sent."""

    identity: str
    repository: str
    data: bytearray = field(default_factory=bytearray)
    lock: threading.Lock = field(default_factory=threading.Lock)
    sha256: hashlib._Hash = field(default_factory=hashlib.sha256)


@dataclass(slots=True)
class Repository:
    """Links of one repository."""

    blobs: dict[str, str] = field(default_factory=dict)  # digest asked for -> digest stored
    manifests: dict[str, StoredManifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    referrers: dict[str, dict[str, dict[str, object]]] = field(default_factory=dict)


def digest_of(data: Data | memoryview, algorithm: str = "sha256") -> str:
    """Digest of some bytes as `algorithm:hex`."""
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


class Storage:
    """Thread-safe: every method is one step."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._blobs: dict[str, Data] = {}
        self._ghosts: dict[str, int] = {}
        self._repositories: dict[str, Repository] = {}
        self._uploads: dict[str, Upload] = {}

    def clear(self) -> None:
        """Forget everything, as if it had just been made."""
        with self.lock:
            for held in (self._blobs, self._ghosts, self._repositories, self._uploads):
                held.clear()

    # reading

    def repositories(self) -> list[str]:
        """Names of the repositories that hold a manifest or a blob, sorted."""
        with self.lock:
            return sorted(self._repositories)

    def tags(self, repository: str) -> dict[str, str] | None:
        """Tag -> digest, in the order of their first push; None for an unknown repository."""
        with self.lock:
            found = self._repositories.get(repository)
            return None if found is None or not found.manifests else dict(found.tags)

    def manifest(self, repository: str, reference: str) -> StoredManifest | None:
        """Look a manifest up by tag or digest."""
        with self.lock:
            found = self._repositories.get(repository)
            if found is None:
                return None
            return found.manifests.get(found.tags.get(reference, reference))

    def blob(self, repository: str, digest: str) -> tuple[Data, int] | None:
        """Bytes of a blob linked into this repository, and the size that a HEAD tells.

        They differ for a blob that the garbage collector took while the descriptor cache still
        knows it, as on distribution 2.8.2 and 3.1.1 (its size, and no bytes).
        """
        with self.lock:
            found = self._repositories.get(repository)
            stored = found.blobs.get(digest) if found else None
            if stored is None:
                return None
            if stored in self._ghosts:
                return b"", self._ghosts[stored]
            data = self._blobs.get(stored)
            return None if data is None else (data, len(data))

    def stored_digest(self, repository: str, digest: str) -> str:
        """Digest under which a linked blob is kept (another one than asked for by sha512)."""
        with self.lock:
            return self._repositories[repository].blobs.get(digest, digest)

    def referrers(self, repository: str, digest: str) -> list[dict[str, object]]:
        """Descriptors of the manifests whose subject is `digest`."""
        with self.lock:
            found = self._repositories.get(repository)
            return list(found.referrers.get(digest, {}).values()) if found else []

    # writing

    def _repository(self, name: str) -> Repository:
        return self._repositories.setdefault(name, Repository())

    def start_upload(self, repository: str) -> Upload:
        """Open an upload session."""
        upload = Upload(secrets.token_hex(16), repository)
        with self.lock:
            self._uploads[upload.identity] = upload
        return upload

    def upload(self, repository: str, identity: str) -> Upload | None:
        """Find an open upload session of this repository."""
        with self.lock:
            upload = self._uploads.get(identity)
            return upload if upload is not None and upload.repository == repository else None

    def forget_upload(self, identity: str) -> None:
        """Drop an upload session."""
        with self.lock:
            self._uploads.pop(identity, None)

    @property
    def open_uploads(self) -> int:
        """How many upload sessions are open."""
        return len(self._uploads)

    def put_blob(self, repository: str, digest: str, data: Data, alias: str | None = None) -> None:
        """Keep a blob (its bytes replace older ones of that digest) and link it."""
        with self.lock:
            self._blobs[digest] = data
            self._ghosts.pop(digest, None)
            links = self._repository(repository).blobs
            links[digest] = digest
            if alias is not None:
                links[alias] = digest

    def mount(self, repository: str, digest: str, source: str | None) -> bool:
        """Link a blob of another repository (any that has it when `source` is None)."""
        with self.lock:
            names = [source] if source is not None else list(self._repositories)
            for name in names:
                found = self._repositories.get(name)
                stored = found.blobs.get(digest) if found else None
                if stored is not None and (stored in self._blobs or stored in self._ghosts):
                    self._repository(repository).blobs[digest] = stored
                    return True
            return False

    def delete_blob(self, repository: str, digest: str) -> bool:
        """Unlink a blob from one repository."""
        with self.lock:
            found = self._repositories.get(repository)
            return found is not None and found.blobs.pop(digest, None) is not None

    def put_manifest(
        self,
        repository: str,
        manifest: StoredManifest,
        tag: str | None,
        referrer: tuple[str, dict[str, object]] | None = None,
    ) -> None:
        """Keep a manifest, move the tag, note it as a referrer (subject's digest, descriptor)."""
        with self.lock:
            found = self._repository(repository)
            found.manifests[manifest.digest] = manifest
            if tag is not None:
                found.tags[tag] = manifest.digest
            if referrer is not None:
                found.referrers.setdefault(referrer[0], {})[manifest.digest] = referrer[1]

    def delete_tag(self, repository: str, tag: str) -> bool:
        """Remove a tag only."""
        with self.lock:
            found = self._repositories.get(repository)
            return found is not None and found.tags.pop(tag, None) is not None

    def delete_manifest(self, repository: str, digest: str) -> bool:
        """Remove a manifest and every tag on it."""
        with self.lock:
            found = self._repositories.get(repository)
            if found is None or found.manifests.pop(digest, None) is None:
                return False
            found.tags = {tag: d for tag, d in found.tags.items() if d != digest}
            for known in found.referrers.values():
                known.pop(digest, None)
            return True

    # damage, for tests

    def blob_digests(self) -> set[str]:
        """Digests of all blobs whose bytes are here."""
        with self.lock:
            return set(self._blobs)

    def blob_bytes(self, digest: str) -> bytes:
        """Bytes of a blob; KeyError when it is not here."""
        with self.lock:
            return bytes(self._blobs[digest])

    def flip_byte(self, digest: str, offset: int = 0) -> None:
        """Change one byte of a blob."""
        with self.lock:
            changed = bytearray(self._blobs[digest])
            changed[offset] ^= 0xFF
            self._blobs[digest] = changed

    def replace_blob(self, digest: str, data: bytes) -> None:
        """Put other bytes in a blob's place."""
        with self.lock:
            self._blobs[digest] = data

    def drop_blob(self, digest: str) -> None:
        """Lose a blob in every repository, honestly: HEAD says 404."""
        with self.lock:
            self._blobs.pop(digest)
            for repository in self._repositories.values():
                for asked in [a for a, stored in repository.blobs.items() if stored == digest]:
                    del repository.blobs[asked]

    def collect_blob(self, digest: str) -> None:
        """Lose a blob as a garbage collection behind a warm descriptor cache does.

        HEAD 200, GET 200 with a length and no bytes, mount 201, and manifests that name it are
        taken, until it is uploaded again.
        """
        with self.lock:
            self._ghosts[digest] = len(self._blobs.pop(digest))

    def plant_manifest(
        self, repository: str, raw: bytes, media_type: str, tag: str | None = None
    ) -> str:
        """Keep any bytes as a manifest, unchecked; returns their digest."""
        digest = digest_of(raw)
        self.put_manifest(repository, StoredManifest(raw, media_type, digest), tag)
        return digest

    def move_tag(self, repository: str, tag: str, digest: str) -> None:
        """Let a tag name a digest, there or not."""
        with self.lock:
            self._repository(repository).tags[tag] = digest

    def replace_manifest(self, repository: str, digest: str, raw: bytes) -> None:
        """Put other bytes in a manifest's place, under the same digest."""
        with self.lock:
            found = self._repositories[repository]
            old = found.manifests[digest]
            found.manifests[digest] = StoredManifest(raw, old.media_type, digest)

    def drop_manifest(self, repository: str, digest: str) -> None:
        """Lose a manifest; tags on it dangle."""
        with self.lock:
            del self._repositories[repository].manifests[digest]
