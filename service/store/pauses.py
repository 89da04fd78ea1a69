"""Pauses of rules and registries: what is queued is taken back, and nothing that was begun is lost."""

from __future__ import annotations

from sqlalchemy import Connection, Table, case, func, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from service.errors import NotFoundInStore
from service.model.states import ENDED_EXECUTIONS, CopyState
from service.store.clock import now_epoch
from service.store.database import Database
from service.store.recovery import again
from service.store.tables import copies, executions, registries, rules
from service.store.tables_health import registry_health


class PauseStore:
    """Pauses and resumes; both may be repeated and then change nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pause_rule(self, name: str) -> None:
        """Begin nothing more for a rule, and stop what runs within a second. Raises NotFoundInStore."""
        self._pause(rules, "rule", name, copies.c.rule == name)

    def pause_registry(self, name: str) -> None:
        """Send a registry no more requests, within five seconds. Raises NotFoundInStore.

        One that its health held back already stays paused when it is well again.
        """
        self._pause(registries, "registry", name, _concerns(name))

    def resume_rule(self, name: str) -> None:
        """Go on with a rule where it stood; deadlines move by as long as it was paused.

        Raises NotFoundInStore.
        """
        self._resume(rules, "rule", name)

    def resume_registry(self, name: str) -> None:
        """Speak to a registry again; one that is not well is held back by its next check. Raises NotFoundInStore."""
        self._resume(registries, "registry", name)

    def _pause(self, table: Table, kind: str, name: str, concerned: ColumnElement[bool]) -> None:
        def work(connection: Connection) -> None:
            changed = connection.execute(
                update(table)
                .where(table.c.name == name)
                .values(paused_at=func.coalesce(table.c.paused_at, now_epoch()))
            )
            if changed.rowcount != 1:
                raise NotFoundInStore(f"there is no {kind} named {name}")
            if table is registries:
                _belongs_to_a_person(connection, name)
            _take_back(connection, concerned)

        self._database.write(work)

    def _resume(self, table: Table, kind: str, name: str) -> None:
        def work(connection: Connection) -> None:
            if table is rules:
                _give_time_back(connection, name)
            else:
                _belongs_to_a_person(connection, name)
            changed = connection.execute(
                update(table).where(table.c.name == name).values(paused_at=None)
            )
            if changed.rowcount != 1:
                raise NotFoundInStore(f"there is no {kind} named {name}")

        self._database.write(work)


def take_back(connection: Connection, registry: str) -> None:
    """Have what was sent and not begun of a registry wait again."""
    _take_back(connection, _concerns(registry))


def _take_back(connection: Connection, concerned: ColumnElement[bool]) -> None:
    connection.execute(
        update(copies).where(concerned, copies.c.state == CopyState.DISPATCHED).values(**again())
    )


def _concerns(registry: str) -> ColumnElement[bool]:
    return or_(copies.c.source_registry == registry, copies.c.destination_registry == registry)


def _belongs_to_a_person(connection: Connection, registry: str) -> None:
    """Keep the check of a registry's health from ending a pause that is not its own."""
    connection.execute(
        update(registry_health).where(registry_health.c.registry == registry).values(holds=False)
    )


def _give_time_back(connection: Connection, rule: str) -> None:
    """Move the deadlines of a rule's open executions by the time that it was paused during them."""
    since = connection.execute(
        select(rules.c.paused_at).where(rules.c.name == rule).with_for_update()
    ).scalar_one_or_none()
    if since is None:
        return
    held_from = case((executions.c.created_at > since, executions.c.created_at), else_=since)
    connection.execute(
        update(executions)
        .where(executions.c.rule == rule, executions.c.state.not_in(ENDED_EXECUTIONS))
        .values(deadline_at=executions.c.deadline_at + now_epoch() - held_from)
    )
