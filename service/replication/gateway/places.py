"""Where an image is whole, the nearest registry first: as SQL knows it, or as it was known last."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from service.errors import NotFoundInStore, RegistryError, StoreUnavailable, TransshipError
from service.model.digest import Digest
from service.model.gateway import GatewayConfig, ImagePlace
from service.model.region import Link
from service.replication.borders import BorderGuard
from service.replication.clients import Clients
from service.replication.gateway.steady import StoreGate
from service.replication.locate import Location, LocationState, Locator
from service.replication.route import PLENTY
from service.store.regions import LinkStore

KEPT_SECONDS = 2.0
"""So long an answer of SQL is used again: a proved copy is read from so much later at most."""

MOST_KEPT = 20_000
LINKS_SECONDS = 30.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 2.0, 30.0
_WANTED = (LocationState.STALE, LocationState.UNKNOWN, LocationState.HOLE)


@dataclass(frozen=True, slots=True)
class Found:
    """Where an image is: `whole` as SQL says, without its source; `perhaps`: where a rule wants it.

    `missing`: rules that want it where it is not and may be asked for it.
    """

    whole: tuple[ImagePlace, ...] = ()
    perhaps: tuple[ImagePlace, ...] = ()
    missing: tuple[str, ...] = ()
    known: bool = True  # SQL has answered


class Order:
    """Places to ask one after the other, the best first; each is given once.

    Those of `last` are where images of the source were copied to, but not this one as far as SQL says: another
    repository's images may lie there. They are given only as long as the source has not said that it has not got it.
    """

    def __init__(
        self, source: ImagePlace, places: Iterable[ImagePlace], last: Iterable[ImagePlace] = ()
    ) -> None:
        self._source = source
        self._left = list(places)
        self.last = frozenset(last)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ImagePlace:
        if not self._left:
            raise StopIteration
        return self._left.pop(0)

    def has_not(self, place: ImagePlace) -> None:
        """Take in that a place has answered that it has not got it."""
        if place == self._source:
            self._left = [one for one in self._left if one not in self.last]


class Pauses:
    """Registries that did not answer: asked last for some seconds, longer each time."""

    def __init__(self) -> None:
        self._until: dict[str, tuple[float, float]] = {}

    def failed(self, registry: str) -> None:
        """Remember that it did not answer."""
        _, pause = self._until.get(registry, (0.0, FIRST_PAUSE_SECONDS / 2))
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        self._until[registry] = (time.monotonic() + pause, pause)

    def answered(self, registry: str) -> None:
        """Remember that it answers."""
        self._until.pop(registry, None)

    def holds(self, registry: str) -> bool:
        """Whether others are to be asked first."""
        return time.monotonic() < self._until.get(registry, (0.0, 0.0))[0]


class Places:
    """Answers for one image at a time."""

    def __init__(
        self,
        config: GatewayConfig,
        locator: Locator,
        links: LinkStore,
        clients: Clients,
        gate: StoreGate,
        guard: BorderGuard,
        region: str,
    ) -> None:
        self.pauses = Pauses()
        self._config = config
        self._locator = locator
        self._links = links
        self._clients = clients
        self._gate = gate
        self._guard = guard
        self._region = region
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[ImagePlace, str, str], tuple[float, Found]] = OrderedDict()
        self._flights: dict[tuple[ImagePlace, str, str], threading.Lock] = {}
        self._ways: tuple[float, dict[str, Link]] = (-LINKS_SECONDS, {})

    def find(self, source: ImagePlace, reference: str, digest: Digest) -> Found:
        """Return where the image that a reference of a source names is whole by its digest."""
        key = (source, reference, str(digest))
        found = self._fresh(key)
        if found is not None:
            return found
        with self._lock:
            flight = self._flights.setdefault(key, threading.Lock())
        with flight:
            found = self._fresh(key)
            if found is not None:
                return found
            try:
                found = self._gate.ask(lambda: self._asked(source, reference, str(digest)))
            except (StoreUnavailable, NotFoundInStore):  # the latter: of a source that was deleted
                old = self._kept.get(key)
                found = Found(known=False) if old is None else old[1]
            except BaseException:
                with self._lock:
                    self._flights.pop(key, None)
                raise
            with self._lock:
                self._kept[key] = (time.monotonic(), found)
                self._kept.move_to_end(key)
                self._flights.pop(key, None)
                if len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
        return found

    def ordered(
        self, source: ImagePlace, whole: Iterable[ImagePlace], perhaps: Iterable[ImagePlace] = ()
    ) -> Order:
        """Return the order of places: where it is whole by distance, the source among them, then the others.

        Of two that are equally near the one that was copied to comes before the source: what is left for
        another registry is left by degrees. Those that did not answer lately come last.
        """
        good = sorted({*whole, source}, key=lambda place: self._rank(place, source))
        rest = sorted(set(perhaps) - set(good), key=lambda place: self._rank(place, source))
        every = [*good, *rest]
        return Order(source, sorted(every, key=lambda place: self.pauses.holds(place[0])), rest)

    def may_read(self, registry: str) -> bool:
        """Whether no border lies between; as far as is known, where SQL has never said."""
        try:
            return not self._gate.ask(lambda: self._is_foreign(registry))
        except StoreUnavailable:
            return False

    def _fresh(self, key: tuple[ImagePlace, str, str]) -> Found | None:
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() - kept[0] < KEPT_SECONDS:
            return kept[1]
        return None

    def _asked(self, source: ImagePlace, reference: str, digest: str) -> Found:
        rows = self._locator.locate(source[1], reference, source=source[0], digest=digest)
        wanted = [
            row
            for row in rows
            if row.repository
            and row.rule
            and row.registry != source[0]
            and not self._is_foreign(row.registry)
        ]
        whole = [row for row in wanted if _is_whole(row, digest)]
        there = [_place(row) for row in whole]
        return Found(
            tuple(there),
            tuple(_place(row) for row in wanted if _place(row) not in there),
            tuple(dict.fromkeys(row.rule for row in wanted if row.state in _WANTED)),
        )

    def _is_foreign(self, registry: str) -> bool:
        """Whether a border lies between it and here: then it is read from only if the gateway's file names it."""
        if registry in self._config.prefer:
            return False
        borders = self._guard.borders()
        there = self._guard.region_of(registry) or f"registry {registry}"
        return borders.are_drawn and borders.lies_between(there, self._region)

    def _rank(self, place: ImagePlace, source: ImagePlace) -> tuple[object, ...]:
        registry = place[0]
        preferred = self._config.prefer
        choice = preferred.index(registry) if registry in preferred else len(preferred)
        return (choice, *self._distance(registry), place == source, registry)

    def _distance(self, registry: str) -> tuple[int, float, float]:
        """Return how far a registry is: here, along a link (by what it costs, then by how narrow it is), elsewhere."""
        try:
            region = self._clients.endpoint(registry).region
        except (TransshipError, RegistryError):
            return (3, 0.0, 0.0)
        if region == self._region:
            return (0, 0.0, 0.0)
        link = self._links_here().get(region or "")
        if link is None:
            return (2, 0.0, 0.0)
        return (1, link.cost_per_gib or 0.0, -float(link.bandwidth or PLENTY))

    def _links_here(self) -> dict[str, Link]:
        at, ways = self._ways
        if time.monotonic() - at < LINKS_SECONDS:
            return ways
        try:
            found = self._gate.ask(self._links.all)
            ways = {link.source: link for link in found if link.target == self._region}
        except StoreUnavailable:
            pass
        self._ways = (time.monotonic(), ways)
        return ways


def _is_whole(row: Location, digest: str) -> bool:
    return row.state is LocationState.WHOLE and row.digest == digest


def _place(row: Location) -> ImagePlace:
    return row.registry, row.repository
