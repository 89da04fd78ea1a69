"""The routes of the OCI distribution specification 1.1 over the sample registry's storage."""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import quote

from api.samples.auth import Auth, BearerAuth
from api.samples.http_messages import Request, Response
from api.samples.manifests import (
    MANIFEST_LIMIT,
    OCI_INDEX,
    ApiError,
    check_digest,
    check_name,
    is_digest,
    is_tag,
    parse,
)
from api.samples.profiles import Profile
from api.samples.storage import Storage, StoredManifest, digest_of
from api.samples.uploads import Uploads

_JSON: Final = {"Content-Type": "application/json"}
_CATALOG_LIMIT: Final = 1000


class DistributionApi:
    """Answers requests. `auth`, `mounts`, `blobs_redirected`, `tag_page` may change at any time.

    `base` is put before Locations, `blob_base` is where redirected reads of blobs go, `tag_page` is
    the longest page of tags.
    """

    def __init__(
        self,
        storage: Storage,
        profile: Profile,
        *,
        base: str,
        blob_base: str,
        auth: Auth | None,
        chunk_minimum: int,
        tag_page: int | None,
        blobs_redirected: bool,
    ) -> None:
        self.storage = storage
        self.profile = profile
        self.blob_base = blob_base
        self.auth = auth
        self.tag_page = tag_page
        self.blobs_redirected = blobs_redirected
        self.mounts = True
        self._uploads = Uploads(storage, profile, base, chunk_minimum)

    def answer(self, request: Request, *, mountable: bool = True) -> Response:
        """Answer one request."""
        try:
            response = self._route(request, mountable=mountable and self.mounts)
        except ApiError as error:
            response = Response(error.status, {**_JSON, **error.headers}, error.body)
        response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
        return response

    def _route(self, request: Request, *, mountable: bool) -> Response:
        path, method = request.path, request.method
        if path == "/token" and isinstance(self.auth, BearerAuth):
            return self.auth.tokens.handle(request)
        if path == "/v2/":
            self._allow(request, "", "")
            return Response(200, dict(_JSON), b"{}")
        if path == "/v2/_catalog":
            self._allow(request, "registry:catalog", "*")
            return self._catalog(request)
        parts = path.split("/")
        if len(parts) < 5 or parts[1] != "v2" or parts[0]:
            raise ApiError(404, "NOT_FOUND")
        reading = method in ("GET", "HEAD")
        if parts[-3:-1] == ["blobs", "uploads"]:
            name = check_name("/".join(parts[2:-3]))
            self._allow(request, f"repository:{name}", "push")
            if parts[-1]:
                return self._uploads.serve(request, name, parts[-1])
            if method != "POST":
                raise ApiError(405, "UNSUPPORTED")
            source = request.query().get("from")
            if source is not None and self.auth is not None:
                mountable &= self.auth.allows(request, f"repository:{source}", "pull")
            return self._uploads.start(request, name, mountable=mountable)
        kind, last = parts[-2], parts[-1]
        name = check_name("/".join(parts[2:-2]))
        action = "pull" if reading else "delete" if method == "DELETE" else "push"
        self._allow(request, f"repository:{name}", action)
        if kind == "manifests":
            return self._manifests(request, name, last)
        if kind == "blobs":
            return self._blobs(request, name, last)
        if reading and kind == "tags" and last == "list":
            return self._tags(request, name)
        if reading and kind == "referrers" and self.profile.referrers_api:
            return self._referrers(request, name, last)
        raise ApiError(404, "NOT_FOUND")

    def _allow(self, request: Request, resource: str, action: str) -> None:
        if self.auth is not None:
            self.auth.check(request, resource, action)

    # manifests

    def _manifests(self, request: Request, name: str, reference: str) -> Response:
        if ":" in reference:
            check_digest(reference)
        elif not is_tag(reference):
            raise ApiError(400, "TAG_INVALID", detail=reference[:200])
        if request.method in ("GET", "HEAD"):
            return self._get_manifest(request, name, reference)
        if request.method == "PUT":
            return self._put_manifest(request, name, reference)
        if request.method == "DELETE":
            return self._delete_manifest(name, reference)
        raise ApiError(405, "UNSUPPORTED")

    def _get_manifest(self, request: Request, name: str, reference: str) -> Response:
        found = self.storage.manifest(name, reference)
        if found is None:
            raise ApiError(404, "MANIFEST_UNKNOWN", detail=f"{name} {reference}")
        if request.method == "GET" or self.profile.narrow_head:
            accepted = {
                part.partition(";")[0].strip()
                for part in request.headers.get("accept", "").split(",")
            }
            if found.media_type not in accepted:
                message = f"{found.media_type} found, but the Accept header does not support it"
                raise ApiError(404, "MANIFEST_UNKNOWN", message)
        headers = {
            "Content-Type": found.media_type,
            "Docker-Content-Digest": found.digest,
            "ETag": f'"{found.digest}"',
        }
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(304, headers)
        return Response(200, headers, found.raw)

    def _put_manifest(self, request: Request, name: str, reference: str) -> Response:
        try:
            raw = request.body.read(MANIFEST_LIMIT)
        except OverflowError:
            raise ApiError(
                self.profile.too_large, "MANIFEST_INVALID", "request body too large"
            ) from None
        media_type = request.headers.get("content-type", "").partition(";")[0].strip()
        parsed = parse(raw, media_type)
        algorithm = reference.partition(":")[0] if is_digest(reference) else "sha256"
        digest = digest_of(raw, algorithm)
        if is_digest(reference) and reference != digest:
            raise ApiError(400, "DIGEST_INVALID", detail={"received": digest})
        if algorithm != "sha256" and not self.profile.keeps_sha512:
            raise ApiError(400, "DIGEST_INVALID", "manifests are kept by sha256")
        missing = []
        for blob, size in parsed.blobs:
            found = self.storage.blob(name, blob)
            if found is None:
                missing.append(blob)
            elif self.profile.checks_sizes and found[1] != size:
                raise ApiError(400, "MANIFEST_INVALID", f"{blob} has {found[1]} bytes, not {size}")
        for child, size in parsed.children:
            manifest = self.storage.manifest(name, child)
            if manifest is None:
                if not self.profile.sparse_indexes:
                    missing.append(child)
            elif self.profile.checks_sizes and len(manifest.raw) != size:
                raise ApiError(400, "MANIFEST_INVALID", f"size of {child} is not {size}")
        if missing:
            raise ApiError(400, "MANIFEST_BLOB_UNKNOWN", detail={"digest": missing[0]})
        headers = {
            "Location": f"{self._uploads.base}/v2/{name}/manifests/{digest}",
            "Docker-Content-Digest": digest,
        }
        referrer = None
        if parsed.subject is not None and self.profile.referrers_api:
            headers["OCI-Subject"] = parsed.subject
            entry: dict[str, object] = {
                "mediaType": media_type,
                "digest": digest,
                "size": len(raw),
                "artifactType": parsed.artifact_type,
                "annotations": parsed.annotations,
            }
            referrer = (parsed.subject, {k: v for k, v in entry.items() if v is not None})
        tag = None if is_digest(reference) else reference
        self.storage.put_manifest(name, StoredManifest(raw, media_type, digest), tag, referrer)
        return Response(201, headers)

    def _delete_manifest(self, name: str, reference: str) -> Response:
        if is_digest(reference):
            deleted = self.storage.delete_manifest(name, reference)
        elif self.profile.deletes_tags:
            deleted = self.storage.delete_tag(name, reference)
        else:
            raise ApiError(400, "DIGEST_INVALID", "a tag cannot be deleted here")
        if not deleted:
            raise ApiError(404, "MANIFEST_UNKNOWN")
        return Response(202)

    # blobs

    def _blobs(self, request: Request, name: str, digest: str) -> Response:
        check_digest(digest)
        if request.method == "DELETE":
            if not self.storage.delete_blob(name, digest):
                raise ApiError(404, "BLOB_UNKNOWN", detail=digest)
            return Response(202)
        if request.method not in ("GET", "HEAD"):
            raise ApiError(405, "UNSUPPORTED")
        found = self.storage.blob(name, digest)
        if found is None:
            raise ApiError(404, "BLOB_UNKNOWN", detail=digest)
        if self.blobs_redirected and request.method == "GET":
            place = f"{self.blob_base}/{name}/{digest}?X-Amz-Signature=0123456789abcdef"
            return Response(307, {"Location": place})
        return self._content(request, name, digest, found)

    def _content(
        self, request: Request, name: str, digest: str, found: tuple[bytes | bytearray, int]
    ) -> Response:
        data, size = found
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": self.storage.stored_digest(name, digest),
            "Accept-Ranges": "bytes",
            "ETag": f'"{digest}"',
        }
        span = _range(request.headers.get("range"), size) if request.method == "GET" else None
        if span is None:
            if len(data) != size:  # collected: the length is told, no byte comes
                headers["Content-Length"] = str(size)
                return Response(200, headers, b"", close=request.method == "GET")
            return Response(200, headers, data)
        start, end = span
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        if len(data) != size:
            headers["Content-Length"] = str(end - start)
            return Response(206, headers, b"", close=True)
        return Response(206, headers, memoryview(data)[start:end])

    def answer_blob_host(self, request: Request) -> Response:
        """Answer a redirected read, as an object store does: signed query, no Authorization."""
        if "authorization" in request.headers:
            return Response(400, {}, b"<Error><Code>InvalidArgument</Code></Error>")
        name, _, digest = request.path[1:].rpartition("/")
        found = self.storage.blob(name, digest)
        if found is None:
            return Response(404, {}, b"<Error><Code>NoSuchKey</Code></Error>")
        try:
            return self._content(request, name, digest, found)
        except ApiError as error:
            return Response(error.status, error.headers)

    # lists

    def _tags(self, request: Request, name: str) -> Response:
        tags = self.storage.tags(name)
        if tags is None:
            raise ApiError(404, "NAME_UNKNOWN", detail={"name": name})
        if not self.profile.pages_tags:
            return _json({"name": name, "tags": list(tags) or None})
        page, more = self._page(request, sorted(tags), self.tag_page)
        headers = _next(f"/v2/{name}/tags/list", page, request) if more else {}
        return _json({"name": name, "tags": page}, headers)

    def _catalog(self, request: Request) -> Response:
        wanted = request.query().get("n", "")
        if wanted.isdigit() and int(wanted) > _CATALOG_LIMIT:
            raise ApiError(400, "PAGINATION_NUMBER_INVALID", detail=wanted[:30])
        page, more = self._page(request, self.storage.repositories(), 100)
        return _json({"repositories": page}, _next("/v2/_catalog", page, request) if more else {})

    def _page(
        self, request: Request, names: list[str], default: int | None
    ) -> tuple[list[str], bool]:
        query = request.query()
        if "last" in query:
            names = [name for name in names if name > query["last"]]
        count = default if default is not None else len(names)
        if "n" in query:
            if not query["n"].isdigit():
                raise ApiError(400, "PAGINATION_NUMBER_INVALID", detail=query["n"][:30])
            count = int(query["n"]) if self.tag_page is None else min(int(query["n"]), count)
        return names[:count], 0 < count < len(names)

    def _referrers(self, request: Request, name: str, digest: str) -> Response:
        check_digest(digest)
        manifests = self.storage.referrers(name, digest)
        headers = {"Content-Type": OCI_INDEX}
        wanted = request.query().get("artifactType")
        if wanted is not None:
            headers["OCI-Filters-Applied"] = "artifactType"
            manifests = [m for m in manifests if m.get("artifactType") == wanted]
        return _json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}, headers)


def _json(value: object, headers: dict[str, str] | None = None) -> Response:
    return Response(200, {**_JSON, **(headers or {})}, json.dumps(value).encode())


def _next(path: str, page: list[str], request: Request) -> dict[str, str]:
    count = request.query().get("n") or str(len(page))
    return {"Link": f'<{path}?last={quote(page[-1], safe="")}&n={count}>; rel="next"'}


def _range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and end (exclusive) of a `bytes=` range; None serves the whole (RFC 9110, 14.2)."""
    if header is None or not header.startswith("bytes=") or "," in header:
        return None
    first, dash, last = header.removeprefix("bytes=").strip().partition("-")
    if not dash or not (first or last) or not (first + last).isdigit():
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= size or (last and first and int(last) < start):
        raise ApiError(416, "RANGE_INVALID", headers={"Content-Range": f"bytes */{size}"})
    return start, end
