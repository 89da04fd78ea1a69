"""The migrations, the tables and the stamp say the same, on both databases."""

from __future__ import annotations

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from service.errors import InvalidConfiguration
from service.store.database import Database
from service.store.schema import (
    HEAD,
    REVISIONS,
    alembic_config,
    check_schema,
    create_or_upgrade,
    database_version,
    upgrade,
)
from service.store.tables import metadata
from tests.integration.store.builders import in_threads
from tests.integration.store.conftest import OpenDatabase


def test_head_is_the_newest_script() -> None:
    scripts = ScriptDirectory.from_config(alembic_config())

    assert scripts.get_heads() == [HEAD]
    assert [script.revision for script in scripts.walk_revisions()] == list(reversed(REVISIONS))


def test_a_new_database_is_created_at_the_head(empty: Database) -> None:
    assert database_version(empty) is None

    create_or_upgrade(empty)
    create_or_upgrade(empty)

    assert database_version(empty) == HEAD
    check_schema(empty)
    with empty.read() as connection:
        assert _differences(connection) == []


def test_migrations_from_nothing_make_the_same_tables(
    empty: Database,
) -> None:
    empty.exclusive(upgrade)

    with empty.read() as connection:
        assert connection.execute(
            text("SELECT version_num FROM alembic_version")
        ).scalars().all() == [HEAD]
        assert _differences(connection) == []
        migrated = _facts(connection)
    empty.exclusive(_drop_all)
    create_or_upgrade(empty)
    with empty.read() as connection:
        assert _facts(connection) == migrated


@pytest.mark.parametrize(
    ("stamp", "hint"),
    [
        (REVISIONS[0], "run `transship db upgrade`"),
        ("0000", "belongs to a newer version"),
        ("9999", "belongs to a newer version"),
    ],
)
def test_another_revision_is_refused_and_told_what_to_do(
    database: Database, stamp: str, hint: str
) -> None:
    database.exclusive(
        lambda connection: connection.execute(
            text("UPDATE alembic_version SET version_num = :stamp"), {"stamp": stamp}
        )
    )

    with pytest.raises(InvalidConfiguration, match=f"at revision {stamp}.* needs {HEAD}") as caught:
        check_schema(database)
    assert hint in caught.value.hint
    if stamp not in REVISIONS:
        with pytest.raises(InvalidConfiguration, match=f"at revision {stamp}"):
            create_or_upgrade(database)
    assert database_version(database) == stamp


def test_a_database_without_tables_is_refused(empty: Database) -> None:
    with pytest.raises(InvalidConfiguration, match="no tables yet"):
        check_schema(empty)


def test_processes_that_start_together_create_it_once(open_database: OpenDatabase) -> None:
    databases = [open_database() for _ in range(4)]

    in_threads(4, lambda number: create_or_upgrade(databases[number]))

    assert database_version(databases[0]) == HEAD
    with databases[0].read() as connection:
        assert len(connection.execute(text("SELECT * FROM alembic_version")).all()) == 1


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, metadata))


def _facts(connection: Connection) -> dict[str, object]:
    """What compare_metadata does not look at: checks, keys and the conditions of indexes."""
    inspector = inspect(connection)
    return {
        table: (
            [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in columns],
            inspector.get_pk_constraint(table),
            sorted((c["name"], c["sqltext"]) for c in inspector.get_check_constraints(table)),
            sorted((f["name"], str(f["options"])) for f in inspector.get_foreign_keys(table)),
            sorted((u["name"], u["column_names"]) for u in inspector.get_unique_constraints(table)),
            sorted(
                (i["name"], i["unique"], [str(value) for value in i["dialect_options"].values()])
                for i in inspector.get_indexes(table)
            ),
        )
        for table in sorted(metadata.tables)
        for columns in [sorted(inspector.get_columns(table), key=lambda column: column["name"])]
    }


def _drop_all(connection: Connection) -> None:
    metadata.drop_all(connection)
    connection.execute(text("DROP TABLE alembic_version"))
