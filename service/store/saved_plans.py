"""Plans: executions that say what would be done; and executions that do what a plan says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, insert, literal, select, update

from service.errors import Cancelled, Conflict, NotFoundInStore
from service.model.rule import SyncRule
from service.model.states import CopyState, ExecutionState
from service.store import codec
from service.store.access import deny_open_copies, project_of
from service.store.clock import now_epoch
from service.store.creation import insert_carrying_out, insert_plan
from service.store.database import Database
from service.store.precedence import take_turns
from service.store.routes import hold_followers
from service.store.tables import copies, digest_tags, executions, selections

ROWS_AT_ONCE = 500
_NEW = {"id", "execution_id", "not_before", "updated_at"}


class SavedPlanStore:
    """Starts plans, keeps their figures, and turns one into copies."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, rule: SyncRule, *, trigger: str) -> str:
        """Save a pending plan and return its execution's id."""
        return self._database.write(
            lambda connection: insert_plan(connection, rule, trigger=trigger)
        )

    def carry_out(self, plan: str, *, trigger: str) -> str:
        """Save an execution of a finished plan; again returns the same one.

        Raises NotFoundInStore for what is no plan, Conflict for one that is not finished.
        """

        def work(connection: Connection) -> str:
            row = connection.execute(select(executions).where(executions.c.id == plan)).first()
            if row is None or row.kind != "plan":
                raise NotFoundInStore(f"there is no plan {plan}")
            if row.state not in (ExecutionState.SUCCEEDED, ExecutionState.PARTIAL):
                raise Conflict(f"plan {plan} is {row.state}", hint="make another plan")
            return insert_carrying_out(connection, codec.load_rule(row.spec), plan, trigger=trigger)

        return self._database.write(work)

    def rule_of(self, plan: str) -> SyncRule:
        """Return the rule that a plan is of, as it was then."""
        with self._database.read() as connection:
            query = select(executions.c.spec).where(executions.c.id == plan)
            return codec.load_rule(connection.execute(query).scalar_one())

    def plan_of(self, execution: str) -> str:
        """Return the plan that an execution carries out."""
        with self._database.read() as connection:
            text = connection.execute(
                select(executions.c.only).where(executions.c.id == execution)
            ).scalar_one()
        return str(json.loads(text))

    def rows(self, plan: str, after: int = 0) -> Iterator[list[Any]]:
        """Yield the copies that a plan names, some hundreds at a time, in their order.

        From the first one after the id `after`.
        """
        while True:
            query = (
                select(copies)
                .where(
                    copies.c.execution_id == plan,
                    copies.c.state == CopyState.PENDING,
                    copies.c.id > after,
                )
                .order_by(copies.c.id)
                .limit(ROWS_AT_ONCE)
            )
            with self._database.read() as connection:
                page = list(connection.execute(query))
            if not page:
                return
            yield page
            after = page[-1].id

    def looked_at(self, execution: str) -> int:
        """Return the last copy of its plan that an execution has found as it was; 0 for none."""
        with self._database.read() as connection:
            cursor = connection.execute(
                select(executions.c.catalog_cursor).where(executions.c.id == execution)
            ).scalar_one()
        return int(cursor or 0)

    def keep_looked_at(self, execution: str, copy: int) -> None:
        """Save how far an execution has found its plan as it was, where a restart goes on."""
        self._database.write(
            lambda connection: connection.execute(
                update(executions)
                .where(executions.c.id == execution)
                .values(catalog_cursor=str(copy))
            )
        )

    def is_adopted(self, execution: str) -> bool:
        """Whether an execution has taken its plan's copies over already."""
        with self._database.read() as connection:
            return _is_adopted(connection, execution)

    def adopt(self, plan: str, execution: str) -> None:
        """Give an execution the copies of a plan, and what was listed for it; again changes nothing.

        Raises Cancelled, and changes nothing, when the execution was stopped meanwhile.
        """

        def work(connection: Connection) -> None:
            running = connection.execute(
                select(executions.c.rule)
                .where(executions.c.id == execution, executions.c.state == ExecutionState.RUNNING)
                .with_for_update(read=True)
            ).first()
            if running is None:
                raise Cancelled
            if _is_adopted(connection, execution):
                return
            kept = [column for column in copies.c if column.name not in _NEW]
            connection.execute(
                insert(copies).from_select(
                    ["execution_id", "not_before", "updated_at", *(c.name for c in kept)],
                    select(literal(execution), literal(0.0), now_epoch(), *kept)
                    .where(copies.c.execution_id == plan, copies.c.state == CopyState.PENDING)
                    .order_by(copies.c.id),
                )
            )
            project = project_of(connection, execution)
            deny_open_copies(connection, project, copies.c.execution_id == execution)
            take_turns(connection, execution, running.rule)
            hold_followers(connection, execution)
            of_plan = select(executions.c.route).where(executions.c.id == plan).scalar_subquery()
            connection.execute(
                update(executions).where(executions.c.id == execution).values(route=of_plan)
            )
            for table in (selections, digest_tags):
                columns = [column for column in table.c if column.name != "execution_id"]
                connection.execute(
                    insert(table).from_select(
                        ["execution_id", *(c.name for c in columns)],
                        select(literal(execution), *columns).where(table.c.execution_id == plan),
                    )
                )

        self._database.write(work)

    def keep_figures(self, plan: str, figures: Mapping[str, Any]) -> None:
        """Save what a plan comes to."""
        self._database.write(
            lambda connection: connection.execute(
                update(executions)
                .where(executions.c.id == plan)
                .values(figures=json.dumps(figures))
            )
        )

    def figures(self, plan: str) -> dict[str, Any]:
        """Return what `keep_figures` saved; empty before the plan is finished."""
        with self._database.read() as connection:
            text = connection.execute(
                select(executions.c.figures).where(executions.c.id == plan)
            ).scalar_one_or_none()
        found: dict[str, Any] = json.loads(text or "{}")
        return found


def _is_adopted(connection: Connection, execution: str) -> bool:
    return any(
        connection.execute(
            select(table.c.execution_id).where(table.c.execution_id == execution).limit(1)
        ).first()
        is not None
        for table in (selections, copies)
    )
