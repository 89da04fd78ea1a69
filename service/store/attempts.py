"""What each attempt of a copy came to (issue 9, point 1), written in the transaction that posts its outcome.

A copy that succeeds at once writes nothing: the row of the copy says it all. One that failed before has its
success here, too. Of each copy the last MOST_ATTEMPTS are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    exists,
    false,
    func,
    insert,
    literal,
    select,
    update,
)

from service.model.states import CopyState
from service.model.work import CopyEnded, CopyPostponed
from service.store.clock import now_epoch
from service.store.database import insert_of
from service.store.tables import copies
from service.store.tables_attempts import copy_attempts

MOST_ATTEMPTS = 20
LONGEST_REASON = 1000
"""In characters; the copy's own row has the last reason whole."""

AGAIN = "again"
DIED = "died"
OUTCOMES = (
    AGAIN,
    DIED,
    CopyState.COPIED.value,
    CopyState.UNCHANGED.value,
    CopyState.SKIPPED.value,
    CopyState.SUPERSEDED.value,
    CopyState.FAILED.value,
)

_GOOD = frozenset({CopyState.COPIED, CopyState.UNCHANGED, CopyState.SKIPPED})
TOLD = (
    *("number", "times", "outcome", "counted", "failure_class", "reason", "worker", "region"),
    *("bytes", "began_at", "ended_at"),
)
"""What a region tells home of an attempt."""


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt, or several in a row that came to the same (`times`); `number` is that of the last.

    `outcome`: one of OUTCOMES. `counted`: it counts against the copy's attempts. `worker` is the identity of
    the process, `bytes` what its last step has read, the times are seconds since 1970.
    """

    number: int
    times: int
    outcome: str
    counted: bool
    failure_class: str
    reason: str
    worker: str
    region: str
    bytes: int
    began_at: float
    ended_at: float


def note_end(connection: Connection, outcome: CopyEnded) -> None:
    """Note the end of a copy, unless it has simply succeeded."""
    if outcome.state not in _GOOD:
        _add(connection, outcome, outcome.state.value, counted=True)
    elif outcome.work.attempt > 1:  # asked for only where an earlier attempt may have left a row
        values = _values(outcome, outcome.state.value, counted=False)
        connection.execute(_ADDING_BEHIND, _bound(values))


def note_again(connection: Connection, outcome: CopyPostponed) -> None:
    """Note an attempt after which the copy goes on waiting; one that was called off leaves none.

    Attempts in a row that wait for the same are one row: a registry may be away for hours.
    """
    if not outcome.failure_class:
        return
    if not outcome.failed:
        values = _values(outcome, AGAIN, counted=False)
        if connection.execute(_REPEATING, _bound(values)).rowcount:
            return
    _add(connection, outcome, AGAIN, counted=outcome.failed)


def note_deaths(connection: Connection, held: Any, boot: str) -> None:
    """Note that process `boot` ended with the copies of condition `held` in hand, before they are let go of."""
    there = select(
        copies.c.id,
        copies.c.attempts,
        literal(1),
        literal(DIED),
        false(),
        literal(""),
        literal("the process that carried it out ended"),
        literal(boot),
        copies.c.region,
        literal(0),
        copies.c.updated_at,
        now_epoch(),
    ).where(held)
    names = ("copy_id", *TOLD)
    statement = insert_of(connection.dialect.name, copy_attempts).from_select(names, there)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["copy_id", "number"],
            set_={name: statement.excluded[name] for name in TOLD if name != "number"},
        )
    )


def told_of(connection: Connection, copy: int) -> list[dict[str, Any]]:
    """Return a copy's attempts as a region tells them to home, the oldest first."""
    return [
        {name: getattr(row, name) for name in TOLD} for row in connection.execute(_OF, {"id": copy})
    ]


def take(connection: Connection, copy: int, told: Sequence[Mapping[str, Any]]) -> None:
    """Save what a region has told of a copy's attempts; its word goes before home's own."""
    if not told:
        return
    connection.execute(
        _adding(connection.dialect.name),
        [{"copy_id": copy, **{name: one[name] for name in TOLD}} for one in told[-MOST_ATTEMPTS:]],
    )


