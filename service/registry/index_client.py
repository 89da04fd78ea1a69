"""A client of an index: what it names is read where it lies, or made of what lies there.

An index (Artifact Hub) holds no content. A chart in a registry is read from that registry; one in a classic
repository is downloaded, held to the index's digest and converted (helm_chart.py). Both are reached without
credentials, and at public addresses only, `trusted_hosts` excepted: hosts are named by whoever has a chart in the index.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from service.errors import (
    BlobNotFound,
    Corrupt,
    InvalidManifest,
    ManifestNotFound,
    ProtocolError,
    RegistryError,
    Rejected,
    Unsupported,
)
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.endpoint import Credential, RegistryEndpoint, TLSOptions
from service.model.manifest import Manifest
from service.registry.access import PING
from service.registry.blob_copy import WHOLE_BYTES
from service.registry.blobs import Blobs
from service.registry.client import RegistryClient
from service.registry.connection import Response
from service.registry.connector import Resolver, judge, resolve_host
from service.registry.helm_chart import MAX_UNPACKED_BYTES, Chart, convert, read_metadata
from service.registry.http import MAX_ATTEMPTS, read_answer
from service.registry.origin import split_url
from service.registry.providers.artifacthub import Archive
from service.registry.providers.strategies import Index
from service.registry.results import ManifestHead, RepositoryPage, TagPage

KEPT_CHARTS = 512
_PIECE = 64 * 1024


class _Found(NamedTuple):
    """A converted chart, and where its archive is."""

    chart: Chart
    archive: Archive


class IndexClient(RegistryClient):
    """Reads charts by an index's names. For any number of threads."""

    def __init__(
        self, endpoint: RegistryEndpoint, credential: Callable[[], Credential], **options: Any
    ) -> None:
        super().__init__(endpoint, credential, **options)
        resolve = options.get("resolve", resolve_host)
        kept = ("buffer_bytes", "on_request", "timeouts", "sleep")
        self._options = {name: options[name] for name in kept if name in options}
        self._options["resolve"] = _public_only(resolve, endpoint.trusted_hosts)
        self._places: dict[str, RegistryClient] = {}
        self._charts: OrderedDict[tuple[str, str, Digest], _Found] = OrderedDict()
        self._guard = threading.Lock()
        self._converting: dict[str, threading.Lock] = {}
        self.blobs = _IndexBlobs(self)

    @property
    def index(self) -> Index:
        """What tells where things are."""
        found = self.provided.strategies().index
        if found is None:
            raise Unsupported(f"{self.name} is no index", registry=self.name)
        return found

    def ping(self, *, attempts: int = MAX_ATTEMPTS) -> None:  # noqa: ARG002 - the index has its own
        """Check that the index answers."""
        self.index.ping()

    def head_manifest(self, repository: str, reference: str) -> ManifestHead | None:
        """Say what a tag or digest names, None when it is not there."""
        there = self.located(repository)
        if there is not None:
            client, name = there
            return client.head_manifest(name, reference)
        try:
            manifest = self.get_manifest(repository, reference)
        except ManifestNotFound:
            return None
        return ManifestHead(manifest.digest, manifest.media_type, len(manifest.raw))

    def get_manifest(self, repository: str, reference: str) -> Manifest:
        """Fetch a manifest, or make it; raises ManifestNotFound, Corrupt, Unsupported, InvalidManifest."""
        there = self.located(repository)
        if there is not None:
            client, name = there
            return client.get_manifest(name, reference)
        if ":" in reference:
            wanted = Digest.parse(reference)
            found = self._search(repository, lambda one: one.chart.manifest.digest == wanted)
        else:
            version = self._version(repository, reference)
            found = None if version is None else self._converted(repository, version)
        if found is None:
            raise ManifestNotFound(
                f"{self.name}: {repository} has no {reference}", registry=self.name
            )
        return found.chart.manifest

    def list_tags(
        self,
        repository: str,
        page_size: int = 1000,  # noqa: ARG002 - the index tells all versions at once
        last: str | None = None,  # noqa: ARG002
        *,
        cursor: str | None = None,  # noqa: ARG002
    ) -> Iterator[TagPage]:
        """Yield the versions that the index knows, as tags; raises RepositoryNotFound."""
        yield TagPage(tuple(self.index.package(repository).versions), None)

    def list_repositories(
        self,
        page_size: int = 1000,  # noqa: ARG002 - the index has pages of its own
        cursor: str | None = None,
    ) -> Iterator[RepositoryPage]:
        """Yield the charts of the index."""
        return self.index.pages(cursor)

    def referrers(self, repository: str, digest: Digest) -> tuple[Descriptor, ...] | None:
        """List what is attached to a manifest in a registry; to one that is made here nothing is."""
        there = self.located(repository)
        return () if there is None else there[0].referrers(there[1], digest)

    def located(self, repository: str) -> tuple[RegistryClient, str] | None:
        """Return the client and name that a chart in a registry is read by; None for one that is in none."""
        place = self.index.package(repository).place
        if place is None:
            return None
        host, _, name = place.partition("/")
        plain = not self.http.origin.secure and self._is_trusted(host)
        return self._at(f"{'http' if plain else 'https'}://{host}"), name

    def blob(self, repository: str, digest: Digest) -> bytes | Archive:
        """Return a blob of a converted chart, or the archive that it is; raises BlobNotFound."""
        found = self._search(
            repository,
            lambda one: digest in (one.chart.layer.digest, one.chart.config_digest()),
        )
        if found is None:
            raise BlobNotFound(f"{self.name}: {repository} has no {digest}", registry=self.name)
        return found.archive if digest == found.chart.layer.digest else found.chart.config

    def download(self, archive: Archive, offset: int = 0) -> Response:
        """Open an archive's stream from byte `offset`, where its server has ranges. Raises RegistryError."""
        origin, target = split_url(archive.url)
        http = self._at(str(origin)).http
        line = f"Range: bytes={offset}-\r\n" if offset else ""
        response = http.open("GET", "blob", target or "/", PING, headers=line)
        if response.status == 200 or (response.status == 206 and offset):
            return response
        raise http.error(read_answer(response, 0), "GET", target.partition("?")[0], "blob")

    def close(self) -> None:
        """Close all kept connections."""
        for place in self._places.values():
            place.close()
        super().close()

    def _version(self, repository: str, tag: str) -> str | None:
        """Return the version that a tag is; one that is not known is looked for anew, as an event may have named it."""
        for fresh in (False, True):
            version = self.index.package(repository, fresh=fresh).versions.get(tag)
            if version is not None:
                return version
        return None

    def _at(self, url: str) -> RegistryClient:
        """Return the client of a host that the index names: without credentials."""
        with self._guard:
            client = self._places.get(url)
            if client is None:
                if self.http.origin.secure and not url.startswith("https://"):
                    raise Rejected(
                        f"{self.name}: {url} is read over https only", registry=self.name
                    )
                there = RegistryEndpoint(
                    self.name,
                    url,
                    tls=TLSOptions(ca_file=self.endpoint.tls.ca_file),
                    proxy=self.endpoint.proxy,
                )
                client = RegistryClient(there, Credential, **self._options)
                self._places[url] = client
            return client

    def _is_trusted(self, authority: str) -> bool:
        trusted = {one.lower() for one in self.endpoint.trusted_hosts}
        return not trusted.isdisjoint((authority.lower(), authority.partition(":")[0].lower()))

    def _search(self, repository: str, wanted: Callable[[_Found], bool]) -> _Found | None:
        """Return the version that is wanted: of those that were converted, else of all, the newest first.

        Versions that cannot be converted are passed by.
        """
        with self._guard:
            kept = [one for key, one in self._charts.items() if key[0] == repository]
        for found in kept:
            if wanted(found):
                return found
        for version in self.index.package(repository).versions.values():
            try:
                found = self._converted(repository, version)
            except (Rejected, Corrupt, InvalidManifest):
                continue
            if wanted(found):
                return found
        return None

    def _converted(self, repository: str, version: str) -> _Found:
        """Return a version as an artifact; one thread a chart downloads, the others wait for it."""
        archive = self.index.archive(repository, version)
        key = (repository, version, archive.digest)
        with self._guard:
            flight = self._converting.setdefault(repository, threading.Lock())
        with flight:
            with self._guard:
                found = self._charts.get(key)
            if found is None:
                found = _Found(self._convert(archive, f"{repository} {version}"), archive)
                with self._guard:
                    self._charts[key] = found
                    if len(self._charts) > KEPT_CHARTS:
                        self._charts.popitem(last=False)
            return found

    def _convert(self, archive: Archive, what: str) -> Chart:
        """Download an archive, hold it to its digest, and make an artifact of it."""
        attempt = 0
        while True:
            attempt += 1
            try:
                reader = _Hashing(self.download(archive), f"{self.name}: {what}")
                try:
                    metadata, wrong = read_metadata(reader), None
                except InvalidManifest as error:  # of other bytes it would tell nothing
                    metadata, wrong = {}, error
                reader.drain()
            except RegistryError as error:
                if not error.retryable or attempt >= MAX_ATTEMPTS:
                    raise
                self.http.back_off(attempt, error)
                continue
            break
        if reader.digest() != archive.digest:
            raise Corrupt(
                f"{self.name}: {what}: its archive is {reader.digest()}, and {archive.digest} in the index",
                registry=self.name,
            )
        if wrong is not None:
            raise InvalidManifest(f"{self.name}: {what}: {wrong.message}")
        chart = convert(metadata, archive.digest, reader.count)
        if len(chart.config) > WHOLE_BYTES:
            raise InvalidManifest(f"{self.name}: {what}: its Chart.yaml is too large")
        return chart


