"""A sync rule: source, selection, destinations, trigger (DESIGN section 8)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NameFilter:
    """Names that match an include glob and no exclude glob; no include means all."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """One entry of a rule's `select`: every condition must hold; entries are united."""

    repositories: NameFilter = NameFilter()
    tags: NameFilter = NameFilter()
    to_repository: str | None = None  # overrides the destinations' templates for this entry
    to_tag: str | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a rule writes: a registry or every registry of a group, and how things are named there."""

    registry: str | None = None
    group: str | None = None
    repository: str = "{repository}"
    tag: str = "{tag}"


@dataclass(frozen=True, slots=True)
class Trigger:
    """When a rule runs by itself; a rule can always be run by hand."""

    every_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class SyncRule:
    """A saved statement of what is to be where."""

    name: str
    source: str
    select: tuple[Selection, ...]
    destinations: tuple[Destination, ...]
    project: str = "default"
    enabled: bool = True
    trigger: Trigger = Trigger()
    referrers: bool = True
    on_empty: str = "warn"  # warn | fail
    priority: str = "normal"  # urgent | normal | bulk
