"""What happens to a promotion, as statements of one transaction: each forward only, each in its history."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from service.errors import NotFoundInStore
from service.model.pipeline import APPROVAL, OPEN, SCAN, PromotionState, StepState
from service.store import outbox
from service.store.audit import Change, append
from service.store.clock import now_epoch
from service.store.promotion_values import as_step
from service.store.tables_pipelines import promotion_history, promotion_steps, promotions

MAX_ACTOR = 128


def lock(connection: Connection, identity: str) -> Row[Any]:
    """Return a promotion's row, and keep others from changing it meanwhile. Raises NotFoundInStore."""
    row = connection.execute(
        select(promotions).where(promotions.c.id == identity).with_for_update()
    ).first()
    if row is None:
        raise NotFoundInStore(
            f"there is no promotion {identity}", hint="list them: transship promotions ls"
        )
    return row


def tell(
    connection: Connection,
    identity: str,
    actor: str,
    event: str,
    *,
    gate: int | None = None,
    reason: str = "",
) -> None:
    """Add a line to a promotion's history."""
    connection.execute(
        insert(promotion_history).values(
            promotion=identity,
            at=now_epoch(),
            actor=actor[:MAX_ACTOR],
            event=event,
            gate=gate,
            reason=reason,
        )
    )


def audited(connection: Connection, row: Row[Any], actor: str, action: str, **after: Any) -> None:
    """Write what no request of the API has done into the audit log."""
    told = {"pipeline": row.pipeline, "stage": row.stage, "digest": row.digest, **after}
    append(
        connection,
        Change(actor[:MAX_ACTOR], action, "promotions", row.id, row.project, None, told),
    )


def machine(row: Row[Any]) -> str:
    """Return whom the history names where no person acts."""
    return f"pipeline {row.pipeline}"


def begin_gate(connection: Connection, row: Row[Any], position: int) -> None:
    """Have a gate judge from now on; its time begins to run. Who listens is told that people have to agree."""
    identity = row.id
    step = promotion_steps.c
    found = connection.execute(
        select(promotion_steps).where(step.promotion == identity, step.position == position)
    ).one()
    gate = as_step(found).gate
    deadline = now_epoch() + gate.timeout_seconds
    connection.execute(
        update(promotion_steps)
        .where(step.promotion == identity, step.position == position)
        .values(
            state=StepState.WAITING,
            begun_at=now_epoch(),
            deadline_at=deadline,
            not_before=deadline if gate.kind == SCAN and not gate.url else 0,  # it is told
        )
    )
    if gate.kind == APPROVAL:
        outbox.promotion_told(
            connection, row, "waiting", gate=position, role=gate.role, count=gate.count
        )


def close_gate(
    connection: Connection,
    row: Row[Any],
    state: StepState,
    actor: str,
    reason: str = "",
    *,
    status: int | None = None,
) -> None:
    """Write down what the gate that a promotion waits for has come to, and what follows from it."""
    step = promotion_steps.c
    connection.execute(
        update(promotion_steps)
        .where(step.promotion == row.id, step.position == row.gate)
        .values(state=state, reason=reason, ended_at=now_epoch(), status=status)
    )
    tell(connection, row.id, actor, f"gate.{state}", gate=row.gate, reason=reason)
    if state is not StepState.PASSED:
        ending = {
            StepState.REFUSED: PromotionState.REJECTED,
            StepState.EXPIRED: PromotionState.EXPIRED,
        }[state]
        end(connection, row, ending, actor, reason)
        return
    following = row.gate + 1
    connection.execute(update(promotions).where(promotions.c.id == row.id).values(gate=following))
    if following < row.gates:
        begin_gate(connection, row, following)


def end(
    connection: Connection, row: Row[Any], state: PromotionState, actor: str, reason: str = ""
) -> bool:
    """Have a promotion come to this, if it is still under way; whether it was."""
    changed = connection.execute(
        update(promotions)
        .where(promotions.c.id == row.id, promotions.c.state.in_(OPEN))
        .values(state=state, reason=reason, ended_at=now_epoch())
    )
    if changed.rowcount != 1:
        return False
    step = promotion_steps.c
    connection.execute(  # nobody is asked any more
        update(promotion_steps)
        .where(step.promotion == row.id, step.state == StepState.WAITING)
        .values(state=StepState.PENDING)
    )
    tell(connection, row.id, actor, str(state), reason=reason)
    outbox.promotion_told(connection, row, str(state), reason)
    return True
