"""Restore a backup into a database, of either kind, and at whatever earlier revision it was made."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, delete, func, select

from service.errors import Conflict
from service.store import audit, schema
from service.store.aftermath import Aftermath, settle
from service.store.backup_file import Manifest, open_file, verify
from service.store.database import Database
from service.store.occupied import keep_others_out, refuse_while_in_use, rows_in_use
from service.store.portable import Tell, carry, compare, our_tables, renumber, silent


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, and what became of what it says."""

    manifest: Manifest
    rows: int
    aftermath: Aftermath


def restore(
    database: Database,
    path: Path,
    *,
    dead_after_seconds: float,
    replace: bool = False,
    tell: Tell = silent,
) -> Restored:
    """Make the database what the backup `path` says, in one transaction: whole, or as before.

    A backup of an earlier revision is brought to this version's on its way. `replace`: what the
    database holds goes. Afterwards nothing is believed that may have changed since (`aftermath`). Raises
    InvalidInput for a backup that is damaged or newer, Conflict for a database that holds
    something or is in use, StoreUnavailable.
    """
    manifest = verify(path, tell)
    if manifest.revision not in schema.REVISIONS:
        raise Conflict(
            f"{path} is of revision {manifest.revision}, this version of Transship knows "
            f"{schema.HEAD} at most",
            hint="restore it with the version of Transship that wrote it",
        )
    with _at_the_head(path, manifest, tell) as current, open_file(current) as source:

        def work(connection: Connection) -> Restored:
            prepare(
                connection,
                dead_after_seconds=dead_after_seconds,
                replace=replace,
                what="a backup is not restored",
            )
            tables = our_tables(source)
            sums = carry(source, connection, tables, tell)
            tell("reading what was written")
            compare(connection, our_tables(connection), sums)
            aftermath = settle(connection)
            renumber(connection)
            audit.append(
                connection,
                audit.Change(
                    "transship db",
                    "restore",
                    "database",
                    path.name[:255],
                    after={"made_at": manifest.made_at, "revision": manifest.revision},
                ),
            )
            return Restored(manifest, sum(table.rows for table in sums.values()), aftermath)

        return database.exclusive(work)


def prepare(connection: Connection, *, dead_after_seconds: float, replace: bool, what: str) -> None:
    """Have the tables of this version there, empty, and nobody else at them.

    Raises Conflict, its message beginning with `what`, for a database that holds something, unless
    that is to be replaced, that is in use, or that is at another revision.
    """
    if connection.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE has locked already
        connection.execute(select(func.pg_advisory_xact_lock(schema.LOCK)))
    version = schema.stamp_of(connection)
    if version is None:
        schema.create(connection)
        return
    if version not in schema.REVISIONS:
        raise Conflict(
            f"{what}: the database is at revision {version}, of a newer version of Transship",
            hint="use another, empty database, and name it in TRANSSHIP_DATABASE_URL",
        )
    keep_others_out(connection, our_tables(connection))
    refuse_while_in_use(connection, dead_after_seconds=dead_after_seconds, what=what)
    full = sorted(name for name, has_rows in rows_in_use(connection).items() if has_rows)
    if full and not replace:
        raise Conflict(
            f"{what}: the database is not empty, it has rows in {', '.join(full[:4])}"
            f"{' and others' if len(full) > 4 else ''}",
            hint="use an empty database, or --force to replace all that is there",
        )
    for table in reversed(our_tables(connection)):
        connection.execute(delete(table))
    if version != schema.HEAD:
        schema.upgrade(connection)


@contextlib.contextmanager
def _at_the_head(path: Path, manifest: Manifest, tell: Tell) -> Iterator[Path]:
    """Yield the backup, or a copy of it that was brought to this version's revision."""
    if manifest.revision == schema.HEAD:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="transship-restore-") as folder:
        copy = Path(folder) / "backup"
        shutil.copyfile(path, copy)
        copy.chmod(0o600)
        with open_file(copy, write=True) as connection, connection.begin():
            schema.upgrade(connection, tell=tell)
        yield copy
