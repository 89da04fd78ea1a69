"""Which of two copies to one name goes first: one runs, the newest event waits, older ones step back.

A full execution and executions of single tags run side by side (issue 3), so the same destination tag
may be asked for several times. Whoever commits re-reads the source's tag, so order is a matter of thrift
and speed, never of which image wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    FromClause,
    Row,
    and_,
    bindparam,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from service.model.states import ENDED_EXECUTIONS, OPEN_COPIES, CopyState
from service.store import outbox
from service.store.clock import now_epoch
from service.store.routes import let_go_on
from service.store.tables import FAR, copies, executions

OVERTAKEN = "overtaken"
"""The class of a copy that was skipped since a newer execution was asked for the same tag."""


_RIVALS = (  # built once: it is asked at each page
    select(executions.c.id)
    .where(
        executions.c.rule == bindparam("rule"),
        executions.c.id != bindparam("execution"),
        executions.c.state.not_in(ENDED_EXECUTIONS),
    )
    .limit(1)
)


def has_rivals(connection: Connection, execution: str, rule: str) -> bool:
    """Whether another execution of the rule is open."""
    values = {"rule": rule, "execution": execution}
    return connection.execute(_RIVALS, values).first() is not None


def take_turn(connection: Connection, copy: int, *, asked_now: bool) -> None:
    """Order a new copy among open ones of its rule and name.

    One under way goes first and the new copy stands behind it. `asked_now` is a copy of an execution
    of single tags: an earlier one of an event that has not begun is skipped in its favour, since events
    only ask to look; any other stands behind it. A full execution's copy stands behind whatever is open.
    """
    own = connection.execute(select(copies).where(copies.c.id == copy)).one()
    others = _line(connection, own)
    begun = [one for one in others if one.state != CopyState.PENDING]
    waiting = [one for one in others if one.state == CopyState.PENDING]
    if not asked_now:
        _stand(connection, [*begun, *waiting, own])
        return
    for other in waiting:
        if other.trigger == "event":
            _skip(connection, other.id, own.execution_id)
    _stand(connection, [*begun, own, *(one for one in waiting if one.trigger != "event")])


def take_turns(connection: Connection, execution: str, rule: str) -> None:
    """Order the new copies of an execution that came all at once behind what is open of its rule."""
    if not has_rivals(connection, execution, rule):
        return
    rival = copies.alias("rival")
    of_the_name = (
        rival.c.destination_registry == copies.c.destination_registry,
        rival.c.destination_repository == copies.c.destination_repository,
        rival.c.destination_reference == copies.c.destination_reference,
        rival.c.rule == rule,
        rival.c.id != copies.c.id,
        rival.c.state.in_(OPEN_COPIES),
        rival.c.not_before != FAR,
    )
    own = (copies.c.execution_id == execution, copies.c.state == CopyState.PENDING)
    count = select(func.count()).select_from(rival).where(*of_the_name).correlate(copies)
    the_one = select(func.min(rival.c.id)).where(*of_the_name).correlate(copies)
    connection.execute(  # nearly all: one by one, thousands keep other writers out for seconds
        update(copies)
        .where(*own, count.scalar_subquery() == 1)
        .values(behind=the_one.scalar_subquery())
    )
    rest = select(copies.c.id).where(*own, count.scalar_subquery() > 1).order_by(copies.c.id)
    for copy in connection.execute(rest).scalars().all():
        take_turn(connection, copy, asked_now=False)


def let_go_before(connection: Connection, copy: int) -> None:
    """Let what was asked for by its tag pass a copy that has just been put off.

    It would wait for the back-off otherwise. An event's own copy is skipped in a newer event's favour.
    """
    own = connection.execute(
        select(copies, executions.c.trigger)
        .join(executions, executions.c.id == copies.c.execution_id)
        .where(copies.c.id == copy)
    ).one()
    waiting = [one for one in _line(connection, own) if one.state == CopyState.PENDING]
    asked = [one for one in waiting if one.kind == "tags"]
    if not asked:
        return
    rest = [one for one in waiting if one.kind != "tags"]
    newer = [one for one in asked if one.trigger == "event"]
    if own.trigger == "event" and newer:
        _skip(connection, copy, newer[-1].execution_id)
        _stand(connection, [*asked, *rest])
    else:
        _stand(connection, [*asked, own, *rest])


def _line(connection: Connection, own: Row[Any]) -> list[Row[Any]]:
    """Return the other open copies of a copy's rule and name: what has begun, then who waits behind whom."""
    found: Any = connection.execute(
        select(
            copies.c.id,
            copies.c.state,
            copies.c.behind,
            copies.c.execution_id,
            executions.c.trigger,
            executions.c.kind,
        )
        .join(executions, executions.c.id == copies.c.execution_id)
        .where(
            copies.c.destination_registry == own.destination_registry,
            copies.c.destination_repository == own.destination_repository,
            copies.c.destination_reference == own.destination_reference,
            copies.c.rule == own.rule,
            copies.c.id != own.id,
            copies.c.state.in_(OPEN_COPIES),
            copies.c.not_before != FAR,
        )
        .order_by(copies.c.id)
    ).all()
    line: list[Row[Any]] = [one for one in found if one.state != CopyState.PENDING]
    left = [one for one in found if one.state == CopyState.PENDING]
    while left:
        names = {one.id for one in left}
        first = next((one for one in left if one.behind not in names), left[0])
        left.remove(first)
        line.append(first)
    return line


def _stand(connection: Connection, line: Sequence[Row[Any]]) -> None:
    """Have each pending copy of a line stand behind the one before it."""
    ahead = 0
    for one in line:
        if one.state == CopyState.PENDING and one.behind != ahead:
            connection.execute(
                update(copies)
                .where(copies.c.id == one.id, copies.c.state == CopyState.PENDING)
                .values(behind=ahead)
            )
        ahead = one.id


def _skip(connection: Connection, copy: int, execution: str) -> None:
    """Leave a copy that has not begun to a newer execution, and tell of it."""
    changed = connection.execute(
        update(copies)
        .where(copies.c.id == copy, copies.c.state == CopyState.PENDING)
        .values(
            state=CopyState.SKIPPED,
            failure_class=OVERTAKEN,
            reason=f"execution {execution} was asked for the same tag later",
            updated_at=now_epoch(),
        )
    )
    if changed.rowcount == 1:
        outbox.copy_ended(connection, copy)
        let_go_on(connection, copy)


def first_in_line(one: FromClause) -> ColumnElement[bool]:
    """Return the condition that no open copy goes before `one`, a row of copies."""
    ahead = copies.alias("ahead")
    return or_(
        one.c.behind == 0,
        ~exists().where(and_(ahead.c.id == one.c.behind, ahead.c.state.in_(OPEN_COPIES))),
    )
