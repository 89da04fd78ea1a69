"""A sync rule: source, selection, destinations, trigger, policies (DESIGN section 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

REPLICATE = "replicate"
"""The mode of a rule that keeps a full replica: it never crosses a border (DESIGN section 7)."""


@dataclass(frozen=True, slots=True)
class Newest:
    """Keep only the newest `count` tags of a repository; `by` semver or the image's creation time."""

    count: int
    by: str = "semver"  # semver | created


@dataclass(frozen=True, slots=True)
class NameFilter:
    """Names that match an include glob (none means all), no exclude glob, and every other condition.

    `regex` is RE2 and searches (anchors are the writer's); `semver` is a range; `newest` comes last,
    over what the other conditions left of one repository. The last two are for tags.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    regex: str | None = None
    semver: str | None = None
    newest: Newest | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """One entry of a rule's `select`: every condition must hold; entries are united."""

    repositories: NameFilter = NameFilter()
    tags: NameFilter = NameFilter()
    types: tuple[str, ...] = ()  # image, chart, ... or artifact types; none means all
    platforms: tuple[str, ...] = ()  # os/architecture[/variant]; none means all
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
    """When a rule runs by itself; all that are set count, and it can always be run by hand."""

    every_seconds: float | None = None
    event: bool = False
    schedule: str | None = None  # cron, five fields
    timezone: str = "UTC"
    missed: str = "once"  # once: one run makes up for all missed ones | skip


@dataclass(frozen=True, slots=True)
class DeletePolicy:
    """Whether tags that went at the source go at the destination too (reliability.md P6).

    `cap_percent` is of the rule's tags at that destination; CAP_FLOOR tags are allowed whatever it
    comes to, unless it is 0: then all waits for an approval. `everything`: said of a rule that takes
    every repository, so that nobody says it by accident.
    """

    CAP_FLOOR: ClassVar[int] = 20

    enabled: bool = False
    everything: bool = False
    grace_seconds: float = 86400.0
    cap_percent: float = 10.0


@dataclass(frozen=True, slots=True)
class BandwidthLimit:
    """Bytes a second over the whole fleet; between two times of the day, on some days, or always.

    Minutes count from midnight in the rule's time zone; a window whose end is not after its begin
    runs over midnight. Days are 0 (Monday) to 6; none means every day.
    """

    bytes_per_second: int
    from_minute: int | None = None
    to_minute: int | None = None
    days: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SyncRule:
    """A saved statement of what is to be where."""

    name: str
    source: str
    select: tuple[Selection, ...]
    destinations: tuple[Destination, ...]
    project: str = "default"
    enabled: bool = True
    mode: str = "sync"  # sync | REPLICATE
    drift: str = "report"  # report | repair: what somebody else moved at a replica (model.replica)
    trigger: Trigger = Trigger()
    referrers: bool = True
    signature_key: str | None = (
        None  # a public key in PEM: nothing that it has not signed is copied
    )
    on_empty: str = "warn"  # warn | fail
    on_conflict: str = "overwrite"  # overwrite | keep | fail
    delete: DeletePolicy = DeletePolicy()
    priority: str = "normal"  # urgent | normal | bulk
    bandwidth: tuple[BandwidthLimit, ...] = ()
    freshness_seconds: float | None = None
    deadline_seconds: float | None = None
