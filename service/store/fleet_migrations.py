"""Migrations as those who write them see them: saved, paused, forgotten; their waves, started and ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, literal, select, update

from service.errors import Conflict, NotFoundInStore
from service.model.migration import OWNER, Migration, SurveyState, WaveState
from service.model.rule import SyncRule
from service.model.states import CopyState
from service.store import codec
from service.store.clock import now_epoch
from service.store.creation import insert_full
from service.store.database import Database, insert_of
from service.store.migration_values import (
    Before,
    StoredMigration,
    StoredWave,
    Waves,
    as_migration,
    as_wave,
    dump,
)
from service.store.stopping import begin_stop
from service.store.tables import copies, rules, written_tags
from service.store.tables_migrations import (
    migration_before,
    migration_surveys,
    migration_waves,
    migrations,
)
from service.store.versions import check_created, check_version, is_unchanged

TRIGGER = "migration"
"""The trigger of a wave's executions."""

HELD = "the migration is held: "
"""Begins the reason of an execution that was stopped to go on later."""

PAUSED = f"{HELD}somebody has paused it"


class MigrationStore:
    """The tables of migrations and their waves."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---- what is written down --------------------------------------------------------------------

    def put(
        self,
        migration: Migration,
        *,
        document: dict[str, Any],
        expected_version: int | None = None,
    ) -> StoredMigration:
        """Create or replace a migration; one that is so already keeps its version.

        What it says can be changed until a wave is started; looks that were taken before are forgotten then.
        Raises Conflict.
        """

        def work(connection: Connection) -> bool:
            row = connection.execute(
                select(migrations).where(migrations.c.name == migration.name).with_for_update()
            ).first()
            check_version("migration", migration.name, row, expected_version)
            values = {
                "project": migration.project,
                "document": codec.dump(document),
                "spec": dump(migration),
            }
            if row is not None and is_unchanged(row, values):
                return False
            _refuse_foreign_rules(connection, migration)
            if row is None:
                made = connection.execute(
                    insert_of(connection.dialect.name, migrations)
                    .values(
                        name=migration.name,
                        version=1,
                        created_at=now_epoch(),
                        updated_at=now_epoch(),
                        **values,
                    )
                    .on_conflict_do_nothing()
                )
                check_created("migration", migration.name, made.rowcount)
            else:
                _refuse_begun(connection, migration.name)
                connection.execute(
                    update(migrations)
                    .where(migrations.c.name == migration.name)
                    .values(version=row.version + 1, updated_at=now_epoch(), **values)
                )
                _forget_surveys(connection, migration.name)
            _write_waves(connection, migration)
            return True

        self._database.write(work)
        return self.get(migration.name)

    def get(self, name: str) -> StoredMigration:
        """Return one migration. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(select(migrations).where(migrations.c.name == name)).first()
        if row is None:
            raise NotFoundInStore(f"there is no migration named {name}")
        return as_migration(row)

    def list(
        self, *, project: str | None = None, after: str | None = None, limit: int = 1000
    ) -> list[StoredMigration]:
        """Return migrations by name, from the first one after `after`."""
        query = select(migrations).order_by(migrations.c.name).limit(limit)
        if project is not None:
            query = query.where(migrations.c.project == project)
        if after is not None:
            query = query.where(migrations.c.name > after)
        with self._database.read() as connection:
            return [as_migration(row) for row in connection.execute(query)]

    def delete(self, name: str) -> None:
        """Forget a migration and its rules; what they wrote stays, and its executions. Raises NotFoundInStore, Conflict."""

        def work(connection: Connection) -> None:
            _lock(connection, name)
            for wave in _waves(connection, name):
                if wave.execution:
                    raise Conflict(
                        f"wave {wave.name} of migration {name} is under way",
                        hint="pause the migration first, and wait until it has stopped",
                    )
            connection.execute(delete(rules).where(rules.c.set_name == f"{OWNER}{name}"))
            connection.execute(delete(migration_before).where(migration_before.c.migration == name))
            connection.execute(delete(migration_waves).where(migration_waves.c.migration == name))
            connection.execute(delete(migrations).where(migrations.c.name == name))
            _forget_surveys(connection, name)

        self._database.write(work)

    def pause(self, name: str) -> None:
        """Stop what runs of a migration, and begin nothing more of it; again changes nothing. Raises NotFoundInStore."""

        def work(connection: Connection) -> None:
            _lock(connection, name)
            connection.execute(
                update(migrations)
                .where(migrations.c.name == name)
                .values(paused_at=func.coalesce(migrations.c.paused_at, now_epoch()))
            )
            for wave in _waves(connection, name):
                if wave.execution:
                    begin_stop(connection, wave.execution, PAUSED)

        self._database.write(work)

    def resume(self, name: str) -> None:
        """Go on where it stood; again changes nothing. Raises NotFoundInStore."""

        def work(connection: Connection) -> None:
            _lock(connection, name)
            connection.execute(
                update(migrations).where(migrations.c.name == name).values(paused_at=None)
            )

        self._database.write(work)

    # ---- waves -----------------------------------------------------------------------------------

    def waves(self, name: str) -> Waves:
        """Return the waves of a migration in their order."""
        with self._database.read() as connection:
            return _waves(connection, name)

    def start(self, name: str, wave: str) -> None:
        """Have a wave moved; one that is under way goes on, one that has ended runs again.

        Raises NotFoundInStore, and Conflict where an earlier wave has not ended.
        """

        def work(connection: Connection) -> bool:
            _lock(connection, name)
            found = _waves(connection, name)
            chosen = next((one for one in found if one.name == wave), None)
            if chosen is None:
                raise NotFoundInStore(
                    f"migration {name} has no wave {wave}",
                    hint=f"it has: {', '.join(one.name for one in found)}",
                )
            if chosen.state is WaveState.RUNNING:
                return False
            for earlier in found[: chosen.position]:
                if earlier.state not in (WaveState.DONE, WaveState.FAILED):
                    raise Conflict(
                        f"wave {earlier.name} comes before {wave} and has not ended",
                        hint=f"start {earlier.name} first, or wait for it",
                    )
            _begin(connection, chosen, delta=False)
            return True

        self._database.write(work)

    def start_delta(self, name: str) -> None:
        """Have every wave run once more, for what has changed since. Raises NotFoundInStore, and Conflict."""

        def work(connection: Connection) -> None:
            _lock(connection, name)
            found = _waves(connection, name)
            for wave in found:
                if wave.state not in (WaveState.DONE, WaveState.FAILED) and not wave.delta:
                    raise Conflict(
                        f"wave {wave.name} of migration {name} has not ended",
                        hint=f"start {wave.name}, or wait for it: the delta is what is left after all waves",
                    )
            for wave in found:
                if wave.state is not WaveState.RUNNING:
                    _begin(connection, wave, delta=True)

        self._database.write(work)

    def moving(self) -> Sequence[tuple[StoredMigration, StoredWave]]:
        """Return all waves that run, in their order, each with its migration."""
        query = select(migration_waves).where(migration_waves.c.state == WaveState.RUNNING)
        query = query.order_by(migration_waves.c.migration, migration_waves.c.position)
        with self._database.read() as connection:
            found = [as_wave(row) for row in connection.execute(query)]
            names = {wave.migration for wave in found}
            rows = connection.execute(select(migrations).where(migrations.c.name.in_(names)))
            by_name = {row.name: as_migration(row) for row in rows}
        return [(by_name[wave.migration], wave) for wave in found if wave.migration in by_name]

    def run(self, wave: StoredWave, rule: SyncRule) -> str:
        """Save the execution of a wave whose rule is saved; "" when it is not to run any more, or runs."""

        def work(connection: Connection) -> str:
            _lock(connection, wave.migration)
            now = _find(connection, wave)
            held = connection.execute(
                select(migrations.c.paused_at).where(migrations.c.name == wave.migration)
            ).scalar_one()
            if now.state is not WaveState.RUNNING or now.execution or held is not None:
                return ""
            identity, _ = insert_full(connection, rule, trigger=TRIGGER)
            connection.execute(
                _this(now).values(
                    execution_id=identity, executions=json.dumps([*now.executions, identity])
                )
            )
            return identity

        return self._database.write(work)

    def let_go(self, wave: StoredWave) -> None:
        """Note that a wave's execution was stopped to go on later."""
        self._close(wave, {})

    def end(self, wave: StoredWave, state: WaveState, reason: str = "") -> None:
        """Note what a wave has come to."""
        self._close(wave, {"state": state, "reason": reason, "ended_at": now_epoch()})

    def _close(self, wave: StoredWave, values: dict[str, Any]) -> None:
        statement = _this(wave).where(migration_waves.c.execution_id == wave.execution)
        self._database.write(
            lambda connection: connection.execute(statement.values(execution_id="", **values))
        )

    # ---- what was there before -------------------------------------------------------------------

    def keep_before(self, name: str, execution: str) -> None:
        """Keep what an execution found under the names that it may have written to; what is known stays."""
        found = select(
            literal(name),
            copies.c.destination_repository,
            copies.c.destination_reference,
            copies.c.found,
        ).where(
            copies.c.execution_id == execution,
            copies.c.destination_reference.not_like("%:%"),
            (copies.c.state == CopyState.COPIED)
            | (
                copies.c.state.in_([CopyState.FAILED, CopyState.STOPPED, CopyState.SUPERSEDED])
                & (copies.c.attempts > 0)
            ),
        )
        columns = ["migration", "repository", "tag", "digest"]
        self._database.write(
            lambda connection: connection.execute(
                insert_of(connection.dialect.name, migration_before)
                .from_select(columns, found)
                .on_conflict_do_nothing()
            )
        )

    def before(
        self, stored: StoredMigration, *, after: tuple[str, str] = ("", ""), limit: int = 1000
    ) -> Sequence[Before]:
        """Return what stood under the names that were written to, by name."""
        one = migration_before
        ours = (
            select(written_tags.c.digest)
            .where(
                written_tags.c.registry == stored.migration.destination,
                written_tags.c.repository == one.c.repository,
                written_tags.c.tag == one.c.tag,
            )
            .scalar_subquery()
        )
        query = (
            select(one.c.repository, one.c.tag, one.c.digest, ours.label("written"))
            .where(
                one.c.migration == stored.migration.name,
                (one.c.repository > after[0])
                | ((one.c.repository == after[0]) & (one.c.tag > after[1])),
            )
            .order_by(one.c.repository, one.c.tag)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [Before(*row) for row in connection.execute(query)]


def _lock(connection: Connection, name: str) -> None:
    """Wait for whoever changes the migration. Raises NotFoundInStore."""
    row = connection.execute(
        select(migrations.c.name).where(migrations.c.name == name).with_for_update()
    ).first()
    if row is None:
        raise NotFoundInStore(f"there is no migration named {name}")


def _begin(connection: Connection, wave: StoredWave, *, delta: bool) -> None:
    connection.execute(
        _this(wave).values(
            state=WaveState.RUNNING,
            delta=delta,
            executions="[]",
            history=json.dumps([*wave.history, *wave.executions]),
            reason="",
            started_at=now_epoch(),
            ended_at=None,
        )
    )


def _refuse_begun(connection: Connection, name: str) -> None:
    for wave in _waves(connection, name):
        if wave.state is not WaveState.PENDING:
            raise Conflict(
                f"wave {wave.name} of migration {name} was started: what it says stays as it is",
                hint="write another migration for what else is to move, or delete this one",
            )


def _refuse_foreign_rules(connection: Connection, migration: Migration) -> None:
    names = [migration.rule_name(wave.name) for wave in migration.waves]
    query = select(rules.c.name, rules.c.set_name).where(rules.c.name.in_(names))
    for row in connection.execute(query):
        if row.set_name != migration.owner:
            raise Conflict(
                f"there is a rule {row.name}, and a wave's rule would be called so",
                hint="give the migration or the wave another name",
            )


def _forget_surveys(connection: Connection, name: str) -> None:
    connection.execute(
        update(migration_surveys)
        .where(migration_surveys.c.migration == name)
        .values(kind="", state=SurveyState.FAILED)
    )


def _write_waves(connection: Connection, migration: Migration) -> None:
    connection.execute(delete(migration_waves).where(migration_waves.c.migration == migration.name))
    for position, wave in enumerate(migration.waves):
        connection.execute(
            insert(migration_waves).values(
                migration=migration.name,
                position=position,
                name=wave.name,
                state=WaveState.PENDING,
            )
        )


def _waves(connection: Connection, name: str) -> list[StoredWave]:
    query = select(migration_waves).where(migration_waves.c.migration == name)
    rows = connection.execute(query.order_by(migration_waves.c.position))
    return [as_wave(row) for row in rows]


def _find(connection: Connection, wave: StoredWave) -> StoredWave:
    return _waves(connection, wave.migration)[wave.position]


def _this(wave: StoredWave) -> Any:
    return update(migration_waves).where(
        migration_waves.c.migration == wave.migration, migration_waves.c.position == wave.position
    )
