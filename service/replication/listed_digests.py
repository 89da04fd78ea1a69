"""What providers' own lists say that tags point at: one page in place of a hundred HEADs.

A list is asked for while it costs less than the HEADs that it may spare. What it tells is believed for
a minute; what it does not tell is asked for as ever, so a list that lags or leaves tags out costs
requests and no result: a copy reads its source's tag again before it commits.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from service.errors import RegistryError

FEW = 3
"""Tags to be looked for in one repository, below which nobody thinks of a list."""
HEADS_A_PAGE = 4
"""HEADs that a page of a list must be likely to spare."""
BELIEVED_SECONDS = 60.0
KEPT = 50_000
"""Digests in memory, of all lists together."""

Place = tuple[str, str]  # registry, repository


class Lister(Protocol):
    """A registry that may list tags with their digests, as RegistryClient does."""

    def tags_with_digests(self, repository: str) -> Iterator[Mapping[str, str]] | None:
        """Yield tag to digest, page by page; None where the registry has no such list."""


@dataclass(slots=True)
class _Known:
    pages: Iterator[Mapping[str, str]] | None
    allowed: float = 0.0  # pages that may still be asked for
    digests: dict[str, tuple[str, float]] = field(default_factory=dict)


class ListedDigests:
    """The lists of one planning. `expect` is called by one thread, `of` by any number."""

    def __init__(
        self, lister: Callable[[str], Lister], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`lister` returns the client of a registry; raises RegistryError."""
        self._lister = lister
        self._clock = clock
        self._places: OrderedDict[Place, _Known] = OrderedDict()

    def expect(self, wanted: Iterable[tuple[str, str, str]]) -> None:
        """Be told of the tags that are looked for next (registry, repository, tag); reads what is worth it.

        Never raises for what a registry answers: then its tags are asked for one by one.
        """
        tags: dict[Place, set[str]] = {}
        for registry, repository, tag in wanted:
            if ":" not in tag:
                tags.setdefault((registry, repository), set()).add(tag)
        for place, names in tags.items():
            unknown = {name for name in names if not self.of(*place, name)}
            if len(unknown) >= FEW:
                self._read(place, unknown)
        self._make_room()

    def of(self, registry: str, repository: str, tag: str) -> str:
        """Return the digest that a list tells of a tag, "" where none does."""
        known = self._places.get((registry, repository))
        digest, told_at = known.digests.get(tag, ("", 0.0)) if known is not None else ("", 0.0)
        return digest if self._clock() - told_at < BELIEVED_SECONDS else ""

    def _read(self, place: Place, unknown: set[str]) -> None:
        known = self._places.get(place)
        if known is None:
            pages = self._open(place)
            if pages is None:  # as far as is known by now: its provider may be recognised later
                return
            known = self._places[place] = _Known(pages)
        self._places.move_to_end(place)
        known.allowed += len(unknown) / HEADS_A_PAGE
        while known.pages is not None and unknown and known.allowed > 0:
            known.allowed -= 1
            try:
                page = next(known.pages, None)
            except RegistryError:
                page = None
            if page is None:
                known.pages = None
                return
            now = self._clock()
            known.digests.update((tag, (digest, now)) for tag, digest in page.items())
            unknown.difference_update(page)

    def _open(self, place: Place) -> Iterator[Mapping[str, str]] | None:
        try:
            return self._lister(place[0]).tags_with_digests(place[1])
        except RegistryError:
            return None

    def _make_room(self) -> None:
        """Forget the digests of what was not asked for longest."""
        total = sum(len(known.digests) for known in self._places.values())
        for place, known in list(self._places.items()):
            if total <= KEPT:
                return
            total -= len(known.digests)
            self._places[place] = _Known(None)
