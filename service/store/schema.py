"""The schema's version: create it whole on a new database, migrate an older one, refuse a newer one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, inspect, select, text

from service.errors import InvalidConfiguration
from service.store import tables_content, tables_deletions, tables_events, tables_governance
from service.store.database import Database
from service.store.tables import metadata

TABLES = (
    metadata,
    tables_content,
    tables_deletions,
    tables_events,
    tables_governance,
)  # all that create_all makes

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x7472616E73686970
"""The advisory lock under which processes that start together change the schema one by one."""

HEAD = "0006"
"""The newest revision in migrations/; a test holds it to the scripts, and the tables to the head."""


def create_or_upgrade(database: Database) -> None:
    """Bring the database to the head: a new one gets the head's tables at once, and its stamp.

    Raises InvalidConfiguration for a database of a newer version, which is left as it is.
    """

    def work(connection: Connection) -> None:
        if connection.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE has locked already
            connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
        version = _version(connection)
        if version == HEAD:
            return
        if version is None:
            metadata.create_all(connection)
            connection.execute(
                text(
                    "CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) PRIMARY KEY)"
                )
            )
            connection.execute(
                text("INSERT INTO alembic_version (version_num) VALUES (:v)"), {"v": HEAD}
            )
            return
        upgrade(connection)

    if database_version(database) != HEAD:
        database.exclusive(work)


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, in the caller's transaction.

    Raises InvalidConfiguration when the database is at a revision that this version does not know.
    """
    from alembic import command
    from alembic.script import ScriptDirectory

    config = alembic_config()
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    version = _version(connection)
    if version is not None and version not in known:
        raise _mismatch(version)
    command.upgrade(config, "head")


def alembic_config() -> Any:
    """Return Alembic's configuration; nothing of it stands in a file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def database_version(database: Database) -> str | None:
    """Return the stamped revision; None for a database without tables."""
    with database.read() as connection:
        return _version(connection)


def check_schema(database: Database) -> None:
    """Raise InvalidConfiguration unless the database is at this version's head."""
    version = database_version(database)
    if version == HEAD:
        return
    if version is None:
        raise InvalidConfiguration(
            "the database has no tables yet", hint="run `transship db upgrade`"
        )
    raise _mismatch(version)


def _mismatch(version: str) -> InvalidConfiguration:
    return InvalidConfiguration(
        f"the database is at revision {version}, this version of Transship needs {HEAD}",
        hint="run `transship db upgrade`, or start the version that the database belongs to",
    )


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    value = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if value is None else str(value)