class _IndexBlobs(Blobs):
    """Blobs where they lie."""

    def __init__(self, client: IndexClient) -> None:
        super().__init__(client.http)
        self._client = client

    def head(self, repository: str, digest: Digest) -> int | None:
        """Return the blob's size; None when it has none."""
        there = self._client.located(repository)
        if there is not None:
            return there[0].blobs.head(there[1], digest)
        try:
            found = self._client.blob(repository, digest)
        except BlobNotFound:
            return None
        return len(found) if isinstance(found, bytes) else self._length(found)

    def probe(self, repository: str, digest: Digest, size: int) -> bool:
        """Whether the blob can be read: asked of its registry, or as large as an archive that was read."""
        there = self._client.located(repository)
        if there is not None:
            return there[0].blobs.probe(there[1], digest, size)
        return self.head(repository, digest) == size

    def read(self, repository: str, digest: Digest, size: int, limit: int) -> bytes:
        """Read a small blob whole and verified; raises Rejected, BlobNotFound, Corrupt."""
        there = self._client.located(repository)
        if there is not None:
            return there[0].blobs.read(there[1], digest, size, limit)
        found = self._client.blob(repository, digest)
        return found if isinstance(found, bytes) else super().read(repository, digest, size, limit)

    def open(self, repository: str, digest: Digest, offset: int = 0) -> Response:
        """Open a blob's stream from byte `offset`; status 200 means that it begins at byte 0."""
        there = self._client.located(repository)
        if there is not None:
            return there[0].blobs.open(there[1], digest, offset)
        found = self._client.blob(repository, digest)
        if isinstance(found, bytes):
            raise ProtocolError(f"{self._client.name}: a config is read whole")
        return self._client.download(found, offset)

    def _length(self, archive: Archive) -> int:
        with_body = self._client.download(archive)
        length = with_body.length
        with_body.close()
        return -1 if length is None else length


