"""Blob uploads of the sample registry: sessions, offsets, digests, mounts."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from api.samples.http_messages import PIECE, Request, Response
from api.samples.manifests import ApiError, check_digest
from api.samples.profiles import Profile
from api.samples.storage import Storage, Upload, digest_of

_WHOLE: Final = 2 << 30  # bodies up to this are received into one allocation
_BUSY_SECONDS: Final = 10.0


@dataclass(slots=True)
class Uploads:
    """Handles every request under /v2/<name>/blobs/uploads/."""

    storage: Storage
    profile: Profile
    base: str  # put before Locations: empty for relative ones
    chunk_minimum: int = 0

    def start(self, request: Request, name: str, *, mountable: bool) -> Response:
        """POST: mount, single POST or a new session."""
        query = request.query()
        if "mount" in query:
            digest = check_digest(query["mount"])
            source = query.get("from")
            known = source is not None or self.profile.anonymous_mounts
            if mountable and known and self.storage.mount(name, digest, source):
                return self._created(name, digest)
        elif "digest" in query and self.profile.single_post:
            upload = self.storage.start_upload(name)
            with upload.lock:
                return self._finish(request, upload, query["digest"])
        upload = self.storage.start_upload(name)
        response = self._session(202, upload, 0)
        if self.chunk_minimum:
            response.headers["OCI-Chunk-Min-Length"] = str(self.chunk_minimum)
        return response

    def serve(self, request: Request, name: str, identity: str) -> Response:
        """GET, PATCH, PUT or DELETE of a session."""
        upload = self.storage.upload(name, identity)
        if upload is None:
            raise ApiError(404, "BLOB_UPLOAD_UNKNOWN", detail=identity[:100])
        if not upload.lock.acquire(timeout=_BUSY_SECONDS):
            raise ApiError(409, "BLOB_UPLOAD_INVALID", "another request writes this upload")
        try:
            self._check_state(request, upload)
            if request.method == "GET":
                return self._session(204, upload, len(upload.data))
            if request.method == "DELETE":
                self.storage.forget_upload(identity)
                return Response(204)
            if request.method == "PATCH":
                return self._append(request, upload)
            if request.method == "PUT":
                return self._finish(request, upload, request.query().get("digest", ""))
            raise ApiError(405, "UNSUPPORTED")
        finally:
            upload.lock.release()

    def _check_state(self, request: Request, upload: Upload) -> None:
        """Hold the `_state` of the Location against what was received since it was given out."""
        state = request.query().get("_state", "")
        offset, _, seal = state.partition("-")
        if not hmac.compare_digest(seal, _seal(upload, offset)):
            raise ApiError(400, "BLOB_UPLOAD_INVALID", "the Location was not kept as given")
        if int(offset) == len(upload.data):
            return
        if not self.profile.resumes_uploads:
            raise ApiError(404, "BLOB_UPLOAD_INVALID", "upload resumed at wrong offset")
        if request.method in ("PATCH", "PUT"):
            raise self._range_error(upload)

    def _append(self, request: Request, upload: Upload) -> Response:
        text = request.headers.get("content-range")
        if text is not None and self.profile.checks_chunk_ranges:
            start, dash, end = text.partition("-")
            if not (dash and start.isdigit() and end.isdigit()):
                raise ApiError(400, "RANGE_INVALID", f"content-range {text[:60]!r}")
            if int(start) != len(upload.data):
                raise self._range_error(upload)
            length = request.body.length
            if length is not None and int(end) - int(start) + 1 != length:
                raise ApiError(400, "SIZE_INVALID")
        self._receive(request, upload)
        return self._session(202, upload, len(upload.data))

    def _finish(self, request: Request, upload: Upload, digest: str) -> Response:
        check_digest(digest)
        self._receive(request, upload)
        if digest.startswith("sha256:"):
            actual = f"sha256:{upload.sha256.hexdigest()}"
        else:
            actual = digest_of(upload.data, "sha512")
        self.storage.forget_upload(upload.identity)
        if actual != digest:
            raise ApiError(400, "DIGEST_INVALID", detail={"given": digest, "received": actual})
        canonical = f"sha256:{upload.sha256.hexdigest()}"
        if self.profile.keeps_sha512 or digest == canonical:
            self.storage.put_blob(upload.repository, digest, upload.data)
            return self._created(upload.repository, digest)
        self.storage.put_blob(upload.repository, canonical, upload.data, alias=digest)
        return self._created(upload.repository, canonical)

    def _receive(self, request: Request, upload: Upload) -> None:
        """Append the body, hashing as it comes; what came before a cut stays.

        Raises ConnectionLostError when the client goes away.
        """
        length = request.body.length
        if length is not None and length <= _WHOLE and not upload.data:
            upload.data = bytearray(length)
            got = 0
            try:
                with memoryview(upload.data) as view:
                    while count := request.body.read_into(view[got : got + PIECE]):
                        upload.sha256.update(view[got : got + count])
                        got += count
            finally:
                if got < length:
                    upload.data = upload.data[:got]  # the error's frames still hold views of it
            return
        piece = memoryview(bytearray(PIECE))
        while count := request.body.read_into(piece):
            upload.sha256.update(piece[:count])
            upload.data += piece[:count]

    def _session(self, status: int, upload: Upload, offset: int) -> Response:
        text = str(offset)
        place = f"/v2/{upload.repository}/blobs/uploads/{upload.identity}"
        headers = {
            "Location": f"{self.base}{place}?_state={text}-{_seal(upload, text)}",
            "Range": f"0-{max(0, offset - 1)}",
            "Docker-Upload-UUID": upload.identity,
        }
        return Response(status, headers)

    def _created(self, name: str, digest: str) -> Response:
        headers = {
            "Location": f"{self.base}/v2/{name}/blobs/{digest}",
            "Docker-Content-Digest": digest,
        }
        return Response(201, headers)

    def _range_error(self, upload: Upload) -> ApiError:
        headers = self._session(416, upload, len(upload.data)).headers
        return ApiError(416, "RANGE_INVALID", headers=headers)


def _seal(upload: Upload, offset: str) -> str:
    return hashlib.sha256(f"{upload.identity}:{offset}".encode()).hexdigest()[:16]
