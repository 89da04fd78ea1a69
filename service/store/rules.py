"""Sync rules as saved, with the instant at which each runs next."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, or_, select, update

from service.errors import NotFoundInStore
from service.model.rule import SyncRule
from service.model.schedule import first_run, is_missed, next_run
from service.store import codec
from service.store.clock import database_now, now_epoch
from service.store.database import Database, upsert
from service.store.stopping import begin_stop_of_rule
from service.store.tables import rules
from service.store.tables_replicas import replica_drift, replicas
from service.store.versions import check_created, check_set, check_version, is_unchanged


@dataclass(frozen=True, slots=True)
class StoredRule:
    """One rule with its document and version."""

    rule: SyncRule
    document: dict[str, Any]
    version: int
    next_run_at: float | None
    paused_at: float | None
    late_since: float | None
    created_at: float
    updated_at: float
    set: str | None = None  # the `apply --set` that it belongs to


@dataclass(frozen=True, slots=True)
class Due:
    """A rule whose time has come; `missed`: long ago, and the rule does not want to make up for it."""

    rule: str
    due_at: float
    missed: bool = False


_BY_NAME = select(rules).where(rules.c.name == bindparam("name"))


class RuleStore:
    """The table of rules; the name is the identity."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self,
        rule: SyncRule,
        *,
        document: dict[str, Any],
        expected_version: int | None = None,
        set_name: str | None = None,
    ) -> StoredRule:
        """Create or replace a rule; one that is so already keeps its version.

        Raises Conflict when it is not at `expected_version`, or belongs to another set than
        `set_name` (None leaves it where it is).
        """

        def work(connection: Connection) -> bool:
            row = connection.execute(
                select(rules).where(rules.c.name == rule.name).with_for_update()
            ).first()
            check_version("rule", rule.name, row, expected_version)
            check_set("rule", rule.name, row, set_name)
            values: dict[str, Any] = {
                "document": codec.dump(document),
                "spec": codec.dump(rule),
                "enabled": rule.enabled,
                "every_seconds": rule.trigger.every_seconds,
                "freshness_seconds": rule.freshness_seconds,
                "set_name": set_name or (row.set_name if row else None),
            }
            if row is not None and is_unchanged(row, values):
                return False
            values["updated_at"] = now_epoch()
            if row is None:
                values["next_run_at"] = first_run(rule.trigger, database_now(connection))
                made = connection.execute(
                    upsert(connection, rules)
                    .values(name=rule.name, version=1, created_at=now_epoch(), **values)
                    .on_conflict_do_nothing()
                )
                check_created("rule", rule.name, made.rowcount)
                return True
            before = codec.load_rule(row.spec)
            if before.trigger != rule.trigger or (rule.enabled and not before.enabled):
                values["next_run_at"] = first_run(rule.trigger, database_now(connection))
            connection.execute(
                update(rules)
                .where(rules.c.name == rule.name)
                .values(version=row.version + 1, **values)
            )
            return True

        self._database.write(work)
        return self.get(rule.name)

    def get(self, name: str) -> StoredRule:
        """Return one rule. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(_BY_NAME, {"name": name}).first()
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

    def any_from(self, registries: Iterable[str]) -> bool:
        """Whether an enabled rule has one of these registries as its source."""
        spelled = [rules.c.spec.contains(f'"source":{json.dumps(one)}') for one in registries]
        query = select(rules.c.name).where(rules.c.enabled, or_(*spelled)).limit(1)
        with self._database.read() as connection:
            return bool(spelled) and connection.execute(query).first() is not None

    def delete(self, name: str) -> None:
        """Forget a rule; its executions stay as history. Raises NotFoundInStore.

        What a paused rule holds back is stopped: nothing would hold it any more.
        """

        def work(connection: Connection) -> None:
            row = connection.execute(
                select(rules.c.paused_at).where(rules.c.name == name).with_for_update()
            ).first()
            if row is None:
                raise NotFoundInStore(f"there is no rule named {name}")
            if row.paused_at is not None:
                begin_stop_of_rule(connection, name, "the rule was deleted while it was paused")
            connection.execute(delete(rules).where(rules.c.name == name))
            for table in (replicas, replica_drift):  # another rule of that name begins anew
                connection.execute(delete(table).where(table.c.rule == name))

        self._database.write(work)

    def due(self, limit: int = 1000) -> Sequence[Due]:
        """Return the enabled, unpaused rules whose time has come, the longest due ones first."""
        query = (
            select(rules.c.name, rules.c.spec, rules.c.next_run_at, now_epoch())
            .where(rules.c.enabled, rules.c.paused_at.is_(None), rules.c.next_run_at <= now_epoch())
            .order_by(rules.c.next_run_at)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [
                Due(name, due_at, missed=is_missed(codec.load_rule(spec), due_at, now))
                for name, spec, due_at, now in connection.execute(query)
            ]

    def advance(self, name: str, due_at: float) -> bool:
        """Move a rule on from the instant that it was due at; False when somebody else did.

        To be called when the execution of that instant is saved, so that none is lost. A rule that
        was due several times moves on once.
        """

        def work(connection: Connection) -> bool:
            spec = connection.execute(
                select(rules.c.spec)
                .where(rules.c.name == name, rules.c.next_run_at == due_at)
                .with_for_update()
            ).scalar_one_or_none()
            if spec is None:
                return False
            following = next_run(codec.load_rule(spec).trigger, database_now(connection))
            changed = connection.execute(
                update(rules)
                .where(rules.c.name == name, rules.c.next_run_at == due_at)
                .values(next_run_at=following)
            )
            return changed.rowcount == 1

        return self._database.write(work)


def _stored(row: Row[Any]) -> StoredRule:
    return StoredRule(
        rule=codec.load_rule(row.spec),
        document=json.loads(row.document),
        version=row.version,
        next_run_at=row.next_run_at,
        paused_at=row.paused_at,
        late_since=row.late_since,
        created_at=row.created_at,
        updated_at=row.updated_at,
        set=row.set_name,
    )
