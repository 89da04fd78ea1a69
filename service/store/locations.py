"""What SQL knows of one image at many places: copies under way, how the last one ended, what we wrote."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, and_, func, or_, select
from sqlalchemy.sql.elements import ColumnElement

from service.model.rule import SyncRule
from service.model.states import OPEN_COPIES, CopyState, ExecutionState
from service.store import codec
from service.store.database import Database
from service.store.held_tags import Hold, holds_on
from service.store.tables import FAR, copies, executions, rules, written_tags

Place = tuple[str, str, str]
"""A registry, a repository and a tag (or digest) there."""

_PLACES_AT_ONCE = 200


@dataclass(slots=True)
class Known:
    """What is known of one place."""

    open_copy: int = 0
    execution: str = ""
    state: CopyState | None = None  # of the last copy that ended
    digest: str = ""  # of the last copy that ended well, or what we wrote there
    failure_class: str = ""
    reason: str = ""
    seen_at: float = field(default=0.0)
    hold: Hold | None = None  # of a release, which moves the tag and nothing else does


class LocationStore:
    """Reads; a few indexed queries, whatever the number of executions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def rules(self) -> list[tuple[SyncRule, bool]]:
        """Return every rule, and whether it is paused."""
        with self._database.read() as connection:
            return [
                (codec.load_rule(row.spec), row.paused_at is not None)
                for row in connection.execute(
                    select(rules.c.spec, rules.c.paused_at).order_by(rules.c.name)
                )
            ]

    def last_successes(self, names: Collection[str]) -> dict[str, str]:
        """Return the last full execution that succeeded, of each of some rules."""
        query = (
            select(executions.c.rule, func.max(executions.c.id))
            .where(
                executions.c.rule.in_(names),
                executions.c.kind == "full",
                executions.c.state == ExecutionState.SUCCEEDED,
            )
            .group_by(executions.c.rule)
        )
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def source_digest(self, registry: str, repository: str, reference: str) -> tuple[str, float]:
        """Return the digest that a source reference was last seen with, and when; empty: never."""
        query = (
            select(copies.c.digest, copies.c.updated_at)
            .where(
                copies.c.source_repository == repository,
                copies.c.source_reference == reference,
                copies.c.source_registry == registry,
                copies.c.digest != "",
            )
            .order_by(copies.c.id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return ("", 0.0) if row is None else (row.digest, row.updated_at)

    def known(self, places: Sequence[Place]) -> dict[Place, Known]:
        """Return what is known of each place."""
        found = {place: Known() for place in places}
        distinct = list(found)
        for start in range(0, len(distinct), _PLACES_AT_ONCE):
            self._look(found, distinct[start : start + _PLACES_AT_ONCE])
        return found

    def _look(self, found: dict[Place, Known], places: Sequence[Place]) -> None:
        """Fill in what we wrote, and of each place the newest open copy and the newest ended one."""
        is_open = copies.c.state.in_(OPEN_COPIES)
        place = (
            copies.c.destination_registry,
            copies.c.destination_repository,
            copies.c.destination_reference,
        )
        newest = (
            select(func.max(copies.c.id))
            .where(_is_one_of(places, *place))
            .where(copies.c.not_before != FAR)  # what only a plan names is on its way nowhere
            .group_by(*place, is_open)
        )
        latest = (
            select(
                *place,
                copies.c.id,
                copies.c.execution_id,
                copies.c.state,
                copies.c.digest,
                copies.c.failure_class,
                copies.c.reason,
                copies.c.updated_at,
            )
            .where(copies.c.id.in_(newest))
            .order_by(copies.c.id.desc())
        )
        written = select(written_tags).where(
            _is_one_of(
                places, written_tags.c.registry, written_tags.c.repository, written_tags.c.tag
            )
        )
        with self._database.read() as connection:
            for row in connection.execute(written):
                known = found[row.registry, row.repository, row.tag]
                known.digest, known.seen_at = row.digest, row.written_at
            for row in connection.execute(latest):
                _add(found[row[0], row[1], row[2]], row)
            for name, hold in holds_on(connection, places).items():
                found[name].hold = hold


def _is_one_of(
    places: Sequence[Place],
    registry: ColumnElement[str],
    repository: ColumnElement[str],
    reference: ColumnElement[str],
) -> ColumnElement[bool]:
    """Return the condition that a row is at one of these places: one branch a name, not a registry."""
    registries: dict[tuple[str, str], list[str]] = {}
    for place in places:
        registries.setdefault(place[1:], []).append(place[0])
    return or_(
        *(
            and_(registry.in_(names), repository == name[0], reference == name[1])
            for name, names in registries.items()
        )
    )


def _add(known: Known, row: Row[Any]) -> None:
    """Take in one copy: of a place there is one open and one ended, the newest first."""
    state = CopyState(row.state)
    if state in OPEN_COPIES:
        known.open_copy = row.id
        known.execution = row.execution_id
        return
    known.state = state
    known.execution = known.execution or row.execution_id
    known.failure_class = row.failure_class
    known.reason = row.reason
    if state in (CopyState.COPIED, CopyState.UNCHANGED):
        known.digest = row.digest
        known.seen_at = row.updated_at
