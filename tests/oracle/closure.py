"""Is the destination what the source says? Asked of the registries alone.

Shares no code with the product: http.client, json and hashlib (O1, O2 and O4 of reference/reliability.md). It believes no HEAD and no status:
every manifest is compared byte for byte and every blob is read in full at the destination.

    report = check(source.url, destination.url, {("team/app", "v1"): ("mirror/team/app", "v1")})
    assert not report.faults, report
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.oracle.counts import COUNTS

Place = tuple[str, str]  # repository, tag

_ACCEPT = ", ".join(
    "application/vnd." + kind
    for kind in (
        "oci.image.index.v1+json",
        "oci.image.manifest.v1+json",
        "docker.distribution.manifest.list.v2+json",
        "docker.distribution.manifest.v2+json",
    )
)
_FALLBACK = re.compile(r"sha256-[0-9a-f]{64}|sha512-[0-9a-f]{64,128}")
_COSIGN = re.compile(r"(sha256-[0-9a-f]{64})\.(sig|att|sbom)")
_DEPTH = 5


@dataclass
class Report:
    """What was looked at, and what is wrong: one sentence each."""

    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    bytes: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        head = (
            f"{self.tags} tags, {self.manifests} manifests, {self.blobs} blobs, {self.bytes} bytes"
        )
        return "\n  ".join([f"{head}, {len(self.faults)} faults", *self.faults[:50]])


@dataclass(frozen=True)
class Manifest:
    """A manifest as one registry serves it."""

    raw: bytes
    media_type: str
    stated: str | None  # Docker-Content-Digest

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.raw).hexdigest()}"

    def body(self) -> dict:
        value = json.loads(self.raw)
        return value if isinstance(value, dict) else {}


class Registry:
    """Reads one registry; a keep-alive connection a thread."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url)
        assert parts.scheme == "http", url
        self.host = parts.netloc
        self.headers = dict(headers or {})
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections: list[http.client.HTTPConnection] = []
        self._has_referrers_api: bool | None = None

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def open(self, path: str, **headers: str) -> http.client.HTTPResponse:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self.host, timeout=60)
            self._local.connection = connection
            with self._lock:
                self._connections.append(connection)
        try:
            connection.request("GET", path, headers={**self.headers, **headers})
            return connection.getresponse()
        except (http.client.HTTPException, OSError):
            connection.close()  # a keep-alive connection may have ended; once more, then give up
            connection.request("GET", path, headers={**self.headers, **headers})
            return connection.getresponse()

    def drop(self) -> None:
        """Give the connection up after an answer that was not read to its end."""
        self._local.connection.close()

    def get(self, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        response = self.open(path, **headers)
        try:
            return response.status, response.headers, response.read()
        except (http.client.HTTPException, OSError):
            self.drop()
            raise

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        path = f"/v2/{repository}/manifests/{reference}"
        status, headers, raw = self.get(path, Accept=_ACCEPT)
        if status == 404:
            return None
        if status != 200:
            raise OSError(f"GET {path}: {status}")
        kind = (headers["Content-Type"] or "").partition(";")[0]
        return Manifest(raw, kind, headers["Docker-Content-Digest"])

    def read_blob(self, repository: str, digest: str) -> tuple[int, str]:
        """Read it all; its length and digest. Raises OSError when it does not come."""
        response = self.open(f"/v2/{repository}/blobs/{digest}", **{"Accept-Encoding": "identity"})
        if response.status != 200:
            response.read()
            raise OSError(f"status {response.status}")
        hasher = hashlib.new(digest.partition(":")[0])
        buffer = bytearray(1 << 20)
        view = memoryview(buffer)
        total = 0
        try:
            while count := response.readinto(buffer):
                hasher.update(view[:count])
                total += count
        except (http.client.HTTPException, OSError):
            self.drop()
            raise
        announced = response.headers["Content-Length"]
        if announced is not None and int(announced) != total:
            self.drop()
            raise OSError(f"{total} of {announced} bytes came")
        return total, f"{hasher.name}:{hasher.hexdigest()}"

    def names(self, path: str, key: str) -> list[str]:
        found: list[str] = []
        for _ in range(100_000):
            status, headers, raw = self.get(path)
            if status == 404:
                return found
            if status != 200:
                raise OSError(f"GET {path}: {status}")
            found += json.loads(raw).get(key) or []
            link = re.search(r'<([^>]+)>;\s*rel="?next', headers["Link"] or "")
            if link is None:
                return found
            path = "/" + link[1].split("://", 1)[-1].split("/", 1)[1]
        raise OSError(f"{path} has no end")

    def tags(self, repository: str) -> list[str]:
        return self.names(f"/v2/{repository}/tags/list?n=1000", "tags")

    def repositories(self) -> list[str]:
        return self.names("/v2/_catalog?n=1000", "repositories")

    def referrers(self, repository: str, digest: str, tags: Iterable[str]) -> set[str]:
        """Digests of the manifests that name `digest` as their subject, by API and fallback tag."""
        found: set[str] = set()
        if self._has_referrers_api is not False:
            status, _, raw = self.get(f"/v2/{repository}/referrers/{digest}")
            self._has_referrers_api = status == 200
            if status == 200:
                found |= {entry["digest"] for entry in json.loads(raw)["manifests"]}
        fallback = digest.replace(":", "-", 1)
        if fallback in tags:
            index = self.manifest(repository, fallback)
            if index is not None:
                found |= {entry["digest"] for entry in index.body().get("manifests", [])}
        return found


def check(
    source_url: str,
    destination_url: str,
    expected: Mapping[Place, Place],
    *,
    referrers: bool = True,
    extra: bool = True,
    threads: int = 8,
    source_headers: Mapping[str, str] | None = None,
    destination_headers: Mapping[str, str] | None = None,
) -> Report:
    """Compare `expected` (source repository and tag -> destination repository and tag).

    `referrers`: signatures and artifacts that point at what was copied must be there, too. `extra`:
    the destination's tags and repositories that nobody expects are faults. A fallback tag
    (sha256-<hex>) is compared as the set that it is: its bytes may differ, its members may not.
    """
    source = Registry(source_url, source_headers)
    destination = Registry(destination_url, destination_headers)
    try:
        with ThreadPoolExecutor(threads) as pool:
            checker = _Checker(source, destination, pool, referrers=referrers)
            checker.run(expected, extra=extra)
        report = checker.report
        for name in ("tags", "manifests", "blobs", "bytes"):
            COUNTS[name] += getattr(report, name)
        return report
    finally:
        source.close()
        destination.close()


class _Checker:
    def __init__(
        self, source: Registry, destination: Registry, pool: ThreadPoolExecutor, *, referrers: bool
    ) -> None:
        self.source, self.destination, self.pool = source, destination, pool
        self.referrers = referrers
        self.report = Report()
        self.lock = threading.Lock()
        self.seen: set[tuple[str, str]] = set()  # destination repository, manifest digest
        self.blobs: dict[tuple[str, str], tuple[int, str]] = {}  # -> size, named by
        self.source_tags: dict[str, list[str]] = {}
        self.destination_tags: dict[str, list[str]] = {}
        self.implied: set[Place] = set()  # tags that may stand at the destination besides

    def fault(self, text: str) -> None:
        with self.lock:
            self.report.faults.append(text)

    def run(self, expected: Mapping[Place, Place], *, extra: bool) -> None:
        for name in {repository for repository, _ in expected}:
            self.source_tags[name] = self.source.tags(name)
        for name in {repository for repository, _ in expected.values()}:
            self.destination_tags[name] = self.destination.tags(name)
        list(self.pool.map(self._guarded_tag, expected.items()))
        list(self.pool.map(self._blob, sorted(self.blobs.items())))
        if extra:
            self._extra(set(expected.values()))
        self.report.tags = len(expected)
        self.report.manifests = len(self.seen)
        self.report.blobs = len(self.blobs)
        self.report.faults = sorted(set(self.report.faults))

    def _guarded_tag(self, item: tuple[Place, Place]) -> None:
        try:
            self._tag(*item)
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            self.fault(f"{item[1][0]}:{item[1][1]}: cannot be checked: {error!r}")

    def _tag(self, origin: Place, place: Place) -> None:
        repository, tag = place
        where = f"{repository}:{tag}"
        wanted = self.source.manifest(*origin)
        found = self.destination.manifest(*place)
        if wanted is None:
            self.fault(f"{where}: the source has no {origin[0]}:{origin[1]}")
            return
        if found is None:
            self.fault(f"{where}: the tag is missing")
            return
        if tag not in self.destination_tags[repository]:
            self.fault(f"{where}: the tag is not listed")
        if _FALLBACK.fullmatch(tag):
            lost = _members(wanted) - _members(found)
            for digest in sorted(lost):
                self.fault(f"{where}: {digest} is missing from the fallback index")
        elif found.raw != wanted.raw:
            self.fault(f"{where}: the tag is {found.digest}, at the source {wanted.digest}")
            return
        self._walk(origin[0], repository, found, where, 0)

    def _walk(
        self, origin: str, repository: str, manifest: Manifest, where: str, depth: int
    ) -> None:
        """Check a manifest that was read at the destination, and all that it needs there."""
        digest = manifest.digest
        if manifest.stated is not None and manifest.stated != digest:
            self.fault(f"{where}: the bytes are {digest}, told was {manifest.stated}")
        with self.lock:
            if (repository, digest) in self.seen:
                return
            self.seen.add((repository, digest))
        if depth > _DEPTH:
            self.fault(f"{where}: nested too deeply")
            return
        body = manifest.body()
        if body.get("mediaType", manifest.media_type) != manifest.media_type:
            self.fault(f"{where}: served as {manifest.media_type}")
        for blob in blobs_of(body):
            with self.lock:
                known = self.blobs.setdefault((repository, blob["digest"]), (blob["size"], where))
            if known[0] != blob["size"]:
                self.fault(f"{where}: {blob['digest']} has two sizes")
        for child in body.get("manifests", []):
            self._by_digest(
                origin, repository, child["digest"], f"{where} child", depth, child["size"]
            )
        if _FALLBACK.fullmatch(where.rpartition(":")[2]):
            return
        if isinstance(body.get("subject"), dict):
            subject = body["subject"]["digest"]
            if self.source.manifest(origin, subject) is not None:
                self._by_digest(origin, repository, subject, f"{where} subject", depth)
        if self.referrers:
            self._referrers(origin, repository, digest, where, depth)

    def _by_digest(
        self,
        origin: str,
        repository: str,
        digest: str,
        where: str,
        depth: int,
        size: int | None = None,
    ) -> None:
        found = self.destination.manifest(repository, digest)
        wanted = self.source.manifest(origin, digest)
        if found is None:
            self.fault(f"{where}: {digest} is missing in {repository}")
        elif wanted is None or found.raw != wanted.raw or found.digest != digest:
            self.fault(f"{where}: {digest} differs from the source's")
        elif size is not None and size != len(found.raw):
            self.fault(f"{where}: {digest} has {len(found.raw)} bytes, not {size}")
        else:
            self._walk(origin, repository, found, where, depth + 1)

    def _referrers(self, origin: str, repository: str, digest: str, where: str, depth: int) -> None:
        tags = self.destination_tags[repository]
        with self.lock:
            self.implied.add((repository, digest.replace(":", "-", 1)))
        wanted = self.source.referrers(origin, digest, self.source_tags[origin])
        if wanted:
            told = self.destination.referrers(repository, digest, tags)
            for lost in sorted(wanted - told):
                self.fault(f"{where}: referrer {lost} of {digest} is not told in {repository}")
            for referrer in sorted(wanted & told):
                self._by_digest(origin, repository, referrer, f"{where} referrer", depth)
        for tag in self.source_tags[origin]:
            match = _COSIGN.fullmatch(tag)
            if match is not None and match[1] == digest.replace(":", "-", 1):
                with self.lock:
                    self.implied.add((repository, tag))
                self._tag((origin, tag), (repository, tag))

    def _blob(self, item: tuple[tuple[str, str], tuple[int, str]]) -> None:
        (repository, digest), (size, where) = item
        try:
            length, actual = self.destination.read_blob(repository, digest)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.fault(f"{where}: blob {digest} in {repository} cannot be read: {error}")
            return
        with self.lock:
            self.report.bytes += length
        if actual != digest:
            self.fault(f"{where}: blob {digest} in {repository} has other bytes: {actual}")
        elif length != size:
            self.fault(f"{where}: blob {digest} in {repository} has {length} bytes, not {size}")

    def _extra(self, places: set[Place]) -> None:
        for repository, tags in self.destination_tags.items():
            for tag in tags:
                if (repository, tag) not in places | self.implied:
                    self.fault(f"{repository}:{tag}: nobody expects this tag")
        for repository in self.destination.repositories():
            if repository not in self.destination_tags and self.destination.tags(repository):
                self.fault(f"{repository}: nobody expects this repository")


def _members(manifest: Manifest) -> set[str]:
    return {entry["digest"] for entry in manifest.body().get("manifests", [])}


def blobs_of(body: dict) -> Iterator[dict]:
    if "config" in body:
        yield body["config"]
    for layer in body.get("layers", []):
        foreign = "foreign" in layer["mediaType"] or "nondistributable" in layer["mediaType"]
        if not (foreign and layer.get("urls")):
            yield layer
