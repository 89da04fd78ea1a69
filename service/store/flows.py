"""Flows: which execution goes on from what another one has committed, from the first one to the last.

An execution that a hint has started was caused by the copy that wrote the tag, where that was ours: the
registry names our user agent, or the digest that it tells is the one that we wrote. A flow bears the name of
the execution that nothing of ours has caused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select

from service.model.states import CopyState
from service.store import codec
from service.store.database import Database, upsert
from service.store.tables import copies, executions
from service.store.tables_replicas import execution_causes

TRACED = 100
"""Hints of one execution that are traced: mostly all of them have one cause."""

ROUNDS = 3
"""A flow that has come by a rule so often, one time behind the other, goes round, and is held off."""

MOST_ANCESTORS = 300

_COMMITTING = (CopyState.RUNNING, CopyState.COPYING, CopyState.COPIED)


@dataclass(frozen=True, slots=True)
class Hop:
    """One execution of a flow; times are seconds since 1970 by the database's clock.

    `changed_at`: when the oldest change was told of that it looks at, None where nothing was told.
    """

    execution: str
    rule: str
    project: str
    source: str
    destinations: tuple[str, ...]  # those that it has copied to
    trigger: str
    state: str
    causes: tuple[str, ...]
    changed_at: float | None
    created_at: float
    finished_at: float | None


def causes_of(connection: Connection, hints: Sequence[Row[Any]]) -> dict[tuple[str, str], str]:
    """Return which execution has written what a hint tells of, by repository and reference."""
    causes: dict[tuple[str, str], str] = {}
    for hint in hints[:TRACED]:
        copy = connection.execute(
            select(copies.c.execution_id, copies.c.digest)
            .where(
                copies.c.destination_registry == hint.registry,
                copies.c.destination_repository == hint.repository,
                copies.c.destination_reference == hint.reference,
                copies.c.state.in_(_COMMITTING),
            )
            .order_by(copies.c.id.desc())
            .limit(1)
        ).first()
        if copy is not None and (hint.ours or (hint.digest and hint.digest == copy.digest)):
            causes[hint.repository, hint.reference] = copy.execution_id
    return causes


def going_round(connection: Connection, rule: str, causes: Iterable[str]) -> frozenset[str]:
    """Return which of these executions have come about by ROUNDS executions of a rule, one behind the other."""
    return frozenset(one for one in set(causes) if _rounds(connection, rule, one) >= ROUNDS)


def _rounds(connection: Connection, rule: str, execution: str) -> int:
    found, seen, edge = 0, {execution}, [execution]
    while edge and len(seen) < MOST_ANCESTORS:
        found += int(
            connection.execute(
                select(func.count()).where(executions.c.id.in_(edge), executions.c.rule == rule)
            ).scalar_one()
            > 0
        )
        query = select(execution_causes.c.cause).where(execution_causes.c.execution_id.in_(edge))
        edge = sorted(set(connection.execute(query).scalars()) - seen)
        seen.update(edge)
    return found


def note_causes(connection: Connection, execution: str, causes: Iterable[str]) -> None:
    """Save what an execution goes on from. In the transaction that starts it."""
    for cause in sorted(set(causes)):
        for flow in _flows(connection, cause) or [cause]:
            connection.execute(
                upsert(connection, execution_causes)
                .values(execution_id=execution, cause=cause, flow=flow)
                .on_conflict_do_nothing()
            )


def _flows(connection: Connection, execution: str) -> list[str]:
    query = select(execution_causes.c.flow).where(execution_causes.c.execution_id == execution)
    return sorted(set(connection.execute(query).scalars()))


class FlowStore:
    """Reads flows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, execution: str) -> list[str]:
        """Return the flows that an execution is part of; none that goes on from nothing of ours."""
        with self._database.read() as connection:
            return _flows(connection, execution)

    def hops(self, flow: str, limit: int = 200) -> list[Hop]:
        """Return the executions of a flow by age; none when there is no such execution any more."""
        members = select(execution_causes.c.execution_id).where(execution_causes.c.flow == flow)
        query = (
            select(executions)
            .where(or_(executions.c.id == flow, executions.c.id.in_(members)))
            .order_by(executions.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [_hop(connection, row) for row in connection.execute(query).all()]


def _hop(connection: Connection, row: Row[Any]) -> Hop:
    causes = select(execution_causes.c.cause).where(execution_causes.c.execution_id == row.id)
    written = (
        select(copies.c.destination_registry)
        .where(copies.c.execution_id == row.id, copies.c.state == CopyState.COPIED)
        .distinct()
    )
    return Hop(
        row.id,
        row.rule,
        row.project,
        codec.load_rule(row.spec).source,
        tuple(sorted(connection.execute(written).scalars())),
        row.trigger,
        row.state,
        tuple(sorted(connection.execute(causes).scalars())),
        row.changed_at,
        row.created_at,
        row.finished_at,
    )
