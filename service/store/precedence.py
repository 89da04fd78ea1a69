"""Which of two copies to one name goes first: one runs, the newest event waits, older ones step back.

A full execution and executions of single tags run side by side (issue 3), so the same destination tag
may be asked for several times. Whoever commits re-reads the source's tag, so order is a matter of thrift
and speed, never of which image wins.
"""

from __future__ import annotations

from sqlalchemy import Connection, and_, exists, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from service.model.states import ENDED_EXECUTIONS, OPEN_COPIES, CopyState
from service.store.clock import now_epoch
from service.store.tables import FAR, copies, executions


def has_rivals(connection: Connection, execution: str, rule: str) -> bool:
    """Whether another execution of the rule is open."""
    return (
        connection.execute(
            select(executions.c.id)
            .where(
                executions.c.rule == rule,
                executions.c.id != execution,
                executions.c.state.not_in(ENDED_EXECUTIONS),
            )
            .limit(1)
        ).first()
        is not None
    )


def take_turn(connection: Connection, copy: int, *, asked_now: bool) -> None:
    """Order a new copy among open ones of its rule and name.

    One under way goes first and the new copy stands behind it. `asked_now` is a copy of an execution
    of single tags: an earlier one of an event that has not begun is skipped in its favour, since events
    only ask to look; any other stands behind it. A full execution's copy stands behind whatever is open.
    """
    own = connection.execute(select(copies).where(copies.c.id == copy)).one()
    others = connection.execute(
        select(copies.c.id, copies.c.state, copies.c.execution_id, executions.c.trigger)
        .join(executions, executions.c.id == copies.c.execution_id)
        .where(
            copies.c.destination_registry == own.destination_registry,
            copies.c.destination_repository == own.destination_repository,
            copies.c.destination_reference == own.destination_reference,
            copies.c.rule == own.rule,
            copies.c.id != copy,
            copies.c.state.in_(OPEN_COPIES),
            copies.c.not_before < FAR,
        )
        .order_by(copies.c.id)
    ).all()
    for other in others:
        if other.state != CopyState.PENDING or not asked_now:
            _stand_behind(connection, copy, other.id)
        elif other.trigger == "event":
            connection.execute(
                update(copies)
                .where(copies.c.id == other.id, copies.c.state == CopyState.PENDING)
                .values(
                    state=CopyState.SKIPPED,
                    reason=f"execution {own.execution_id} was asked for the same tag later",
                    updated_at=now_epoch(),
                )
            )
        else:
            _stand_behind(connection, other.id, copy)


def _stand_behind(connection: Connection, copy: int, first: int) -> None:
    connection.execute(
        update(copies)
        .where(copies.c.id == copy, copies.c.state == CopyState.PENDING)
        .values(behind=first)
    )


def first_in_line() -> ColumnElement[bool]:
    """Return the condition that no open copy goes before a copy."""
    ahead = copies.alias("ahead")
    return or_(
        copies.c.behind == 0,
        ~exists().where(and_(ahead.c.id == copies.c.behind, ahead.c.state.in_(OPEN_COPIES))),
    )
