"""What deletions are in SQL: their states, their tags, and what Transship counts as its own.

looking (first look) -> checking (second look) -> pending (grace) or waiting (approval) -> done;
cancelled from checking, waiting and pending. A tag is pending until it is deleted, kept or failed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, select, update

from service.model.rule import SyncRule
from service.store.tables import written_tags
from service.store.tables_deletions import deletion_tags

LOOKING, CHECKING, WAITING, PENDING = "looking", "checking", "waiting", "pending"
DONE, CANCELLED, DELETED, KEPT, FAILED = "done", "cancelled", "deleted", "kept", "failed"
OPEN = (LOOKING, CHECKING, WAITING, PENDING)
STATES = (*OPEN, DONE, CANCELLED)
AT_ONCE = 500
FAILED_SECONDS = 86400.0
"""A tag that could not be deleted is tried again only after so long."""


@dataclass(frozen=True, slots=True)
class Scan:
    """A succeeded execution of a rule after which absent tags are to be looked for."""

    rule: SyncRule
    execution: str


@dataclass(frozen=True, slots=True)
class WrittenTag:
    """A tag that Transship wrote, and what it came from."""

    repository: str
    tag: str
    digest: str
    source_registry: str
    source_repository: str
    source_reference: str


@dataclass(frozen=True, slots=True)
class DeletionTag:
    """A tag of a deletion and what became of it."""

    written: WrittenTag
    state: str
    failure_class: str
    reason: str
    hint: str
    updated_at: float


@dataclass(frozen=True, slots=True)
class Deletion:
    """What one run of a rule found gone, at one destination."""

    id: str
    rule: str
    project: str
    execution: str
    registry: str
    state: str
    tags: int
    of_tags: int
    reason: str
    due_at: float | None
    decided_by: str
    decided_at: float | None
    created_at: float
    finished_at: float | None


def mark_seen(
    connection: Connection, execution: str, names: Iterable[tuple[str, str, str]]
) -> None:
    """Note that the sources of these names at destinations are there; never takes a later note back."""
    rows = [
        {"b_registry": registry, "b_repository": repository, "b_tag": tag, "b_execution": execution}
        for registry, repository, tag in sorted(
            names
        )  # in one order: two writers must not deadlock
    ]
    if rows:
        connection.execute(_SEEING, rows)


_SEEING = (
    update(written_tags)
    .where(
        written_tags.c.registry == bindparam("b_registry"),
        written_tags.c.repository == bindparam("b_repository"),
        written_tags.c.tag == bindparam("b_tag"),
        written_tags.c.seen_in < bindparam("b_execution"),
    )
    .values(seen_in=bindparam("b_execution"))
)


def written(row: Any) -> WrittenTag:
    """Return the tag of a row."""
    return WrittenTag(
        row.repository,
        row.tag,
        row.digest,
        row.source_registry,
        row.source_repository,
        row.source_reference,
    )


def tags_of(identity: str, state: str) -> Any:
    """Return the query of a deletion's tags in a state."""
    return (
        select(deletion_tags)
        .where(deletion_tags.c.deletion_id == identity, deletion_tags.c.state == state)
        .order_by(
            deletion_tags.c.source_repository, deletion_tags.c.repository, deletion_tags.c.tag
        )
    )


def count_pending(connection: Connection, identity: str) -> int:
    """Return how many tags of a deletion nothing is settled about."""
    query = select(func.count()).where(
        deletion_tags.c.deletion_id == identity, deletion_tags.c.state == PENDING
    )
    return int(connection.execute(query).scalar_one())


def forget_tag(connection: Connection, registry: str, repository: str, tag: str) -> None:
    """Have Transship no longer count a tag as its own."""
    connection.execute(
        delete(written_tags).where(
            written_tags.c.registry == registry,
            written_tags.c.repository == repository,
            written_tags.c.tag == tag,
        )
    )
