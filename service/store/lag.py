"""Lag: how long the oldest change at a rule's source has not been at its destinations (issue 6 point 7).

A change is as old as the registry's word of it; one that no registry told of, as the look that found it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, exists, func, select

from service.model.states import ENDED_EXECUTIONS, OPEN_COPIES, CopyState, ExecutionState
from service.store.clock import database_now
from service.store.database import Database
from service.store.tables import FAR, copies, executions
from service.store.tables_events import registry_events

KINDS = ("full", "tags", "carry")
LATELY = 20
"""So many of a rule's last executions are looked at for what landed last, and what did not."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far one destination is behind.

    `seconds` is 0 when nothing is on its way or has failed; `last_seconds` what the copy that landed last
    (at `last_at`, seconds since 1970) had taken since its change, None when none is known.
    """

    registry: str
    waiting: int = 0
    seconds: float = 0.0
    last_seconds: float | None = None
    last_at: float | None = None


class LagStore:
    """Reads lags from open copies and the last ones that landed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, rule: str, source: str, destinations: list[str]) -> list[Lag]:
        """Return the lag of a rule at each of its destinations.

        What was told of the source and no execution has taken up yet counts for all of them.
        """
        with self._database.read() as connection:
            now = database_now(connection)
            unplanned = self._unplanned(connection, rule, source)
            waiting: dict[str, tuple[int, float]] = {}
            for query in (_open(rule), _failed(rule)):
                for registry, count, since in connection.execute(query):
                    known = waiting.get(registry, (0, now))
                    waiting[registry] = (known[0] + int(count), min(known[1], float(since)))
            landed: dict[str, tuple[float, float]] = {}
            for row in connection.execute(_landed(rule)):
                found = (float(row.updated_at), float(row.since))
                if found[0] > landed.get(row.destination_registry, (0.0, 0.0))[0]:
                    landed[row.destination_registry] = found
        found_lags = []
        for name in destinations:
            count, since = waiting.get(name, (0, None))
            oldest = min((one for one in (since, unplanned) if one is not None), default=now)
            at, began = landed.get(name, (None, None))
            took = None if at is None or began is None else max(0.0, at - began)
            found_lags.append(Lag(name, count, max(0.0, now - oldest), took, at))
        return found_lags

    def unseen(self, rule: str, created_at: float) -> float:
        """Return the seconds since the last look at the source that found all well, or since the rule is there."""
        good = select(func.max(executions.c.started_at)).where(
            executions.c.rule == rule,
            executions.c.kind == "full",
            executions.c.state == ExecutionState.SUCCEEDED,
        )
        with self._database.read() as connection:
            looked_at = connection.execute(good).scalar()
            now = database_now(connection)
        return max(0.0, now - float(created_at if looked_at is None else looked_at))

    def _unplanned(self, connection: Connection, rule: str, source: str) -> float | None:
        """Return when the oldest change was told of that no copy stands for yet."""
        planned = select(func.min(_SINCE)).where(
            executions.c.rule == rule,
            executions.c.kind == "tags",
            executions.c.planned.is_(False),
            executions.c.state.not_in(ENDED_EXECUTIONS),
        )
        told = select(func.min(registry_events.c.received_at)).where(
            registry_events.c.registry == source, registry_events.c.rule.in_(["", rule])
        )
        found = [connection.execute(query).scalar() for query in (planned, told)]
        return min((float(one) for one in found if one is not None), default=None)


_SINCE = func.coalesce(executions.c.changed_at, executions.c.created_at)


def _open(rule: str) -> Select[Any]:
    return (
        select(copies.c.destination_registry, func.count(), func.min(_SINCE))
        .join(executions, executions.c.id == copies.c.execution_id)
        .where(
            executions.c.rule == rule,
            executions.c.kind.in_(KINDS),
            executions.c.state.not_in(ENDED_EXECUTIONS),
            copies.c.state.in_(OPEN_COPIES),
            copies.c.not_before != FAR,
        )
        .group_by(copies.c.destination_registry)
    )


def _failed(rule: str) -> Select[Any]:
    """Return the query for what is not there since its copy failed: after the last look that found all well."""
    good = (
        select(func.max(executions.c.created_at))
        .where(
            executions.c.rule == rule,
            executions.c.kind == "full",
            executions.c.state == ExecutionState.SUCCEEDED,
        )
        .scalar_subquery()
    )
    later = copies.alias("later")
    mended = exists().where(
        later.c.destination_registry == copies.c.destination_registry,
        later.c.destination_repository == copies.c.destination_repository,
        later.c.destination_reference == copies.c.destination_reference,
        later.c.id > copies.c.id,
        later.c.state.in_([CopyState.COPIED, CopyState.UNCHANGED]),
    )
    return (
        select(copies.c.destination_registry, func.count(), func.min(_SINCE))
        .join(executions, executions.c.id == copies.c.execution_id)
        .where(
            executions.c.id.in_(_lately(rule)),
            executions.c.created_at > func.coalesce(good, 0),
            copies.c.state.in_([CopyState.FAILED, CopyState.SUPERSEDED, CopyState.STOPPED]),
            ~mended,
        )
        .group_by(copies.c.destination_registry)
    )


def _lately(rule: str) -> Select[Any]:
    return (
        select(executions.c.id)
        .where(executions.c.rule == rule, executions.c.kind.in_(KINDS))
        .order_by(executions.c.created_at.desc())
        .limit(LATELY)
    )


def _landed(rule: str) -> Select[Any]:
    return (
        select(
            copies.c.destination_registry,
            func.max(copies.c.updated_at).label("updated_at"),
            func.max(_SINCE).label("since"),
        )
        .join(executions, executions.c.id == copies.c.execution_id)
        .where(executions.c.id.in_(_lately(rule)), copies.c.state == CopyState.COPIED)
        .group_by(copies.c.destination_registry, executions.c.id)
    )
