"""The end of executions: none is left open when its selection is complete and all copies ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, exists, func, or_, select, update

from service.model.states import (
    ENDED_EXECUTIONS,
    OPEN_COPIES,
    CopyState,
    ExecutionState,
)
from service.store import outbox
from service.store.clock import now_epoch
from service.store.database import Database
from service.store.precedence import OVERTAKEN
from service.store.tables import (
    FAR,
    copies,
    execution_unchanged,
    executions,
    selections,
)


@dataclass(frozen=True, slots=True)
class Ended:
    """An execution that has just reached its end."""

    execution: str
    rule: str
    state: ExecutionState
    created_at: float = 0.0  # seconds since 1970, by the database's clock


class EndingStore:
    """Ends executions; a part of the dispatcher's store."""

    _database: Database

    def end_executions(self) -> list[Ended]:
        """End each execution whose selection is complete and that has no open copy left."""
        with self._database.read() as connection:
            rows = connection.execute(_COMPLETE).all()
        return [ended for row in rows if (ended := self._end(row)) is not None]

    def _end(self, row: Any) -> Ended | None:
        def work(connection: Connection) -> Ended | None:
            counts: dict[str, int] = {
                state: int(count)
                for state, count in connection.execute(
                    select(copies.c.state, func.count())
                    .where(copies.c.execution_id == row.id)
                    .group_by(copies.c.state)
                )
            }
            matched = int(
                connection.execute(
                    select(func.sum(selections.c.matched)).where(
                        selections.c.execution_id == row.id
                    )
                ).scalar_one()
                or 0
            )
            unchanged = int(
                connection.execute(
                    select(func.sum(execution_unchanged.c.unchanged)).where(
                        execution_unchanged.c.execution_id == row.id
                    )
                ).scalar_one()
                or 0
            )
            state, reason = _verdict(row, counts, matched, unchanged)
            if state is ExecutionState.SUCCEEDED and counts.get(CopyState.SKIPPED, 0):
                state, reason = _unless_overtaken(connection, row.id, counts, unchanged)
            changed = connection.execute(
                update(executions)
                .where(executions.c.id == row.id, executions.c.state == row.state)
                .values(state=state, reason=reason, finished_at=now_epoch())
            )
            if changed.rowcount != 1:
                return None
            outbox.execution_ended(connection, row, state, reason)
            return Ended(row.id, row.rule, state, row.created_at)

        return self._database.write(work)


def _unless_overtaken(
    connection: Connection, execution: str, counts: dict[str, int], unchanged: int
) -> tuple[ExecutionState, str]:
    """Return stopped, and who goes on, when newer executions took over all that there was to prove."""
    newer = connection.execute(
        select(func.max(copies.c.reason)).where(
            copies.c.execution_id == execution,
            copies.c.state == CopyState.SKIPPED,
            copies.c.failure_class == OVERTAKEN,
        )
    ).scalar_one()
    proved = counts.get(CopyState.COPIED, 0) + counts.get(CopyState.UNCHANGED, 0) + unchanged
    if newer is None or proved:
        return ExecutionState.SUCCEEDED, ""
    return ExecutionState.STOPPED, str(newer)


_COMPLETE = select(executions).where(
    executions.c.state.not_in(ENDED_EXECUTIONS),
    or_(executions.c.planned.is_(True), executions.c.state == ExecutionState.STOPPING),
    ~exists().where(
        copies.c.execution_id == executions.c.id,
        copies.c.state.in_(OPEN_COPIES),
        copies.c.not_before != FAR,
    ),
)


def _verdict(
    row: Any, counts: dict[str, int], matched: int, unchanged: int
) -> tuple[ExecutionState, str]:
    from service.store import codec

    bad = counts.get(CopyState.FAILED, 0) + counts.get(CopyState.SUPERSEDED, 0)
    good = counts.get(CopyState.COPIED, 0) + counts.get(CopyState.UNCHANGED, 0) + unchanged
    if row.kind == "plan":
        good += counts.get(CopyState.PENDING, 0)  # what a plan names is never carried out by itself
    if row.state == ExecutionState.STOPPING or counts.get(CopyState.STOPPED, 0):
        return ExecutionState.STOPPED, row.reason
    if row.failure_class:
        return (ExecutionState.PARTIAL if good else ExecutionState.FAILED), row.reason
    if bad:
        return (ExecutionState.PARTIAL if good else ExecutionState.FAILED), ""
    if matched == 0 and codec.load_rule(row.spec).on_empty == "fail":
        return ExecutionState.FAILED, "the rule matches nothing, and on_empty is fail"
    return ExecutionState.SUCCEEDED, ""
