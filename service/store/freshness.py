"""Freshness: rules whose last good look at the source is older than they allow, told once each time."""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Connection, func, select, update

from service.model.states import ExecutionState
from service.store import codec, outbox
from service.store.clock import database_now, now_epoch
from service.store.database import Database
from service.store.tables import executions, rules


class FreshnessStore:
    """Judges rules by their objective; one holder of the scheduler's lease at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def judge(self) -> list[tuple[str, bool]]:
        """Note and tell which enabled rules have become late, or fresh again; returns (rule, late).

        The lag is the time since the start of the last full execution that succeeded, or since the
        rule was saved first.
        """
        last = (
            select(func.max(executions.c.started_at))
            .where(
                executions.c.rule == rules.c.name,
                executions.c.kind == "full",
                executions.c.state == ExecutionState.SUCCEEDED,
            )
            .scalar_subquery()
        )
        lag = now_epoch() - func.coalesce(last, rules.c.created_at)
        query = select(rules.c.name, rules.c.late_since, rules.c.freshness_seconds, lag).where(
            rules.c.enabled, rules.c.freshness_seconds.is_not(None)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        changed = []
        for name, late_since, allowed, seconds in rows:
            late = seconds > allowed
            if late is (late_since is None):
                self._database.write(partial(_tell, name, late, seconds))
                changed.append((name, late))
        return changed


def _tell(name: str, late: bool, lag: float, connection: Connection) -> None:
    row: Any = connection.execute(
        select(rules.c.spec, rules.c.late_since).where(rules.c.name == name).with_for_update()
    ).first()
    if row is None or late is (row.late_since is not None):
        return
    connection.execute(
        update(rules)
        .where(rules.c.name == name)
        .values(late_since=database_now(connection) if late else None)
    )
    outbox.rule_told(connection, codec.load_rule(row.spec), late=late, lag_seconds=lag)
