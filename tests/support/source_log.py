"""What a registry's access log says a run has cost.

cost = RequestCost.of(source.access_log())      # RealRegistry
cost = RequestCost.of(sample.log)               # SampleRegistry
assert cost.blobs_served_more_than_once() == {}
assert cost.requests <= 2 * tags + cost.listings
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, unquote

from tests.support.servers import Access


class Line(Protocol):
    """A line of an access log: of RealRegistry, of SampleRegistry, or read from a file."""

    method: str
    path: str
    status: int
    bytes: int


@dataclass(frozen=True)
class Transfer:
    """One GET of a blob: `full` unless it was a range of a byte or so (a proof)."""

    repository: str
    digest: str
    status: int
    bytes: int


@dataclass
class RequestCost:
    """Requests of one registry, sorted by kind.

    Kinds are `METHOD what`: `HEAD manifest`, `GET manifest`, `PUT manifest`, `HEAD blob`,
    `GET blob`, `GET tags`, `GET catalog`, `GET referrers`, `POST upload`, `POST mount`,
    `PATCH upload`, `PUT upload`, `GET ping`, and the like.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    transfers: list[Transfer] = field(default_factory=list)
    manifests_put: Counter[tuple[str, str]] = field(
        default_factory=Counter
    )  # repository, reference
    blobs_put: Counter[str] = field(default_factory=Counter)  # digest, answered 201
    mounts: Counter[str] = field(default_factory=Counter)  # digest, answered 201
    statuses: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, lines: Iterable[Line]) -> RequestCost:
        """Count the lines of a log."""
        cost = cls()
        for line in list(lines):
            cost._add(line)
        return cost

    @property
    def requests(self) -> int:
        """All requests."""
        return self.kinds.total()

    @property
    def listings(self) -> int:
        """Pages of tags and repositories."""
        return self.kinds["GET tags"] + self.kinds["GET catalog"]

    @property
    def pings(self) -> int:
        """Requests for /v2/."""
        return self.kinds["GET ping"]

    @property
    def blob_bytes(self) -> int:
        """Body bytes of all blob reads, cut ones and ranges included."""
        return sum(transfer.bytes for transfer in self.transfers)

    def bytes_of_blobs(self) -> dict[str, int]:
        """Digest -> bytes served of it, over all reads."""
        found: Counter[str] = Counter()
        for transfer in self.transfers:
            found[transfer.digest] += transfer.bytes
        return dict(found)

    def reads_of_blobs(self) -> Counter[str]:
        """Digest -> number of reads answered 200 or 206 that sent more than the byte of a proof."""
        return Counter(
            transfer.digest
            for transfer in self.transfers
            if transfer.status == 200 or (transfer.status == 206 and transfer.bytes > 1)
        )

    def blobs_served_more_than_once(self) -> dict[str, int]:
        """Digest -> number of its reads, where that is above 1."""
        return {digest: count for digest, count in self.reads_of_blobs().items() if count > 1}

    def bytes_served_twice(self, sizes: Mapping[str, int]) -> int:
        """Bytes served beyond each blob's size (`sizes`: digest -> size)."""
        served = self.bytes_of_blobs()
        return sum(max(0, count - sizes.get(digest, 0)) for digest, count in served.items())

    def per_tag(self, tags: int) -> float:
        """Requests besides listings and pings, for each tag."""
        return (self.requests - self.listings - self.pings) / tags

    def _add(self, line: Line) -> None:
        path, _, query = line.path.partition("?")
        parts = unquote(path).split("/")
        self.statuses[line.status] += 1
        what = _kind(parts, line.method, query)
        self.kinds[f"{line.method} {what}"] += 1
        repository = "/".join(parts[2:-2])
        if what == "blob" and line.method == "GET":
            self.transfers.append(Transfer(repository, parts[-1], line.status, line.bytes))
        elif what == "manifest" and line.method == "PUT" and line.status == 201:
            self.manifests_put[repository, parts[-1]] += 1
        elif what == "upload" and line.method == "PUT" and line.status == 201:
            self.blobs_put[parse_qs(query)["digest"][0]] += 1
        elif what == "mount" and line.status == 201:
            self.mounts[parse_qs(query)["mount"][0]] += 1


def read_access_log(path: Path) -> list[Access]:
    """Lines that `python -m api.samples.registry --access-log` has written."""
    entries = []
    for line in path.read_text().splitlines():
        method, target, status, sent, _ = line.split("\t")
        entries.append(Access(method, target, int(status), int(sent)))
    return entries


def _kind(parts: list[str], method: str, query: str) -> str:
    if parts[1:] == ["v2", ""]:
        return "ping"
    if parts[1:] == ["v2", "_catalog"]:
        return "catalog"
    if parts[-3:-1] == ["blobs", "uploads"]:
        return "mount" if method == "POST" and "mount=" in query else "upload"
    if parts[-2:] == ["tags", "list"]:
        return "tags"
    singular = {"manifests": "manifest", "blobs": "blob", "referrers": "referrers"}
    return singular.get(parts[-2] if len(parts) > 4 else "", "other")
