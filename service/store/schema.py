"""The schema's version: create it whole on a new database, migrate an older one, refuse a newer one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, inspect, select, text

from service.errors import InvalidConfiguration, StoreUnavailable
from service.store import (
    tables_agents,
    tables_attempts,
    tables_content,
    tables_deletions,
    tables_events,
    tables_freshness,
    tables_governance,
    tables_health,
    tables_migrations,
    tables_pipelines,
    tables_pull_tokens,
    tables_regions,
    tables_releases,
    tables_replicas,
)
from service.store.database import Database
from service.store.tables import metadata

TABLES = (
    tables_agents,
    tables_attempts,
    tables_content,
    tables_deletions,
    tables_events,
    tables_freshness,
    tables_governance,
    tables_health,
    tables_migrations,
    tables_pipelines,
    tables_pull_tokens,
    tables_regions,
    tables_releases,
    tables_replicas,
)
WHOLE = metadata
"""Every table: importing this module, and with it those of TABLES, has put all of them in."""

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x7472616E73686970
"""The advisory lock under which processes that start together change the schema one by one."""

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011")
"""Every revision that this version knows, the oldest first; a test holds it to the scripts."""

HEAD = REVISIONS[-1]
"""The newest revision in migrations/; a test holds the tables to it."""

PATIENCE_SECONDS = 600.0
"""How long an upgrade waits for another one to end."""

LOCK_SECONDS = 5
LOCK_TRIES = 12
IN_USE = frozenset({"55P03", "40P01"})
"""On PostgreSQL a change of a table waits so long for those who use it, and makes them wait behind it;
then it lets go and tries again."""


def create_or_upgrade(
    database: Database, tell: Callable[[str], None] = lambda _text: None
) -> str | None:
    """Bring the database to the head: a new one gets the head's tables at once, and its stamp.

    Returns the revision that it was at; None for one without tables. All of it happens or nothing
    does, and processes that come together do it one by one. `tell` hears of each step. Raises
    InvalidConfiguration for a database of a newer version, which is left as it is, and
    StoreUnavailable.
    """

    def work(connection: Connection) -> str | None:
        if connection.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE has locked already
            connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        version = stamp_of(connection)
        if version is None:
            create(connection)
        elif version != HEAD:
            upgrade(connection, tell=tell)
        return version

    before = database_version(database)
    if before == HEAD:
        return HEAD
    for attempt in range(1, LOCK_TRIES):
        try:
            return database.exclusive(work, patience_seconds=PATIENCE_SECONDS)
        except StoreUnavailable as error:
            if getattr(getattr(error.__cause__, "orig", None), "sqlstate", "") not in IN_USE:
                raise
            tell(f"the tables are in use, trying again ({attempt})")
    return database.exclusive(work, patience_seconds=PATIENCE_SECONDS)


def create(connection: Connection) -> None:
    """Create the head's tables, and stamp them, in the caller's transaction."""
    metadata.create_all(connection)
    connection.execute(
        text("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
    )
    connection.execute(text("INSERT INTO alembic_version (version_num) VALUES (:v)"), {"v": HEAD})


def upgrade(
    connection: Connection,
    to: str = "head",
    tell: Callable[[str], None] = lambda _text: None,
) -> None:
    """Run the migrations that are missing up to revision `to`, in the caller's transaction.

    Raises InvalidConfiguration when the database is at a revision that this version does not know.
    """
    from alembic import command

    config = alembic_config()
    config.attributes["connection"] = connection
    config.attributes["tell"] = tell
    version = stamp_of(connection)
    if version is not None and version not in REVISIONS:
        raise mismatch(version)
    command.upgrade(config, to)


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
        return stamp_of(connection)


def check_schema(database: Database) -> None:
    """Raise InvalidConfiguration unless the database is at this version's head."""
    version = database_version(database)
    if version != HEAD:
        raise mismatch(version)


def mismatch(version: str | None) -> InvalidConfiguration:
    """Return what is to be said of a database that is not at this version's head, and done."""
    if version is None:
        return InvalidConfiguration(
            "the database has no tables yet", hint="run `transship db upgrade`"
        )
    hint = "run `transship db upgrade`"
    if version not in REVISIONS:
        hint = (
            "it belongs to a newer version of Transship: start that one, or restore a backup of this "
            "version into an empty database with `transship db restore FILE`"
        )
    return InvalidConfiguration(
        f"the database is at revision {version}, this version of Transship needs {HEAD}", hint=hint
    )


def stamp_of(connection: Connection) -> str | None:
    """Return the stamped revision; None for a database without tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    value = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if value is None else str(value)
