"""A backup: one SQLite file with the tables of a revision, and a page that says what is in it.

The same for both databases, so that each can be restored into the other. The page (the one row of
`transship_backup`) has the revision, when it was made, and for each table the number of rows and a
checksum. Nothing in the file is more secret than in the database: passwords are sealed, and the key
file is not in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, NullPool, create_engine, event

from service.errors import InvalidInput
from service.store.portable import TableSum, Tell, our_tables, silent, sum_up

FORMAT = 1
PAGE = "transship_backup"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself; `made_at` is in seconds since 1970 by the database's clock."""

    revision: str
    made_at: float
    database: str  # what it was made of: sqlite | postgresql
    tables: dict[str, TableSum]

    @property
    def rows(self) -> int:
        """How many rows all tables have together."""
        return sum(table.rows for table in self.tables.values())


@contextlib.contextmanager
def open_file(path: Path, *, write: bool = False) -> Iterator[Connection]:
    """Open a backup as it is: nothing is created, and nothing switched on, in a file that is read."""
    mode = "rw" if write else "ro"

    def connect() -> sqlite3.Connection:
        uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
        return sqlite3.connect(uri, uri=True, isolation_level=None)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    if write:  # a draft: a crash leaves nothing of it that anybody reads

        @event.listens_for(engine, "connect")
        def _connect(raw: Any, _record: Any) -> None:
            for pragma in ("journal_mode=MEMORY", "synchronous=OFF", "foreign_keys=OFF"):
                raw.execute(f"PRAGMA {pragma}").close()

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.connect() as connection:
        yield connection
    engine.dispose()


def write_page(connection: Connection, manifest: Manifest) -> None:
    """Write the page into a file that has none."""
    text = json.dumps({"format": FORMAT, **asdict(manifest)})
    connection.exec_driver_sql(f"CREATE TABLE {PAGE} (manifest TEXT NOT NULL)")
    connection.exec_driver_sql(f"INSERT INTO {PAGE} VALUES (?)", (text,))


def read_page(path: Path) -> Manifest:
    """Return what a backup says of itself. Raises InvalidInput for what is none."""
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}")
    try:
        with open_file(path) as connection:
            text = connection.exec_driver_sql(f"SELECT manifest FROM {PAGE}").scalar_one()
        page = json.loads(text)
        form = page.pop("format")
        if form == FORMAT:
            tables = {name: TableSum(**said) for name, said in page.pop("tables").items()}
            return Manifest(**page, tables=tables)
    except Exception as error:
        raise InvalidInput(
            f"{path} is no backup of Transship, or it is damaged",
            hint="`transship db backup FILE` writes one",
        ) from error
    raise InvalidInput(
        f"{path} is a backup of format {form}, this version reads {FORMAT}",
        hint="restore it with the version of Transship that wrote it, or a newer one",
    )


def verify(path: Path, tell: Tell = silent) -> Manifest:
    """Read a backup whole, and hold it to what it says of itself. Raises InvalidInput."""
    manifest = read_page(path)
    tell("reading the backup")
    try:
        damage = _damage(path, manifest)
    except Exception as error:
        raise InvalidInput(f"{path} is damaged: {error}") from error
    if damage:
        raise InvalidInput(f"{path} is damaged: {damage}", hint="take another backup")
    return manifest


def _damage(path: Path, manifest: Manifest) -> str:
    """Return what is wrong with a backup; "": nothing."""
    with open_file(path) as connection:
        found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
        if found != "ok":
            return str(found)
        tables = {table.name: table for table in our_tables(connection)}
        if tables.keys() != manifest.tables.keys():
            odd = ", ".join(sorted(tables.keys() ^ manifest.tables.keys()))
            return f"it has other tables than it says ({odd})"
        for name, table in tables.items():
            if sum_up(connection, table) != manifest.tables[name]:
                return f"table {name} is not what was written"
        stamp = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
        return "" if stamp == manifest.revision else f"it is at revision {stamp}"


@contextlib.contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """Yield an empty file (0600) beside `path` that takes its place when all went well.

    The place is taken at once, and only after the bytes are on disk. Drafts of processes that died are removed.
    """
    folder = path.absolute().parent
    for old in folder.glob(f".{path.name}.*.draft"):
        _remove_abandoned(old)
    draft = folder / f".{path.name}.{secrets.token_hex(6)}.draft"
    try:
        held = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise InvalidInput(
            f"{folder} cannot be written: {error.strerror}", hint="name a file elsewhere"
        ) from None
    fcntl.flock(held, fcntl.LOCK_EX)  # for as long as this process lives
    try:
        yield draft
        _sync(draft)
        draft.replace(path)
        _sync(folder)
    finally:
        draft.unlink(missing_ok=True)
        os.close(held)


def _remove_abandoned(draft: Path) -> None:
    """Remove a draft that no living process holds; process ids say nothing across containers."""
    with contextlib.suppress(OSError):
        descriptor = os.open(draft, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            draft.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