def attempts_of(connection: Connection, copy: int) -> tuple[AttemptRecord, ...]:
    """Return a copy's attempts, the oldest first."""
    return tuple(
        AttemptRecord(**{name: getattr(row, name) for name in TOLD})
        for row in connection.execute(_OF, {"id": copy})
    )


def _values(outcome: CopyEnded | CopyPostponed, came_to: str, *, counted: bool) -> dict[str, Any]:
    work = outcome.work
    return {
        "copy_id": work.ref.id,
        "number": work.attempt,
        "times": 1,
        "outcome": came_to,
        "counted": counted,
        "failure_class": outcome.failure_class,
        "reason": outcome.reason[:LONGEST_REASON],
        "worker": work.owner,
        "region": work.region,
        "bytes": outcome.counters.bytes_copied,
        "began_at": work.begun_at,
    }


def _add(
    connection: Connection, outcome: CopyEnded | CopyPostponed, came_to: str, *, counted: bool
) -> None:
    values = _values(outcome, came_to, counted=counted)
    connection.execute(_adding_now(connection.dialect.name), values)
    if values["number"] > MOST_ATTEMPTS:
        connection.execute(_PRUNING, {"id": values["copy_id"]})


def _bound(values: dict[str, Any]) -> dict[str, Any]:
    return {f"b_{name}": value for name, value in values.items()}


# ---- statements, built once ----------------------------------------------------------------------


@cache
def _adding(dialect: str) -> Any:
    statement = insert_of(dialect, copy_attempts)
    return statement.on_conflict_do_update(
        index_elements=["copy_id", "number"],
        set_={name: statement.excluded[name] for name in TOLD if name != "number"},
    )


@cache
def _adding_now(dialect: str) -> Any:
    statement = insert_of(dialect, copy_attempts).values(ended_at=now_epoch())
    return statement.on_conflict_do_update(
        index_elements=["copy_id", "number"],
        set_={name: statement.excluded[name] for name in TOLD if name != "number"},
    )


_IN_ROW = ("copy_id", *(name for name in TOLD if name != "ended_at"))
_ADDING_BEHIND = insert(copy_attempts).from_select(
    [*_IN_ROW, "ended_at"],
    select(
        *(bindparam(f"b_{name}", type_=copy_attempts.c[name].type) for name in _IN_ROW), now_epoch()
    ).where(exists().where(copy_attempts.c.copy_id == bindparam("b_copy_id"))),
)
_last = copy_attempts.alias("last")
_REPEATING = (
    update(copy_attempts)
    .where(
        copy_attempts.c.copy_id == bindparam("b_copy_id"),
        copy_attempts.c.number
        == select(func.max(_last.c.number))
        .where(_last.c.copy_id == bindparam("b_copy_id"))
        .scalar_subquery(),
        copy_attempts.c.counted.is_(False),
        copy_attempts.c.outcome == bindparam("b_outcome"),
        copy_attempts.c.failure_class == bindparam("b_failure_class"),
        copy_attempts.c.reason == bindparam("b_reason"),
    )
    .values(
        number=bindparam("b_number"),
        times=copy_attempts.c.times + 1,
        worker=bindparam("b_worker"),
        region=bindparam("b_region"),
        bytes=copy_attempts.c.bytes + bindparam("b_bytes"),
        ended_at=now_epoch(),
    )
)
_kept = (
    select(_last.c.number)
    .where(_last.c.copy_id == bindparam("id"))
    .order_by(_last.c.number.desc())
    .limit(MOST_ATTEMPTS)
    .subquery()
)
_PRUNING = delete(copy_attempts).where(
    copy_attempts.c.copy_id == bindparam("id"),
    copy_attempts.c.number < select(func.min(_kept.c.number)).scalar_subquery(),
)
_OF = (
    select(copy_attempts)
    .where(copy_attempts.c.copy_id == bindparam("id"))
    .order_by(copy_attempts.c.number)
)
