"""Back a database up into one file, while everything runs on."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from service.errors import InvalidInput
from service.store import schema
from service.store.backup_file import Manifest, draft_of, open_file, write_page
from service.store.clock import database_now
from service.store.database import Database
from service.store.portable import TableSum, Tell, carry, compare, our_tables, silent, sum_up

PAGES = 4096
"""Pages of SQLite that are copied between two words of how far it is."""


def back_up(
    database: Database,
    path: Path,
    *,
    overwrite: bool = False,
    tell: Tell = silent,
    pages: int = PAGES,
) -> Manifest:
    """Write what the database holds at this moment into `path`, and return what that is.

    Nobody has to stop, and nobody waits: it is one snapshot. The file is 0600, and there whole or not
    at all. A database of an earlier revision is backed up as it is. Raises InvalidInput when the
    file is there and may not be overwritten, and when the database is none of Transship's, and
    StoreUnavailable.
    """
    if path.exists() and not (overwrite and path.is_file()):
        raise InvalidInput(
            f"{path} is there already", hint="name another file, or give --force to replace it"
        )
    with draft_of(path) as draft, database.snapshot() as connection:
        revision = schema.stamp_of(connection)
        if revision not in schema.REVISIONS:
            raise schema.mismatch(revision)
        made_at = database_now(connection)
        if database.is_sqlite:
            sums = _copy_pages(connection, draft, tell, pages)
        else:
            sums = _copy_rows(connection, draft, revision, tell)
        manifest = Manifest(revision, made_at, connection.dialect.name, sums)
        with open_file(draft, write=True) as written, written.begin():
            write_page(written, manifest)
    return manifest


def _copy_pages(connection: Connection, draft: Path, tell: Tell, pages: int) -> dict[str, TableSum]:
    """Copy a SQLite database by SQLite's own means, within the connection's snapshot."""
    source: Any = connection.connection.dbapi_connection

    def progress(_status: int, remaining: int, total: int) -> None:
        tell(f"{100 * (total - remaining) // max(1, total)} % of {total:,} pages")

    target = sqlite3.connect(draft)
    try:
        source.backup(target, pages=pages, progress=progress)
        target.execute("PRAGMA journal_mode=DELETE")  # one file, that no reader writes beside
    finally:
        target.close()
    with open_file(draft) as written:
        found = written.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
        if found != "ok":
            raise InvalidInput(
                f"the database is damaged: {found}", hint="look at it with `transship db check`"
            )
        return {table.name: sum_up(written, table) for table in our_tables(written)}


def _copy_rows(
    connection: Connection, draft: Path, revision: str, tell: Tell
) -> dict[str, TableSum]:
    """Copy every table of a snapshot into a SQLite file of the same revision, and read it back."""
    with open_file(draft, write=True) as written:
        with written.begin():
            schema.upgrade(written, to=revision)
        with written.begin():
            tables = our_tables(connection)
            sums = carry(connection, written, tables, tell)
        compare(written, our_tables(written), sums)
    return sums
