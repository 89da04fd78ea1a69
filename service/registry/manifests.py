"""Manifests: HEAD, GET, PUT, DELETE by tag or digest."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from service.errors import (
    AnswerTooLong,
    Corrupt,
    InvalidDigest,
    InvalidManifest,
    ManifestNotFound,
    NotFound,
    ProtocolError,
    RegistryError,
    RepositoryNotFound,
    Unsupported,
)
from service.model.digest import Digest
from service.model.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from service.model.media_types import ACCEPT, normalise
from service.model.reference import validate_repository, validate_tag
from service.registry.access import Access
from service.registry.http import Answer, Http
from service.registry.packed import unpacked
from service.registry.results import ManifestHead, PutResult

_ACCEPT_LINE = f"Accept: {ACCEPT}\r\n"

PUT_TRIES = 4
"""distribution writes its links in place: a manifest whose child is put again at that very moment is
refused by DIGEST_INVALID (seen on 2.8.2). Our bytes were held to their digest, so it is asked again."""


class Manifests:
    """The manifest calls of one registry."""

    def __init__(self, http: Http, lacks: Callable[[str], bool] = lambda _: False) -> None:
        """`lacks`: whether a refusal means that what a repository stands in is not there."""
        self._http = http
        self._lacks = lacks

    def head(self, repository: str, reference: str) -> ManifestHead | None:
        """Ask what a tag points at; None when it is not there.

        Falls back to GET where HEAD is not allowed or says too little.
        """
        target = _target(repository, reference)
        access = Access("pull", repository)
        answer = self._http.request("HEAD", "manifest", target, access, headers=_ACCEPT_LINE)
        if answer.status == 404 or (answer.status in (401, 403) and self._lacks(repository)):
            return None
        if answer.status == 200:
            digest = _header_digest(answer.headers)
            media_type = answer.headers.get("content-type")
            size = answer.headers.get("content-length", "")
            if digest and media_type and size.isdigit():
                asked = _digest(reference)
                if asked and asked.algorithm == digest.algorithm and asked != digest:
                    raise ProtocolError(f"{self._http.name}: HEAD of {asked} answers for {digest}")
                return ManifestHead(asked or digest, normalise(media_type), int(size))
        elif answer.status not in (400, 405, 406, 501):
            raise self._http.error(answer, "HEAD", target, "manifest")
        try:
            manifest = self.get(repository, reference)
        except ManifestNotFound:
            return None
        return ManifestHead(manifest.digest, manifest.media_type, len(manifest.raw))

    def get(self, repository: str, reference: str) -> Manifest:
        """Fetch a manifest, verified against the digest asked for, else the one answered.

        Raises ManifestNotFound, Corrupt, InvalidManifest and other RegistryErrors.
        """
        target = _target(repository, reference)
        try:
            answer = self._http.request(
                "GET",
                "manifest",
                target,
                Access("pull", repository),
                headers=_ACCEPT_LINE,
                limit=MAX_MANIFEST_BYTES,
            )
        except AnswerTooLong:
            raise InvalidManifest(
                f"{self._http.name}/{repository}:{reference}: over {MAX_MANIFEST_BYTES} bytes: "
                "no registry takes it"
            ) from None
        if answer.status == 404:
            raise _as_manifest_not_found(self._http.error(answer, "GET", target, "manifest"))
        if answer.status != 200:
            raise self._http.error(answer, "GET", target, "manifest")
        digest = _digest(reference) or _header_digest(answer.headers)
        try:
            raw = unpacked(answer, self._http.name, MAX_MANIFEST_BYTES)
            return parse_manifest(raw, answer.headers.get("content-type"), digest)
        except Corrupt as error:
            raise Corrupt(
                f"{self._http.name}/{repository}:{reference}: {error.message}",
                registry=self._http.name,
            ) from None
        except InvalidManifest as error:
            raise InvalidManifest(
                f"{self._http.name}/{repository}:{reference}: {error.message}",
                field=error.field,
                hint=error.hint,
            ) from None

    def put(self, repository: str, reference: str, manifest: Manifest) -> PutResult:
        """Push a manifest's very bytes under a tag or digest.

        Raises ManifestBlobUnknown when the registry misses what it names, TagImmutable, Rejected
        and other RegistryErrors; Corrupt when the registry says that it stored something else.
        """
        target = _target(repository, reference)
        for again in range(PUT_TRIES):
            answer = self._http.request(
                "PUT",
                "manifest",
                target,
                Access("push", repository),
                headers=(
                    f"Content-Type: {manifest.media_type}\r\n"
                    f"Content-Length: {len(manifest.raw)}\r\n"
                ),
                body=manifest.raw,
            )
            if answer.status in (200, 201, 202, 204):
                break
            error = _put_error(self._http, answer, target)
            if error.oci_code != "DIGEST_INVALID" or again + 1 == PUT_TRIES:
                raise error
            self._http.back_off(again + 1, error)
        stored = _header_digest(answer.headers)
        if stored and stored.algorithm == manifest.digest.algorithm and stored != manifest.digest:
            raise Corrupt(
                f"{self._http.name}: stored {stored} where {manifest.digest} was pushed",
                registry=self._http.name,
            )
        return PutResult(manifest.digest, "oci-subject" in answer.headers)

    def delete(self, repository: str, reference: str) -> None:
        """Delete a tag, or a manifest by digest, which takes all its tags along.

        Raises Unsupported where the registry cannot: never delete a tag by its digest instead.
        """
        target = _target(repository, reference)
        answer = self._http.request("DELETE", "manifest", target, Access("delete", repository))
        if answer.status in (200, 202, 204):
            return
        error = self._http.error(answer, "DELETE", target, "manifest")
        if answer.status == 404:
            raise _as_manifest_not_found(error)
        if answer.status == 400 and _digest(reference) is None:  # distribution before 3.0
            raise Unsupported(
                f"{self._http.name} cannot delete tags",
                registry=self._http.name,
                status=400,
                oci_code=error.oci_code,
            )
        raise error


def _target(repository: str, reference: str) -> str:
    validate_repository(repository)
    if ":" in reference:
        Digest.parse(reference)
    else:
        validate_tag(reference)
    return f"/v2/{repository}/manifests/{reference}"


def _digest(reference: str) -> Digest | None:
    return Digest.parse(reference) if ":" in reference else None


def _header_digest(headers: Mapping[str, str]) -> Digest | None:
    text = headers.get("docker-content-digest")
    if not text:
        return None
    try:
        return Digest.parse(text)
    except InvalidDigest:
        return None


def _as_manifest_not_found(error: Exception) -> Exception:
    if isinstance(error, NotFound) and not isinstance(error, ManifestNotFound):
        return ManifestNotFound(
            error.message, registry=error.registry, status=404, oci_code=error.oci_code
        )
    return error


def _put_error(http: Http, answer: Answer, target: str) -> RegistryError:
    error = http.error(answer, "PUT", target, "manifest")
    if isinstance(error, ManifestNotFound):  # there is no manifest to miss: the repository is
        return RepositoryNotFound(
            error.message, registry=error.registry, status=404, oci_code=error.oci_code
        )
    return error
