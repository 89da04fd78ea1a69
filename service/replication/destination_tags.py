"""What destinations list of their tags: one listing spares a HEAD for each tag that is not there.

A listing is believed only for names of which Transship has no record that it wrote them, and it says
no more than that nothing is there: what is listed is asked for all the same. One that lags or leaves
tags out therefore costs a copy that was not needed, and never a wrong result: a rule that keeps what
is there looks again before it writes (`conflict.standing`), and a tag of ours is held to be lost only
when the registry has been asked for it.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from service.errors import InvalidInput, RegistryError, RepositoryNotFound
from service.model.reference import is_digest_tag
from service.registry.results import TagPage

WORTH = 2
"""HEADs that a listing must be likely to spare."""

FEW = WORTH + 1
"""References of a page in one repository, below which nobody thinks of a listing."""

MAX_REFUSALS = 3
"""Listings that one registry may refuse in a planning before it is not asked for any more."""

PLACES_KEPT = 2_000
NAMES_KEPT = 50_000
"""Of all listings in memory together; a single one has half as many at most."""

Place = tuple[str, str]
Written = Callable[[str, str, Sequence[str]], Collection[str]]


class Lister(Protocol):
    """A registry that lists the tags of a repository, as RegistryClient does."""

    name: str

    def list_tags(self, repository: str) -> Iterator[TagPage]:
        """Yield pages of tags; raises RegistryError and InvalidInput."""


@dataclass(slots=True)
class _Known:
    """What one planning has learnt of one repository of a destination."""

    left: int = 0  # references of the pages in hand that were not looked for yet
    missing: int = 0
    present: set[str] = field(default_factory=set)
    unwritten: set[str] = field(default_factory=set)  # which we never wrote, as far as SQL knows
    tried: bool = False
    listed: frozenset[str] | None = None
    gone: bool = False  # the registry said that there is no such repository

    @property
    def names(self) -> int:
        """How many names it holds."""
        return len(self.present) + len(self.unwritten) + len(self.listed or ())


class DestinationTags:
    """The listings of one planning. For any number of threads."""

    def __init__(self, written: Written) -> None:
        """`written`: which of some tags of a registry's repository Transship has written there."""
        self._written = written
        self._lock = threading.Lock()
        self._places: OrderedDict[Place, _Known] = OrderedDict()
        self._names = 0
        self._refusals: Counter[str] = Counter()

    def expect(self, page: Iterable[Sequence[tuple[str, str, str]]]) -> set[int]:
        """Be told of a page: the names (registry, repository, reference) of each of its references.

        Returns the positions of references to compare before the others: one for each repository of
        which nothing is known, and of which a listing may spare something.
        """
        found: dict[Place, list[tuple[int, str]]] = {}
        for position, names in enumerate(page):
            for registry, repository, reference in names:
                if _may_be_listed(reference):
                    found.setdefault((registry, repository), []).append((position, reference))
        first = set()
        for place, references in found.items():
            with self._lock:
                known = self._places.get(place)
            if known is None and len(references) < FEW:
                continue
            tags = [reference for _, reference in references]
            ours = self._written(*place, tags)
            if self._note(place, tags, ours) and not ours:
                first.add(references[0][0])
        return first

    def lacks(self, registry: str, repository: str, reference: str) -> bool:
        """Whether a listing says that the name is not there, and may be believed."""
        with self._lock:
            known = self._places.get((registry, repository))
            if known is None or known.listed is None:
                return False
            if is_digest_tag(reference):
                return known.gone  # some registries do not list signatures
            lacks = reference in known.unwritten and reference not in known.listed
            if lacks:
                known.left -= 1
            return lacks

    def is_gone(self, registry: str, repository: str) -> bool:
        """Whether the registry has said that there is no such repository."""
        with self._lock:
            known = self._places.get((registry, repository))
            return known is not None and known.gone

    def saw(self, client: Lister, repository: str, reference: str, *, there: bool) -> None:
        """Be told what a HEAD has found; lists the repository where that is likely to spare more.

        Never raises for what the registry answers to the listing: then every name is asked for.
        """
        place = (client.name, repository)
        with self._lock:
            known = self._places.get(place)
            if known is None:
                return
            if there:
                self._is_there(known, reference)
            if there or not _may_be_listed(reference):
                return
            known.left -= 1
            known.missing += 1
            spared = max(known.left, 0) * known.missing // (known.missing + len(known.present))
            refused = self._refusals[client.name] >= MAX_REFUSALS
            if known.tried or refused or spared < WORTH:
                return
            known.tried = True
        names, gone = self._list(client, repository, pages=spared - 1)
        if names is not None:
            self._keep(place, names, gone=gone)

    # ---- inside ----------------------------------------------------------------------------------

    def _note(self, place: Place, names: Sequence[str], ours: Collection[str]) -> bool:
        """Take in names of a page; whether the repository's first is to be asked for alone."""
        with self._lock:
            known = self._places.get(place)
            if known is None:
                known = self._places[place] = _Known()
            self._places.move_to_end(place)
            self._names -= known.names
            known.left += len(names)
            known.unwritten.update(name for name in names if name not in ours)
            self._names += known.names
            self._make_room()
            return not (known.tried or known.missing or known.present)

    def _is_there(self, known: _Known, reference: str) -> None:
        digest_tag = not _may_be_listed(reference)
        if known.gone or (
            known.listed is not None and not digest_tag and reference not in known.listed
        ):
            self._names -= len(known.listed or ())
            known.listed, known.gone = None, False  # it leaves out what is there
        if not digest_tag:
            known.left -= 1
            self._names += reference not in known.present
            known.present.add(reference)

    def _list(
        self, client: Lister, repository: str, pages: int
    ) -> tuple[frozenset[str] | None, bool]:
        """Return a repository's tags, None where they are not known, and whether it is not there."""
        names: set[str] = set()
        try:
            for number, page in enumerate(client.list_tags(repository), 1):
                names.update(page.tags)
                if page.next is None:
                    return frozenset(names), False
                if number >= pages or len(names) > NAMES_KEPT // 2:
                    return None, False
        except RepositoryNotFound as error:
            if error.oci_code == "NAME_UNKNOWN" and not names:
                return frozenset(), True
        except (RegistryError, InvalidInput):
            pass
        with self._lock:
            self._refusals[client.name] += 1
        return None, False

    def _keep(self, place: Place, names: frozenset[str], *, gone: bool) -> None:
        with self._lock:
            known = self._places.get(place)
            if known is None or not known.present <= names:
                return  # it leaves tags out
            known.listed, known.gone = names, gone
            self._names += len(names)
            self._make_room()

    def _make_room(self) -> None:
        """Forget the listings of what was not asked for longest, and then that it was tried."""
        if self._names > NAMES_KEPT:
            for known in self._places.values():
                self._names -= known.names
                known.listed, known.gone, known.tried = None, False, True
                known.present, known.unwritten = set(), set()
                if self._names <= NAMES_KEPT:
                    break
        while len(self._places) > PLACES_KEPT:
            _, known = self._places.popitem(last=False)
            self._names -= known.names


def _may_be_listed(reference: str) -> bool:
    """Whether a listing of tags tells of it: digests are no tags, and signatures may be hidden."""
    return ":" not in reference and not is_digest_tag(reference)
