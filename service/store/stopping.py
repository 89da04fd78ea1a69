"""How executions are stopped: the fence of every open copy rises, so that nothing under way commits."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select, update

from service.model.states import OPEN_COPIES, CopyState, ExecutionState
from service.store import outbox
from service.store.clock import now_epoch
from service.store.tables import copies, executions

_OPEN = (ExecutionState.PENDING, ExecutionState.RUNNING)


def begin_stop(connection: Connection, identity: str, reason: str = "") -> None:
    """Begin to stop an execution; one that stops already, or has ended, stays as it is."""
    values: dict[str, Any] = {"state": ExecutionState.STOPPING}
    if reason:
        values["reason"] = reason
    changed = connection.execute(
        update(executions)
        .where(executions.c.id == identity, executions.c.state.in_(_OPEN))
        .values(**values)
    )
    if changed.rowcount:
        stopped = connection.execute(
            update(copies)
            .where(copies.c.execution_id == identity, copies.c.state.in_(OPEN_COPIES))
            .values(
                state=CopyState.STOPPED,
                owner="",
                waiting_on="",
                failure_class="stopped",
                reason=reason or "the execution was stopped",
                fence=copies.c.fence + 1,
                updated_at=now_epoch(),
            )
        )
        if stopped.rowcount:
            outbox.copies_stopped(connection, identity)


def begin_stop_of_rule(connection: Connection, rule: str, reason: str) -> None:
    """Begin to stop every open execution of a rule."""
    query = select(executions.c.id).where(executions.c.rule == rule, executions.c.state.in_(_OPEN))
    for identity in connection.execute(query).scalars().all():
        begin_stop(connection, identity, reason)
