"""The planning of an execution: who does it, how far it is, what it has to know, how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, case, func, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from service.model.states import CopyState, ExecutionState
from service.store.access import readable
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.facts import FactStore
from service.store.pages import PageStore
from service.store.routes import RouteStore
from service.store.saved_plans import SavedPlanStore
from service.store.tables import (
    copies,
    executions,
    selections,
    written_tags,
)
from service.store.tables_content import execution_left_out


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the listing of one source repository stands."""

    repository: str
    position: str


class PlanStore(PageStore):
    """What the planner of one execution reads and writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, execution: str, boot: str) -> bool:
        """Own the planning of an execution; False when it is planned or stopped, or others have it."""

        def work(connection: Connection) -> bool:
            changed = connection.execute(
                update(executions)
                .where(
                    executions.c.id == execution,
                    executions.c.state.in_([ExecutionState.PENDING, ExecutionState.RUNNING]),
                    executions.c.planned.is_(False),
                    executions.c.planner == "",
                )
                .values(
                    state=ExecutionState.RUNNING,
                    planner=boot,
                    failure_class="",  # that of what it waited for
                    plan_attempts=executions.c.plan_attempts + 1,
                    started_at=func.coalesce(executions.c.started_at, now_epoch()),
                )
            )
            return changed.rowcount == 1

        return self._database.write(work)

    def not_begun(self, execution: str) -> None:
        """Have the planning sent again soon: who got it had no slot for it."""
        statement = update(executions).where(
            executions.c.id == execution, executions.c.planner == ""
        )
        self._database.write(
            lambda connection: connection.execute(statement.values(plan_sent_at=0))
        )

    def open(self, execution: str) -> bool:
        """Whether the execution still wants to be planned."""
        with self._database.read() as connection:
            return (
                connection.execute(
                    select(executions.c.id).where(
                        executions.c.id == execution,
                        executions.c.state == ExecutionState.RUNNING,
                        executions.c.planned.is_(False),
                    )
                ).first()
                is not None
            )

    def to_repair(self, execution: str) -> frozenset[tuple[str, str, str]]:
        """Return the names that the verification found not whole which this execution repairs."""
        query = (
            select(
                copies.c.destination_registry,
                copies.c.destination_repository,
                copies.c.destination_reference,
            )
            .join(executions, executions.c.id == copies.c.execution_id)
            .where(executions.c.repair == execution, copies.c.state == CopyState.FAILED)
        )
        with self._database.read() as connection:
            return frozenset((row[0], row[1], row[2]) for row in connection.execute(query))

    def routes(self) -> RouteStore:
        """Return the store of routes."""
        return RouteStore(self._database)

    def saved(self) -> SavedPlanStore:
        """Return the store of plans that are kept."""
        return SavedPlanStore(self._database)

    def only(self, execution: str) -> dict[str, tuple[str, ...]] | None:
        """Return the references by repository that an execution is confined to; None: all of the rule."""
        with self._database.read() as connection:
            row = connection.execute(
                select(executions.c.kind, executions.c.only).where(executions.c.id == execution)
            ).one()
        if row.kind != "tags":
            return None
        found: dict[str, list[str]] = {}
        for repository, reference in json.loads(row.only):
            found.setdefault(repository, []).append(reference)
        return {repository: tuple(references) for repository, references in found.items()}

    def catalog(self, execution: str) -> tuple[str, bool]:
        """Return the catalog's cursor and whether its listing is complete."""
        with self._database.read() as connection:
            row = connection.execute(
                select(executions.c.catalog_cursor, executions.c.catalog_done).where(
                    executions.c.id == execution
                )
            ).one()
        return row.catalog_cursor, bool(row.catalog_done)

    def add_repositories(
        self, execution: str, repositories: Iterable[str], *, cursor: str, done: bool
    ) -> None:
        """Save a page of the catalog, what the project may not read left out, and the cursor behind it."""
        names = list(repositories)

        def work(connection: Connection) -> None:
            for name in readable(connection, execution, names):
                connection.execute(
                    upsert(connection, selections)
                    .values(execution_id=execution, repository=name)
                    .on_conflict_do_nothing()
                )
            connection.execute(
                update(executions)
                .where(executions.c.id == execution)
                .values(catalog_cursor=cursor, catalog_done=done)
            )

        self._database.write(work)

    def cursors(self, execution: str, *, after: str = "", limit: int = 200) -> list[Cursor]:
        """Return repositories, the first ones after `after`, whose tags are not listed to the end."""
        query = (
            select(selections.c.repository, selections.c.cursor)
            .where(
                selections.c.execution_id == execution,
                selections.c.done.is_(False),
                selections.c.repository > after,
            )
            .order_by(selections.c.repository)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [Cursor(row.repository, row.cursor) for row in connection.execute(query)]

    def every_cursor(self, execution: str) -> Iterator[Cursor]:
        """Yield what `cursors` returns to the end, with only some hundreds in memory."""
        after = ""
        while page := self.cursors(execution, after=after):
            yield from page
            after = page[-1].repository

    def open_repositories(self, execution: str) -> int:
        """Return how many repositories are not listed to the end."""
        query = select(func.count()).where(
            selections.c.execution_id == execution, selections.c.done.is_(False)
        )
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def facts(self) -> FactStore:
        """Return what is known of manifests."""
        return FactStore(self._database)

    def left_out(self, execution: str) -> dict[str, int]:
        """Return how many references no entry took for what they are, by what they are."""
        query = select(execution_left_out.c.kind, execution_left_out.c.left_out).where(
            execution_left_out.c.execution_id == execution
        )
        with self._database.read() as connection:
            return {row.kind: int(row.left_out) for row in connection.execute(query)}

    def sparse_tags(
        self, places: Iterable[tuple[str, str]]
    ) -> dict[tuple[str, str, str], tuple[str, frozenset[str]]]:
        """Return digest and platforms of the tags that Transship wrote with some platforms only.

        By registry, repository and tag, for these registries and repositories.
        """
        found: dict[tuple[str, str, str], tuple[str, frozenset[str]]] = {}
        with self._database.read() as connection:
            for registry, repository in sorted(places):
                query = select(
                    written_tags.c.tag, written_tags.c.digest, written_tags.c.platforms
                ).where(
                    written_tags.c.registry == registry,
                    written_tags.c.repository == repository,
                    written_tags.c.platforms != "",
                )
                for row in connection.execute(query):
                    found[registry, repository, row.tag] = (
                        row.digest,
                        frozenset(row.platforms.split(",")),
                    )
        return found

    def written(self, registry: str, repository: str, tags: Sequence[str]) -> frozenset[str]:
        """Return which of these tags of a registry's repository Transship has written."""
        found: set[str] = set()
        with self._database.read() as connection:
            for start in range(0, len(tags), 500):
                names = {"registry": registry, "repository": repository}
                some = {"tags": tags[start : start + 500]}
                found.update(connection.execute(_WRITTEN, {**names, **some}).scalars())
        return frozenset(found)

    def lost_tags(self, references: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
        """Return which of these missing destination tags Transship once wrote: evidence of loss."""
        lost: list[tuple[str, str, str]] = []
        with self._database.read() as connection:
            for start in range(0, len(references), 200):
                group = references[start : start + 200]
                query = select(
                    written_tags.c.registry, written_tags.c.repository, written_tags.c.tag
                ).where(
                    or_(
                        *[
                            and_(
                                written_tags.c.registry == registry,
                                written_tags.c.repository == repository,
                                written_tags.c.tag == tag,
                            )
                            for registry, repository, tag in group
                        ]
                    )
                )
                lost.extend((r.registry, r.repository, r.tag) for r in connection.execute(query))
        return lost

    def forget_tags(self, references: Sequence[tuple[str, str, str]]) -> None:
        """Take back what `lost_tags` found, so that it counts as evidence once."""

        def work(connection: Connection) -> None:
            for registry, repository, tag in references:
                connection.execute(
                    written_tags.delete().where(
                        written_tags.c.registry == registry,
                        written_tags.c.repository == repository,
                        written_tags.c.tag == tag,
                    )
                )

        if references:
            self._database.write(work)

    def warn(self, execution: str, warning: str) -> None:
        """Add a sentence to the execution's warnings, once."""

        def work(connection: Connection) -> None:
            text = connection.execute(
                select(executions.c.warnings).where(executions.c.id == execution)
            ).scalar_one()
            warnings = json.loads(text)
            if warning not in warnings and len(warnings) < 100:
                connection.execute(
                    update(executions)
                    .where(executions.c.id == execution)
                    .values(warnings=json.dumps([*warnings, warning]))
                )

        self._database.write(work)

    def finish(self, execution: str, boot: str | None = None) -> None:
        """Say that the selection is complete; `boot`: only while this process holds the planning."""

        def work(connection: Connection) -> None:
            connection.execute(
                update(executions)
                .where(*_held(execution, boot))
                .values(
                    planned=True,
                    planner="",
                    reason=case(
                        (executions.c.state == ExecutionState.RUNNING, ""),
                        else_=executions.c.reason,
                    ),
                )
            )

        self._database.write(work)

    def postpone(
        self,
        execution: str,
        pause_seconds: float,
        *,
        reason: str,
        failure_class: str,
        counted: bool = True,
        boot: str | None = None,
    ) -> None:
        """Let the planning go after a transient failure; it goes on from its cursor later.

        `counted`: what stopped it counts as an attempt; a pause by an operator does not.
        `boot`: only while this process holds the planning.
        """

        def work(connection: Connection) -> None:
            connection.execute(
                update(executions)
                .where(*_held(execution, boot))
                .values(
                    planner="",
                    plan_sent_at=0,
                    not_before=now_epoch() + pause_seconds,
                    reason=reason,
                    failure_class=failure_class,
                    plan_attempts=executions.c.plan_attempts - (0 if counted else 1),
                )
            )

        self._database.write(work)

    def fail(
        self, execution: str, *, reason: str, failure_class: str, boot: str | None = None
    ) -> None:
        """Say that the selection cannot be listed: the execution fails when its open copies end.

        `boot`: only while this process holds the planning.
        """

        def work(connection: Connection) -> None:
            connection.execute(
                update(executions)
                .where(*_held(execution, boot))
                .values(planned=True, planner="", reason=reason, failure_class=failure_class)
            )

        self._database.write(work)

    def matched(self, execution: str) -> int:
        """Return how many source tags the rule took."""
        query = select(func.sum(selections.c.matched)).where(selections.c.execution_id == execution)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one() or 0)

    def due(self, execution: str) -> bool:
        """Whether a postponed planning may go on."""
        with self._database.read() as connection:
            return (
                connection.execute(
                    select(executions.c.id).where(
                        executions.c.id == execution, executions.c.not_before <= now_epoch()
                    )
                ).first()
                is not None
            )

    def clean_before(self, execution: str, rule: str) -> bool:
        """Whether the rule's last execution before this one, if any, left nothing half done."""
        query = (
            select(executions.c.state)
            .where(
                executions.c.rule == rule,
                executions.c.id < execution,
                executions.c.kind == "full",
            )
            .order_by(executions.c.id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            state = connection.execute(query).scalar_one_or_none()
        return state in (None, ExecutionState.SUCCEEDED)

    def attempts(self, execution: str) -> int:
        """Return how often the planning was begun."""
        with self._database.read() as connection:
            return int(
                connection.execute(
                    select(executions.c.plan_attempts).where(executions.c.id == execution)
                ).scalar_one()
            )


_WRITTEN = select(written_tags.c.tag).where(
    written_tags.c.registry == bindparam("registry"),
    written_tags.c.repository == bindparam("repository"),
    written_tags.c.tag.in_(bindparam("tags", expanding=True)),
)


def _held(execution: str, boot: str | None) -> list[ColumnElement[bool]]:
    """Return the conditions for ending a planning: a process counted dead may have lost it to another."""
    conditions = [executions.c.id == execution]
    return conditions if boot is None else [*conditions, executions.c.planner == boot]
