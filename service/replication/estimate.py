"""Estimate: what carrying out a plan would move, spare and ask, from manifests and the ledger.

Bytes are exact as long as the world stays as it is: they follow the rules by which copy_blob decides
(what the ledger believes is looked at and mounted, what is likely there is asked for, the rest is
moved once a destination registry). Requests are an estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from service.errors import InvalidInput, RegistryError
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.region import Link
from service.model.rule import SyncRule
from service.model.work import CopyWork, Presence
from service.replication.brought import Brought, BroughtBlobs
from service.replication.clients import Clients, Meter
from service.replication.compare import told
from service.replication.engine import Reads
from service.replication.still_open import StillOpen
from service.replication.tree import Tree, TreeReader
from service.store.work_rows import copy_work

MAX_PROBLEMS = 1000
GIB = 1 << 30
DIGESTS_AT_ONCE = 500
REQUESTS_A_TAG = 2  # the source's tag read once more, the destination's read back
REQUESTS_A_MOVED_BLOB = 2  # POST and PUT
REQUESTS_A_MOUNTED_BLOB = 2  # mount and the ranged read that proves it


@dataclass(slots=True)
class Figures:
    """What a plan comes to."""

    copies: int = 0
    unique: int = 0
    saved: int = 0
    requests: dict[str, int] = field(default_factory=dict)
    by_destination: dict[str, dict[str, int]] = field(default_factory=dict)
    crossed: dict[tuple[str, str], int] = field(default_factory=dict)  # bytes by sender, receiver
    problems: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, registry: str, requests: int) -> None:
        """Count requests to a registry."""
        self.requests[registry] = self.requests.get(registry, 0) + requests


@dataclass(frozen=True, slots=True)
class _Planned:
    """One copy of the plan, as far as its source tells."""

    work: CopyWork
    sender: str  # that it is read at: its parent's registry, or the source
    manifests: int
    blobs: list[tuple[Descriptor, Brought]]

    def first(self) -> list[Descriptor]:
        """Return the blobs that no copy before it brings to the registry."""
        return [blob for blob, brought in self.blobs if brought is Brought.NOWHERE]


_Known = dict[tuple[str, str], list[Presence]]
"""Rows of the ledger by registry and digest."""


class Estimator:
    """Adds up the copies of one plan, in their order."""

    def __init__(
        self,
        rule: SyncRule,
        reads: Reads,
        meter: Meter,
        pool: ThreadPoolExecutor,
        brought: BroughtBlobs,
        still_open: StillOpen,
    ) -> None:
        self._rule = rule
        self._reads = reads
        self._meter = meter
        self._pool = pool
        self._brought = brought
        self._still_open = still_open
        self.figures = Figures()

    def add(self, rows: Iterable[Any], requests: dict[str, int]) -> None:
        """Add a page of planned copies; what cannot be read of one is a problem of the plan.

        Trees are read side by side; which copy is the first to bring a blob is decided in their order;
        then the destinations are asked side by side for what nobody brought before.
        Raises Cancelled, before any copy, once the plan is stopped.
        """

        def read(row: Any) -> tuple[Any, CopyWork, Tree | None, str]:
            self._still_open.check()
            work = copy_work(row, self._rule, "plan")
            with self._meter.collect(requests):
                try:
                    return row, work, self._tree(work), ""
                except (RegistryError, InvalidInput) as error:
                    return row, work, None, told(error, row.source_registry)

        def ask(planned: _Planned) -> set[Digest]:
            self._still_open.check()
            with self._meter.collect(requests):
                return self._there(planned, known)

        page: list[_Planned] = []
        for row, work, tree, problem in self._pool.map(read, rows):
            if tree is None:
                self._problem(row, problem)
            else:
                page.append(self._planned(row, work, tree))
        known = self._known(page)
        for planned, there in zip(page, self._pool.map(ask, page), strict=True):
            self._account(planned, there)

    def _tree(self, work: CopyWork) -> Tree:
        digest = work.digest
        if not digest:
            head = self._reads.clients.get(work.source_registry).head_manifest(
                work.source_repository, work.source_reference
            )
            if head is None:
                raise InvalidInput(f"the source has no {work.source_reference}")
            digest = str(head.digest)
        return TreeReader(self._reads, work).read(Digest.parse(digest))

    def _planned(self, row: Any, work: CopyWork, tree: Tree) -> _Planned:
        registry, repository = work.destination_registry, work.destination_repository
        blobs = [
            (blob, self._brought.bring(registry, repository, str(blob.digest)))
            for blob in tree.blobs()
        ]
        sender = row.via_registry or work.source_registry
        return _Planned(work, sender, len(tree.manifests()), blobs)

    def _there(self, planned: _Planned, known: _Known) -> set[Digest]:
        """Return what the destination has of the blobs that this copy is the first to bring."""
        registry = planned.work.destination_registry
        return {
            blob.digest
            for blob in planned.first()
            if self._is_there(planned.work, blob, known.get((registry, str(blob.digest)), []))
        }

    def _account(self, planned: _Planned, at_destination: set[Digest]) -> None:
        figures, work = self.figures, planned.work
        registry = work.destination_registry
        there = figures.by_destination.setdefault(
            registry, {"copies": 0, "unique": 0, "saved": 0, "blobs": 0}
        )
        figures.copies += 1
        there["copies"] += 1
        figures.ask(work.source_registry, 1)
        figures.ask(planned.sender, planned.manifests)
        figures.ask(registry, planned.manifests + 1)
        for blob, brought in planned.blobs:
            if brought is Brought.HERE:
                continue  # an earlier copy of the plan brings it there
            if brought is Brought.NEARBY or blob.digest in at_destination:
                figures.saved += blob.size
                there["saved"] += blob.size
                figures.ask(registry, REQUESTS_A_MOUNTED_BLOB)
                if brought is Brought.NEARBY:
                    figures.ask(planned.sender, 1)  # whether it has it in that repository
            else:
                figures.unique += blob.size
                there["unique"] += blob.size
                there["blobs"] += 1
                way = (planned.sender, registry)
                figures.crossed[way] = figures.crossed.get(way, 0) + blob.size
                figures.ask(planned.sender, 1)
                figures.ask(registry, REQUESTS_A_MOVED_BLOB)

    def _known(self, page: Iterable[_Planned]) -> _Known:
        """Return what the ledger believes of the blobs that a page of copies is the first to bring."""
        wanted: dict[tuple[str, str], list[str]] = {}
        for planned in page:
            place = (planned.work.destination_registry, planned.work.execution)
            wanted.setdefault(place, []).extend(str(blob.digest) for blob in planned.first())
        found: _Known = {}
        for (registry, execution), digests in wanted.items():
            scope = self._reads.clients.scope(registry)
            for start in range(0, len(digests), DIGESTS_AT_ONCE):
                group = digests[start : start + DIGESTS_AT_ONCE]
                for row in self._reads.state.presence(registry, scope, group, execution):
                    found.setdefault((registry, row.digest), []).append(row)
        return found

    def _is_there(self, work: CopyWork, blob: Descriptor, rows: list[Presence]) -> bool:
        """Whether the destination has a blob, as far as copy_blob would find out."""
        # what copies, and Redis's library with it, is for processes that copy
        from service.replication.copy_blob import HEAD_ALWAYS_FROM_BYTES, HEAD_FROM_BYTES

        client = self._reads.clients.get(work.destination_registry)
        for row in rows:
            if client.probe_blob(row.repository, blob.digest, blob.size):
                return True
        likely = not work.fresh
        if blob.size < HEAD_ALWAYS_FROM_BYTES and not (likely and blob.size >= HEAD_FROM_BYTES):
            return False
        repository = work.destination_repository
        return client.head_blob(repository, blob.digest) is not None and client.probe_blob(
            repository, blob.digest, blob.size
        )

    def _problem(self, row: Any, reason: str) -> None:
        if len(self.figures.problems) < MAX_PROBLEMS:
            self.figures.problems.append(
                {
                    "source": f"{row.source_registry}/{row.source_repository}:{row.source_reference}",
                    "destination": f"{row.destination_registry}/{row.destination_repository}:"
                    f"{row.destination_reference}",
                    "reason": reason,
                }
            )


def seconds_needed(
    figures: Figures,
    bandwidth: Callable[[str], int | None],
    requests_per_second: Callable[[str], float | None],
    extra_bandwidth: int | None,
) -> float | None:
    """Return the time that limits ask for at least; None where nothing is limited.

    `bandwidth` and `requests_per_second` give the limits of a registry, `extra_bandwidth` the rule's.
    """
    needs = []
    if extra_bandwidth:
        needs.append(figures.unique / extra_bandwidth)
    for registry, count in figures.requests.items():
        rate = requests_per_second(registry)
        if rate:
            needs.append(count / rate)
        pipe = bandwidth(registry)
        if pipe:
            there = figures.by_destination.get(registry)
            needs.append((there["unique"] if there else figures.unique) / pipe)
    return max(needs, default=None)


def _links(
    figures: Figures, clients: Clients, costs: Mapping[tuple[str, str], float]
) -> list[dict[str, Any]]:
    found = []
    for (sender, receiver), moved in sorted(figures.crossed.items()):
        ends = (clients.endpoint(sender).region, clients.endpoint(receiver).region)
        cost = costs.get(ends)
        found.append(
            {
                "from": sender,
                "to": receiver,
                "bytes": moved,
                "cost": None if cost is None else round(cost * moved / GIB, 6),
            }
        )
    return found


def sum_up(
    figures: Figures, rule: SyncRule, clients: Clients, links: Iterable[Link] = ()
) -> dict[str, Any]:
    """Return figures as they are kept and shown, with the time that limits ask for.

    `links` tell what a GiB costs from one region to another; without one, the cost is not known.
    """
    costs = {
        (link.source, link.target): link.cost_per_gib
        for link in links
        if link.cost_per_gib is not None
    }
    ways = _links(figures, clients, costs)
    told = [way["cost"] for way in ways if way["cost"] is not None]
    extra = [limit.bytes_per_second for limit in rule.bandwidth]
    seconds = seconds_needed(
        figures,
        lambda name: clients.endpoint(name).limits.bandwidth,
        lambda name: clients.endpoint(name).limits.requests_per_second,
        min(extra, default=None),
    )
    return {
        "copies": figures.copies,
        "unique": figures.unique,
        "saved": figures.saved,
        "requests": {
            name: count
            for name, count in sorted(figures.requests.items())
            if clients.endpoint(name).layout is None  # a directory is sent none
        },
        "destinations": figures.by_destination,
        "links": ways,
        "cost": round(sum(told), 6) if told else None,
        "seconds": None if seconds is None else round(seconds, 1),
        "problems": figures.problems,
    }


def moved_since(
    rows: Sequence[Any],
    clients: Clients,
    meter: Meter,
    pool: ThreadPoolExecutor,
    requests: dict[str, int],
    still_open: StillOpen,
) -> list[str]:
    """Return, for planned copies, what is not as it was: the source's tag, or the destination's.

    Raises Cancelled, before any copy, once the execution is stopped.
    """

    def look(row: Any) -> str:
        still_open.check()
        with meter.collect(requests):
            source = f"{row.source_registry}/{row.source_repository}:{row.source_reference}"
            head = clients.get(row.source_registry).head_manifest(
                row.source_repository, row.source_reference
            )
            if head is None:
                return f"{source} is gone"
            if row.digest and str(head.digest) != row.digest:
                return f"{source} is {head.digest} now"
            there = clients.get(row.destination_registry).head_manifest(
                row.destination_repository, row.destination_reference
            )
            if ("" if there is None else str(there.digest)) != row.found:
                return f"{source} has another digest at {row.destination_registry} now"
        return ""

    return [sentence for sentence in pool.map(look, rows) if sentence]
