"""Reads for somebody who waits: each asked once, so that the next registry can be asked instead."""

from __future__ import annotations

from dataclasses import dataclass

from service.errors import (
    AddressRefused,
    BlobNotFound,
    Corrupt,
    InvalidManifest,
    ManifestNotFound,
    NotFound,
    ProtocolError,
    RegistryError,
    Unsupported,
)
from service.model.digest import Digest
from service.model.manifest import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from service.model.media_types import ACCEPT
from service.model.reference import validate_repository, validate_tag
from service.registry.access import Access
from service.registry.client import RegistryClient
from service.registry.connection import Response
from service.registry.connector import judge
from service.registry.http import REDIRECTS, read_answer
from service.registry.links import content_range
from service.registry.origin import resolve_url
from service.registry.packed import unpacked
from service.registry.timeouts import Timeouts

PULL_TIMEOUTS = Timeouts(connect_seconds=3.0, read_seconds=20.0, head_seconds=20.0)
"""A client of a gateway gives up after about 30 s: another registry has to be asked before."""

_ACCEPT = f"Accept: {ACCEPT}\r\n"


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where a registry sends for a blob: an absolute address that bears its own signature."""

    location: str


class Pulls:
    """Manifests and blobs of one registry, without tries of its own.

    Raises RegistryError of every kind; Unsupported for a registry that is no server.
    """

    def __init__(self, client: RegistryClient) -> None:
        http = getattr(client, "http", None)
        if client.endpoint.layout is not None or http is None:
            raise Unsupported(
                f"{client.name} is a directory, and a gateway serves from servers",
                registry=client.name,
                hint="copy it to a registry, and name that one",
            )
        self._client = client
        self._http = client.http

    def resolve(self, repository: str, tag: str) -> Digest | None:
        """Return what a tag names; None where there is none."""
        target = f"/v2/{validate_repository(repository)}/manifests/{validate_tag(tag)}"
        answer = self._http.request(
            "HEAD", "manifest", target, Access("pull", repository), headers=_ACCEPT, attempts=1
        )
        if answer.status == 404:
            return None
        stated = answer.headers.get("docker-content-digest")
        if answer.status == 200 and stated:
            return Digest.parse(stated)
        if answer.status not in (200, 400, 405, 406, 501):
            raise self._http.error(answer, "HEAD", target, "manifest")
        try:
            return self._manifest(target, repository, None).digest
        except ManifestNotFound:
            return None

    def manifest(self, repository: str, digest: Digest) -> Manifest:
        """Return a manifest whose bytes are the digest's. Raises ManifestNotFound, Corrupt, InvalidManifest."""
        target = f"/v2/{validate_repository(repository)}/manifests/{digest}"
        return self._manifest(target, repository, digest)

    def tagged(self, repository: str, tag: str) -> Manifest:
        """Return the manifest of a tag. Raises as `manifest` does."""
        target = f"/v2/{validate_repository(repository)}/manifests/{validate_tag(tag)}"
        return self._manifest(target, repository, None)

    def _manifest(self, target: str, repository: str, digest: Digest | None) -> Manifest:
        answer = self._http.request(
            "GET",
            "manifest",
            target,
            Access("pull", repository),
            headers=_ACCEPT,
            limit=MAX_MANIFEST_BYTES,
            attempts=1,
        )
        if answer.status != 200:
            error = self._http.error(answer, "GET", target, "manifest")
            if isinstance(error, NotFound):
                raise ManifestNotFound(error.message, registry=self._client.name, status=404)
            raise error
        raw = unpacked(answer, self._client.name, MAX_MANIFEST_BYTES)
        try:
            return parse_manifest(raw, answer.headers.get("content-type"), digest)
        except (Corrupt, InvalidManifest) as error:
            raise Corrupt(
                f"{self._client.name}{target}: {error.message}", registry=self._client.name
            ) from error

    def has_blob(self, repository: str, digest: Digest) -> bool:
        """Whether it gives a blob by a repository's name, asked once. Raises RegistryError."""
        target = f"/v2/{validate_repository(repository)}/blobs/{digest}"
        answer = self._http.request("HEAD", "blob", target, Access("pull", repository), attempts=1)
        if answer.status == 404:
            return False
        if answer.status == 200:
            return True
        raise self._http.error(answer, "HEAD", target, "blob")

    def blob(
        self, repository: str, digest: Digest, first: int, last: int | None, *, redirect: bool
    ) -> Response | Redirect:
        """Open a blob from byte `first` to byte `last` (None: its end), or say where the registry sends for it.

        The answer begins at `first` (206), or at 0 (200). `redirect`: whether to be sent is an answer; one
        that must not be passed on is followed. Raises BlobNotFound, ProtocolError and other RegistryErrors.
        """
        target = f"/v2/{validate_repository(repository)}/blobs/{digest}"
        access = Access("pull", repository)
        ranged = first > 0 or last is not None
        headers = f"Range: bytes={first}-{'' if last is None else last}\r\n" if ranged else ""
        if redirect:
            response = self._http.open("GET", "blob", target, access, headers=headers, follow=False)
            if response.status in REDIRECTS:
                location = response.headers.get("location", "")
                response.close()
                passed = self._passed_on(target, location)
                if passed is not None:
                    return passed
                response = self._http.open("GET", "blob", target, access, headers=headers)
        else:
            response = self._http.open("GET", "blob", target, access, headers=headers)
        if response.status == 200:
            return response
        if response.status == 206 and ranged:
            span = content_range(response.headers.get("content-range"))
            if span is None or span[0] != first:
                response.close()
                raise ProtocolError(
                    f"{self._client.name}: another range than asked for", registry=self._client.name
                )
            return response
        error = self._http.error(read_answer(response, 0), "GET", target, "blob")
        if isinstance(error, NotFound):
            raise BlobNotFound(error.message, registry=self._client.name, status=404)
        raise error

    def _passed_on(self, target: str, location: str) -> Redirect | None:
        """Return a redirect that clients may be sent along; None for one that has to be followed here.

        To another host, never in the clear from a registry of https, and to a public address or a host that
        the operator has listed.
        """
        connector = self._http.connector
        origin, path = resolve_url(self._http.origin, target, location)
        if origin == self._http.origin:
            return None
        connector.check_scheme(origin)
        if not connector.is_listed(origin):
            try:
                for address in connector.resolver(origin.host, origin.port):
                    judge(address, trusted=False, host=origin.host)
            except AddressRefused:
                return (
                    None  # the registry's own network: it is followed, or refused, by our connector
                )
            except RegistryError:
                return None
        return Redirect(f"{origin}{path}")
