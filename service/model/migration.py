"""A migration: one registry's images move to another one in waves, and the move is proved (issue 8 point 3).

What is written down is a `Migration`; its waves are carried out by ordinary rules, which it owns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from service.model.bandwidth import within
from service.model.glob import compile_glob, is_literal
from service.model.names import NameMatcher
from service.model.rule import Destination, NameFilter, Selection, SyncRule

OWNER = "migration:"
"""Begins the set of rules that a migration owns; no set of `apply --set` can be called so."""

REST = "rest"
"""The name of the wave that takes what no other wave does, where none was written."""

MAX_WAVES = 100
MAX_IN_WAVE = 20_000
"""Repositories of one wave: its rule names each of them, and every worker holds the rule."""

TAG_BYTES = 256 << 10
"""What a tag costs besides its bytes, in bytes, where the time left is estimated: its requests."""


class WaveState(StrEnum):
    """Where one wave stands; `done` and `failed` may run again, by `start` or by a final delta."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"  # shown for a running one that is held: by a person, or by its windows
    DONE = "done"
    FAILED = "failed"


class SurveyState(StrEnum):
    """Where one look at the fleet stands."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"
    FAILED = "failed"


INVENTORY, FREEZE, PROOF = "inventory", "freeze", "proof"
SURVEYS = (INVENTORY, FREEZE, PROOF)
"""What is looked at: what there is, what is to be there in the end, whether it is."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """Repositories and the template of their names at the destination; the first that suits counts.

    `source` is a glob, or a prefix without wildcards, which means itself and all below it.
    """

    source: str
    to: str

    def takes(self, repository: str) -> bool:
        """Whether the repository is one of these."""
        if is_literal(self.source):
            return repository == self.source or repository.startswith(f"{self.source}/")
        return compile_glob(self.source)(repository)


@dataclass(frozen=True, slots=True)
class Wave:
    """A part of the fleet that moves together: by names, by size, or what is left.

    `max_bytes`: repositories are taken by name until this many bytes, each blob once, would be exceeded.
    """

    name: str
    repositories: tuple[str, ...] = ()
    max_bytes: int | None = None

    @property
    def is_rest(self) -> bool:
        """Whether it takes everything that is left."""
        return not self.repositories and self.max_bytes is None

    def takes(self, repository: str) -> bool:
        """Whether its globs, if it has any, take the repository."""
        return not self.repositories or any(compile_glob(g)(repository) for g in self.repositories)


@dataclass(frozen=True, slots=True)
class Window:
    """When waves may move; minutes count from midnight, days from Monday as 0; none means all."""

    from_minute: int | None = None
    to_minute: int | None = None
    days: tuple[int, ...] = ()


@dataclass(frozen=True)
class Migration:
    """What is to move where. `final`: the registry by whose name the move is proved, else `destination`."""

    name: str
    source: str
    destination: str
    project: str = "default"
    select: tuple[Selection, ...] = (Selection(),)
    namespaces: tuple[Namespace, ...] = ()
    waves: tuple[Wave, ...] = (Wave("all"),)
    windows: tuple[Window, ...] = ()
    timezone: str = "UTC"
    priority: str = "normal"
    referrers: bool = True
    final: str | None = None

    @property
    def at(self) -> str:
        """The registry at which the move is proved."""
        return self.final or self.destination

    @property
    def owner(self) -> str:
        """The set that its rules belong to."""
        return f"{OWNER}{self.name}"

    def rule_name(self, wave: str) -> str:
        """Return the name of the rule that carries a wave out."""
        return f"migration-{self.name}-{wave}"

    def open_at(self, moment: datetime) -> bool:
        """Whether waves may move at a moment of its time zone."""
        return not self.windows or any(
            within(one.from_minute, one.to_minute, one.days, moment) for one in self.windows
        )

    def wants(self, repository: str) -> bool:
        """Whether anything of the repository is to move, as far as its name tells."""
        return any(matcher.matches(repository) for matcher in self._matchers)

    @cached_property
    def _matchers(self) -> tuple[NameMatcher, ...]:
        return tuple(NameMatcher(entry.repositories) for entry in self.select)

    def named_repositories(self) -> tuple[str, ...] | None:
        """Return the repositories when every entry names them; None: they have to be listed."""
        names: dict[str, None] = {}
        for entry in self.select:
            include = entry.repositories.include
            if not include or not all(map(is_literal, include)):
                return None
            names.update(dict.fromkeys(include))
        return tuple(name for name in names if self.wants(name))

    def entries(self, repositories: Iterable[str]) -> tuple[Selection, ...]:
        """Return `select` for just these repositories, each under the name that its namespace gives it."""
        by_entry: dict[tuple[int, int], list[str]] = {}
        for repository in repositories:
            place = next(
                (n for n, one in enumerate(self.namespaces) if one.takes(repository)),
                len(self.namespaces),
            )
            for number, matcher in enumerate(self._matchers):
                if matcher.matches(repository):
                    by_entry.setdefault((number, place), []).append(repository)
        return tuple(
            self._entry(number, place, names) for (number, place), names in sorted(by_entry.items())
        )

    def _entry(self, number: int, place: int, names: Sequence[str]) -> Selection:
        one = self.select[number]
        to = self.namespaces[place].to if place < len(self.namespaces) else None
        return Selection(
            NameFilter(tuple(names)),
            one.tags,
            one.types,
            one.platforms,
            one.to_repository or to,
            one.to_tag,
        )

    def rule(self, name: str, repositories: Iterable[str]) -> SyncRule:
        """Return the rule that moves these repositories; nothing starts it but the migration."""
        return SyncRule(
            name=name,
            source=self.source,
            select=self.entries(repositories),
            destinations=(Destination(registry=self.destination),),
            project=self.project,
            priority=self.priority,
            referrers=self.referrers,
        )


@dataclass(frozen=True, slots=True)
class Work:
    """An amount of work: bytes as they cross the link, each once; bytes as images count them; tags."""

    unique: int = 0
    logical: int = 0
    tags: int = 0


def seconds_left(total: Work, done: Work, elapsed: float) -> float | None:
    """Return how long the rest takes at the pace so far; None before anything is done.

    A tag counts as TAG_BYTES besides its bytes, for its requests. What the destination had already
    makes the unique bytes fewer than was thought: no more is left than the images that are left hold.
    """
    so_far = done.unique + TAG_BYTES * done.tags
    if 0 < total.tags <= done.tags:
        return 0.0
    if elapsed <= 0 or so_far <= 0:
        return None
    tags = max(0, total.tags - done.tags)
    rest = min(max(0, total.unique - done.unique), max(0, total.logical - done.logical))
    return elapsed * (rest + TAG_BYTES * tags) / so_far
