"""Blobs as they are read: HEAD, ranged probes, small ones whole, large ones as a stream."""

from __future__ import annotations

from service.errors import (
    BlobNotFound,
    Corrupt,
    NotFound,
    ProtocolError,
    RegistryError,
    Rejected,
)
from service.model.digest import Digest
from service.model.reference import validate_repository
from service.protections import without
from service.registry.access import Access
from service.registry.connection import Response
from service.registry.http import MAX_ATTEMPTS, Http, read_answer
from service.registry.links import content_range

WHOLE_PROBE_BYTES = 256 * 1024  # up to here a registry that ignores Range is read to the end


class Blobs:
    """The blob reading calls of one registry."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def head(self, repository: str, digest: Digest) -> int | None:
        """Return the blob's size as the registry states it; None when it has none.

        After garbage collection a registry may state a blob that it cannot deliver: see `probe`.
        """
        target = _target(repository, digest)
        answer = self._http.request("HEAD", "blob", target, Access("pull", repository))
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._http.error(answer, "HEAD", target, "blob")
        length = answer.headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            raise ProtocolError(f"{self._http.name}: HEAD of a blob says no Content-Length")
        return int(length)

    def probe(self, repository: str, digest: Digest, size: int) -> bool:
        """Whether the blob can really be read: its last byte is asked for and awaited.

        The empty blob is true without a request (distribution 2.8.2 answers 416 to its range); any
        other of size 0 cannot be.
        """
        if size == 0:
            return digest == Digest.of(b"", digest.algorithm)
        if without("head-distrust"):
            return self.head(repository, digest) is not None
        target = _target(repository, digest)
        line = f"Range: bytes={size - 1}-{size - 1}\r\n"
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._probe_once(target, Access("pull", repository), line, size)
            except RegistryError as error:
                if not error.retryable or attempt >= MAX_ATTEMPTS:
                    raise
                self._http.back_off(attempt, error)

    def _probe_once(self, target: str, access: Access, line: str, size: int) -> bool:
        response = self._http.open("GET", "blob", target, access, headers=line)
        if response.status == 206:
            span = content_range(response.headers.get("content-range"))
            if span and (span[0] != size - 1 or span[2] not in (None, size)):
                response.close()
                return False
            try:
                return len(response.read_some(2)) == 1
            except RegistryError:  # announced, but it never came
                return False
        if response.status == 200:
            if response.length not in (None, size):
                response.close()
                return False
            wanted = size if size <= WHOLE_PROBE_BYTES else 1
            try:
                return len(response.read_some(wanted)) == wanted
            except RegistryError:
                return False
        answer = read_answer(response, 0)
        if answer.status in (404, 416):
            return False
        raise self._http.error(answer, "GET", target, "blob")

    def read(self, repository: str, digest: Digest, size: int, limit: int) -> bytes:
        """Read a small blob whole and verified.

        Raises Rejected when its size is over `limit` bytes, BlobNotFound, Corrupt, and other
        RegistryErrors.
        """
        if size > limit:
            raise Rejected(
                f"{self._http.name}/{repository}@{digest}: {size} bytes, at most {limit} are read"
            )
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self.open(repository, digest)
                if response.length not in (None, size) and not without("size-check"):
                    found = response.length
                    response.close()
                    raise self.corrupt(repository, digest, f"{found} bytes instead of {size}")
                known = response.length is not None
                data = response.read(size) if known else response.read_some(size + 1)
                break
            except RegistryError as error:
                if not error.retryable or isinstance(error, Corrupt) or attempt >= MAX_ATTEMPTS:
                    raise
                self._http.back_off(attempt, error)
        if len(data) != size and not without("size-check"):
            raise self.corrupt(repository, digest, f"{len(data)} bytes instead of {size}")
        if Digest.of(data, digest.algorithm) != digest and not without("digest-check"):
            raise self.corrupt(repository, digest, "other bytes than its digest names")
        return data

    def open(self, repository: str, digest: Digest, offset: int = 0) -> Response:
        """Open a blob's stream from byte `offset`; status 200 means that it begins at byte 0.

        Every call asks the registry anew: the signed URL that it redirects to is short-lived, and
        refused (403 and the like) asked for once more. Raises BlobNotFound, RegistryError.
        """
        target = _target(repository, digest)
        access = Access("pull", repository)
        headers = f"Range: bytes={offset}-\r\n" if offset else ""
        for last in (False, True):
            response = self._http.open("GET", "blob", target, access, headers=headers)
            if response.status == 200:
                return response
            if response.status == 206 and offset:
                span = content_range(response.headers.get("content-range"))
                if span is None or span[0] != offset:
                    response.close()
                    raise ProtocolError(f"{self._http.name}: another range than asked for")
                return response
            elsewhere = response.connection.origin != self._http.origin
            answer = read_answer(response, 0)
            if last or not elsewhere or answer.status not in (400, 401, 403):
                break
        error = self._http.error(answer, "GET", target, "blob")
        if isinstance(error, NotFound) and not isinstance(error, BlobNotFound):
            raise BlobNotFound(
                error.message, registry=error.registry, status=404, oci_code=error.oci_code
            )
        raise error

    def corrupt(self, repository: str, digest: Digest, what: str) -> Corrupt:
        """Return the error that says what the registry delivered for the digest."""
        return Corrupt(
            f"{self._http.name}/{repository}@{digest}: the registry delivers {what}",
            registry=self._http.name,
        )


def _target(repository: str, digest: Digest) -> str:
    return f"/v2/{validate_repository(repository)}/blobs/{digest}"
