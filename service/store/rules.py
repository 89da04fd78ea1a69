"""Sync rules as saved, with the instant at which each runs next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from service.errors import NotFoundInStore
from service.model.rule import SyncRule
from service.store import codec
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.registries import check_created, check_version
from service.store.tables import rules


@dataclass(frozen=True, slots=True)
class StoredRule:
    """One rule with its document and version."""

    rule: SyncRule
    document: dict[str, Any]
    version: int
    next_run_at: float | None
    created_at: float
    updated_at: float


class RuleStore:
    """The table of rules; the name is the identity."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self, rule: SyncRule, *, document: dict[str, Any], expected_version: int | None = None
    ) -> StoredRule:
        """Create or replace a rule. Raises Conflict when it is not at `expected_version`."""

        def work(connection: Connection) -> None:
            row = connection.execute(
                select(rules).where(rules.c.name == rule.name).with_for_update()
            ).first()
            check_version("rule", rule.name, row, expected_version)
            every = rule.trigger.every_seconds
            values: dict[str, Any] = {
                "document": codec.dump(document),
                "spec": codec.dump(rule),
                "enabled": rule.enabled,
                "every_seconds": every,
                "updated_at": now_epoch(),
            }
            if row is None:
                values["next_run_at"] = now_epoch() if every is not None else None
                made = connection.execute(
                    upsert(connection, rules)
                    .values(name=rule.name, version=1, created_at=now_epoch(), **values)
                    .on_conflict_do_nothing()
                )
                check_created("rule", rule.name, made.rowcount)
                return
            if row.every_seconds != every:
                values["next_run_at"] = now_epoch() if every is not None else None
            connection.execute(
                update(rules)
                .where(rules.c.name == rule.name)
                .values(version=row.version + 1, **values)
            )

        self._database.write(work)
        return self.get(rule.name)

    def get(self, name: str) -> StoredRule:
        """Return one rule. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(select(rules).where(rules.c.name == name)).first()
        if row is None:
            raise NotFoundInStore(f"there is no rule named {name}")
        return _stored(row)

    def list(self, after: str | None = None, limit: int = 1000) -> list[StoredRule]:
        """Return rules by name, from the first one after `after`."""
        query = select(rules).order_by(rules.c.name).limit(limit)
        if after is not None:
            query = query.where(rules.c.name > after)
        with self._database.read() as connection:
            return [_stored(row) for row in connection.execute(query)]

    def delete(self, name: str) -> None:
        """Forget a rule; its executions stay as history. Raises NotFoundInStore."""

        def work(connection: Connection) -> None:
            if connection.execute(delete(rules).where(rules.c.name == name)).rowcount < 1:
                raise NotFoundInStore(f"there is no rule named {name}")

        self._database.write(work)

    def due(self) -> Sequence[tuple[str, float]]:
        """Return the enabled rules whose time has come, each with the instant that it was due at."""
        query = select(rules.c.name, rules.c.next_run_at).where(
            rules.c.enabled, rules.c.next_run_at <= now_epoch()
        )
        with self._database.read() as connection:
            return [(row.name, row.next_run_at) for row in connection.execute(query)]

    def advance(self, name: str, due_at: float) -> bool:
        """Move a rule on from the instant that it was due at; False when somebody else did.

        To be called when the execution of that instant is saved, so that none is lost. A rule that
        was due several times moves on once.
        """

        def work(connection: Connection) -> bool:
            changed = connection.execute(
                update(rules)
                .where(rules.c.name == name, rules.c.next_run_at == due_at)
                .values(next_run_at=now_epoch() + rules.c.every_seconds)
            )
            return changed.rowcount == 1

        return self._database.write(work)


def _stored(row: Row[Any]) -> StoredRule:
    return StoredRule(
        rule=codec.load_rule(row.spec),
        document=json.loads(row.document),
        version=row.version,
        next_run_at=row.next_run_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
