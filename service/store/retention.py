"""How long ended executions are kept: the newest of each rule, the rest goes in small steps."""

from __future__ import annotations

import json
from functools import partial

from sqlalchemy import Connection, delete, func, select

from service.model.states import ENDED_EXECUTIONS
from service.store import outbox
from service.store.database import Database
from service.store.tables import copies, executions

COPIES_AT_ONCE = 2000
"""Rows that one transaction deletes: others write between two of them."""


class RetentionStore:
    """Forgets old executions; what they wrote stays in the ledger and among the written tags."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def sweep(self, keep: int) -> int:
        """Forget ended executions beyond the newest `keep` of each rule and kind; returns how many."""
        turn = (
            func.row_number()
            .over(
                partition_by=(executions.c.rule, executions.c.kind),
                order_by=executions.c.id.desc(),
            )
            .label("turn")
        )
        inner = (
            select(executions.c.id, turn).where(executions.c.state.in_(ENDED_EXECUTIONS)).subquery()
        )
        with self._database.read() as connection:
            ended = (
                connection.execute(select(inner.c.id).where(inner.c.turn > keep).limit(1000))
                .scalars()
                .all()
            )
            needed = _needed(connection)  # after them: what stopped them is written by now
        old = [identity for identity in ended if identity not in needed]
        for execution in old:
            while self._database.write(partial(_forget_some_copies, execution)):
                pass
            self._database.write(partial(_forget, execution))
        return len(old)


def _needed(connection: Connection) -> set[str]:
    """Return executions that others point to.

    Plans that are carried out, repairs of verifications, and what webhooks are still to be told of.
    """
    carried = connection.execute(
        select(executions.c.only).where(
            executions.c.kind == "carry", executions.c.state.not_in(ENDED_EXECUTIONS)
        )
    ).scalars()
    repairs = connection.execute(
        select(executions.c.repair).where(executions.c.kind == "verify", executions.c.repair != "")
    ).scalars()
    return (
        {str(json.loads(text)) for text in carried} | set(repairs) | outbox.to_be_told(connection)
    )


def _forget_some_copies(execution: str, connection: Connection) -> int:
    some = select(copies.c.id).where(copies.c.execution_id == execution).limit(COPIES_AT_ONCE)
    gone = connection.execute(delete(copies).where(copies.c.id.in_(some.scalar_subquery())))
    return gone.rowcount


def _forget(execution: str, connection: Connection) -> None:
    connection.execute(delete(executions).where(executions.c.id == execution))
