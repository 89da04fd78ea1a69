"""What a worker process needs to carry out copies, put together once a process."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.errors import StoreUnavailable
from service.model.digest import Digest
from service.model.manifest import Manifest
from service.model.ports import BoardPort, ClaimPort, Publisher, StatePort
from service.model.states import CopyState
from service.model.work import (
    CopyEnded,
    CopyRef,
    CopyWork,
    LedgerDistrusted,
    Outcome,
    PartEnded,
    Wake,
)
from service.registry.limiters import Limiters
from service.replication.borders import BorderGuard
from service.replication.clients import Clients, Meter
from service.replication.followers import Followers
from service.replication.side_by_side import SideBySide
from service.replication.source_blobs import SourceBlobs
from service.replication.turns import Turns
from service.settings import Settings
from service.telemetry import get_logger

if TYPE_CHECKING:
    from service.replication.metrics import Metrics
from service.replication.recent import RecentReads

MANIFEST_CACHE_BYTES = 32 << 20
COMMITTED_BYTES = 1 << 20
"""Of committed manifests: the copies of a tag to its other destinations are next to it."""

MANIFESTS_KNOWN = 50_000
POST_PAUSE_SECONDS = 0.1
MAX_POST_PAUSE_SECONDS = 2.0

log = get_logger("engine")


Place = tuple[str, str]
"""A source's registry and repository."""


class ManifestCache:
    """Manifests by source repository and digest, bounded in bytes; what a digest names never changes.

    By repository: who may push an index to one of them gets nothing of another by naming its digest.
    """

    def __init__(self, limit: int = MANIFEST_CACHE_BYTES) -> None:
        self._limit = limit
        self._size = 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Place, Digest], Manifest] = OrderedDict()
        self._committed: OrderedDict[tuple[Place, Digest], int] = OrderedDict()
        self._committed_size = 0

    def get(self, place: Place, digest: Digest, fetch: Callable[[], Manifest]) -> Manifest:
        """Return the manifest of a source's repository, fetched when it is not here."""
        key = place, digest
        with self._lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
                return known
        manifest = fetch()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = manifest
                self._size += len(manifest.raw)
                while self._size > self._limit and len(self._kept) > 1:
                    _, dropped = self._kept.popitem(last=False)
                    self._size -= len(dropped.raw)
        return manifest

    def committed(self, place: Place, digest: Digest) -> None:
        """Forget a manifest soon, whose image is committed to one destination."""
        key = place, digest
        with self._lock:
            known = self._kept.get(key)
            if known is None:
                return
            self._committed_size += len(known.raw) - self._committed.pop(key, 0)
            self._committed[key] = len(known.raw)
            while self._committed_size > COMMITTED_BYTES:
                oldest, size = self._committed.popitem(last=False)
                self._committed_size -= size
                dropped = self._kept.pop(oldest, None)
                if dropped is not None:
                    self._size -= len(dropped.raw)


class ManifestsPut:
    """What this process has put by digest, so that an execution sends it to a repository once.

    An acceptance counts as a blob's proof does: in its own execution, for as long, and in the epoch
    of the registry's ledger that it was noted in (promise 2).
    """

    def __init__(self, limit: int = MANIFESTS_KNOWN) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str, str, str], tuple[int, float]] = OrderedDict()

    def knows(self, work: CopyWork, what: str, epoch: int, seconds: float) -> bool:
        """Whether the copy's execution has had it accepted there, in this epoch, so lately.

        `what` is a digest, or a fallback tag with the digest that it was put with: `TAG@DIGEST`.
        """
        with self._lock:
            noted, at = self._known.get(self._key(work, what), (-1, 0.0))
        return noted == epoch and time.monotonic() - at < seconds

    def add(self, work: CopyWork, what: str, epoch: int) -> None:
        """Note that the destination has accepted it, with all that belongs to it."""
        with self._lock:
            self._known[self._key(work, what)] = epoch, time.monotonic()
            while len(self._known) > self._limit:
                self._known.popitem(last=False)

    @staticmethod
    def _key(work: CopyWork, what: str) -> tuple[str, str, str, str]:
        return work.execution, work.destination_registry, work.destination_repository, what


