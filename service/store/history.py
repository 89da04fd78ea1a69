"""What landed minute by minute over the last hour, and how old each change was by then (issue 9, point 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Select, cast, func, or_, select

from service.model.states import ENDED_EXECUTIONS, CopyState, ExecutionState
from service.store.clock import database_now
from service.store.database import Database
from service.store.incidents import LATE
from service.store.lag import KINDS
from service.store.shared import SharedAnswers
from service.store.tables import copies, executions, rules
from service.store.tables_freshness import rule_incidents

MINUTES = 60
SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Landed:
    """What copies of one rule came to their end in one minute.

    `minute` counts from 0, the oldest, to MINUTES - 1, the one that goes on. `bytes` are all that these copies
    have read, whenever they did. `seconds`: the longest time from a change, as it was told of or found, to its
    copy.
    """

    rule: str
    project: str
    minute: int
    copies: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Late:
    """From when to when a rule was behind its objective somewhere, in seconds since 1970; None: it still is."""

    rule: str
    project: str
    began_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class Hour:
    """The last MINUTES minutes; `began_at` is when the first one began, in seconds since 1970.

    `objectives`: the freshness objectives, in seconds, of rules that have one and are in it.
    """

    began_at: float
    landed: tuple[Landed, ...]
    late: tuple[Late, ...]
    objectives: dict[str, float]


class HistoryStore:
    """Reads the last hour; whoever asks within a moment has the same answer."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shared = SharedAnswers[Hour](SECONDS)

    def hour(self) -> Hour:
        """Return the last hour of all rules, a moment old at most."""
        return self._shared.get("hour", self._read)

    def _read(self) -> Hour:
        with self._database.read() as connection:
            now = int(database_now(connection) // 60)
            first = now - MINUTES + 1
            since = first * 60.0
            rows = connection.execute(_landed(since, sqlite=self._database.is_sqlite)).all()
            late = [Late(*row[:4]) for row in connection.execute(_late(since))]
            names = {row.rule for row in rows} | {one.rule for one in late}
            wanted = select(rules.c.name, rules.c.freshness_seconds).where(
                rules.c.name.in_(sorted(names)), rules.c.freshness_seconds.is_not(None)
            )
            objectives = {row[0]: float(row[1]) for row in connection.execute(wanted)}
        return Hour(
            since,
            tuple(
                Landed(
                    row.rule,
                    row.project,
                    min(MINUTES - 1, max(0, int(row.minute) - first)),
                    int(row.copies),
                    int(row.bytes or 0),
                    max(0.0, float(row.seconds)),
                )
                for row in rows
            ),
            tuple(late),
            objectives,
        )


def _landed(since: float, *, sqlite: bool) -> Select[Any]:
    """Return the query for copies that ended since then; those of executions that ended before are not read."""
    at = copies.c.updated_at / 60
    minute = (cast(at, BigInteger) if sqlite else cast(func.floor(at), BigInteger)).label("minute")
    changed = func.coalesce(executions.c.changed_at, executions.c.created_at)
    open_states = set(ExecutionState) - ENDED_EXECUTIONS
    lately = select(executions.c.id).where(
        executions.c.kind.in_(KINDS),
        or_(executions.c.state.in_(open_states), executions.c.finished_at >= since),
    )
    return (
        select(
            executions.c.rule,
            executions.c.project,
            minute,
            func.count().label("copies"),
            func.sum(copies.c.bytes_copied).label("bytes"),
            func.max(copies.c.updated_at - changed).label("seconds"),
        )
        .join(executions, executions.c.id == copies.c.execution_id)
        .where(
            copies.c.execution_id.in_(lately),
            copies.c.state == CopyState.COPIED,
            copies.c.updated_at >= since,
        )
        .group_by(executions.c.rule, executions.c.project, minute)
        .order_by(executions.c.rule, minute)
    )


def _late(since: float) -> Select[Any]:
    one = rule_incidents.c
    project = (
        select(executions.c.project)
        .where(executions.c.rule == one.rule)
        .order_by(executions.c.created_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(one.rule, func.coalesce(project, ""), one.began_at, one.ended_at)
        .where(one.kind == LATE, or_(one.ended_at.is_(None), one.ended_at >= since))
        .order_by(one.rule, one.began_at)
    )
