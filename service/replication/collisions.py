"""Refuse a rule that would give two sources one name, or write over what it reads, before it writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from service.errors import InvalidConfiguration, RegistryError
from service.model.mapping import is_one_to_one, placeholders
from service.model.selection import TAG_PLACEHOLDERS
from service.replication.compare import Wanted
from service.replication.select import Selector
from service.store.planning import Cursor

HASHES_AT_ONCE = 200_000
"""How many names of repositories are compared in memory at a time; more take further passes over SQL."""

Cursors = Callable[[], Iterator[Cursor]]
GiveUp = Callable[[Cursor, RegistryError], None]


class CollisionCheck:
    """Looks at the names that a rule would give; lists tags only where two could meet."""

    def __init__(self, selector: Selector, cursors: Cursors, count: int, give_up: GiveUp) -> None:
        """`cursors` yields the `count` selected repositories anew at each call.

        `give_up` is told of a repository whose tags cannot be listed: it has to be left out of the
        plan, or raise.
        """
        self._selector = selector
        self._cursors = cursors
        self._count = count
        self._give_up = give_up

    def refuse(self) -> None:
        """Raise InvalidConfiguration for a rule that cannot be carried out; RegistryError as lists do."""
        names: dict[int, int] = {}
        for wanted in self._wanted():
            if self._selector.feeds_itself(wanted):
                raise self._selector.circular(wanted, "; nothing was written")
            name, source = hash(_name(wanted)), hash(_source(wanted))
            other = names.setdefault(name, source)
            if other != source:
                self._refuse_pair(wanted, other)

    def _refuse_pair(self, wanted: Wanted, other: int) -> None:
        """Find the other source again by its hash: only equal names are a collision, not equal hashes."""
        for first in self._wanted():
            if hash(_source(first)) == other and _name(first) == _name(wanted):
                raise InvalidConfiguration(
                    f"rule {self._selector.rule.name}: {_source(first)} and {_source(wanted)} would "
                    f"both become {wanted.repository}:{wanted.reference} at {wanted.registry}; "
                    "nothing was written",
                    field="destinations",
                    hint="give them different names: use {repository} and {tag} in the templates",
                )

    def _wanted(self) -> Iterator[Wanted]:
        """Yield every name that a tag of a suspicious repository would get."""
        for cursor in self._suspicious():
            try:
                for page in self._selector.pages(Cursor(cursor.repository, "")):
                    yield from self._selector.names_of(page.asks)
            except RegistryError as error:
                self._give_up(cursor, error)

    def _suspicious(self) -> Iterator[Cursor]:
        """Yield the repositories that could collide, in the order of their names."""
        distinct = self._selector.keeps_apart()
        loops = any(self._selector.at_source(name) for name, _, _ in self._selector.places())
        if distinct and not loops:
            return
        scattered = self._depends_on_tags()
        crowded = frozenset[int]() if distinct or scattered else self._crowded()
        for cursor in self._cursors():
            homes = self._selector.homes(cursor.repository)
            if (
                (scattered and not distinct)
                or any(hash(home) in crowded for home in homes)
                or (loops and (scattered or self._may_loop(homes)))
            ):
                yield cursor

    def _depends_on_tags(self) -> bool:
        """Whether the name of the repository does not tell what a source could collide with."""
        places = self._selector.places()
        return len({tag for _, _, tag in places}) > 1 or any(
            placeholders(repository) & TAG_PLACEHOLDERS or not is_one_to_one(tag, "tag")
            for _, repository, tag in places
        )

    def _may_loop(self, homes: set[tuple[str, str]]) -> bool:
        return any(
            self._selector.at_source(registry) and self._selector.names.wants_repository(name)
            for registry, name in homes
        )

    def _crowded(self) -> frozenset[int]:
        """Return hashes of the names that more than one repository would get."""
        crowded: set[int] = set()
        passes = 1 + self._count // HASHES_AT_ONCE
        for bucket in range(passes):
            seen: set[int] = set()
            for home in chain.from_iterable(
                self._selector.homes(cursor.repository) for cursor in self._cursors()
            ):
                hashed = hash(home)
                if hashed % passes == bucket:
                    (crowded if hashed in seen else seen).add(hashed)
        return frozenset(crowded)


def _name(wanted: Wanted) -> tuple[str, str, str]:
    return (wanted.registry, wanted.repository, wanted.reference)


def _source(wanted: Wanted) -> str:
    return f"{wanted.source_repository}:{wanted.source_reference}"