class Holding:
    """The copies that this process's threads have in hand, each named before it is begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count: Counter[int] = Counter()

    @contextmanager
    def hold(self, refs: Iterable[CopyRef]) -> Iterator[None]:
        """Have these copies in hand for as long as the context lasts."""
        ids = [ref.id for ref in refs]
        with self._lock:
            self._count.update(ids)
        try:
            yield
        finally:
            with self._lock:
                self._count.subtract(ids)
                self._count = +self._count

    def ids(self) -> frozenset[int]:
        """Return the ids of all copies in hand."""
        with self._lock:
            return frozenset(self._count)


@dataclass(frozen=True, slots=True)
class Reads:
    """What reading a tree of manifests needs: the part of Engine of a process that copies nothing."""

    clients: Clients
    state: StatePort
    manifests: ManifestCache = field(default_factory=ManifestCache)
    recent: RecentReads = field(default_factory=RecentReads)
    beside: SideBySide = field(default_factory=lambda: SideBySide(0))


@dataclass(frozen=True, slots=True)
class Engine:
    """The ports and tools of one worker process; `boot` is its identity.

    `metrics` counts what it does, where somebody reads that. `patience_seconds`: for so long, at least,
    a task looks whether another has moved a small blob that both need, before it lets its copy wait; 0:
    it does not look.
    """

    settings: Settings
    boot: str
    state: StatePort
    claims: ClaimPort
    boards: BoardPort
    publisher: Publisher
    clients: Clients
    meter: Meter
    beside: SideBySide
    metrics: Metrics | None = None
    manifests: ManifestCache = field(default_factory=ManifestCache)
    recent: RecentReads = field(default_factory=RecentReads)
    put: ManifestsPut = field(default_factory=ManifestsPut)
    source_blobs: SourceBlobs = field(default_factory=SourceBlobs)
    draining: threading.Event = field(default_factory=threading.Event)
    holding: Holding = field(default_factory=Holding)
    turns: Turns = field(default_factory=Turns)
    followers: Followers = field(default_factory=Followers)
    limiters: Limiters | None = None
    guard: BorderGuard | None = None
    patience_seconds: float = 0.25

    def post(self, outcomes: Sequence[Outcome]) -> None:
        """Record outcomes in the state, and in this process's metrics where it has some.

        Tries for as long as the state does not answer: a copy whose outcome is lost would be held
        by this process for good. Raises StoreUnavailable only while the process drains, since its
        end lets go of all that it held.
        """
        pause = POST_PAUSE_SECONDS
        while True:
            try:
                self._note_borders(outcomes)
                self.state.post(outcomes)
                break
            except StoreUnavailable as error:
                log.warning("outcome_not_recorded", error=error.message, outcomes=len(outcomes))
                if self.draining.wait(pause):
                    raise
                pause = min(MAX_POST_PAUSE_SECONDS, 2 * pause)
        if self.metrics is not None:
            self.metrics.count(outcomes)

    def _note_borders(self, outcomes: Sequence[Outcome]) -> None:
        """Say of each outcome which borders its bytes went across; a copied image did, bytes or none."""
        if self.guard is None:
            return
        for outcome in outcomes:
            if isinstance(outcome, LedgerDistrusted | Wake):
                continue
            work = outcome.part.copy if isinstance(outcome, PartEnded) else outcome.work
            counters = outcome.counters
            if isinstance(outcome, CopyEnded) and outcome.state is CopyState.COPIED:
                counters.crossed.setdefault(work.reads_from.registry, 0)
            for sender in counters.crossed:
                border = self.guard.crossing(sender, work.destination_registry)
                if border is not None:
                    counters.borders[sender] = border

    def _wanted(self, work: CopyWork) -> bool:
        return self.state.is_open(work.ref.id) if work.ahead else self.state.holds(work.ref)

    def cancelled(self, work: CopyWork, every_seconds: float = 1.0) -> Callable[[], bool]:
        """Return a check, cheap enough for every chunk: whether the work is to stop.

        Its fence is old, its rule or one of its registries is paused, or the process drains.
        """
        next_look = time.monotonic() + every_seconds

        def check() -> bool:
            nonlocal next_look
            if self.draining.is_set():
                return True
            now = time.monotonic()
            if now < next_look:
                return False
            next_look = now + every_seconds
            try:
                return not self._wanted(work) or any(
                    self.clients.paused(name)
                    for name in {
                        work.source_registry,
                        work.destination_registry,
                        work.reads_from.registry,
                    }
                )
            except StoreUnavailable:
                return False  # no answer is no reason to throw bytes away: the commit asks again

        return check
