"""What of several executions failed in the end: of each name only the last of them that came to it counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, select

from service.model.states import CopyState
from service.store.database import Database
from service.store.executions import CopyRecord, as_copy
from service.store.tables import copies

UNSUCCESSFUL = (CopyState.FAILED, CopyState.SUPERSEDED)


class FailureCounts:
    """Counts and samples of what failed. Executions of which a later one has made good are the caller's to leave out."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def by_class(self, identities: Sequence[str]) -> dict[str, int]:
        """Return the failed copies of executions by class, the most first: counted by SQL, whatever their number."""
        query = (
            select(copies.c.failure_class, func.count())
            .where(_failed_at_last(identities))
            .group_by(copies.c.failure_class)
        )
        with self._database.read() as connection:
            found = {str(name): int(count) for name, count in connection.execute(query)}
        return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))

    def by_place(self, identities: Sequence[str]) -> dict[tuple[str, str], int]:
        """Return the failed copies by execution and destination registry; those without any are not in it."""
        columns = (copies.c.execution_id, copies.c.destination_registry)
        query = select(*columns, func.count()).where(_failed_at_last(identities)).group_by(*columns)
        with self._database.read() as connection:
            return {(row[0], row[1]): int(row[2]) for row in connection.execute(query)}

    def failed(self, identities: Sequence[str], most: int) -> list[CopyRecord]:
        """Return failed copies of executions, at most so many, in the order in which they were made."""
        query = select(copies).where(_failed_at_last(identities)).order_by(copies.c.id).limit(most)
        with self._database.read() as connection:
            return [as_copy(row) for row in connection.execute(query)]


def _failed_at_last(identities: Sequence[str]) -> ColumnElement[bool]:
    wanted = list(identities)
    bad: ColumnElement[bool] = copies.c.state.in_(UNSUCCESSFUL)
    of_them: ColumnElement[bool] = copies.c.execution_id.in_(wanted)
    if len(wanted) < 2:
        return and_(of_them, bad)
    later: Any = copies.alias("later")
    return and_(
        of_them,
        bad,
        ~exists().where(
            later.c.destination_registry == copies.c.destination_registry,
            later.c.destination_repository == copies.c.destination_repository,
            later.c.destination_reference == copies.c.destination_reference,
            later.c.execution_id.in_(wanted),
            later.c.execution_id > copies.c.execution_id,
        ),
    )