class _Hashing:
    """Reads a response once, counting and hashing what passes."""

    def __init__(self, response: Response, what: str) -> None:
        self._response = response
        self._what = what
        self._hasher = hashlib.sha256()
        self.count = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return some of the bytes that come next, none at the end; raises Rejected over 100 MiB."""
        buffer = bytearray(_PIECE if size < 0 else min(size, _PIECE))
        data = bytes(buffer[: self._response.readinto(memoryview(buffer))])
        self._hasher.update(data)
        self.count += len(data)
        if self.count > MAX_UNPACKED_BYTES:
            self._response.close()
            raise Rejected(f"{self._what}: its archive has over {MAX_UNPACKED_BYTES} bytes")
        return data

    def drain(self) -> None:
        """Read what is left."""
        while self.read(_PIECE):
            pass

    def digest(self) -> Digest:
        """Return the digest of what was read."""
        return Digest.parse(f"sha256:{self._hasher.hexdigest()}")


def _public_only(resolve: Resolver, trusted_hosts: Sequence[str]) -> Resolver:
    """Return a resolver that refuses addresses which are not public, but for the trusted hosts."""
    trusted = {host.lower() for host in trusted_hosts}

    def resolved(host: str, port: int) -> Sequence[str]:
        addresses = resolve(host, port)
        known = not trusted.isdisjoint((host, f"{host}:{port}"))
        for address in addresses:
            judge(address, trusted=known, host=host)
        return addresses

    return resolved
