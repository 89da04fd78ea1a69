"""What each idempotency key came to: a new execution, or the open one that it met."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from service.errors import Conflict
from service.store.clock import now_epoch
from service.store.database import upsert
from service.store.tables import executions
from service.store.tables_governance import execution_keys

KEPT_SECONDS = 7 * 86400.0


def recall(connection: Connection, rule: str, key: str | None) -> str | None:
    """Return the execution that a key came to before; None for a key that is new, or long ago.

    Raises Conflict when it was used for another rule.
    """
    if key is None:
        return None
    known = connection.execute(
        select(execution_keys.c.execution_id, execution_keys.c.rule)
        .join(executions, executions.c.id == execution_keys.c.execution_id)
        .where(execution_keys.c.key == key)
    ).first()
    if known is None:
        return None
    if known.rule != rule:
        raise Conflict("the Idempotency-Key was used for another rule")
    return str(known.execution_id)


def remember(connection: Connection, rule: str, key: str | None, execution: str) -> str:
    """Save what a key came to, forget keys of long ago, and return the execution."""
    if key is None:
        return execution
    connection.execute(
        delete(execution_keys).where(execution_keys.c.created_at < now_epoch() - KEPT_SECONDS)
    )
    statement = upsert(connection, execution_keys).values(
        key=key, rule=rule, execution_id=execution, created_at=now_epoch()
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["key"],
            set_={
                name: statement.excluded[name] for name in ("rule", "execution_id", "created_at")
            },
        )
    )
    return execution
