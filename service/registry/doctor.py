"""What one registry can do, found out by trying; and what Transship does about what it cannot.

Writes go into two scratch repositories only, and are taken back where the registry lets us.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service.errors import NotFound, RegistryError, Rejected, TagImmutable, Unsupported
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.manifest import Manifest, parse_manifest
from service.model.media_types import ACCEPT, OCI_INDEX, OCI_MANIFEST
from service.registry.access import Access
from service.registry.client import RegistryClient
from service.registry.results import MOUNTED, UploadSession

SCRATCH = "transship-doctor"
SECOND = "-mount"  # the scratch repository that is mounted into
YES, NO, UNKNOWN = "yes", "no", "unknown"

_FILES = "a directory: its files are looked at"
_CONFIG = "application/vnd.oci.empty.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_CHUNK_BYTES = 4096
_MAX_CHUNK_BYTES = 8 << 20  # what a registry may ask of a chunk (ECR: 5 MiB)


@dataclass(frozen=True, slots=True)
class Finding:
    """One ability: whether it is there, what was seen, and what Transship does about it."""

    name: str
    result: str  # yes | no | unknown
    detail: str
    means: str


# ability: what is done when it is there, what when it is not
MEANINGS: dict[str, tuple[str, str]] = {
    "ping": ("it speaks the distribution API", "nothing can be copied from or to it"),
    "push": (
        "it can be a destination",
        "it can only be a source with these credentials, or wants the repository made first",
    ),
    "catalog": (
        "rules may use patterns for repositories",
        "rules have to name repositories without wildcards",
    ),
    "tag list": ("rules may use patterns for tags", "rules have to name tags without wildcards"),
    "tag pages": (
        "long lists of tags come page by page, and a crash resumes at a page",
        "a repository's tags come in one answer",
    ),
    "head digest": (
        "an unchanged tag costs one HEAD",
        "each look at a tag fetches its manifest, which counts against quotas",
    ),
    "ranged reads": (
        "blobs are proved by a byte, and a broken read goes on where it broke",
        "small blobs are read whole to be proved, and a broken read begins anew",
    ),
    "mount": (
        "a layer that it has in another repository is mounted, not sent",
        "a layer is sent once for each repository that wants it",
    ),
    "anonymous mount": (
        "nothing is done with it: mounts name the repository that was proved",
        "nothing is lost: mounts name the repository that they come from",
    ),
    "chunked upload": (
        "layers above a proxy's size limit go in chunks",
        "layers go in one PUT; a proxy with a size limit before it has to be opened",
    ),
    "upload resume": (
        "a broken upload goes on at the byte that it holds",
        "a broken upload begins anew",
    ),
    "referrers": (
        "signatures and SBOMs are found by the referrers API",
        "signatures and SBOMs are found and kept by tags sha256-HEX (the specification's fallback)",
    ),
    "tag overwrite": (
        "a tag that moved at the source is moved here",
        "a tag that moved at the source fails here: use on_conflict: keep, or allow tags to move",
    ),
    "tag delete": (
        "a tag can be deleted and leaves its manifest",
        "deletes of a rule take the manifest where no other tag has it, else they are reported",
    ),
    "manifest delete": ("manifests can be deleted by digest", "nothing can be deleted"),
    "sparse index": (
        "a rule with platforms keeps the index, its digest and signatures, and leaves children out",
        "a rule with platforms is refused for indexes: all children have to be copied",
    ),
}


def examine(
    client: RegistryClient, repository: str = SCRATCH, *, write: bool = True
) -> list[Finding]:
    """Try everything, in the order of MEANINGS; never raises a RegistryError.

    What depends on something that failed is unknown. With `write` false only reading is tried.
    """
    doctor = _Doctor(client, repository)
    if doctor.probe("ping", client.ping):
        doctor.probe("catalog", doctor.catalog)
        if write and doctor.probe("push", doctor.push):
            try:
                for name, attempt in doctor.attempts().items():
                    doctor.probe(name, attempt)
            finally:
                doctor.clean_up()
    why = "" if write else "nothing may be written"
    return [
        doctor.found.get(name) or Finding(name, UNKNOWN, why or "depends on what failed", "")
        for name in MEANINGS
    ]


class _No(Exception):
    """The registry does not have it; the text says what was seen."""


class _Doctor:
    def __init__(self, client: RegistryClient, repository: str) -> None:
        self._client = client
        self._repository = repository
        self._second = repository + SECOND
        self.found: dict[str, Finding] = {}
        self._manifests: dict[str, list[Digest]] = {}
        self._first: Manifest
        self._other: Manifest

    def probe(self, name: str, attempt: Callable[[], str | None]) -> bool:
        """Try one ability and note the finding; whether it is there."""
        there, absent = MEANINGS[name]
        try:
            detail = attempt() or ""
        except _No as reason:
            self.found[name] = Finding(name, NO, str(reason), absent)
        except (Unsupported, NotFound, Rejected) as error:
            self.found[name] = Finding(name, NO, error.message, absent)
        except RegistryError as error:
            known = name in {"ping", "push"} or not error.retryable
            said = (
                f"{error.message}; {error.hint}" if name == "ping" and error.hint else error.message
            )
            self.found[name] = Finding(name, NO if known else UNKNOWN, said, absent)
        else:
            self.found[name] = Finding(name, YES, detail, there)
        return self.found[name].result == YES

    def attempts(self) -> dict[str, Callable[[], str | None]]:
        """Return what is tried once something could be pushed, in order."""
        return {
            "tag list": self.tag_list,
            "tag pages": self.tag_pages,
            "head digest": self.head_digest,
            "ranged reads": self.ranged_reads,
            "mount": self.mount,
            "anonymous mount": self.anonymous_mount,
            "chunked upload": self.chunked_upload,
            "referrers": self.referrers,
            "tag overwrite": self.tag_overwrite,
            "sparse index": self.sparse_index,
            "tag delete": self.tag_delete,
            "manifest delete": self.manifest_delete,
        }

    # ---- reading -----------------------------------------------------------------------------

    def catalog(self) -> str:
        page = next(iter(self._client.list_repositories(page_size=1)))
        return "paged" if page.next is not None else f"{len(page.repositories)} in one answer"

    def tag_list(self) -> str:
        tags = {tag for page in self._client.list_tags(self._repository) for tag in page.tags}
        if not {"one", "two"} <= tags:
            raise _No(f"the tags that were pushed are not in the list of {len(tags)}")
        return ""

    def tag_pages(self) -> str:
        page = next(iter(self._client.list_tags(self._repository, page_size=1)))
        if len(page.tags) > 1:
            raise _No(f"asked for one tag, got {len(page.tags)}")
        return ""

    def head_digest(self) -> str | None:
        if self._client.asking_is_free:
            return _FILES
        answer = self._client.http.request(
            "HEAD",
            "manifest",
            f"/v2/{self._repository}/manifests/one",
            Access("pull", self._repository),
            headers=f"Accept: {ACCEPT}\r\n",
        )
        if answer.status != 200 or "docker-content-digest" not in answer.headers:
            raise _No(f"HEAD of a tag: {answer.status}, without Docker-Content-Digest")
        return None

    def ranged_reads(self) -> str | None:
        if self._client.asking_is_free:
            return _FILES
        blob = self._first.layers[0]
        response = self._client.http.open(
            "GET",
            "blob",
            f"/v2/{self._repository}/blobs/{blob.digest}",
            Access("pull", self._repository),
            headers="Range: bytes=1-2\r\n",
        )
        status = response.status
        data = response.read_some(4)
        response.close()
        if status != 206 or len(data) != 2:
            raise _No(f"two bytes were asked for: {status}, {len(data)} bytes or more")
        return None

    def referrers(self) -> str | None:
        found = self._client.referrers(self._repository, self._first.digest)
        if found is None:
            raise _No("the API is not there")
        listed = {one.digest for one in found}
        attached = self._put(
            self._repository,
            None,
            {**self._image(b"attached"), "subject": _described(self._first)},
        )
        again = self._client.referrers(self._repository, self._first.digest) or ()
        if attached.digest not in {one.digest for one in again}:
            raise _No(f"what was attached is not among the {len(listed)} listed")
        return None

    # ---- writing -----------------------------------------------------------------------------

    def push(self) -> str:
        self._first = self._put(self._repository, "one", self._image(b"one"))
        self._other = self._put(self._repository, "two", self._image(b"two"))
        return f"into {self._repository} and {self._second}"

    def mount(self) -> str | None:
        blob = self._first.layers[0]
        result = self._client.mount_blob(self._second, blob.digest, self._repository)
        self._cancel(result)
        if result is not MOUNTED:
            raise _No("an upload was opened instead" if result else "it was refused")
        if not self._client.probe_blob(self._second, blob.digest, blob.size):
            raise _No("it said 201, and the blob cannot be read")
        return None

    def anonymous_mount(self) -> str | None:
        if self._client.asking_is_free:
            return _FILES
        blob = self._other.layers[0]
        answer = self._client.http.request(
            "POST",
            "mount",
            f"/v2/{self._second}/blobs/uploads/?mount={blob.digest}",
            Access("push", self._second),
            headers="Content-Length: 0\r\n",
        )
        if answer.status == 202:
            raise _No("an upload was opened instead")
        if answer.status != 201:
            raise _No(f"it was refused: {answer.status}")
        return None

    def chunked_upload(self) -> str:
        session = self._client.start_upload(self._repository)
        chunk = max(_CHUNK_BYTES, min(session.minimum_chunk, _MAX_CHUNK_BYTES))
        try:
            self._send_chunks(session, os.urandom(2 * chunk), chunk)
        except BaseException:
            self._cancel(session)
            raise
        return f"of {chunk} bytes"

    def _send_chunks(self, session: UploadSession, data: bytes, chunk: int) -> None:
        uploads, digest = self._client.uploads, Digest.of(data)
        session = self._patch(session, data, 0, chunk)
        self.probe("upload resume", lambda: self._resume(session, chunk))
        session = self._patch(session, data, chunk, len(data))
        connection = uploads.begin_put(session, digest, 0)
        uploads.finish_put(connection, session, digest, len(data))

    def _patch(self, session: UploadSession, data: bytes, start: int, stop: int) -> UploadSession:
        connection = self._client.uploads.begin_patch(session, start, stop)
        connection.send(data[start:stop])
        return self._client.uploads.finish_patch(connection, session, stop)

    def _resume(self, session: UploadSession, half: int) -> str | None:
        held = self._client.uploads.status(session)
        if held.offset != half:
            raise _No(f"it says to hold {held.offset} of {half} bytes")
        return None

    def tag_overwrite(self) -> str | None:
        try:
            self._client.put_manifest(self._repository, "two", self._first)
        except TagImmutable as error:
            raise _No(error.message) from error
        self._client.put_manifest(self._repository, "two", self._other)
        return None

    def sparse_index(self) -> str | None:
        absent = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"nowhere")), "size": 500}
        platform = {"architecture": "amd64", "os": "linux"}
        body = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                {**_described(self._first), "platform": platform},
                {**absent, "platform": {**platform, "architecture": "arm64"}},
            ],
        }
        try:
            self._put(self._repository, "sparse", body, OCI_INDEX)
        except RegistryError as error:
            if error.retryable:
                raise
            raise _No("an index is refused whose children are not all there") from error
        return None

    def tag_delete(self) -> str | None:
        self._client.delete_manifest(self._repository, "two")
        if self._client.head_manifest(self._repository, "two") is not None:
            raise _No("it said yes, and the tag is there")
        if self._client.head_manifest(self._repository, str(self._other.digest)) is None:
            raise _No("the manifest went with its tag")
        return None

    def manifest_delete(self) -> str | None:
        self._client.delete_manifest(self._repository, str(self._other.digest))
        if self._client.head_manifest(self._repository, str(self._other.digest)) is not None:
            raise _No("it said yes, and the manifest is there")
        return None

    def clean_up(self) -> None:
        """Delete what was written, the last first, as far as the registry lets us."""
        for repository, digests in self._manifests.items():
            for digest in reversed(digests):
                try:
                    self._client.delete_manifest(repository, str(digest))
                except RegistryError:
                    continue  # not there any more, or not to be deleted: its scratch stays

    # ---- parts -------------------------------------------------------------------------------

    def _image(self, content: bytes) -> dict[str, Any]:
        return {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._blob(b"{}", _CONFIG),
            "layers": [self._blob(b"transship doctor: " + content, _LAYER)],
        }

    def _blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        digest = Digest.of(data)
        self._client.put_blob(self._repository, digest, data)
        return {"mediaType": media_type, "digest": str(digest), "size": len(data)}

    def _put(
        self,
        repository: str,
        tag: str | None,
        body: dict[str, Any],
        media_type: str = OCI_MANIFEST,
    ) -> Manifest:
        manifest = parse_manifest(json.dumps(body).encode(), media_type)
        self._client.put_manifest(repository, tag or str(manifest.digest), manifest)
        self._manifests.setdefault(repository, []).append(manifest.digest)
        return manifest

    def _cancel(self, session: object) -> None:
        if isinstance(session, UploadSession):
            self._client.cancel_upload(session)


def _described(manifest: Manifest) -> dict[str, Any]:
    described = Descriptor(manifest.media_type, manifest.digest, len(manifest.raw))
    return {
        "mediaType": described.media_type,
        "digest": str(described.digest),
        "size": described.size,
    }
