"""Counts for metrics: rows by state."""

from __future__ import annotations

from sqlalchemy import func, select

from service.model.states import ENDED_EXECUTIONS
from service.store.database import Database
from service.store.tables import copies, executions


class FigureStore:
    """Reads counts; labels are states only, never names (reliability.md S34)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def executions(self) -> dict[str, int]:
        """Return the number of executions in each state."""
        query = select(executions.c.state, func.count()).group_by(executions.c.state)
        with self._database.read() as connection:
            return {str(state): int(count) for state, count in connection.execute(query)}

    def open_copies(self) -> dict[str, int]:
        """Return the number of copies in each state, of executions that have not ended."""
        query = (
            select(copies.c.state, func.count())
            .join(executions, executions.c.id == copies.c.execution_id)
            .where(executions.c.state.not_in(ENDED_EXECUTIONS))
            .group_by(copies.c.state)
        )
        with self._database.read() as connection:
            return {str(state): int(count) for state, count in connection.execute(query)}
