"""Look a database over: what is stored, how it is kept, and whether its secrets open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import inspect, select, text
from sqlalchemy.exc import DBAPIError

from service.errors import StoreUnavailable
from service.store.audit import AuditStore
from service.store.database import Database
from service.store.keyring import KeyRing
from service.store.portable import Tell, silent
from service.store.schema import WHOLE
from service.store.sealed import everything

RESTORE = "stop everything, keep a copy of the file, and restore the last good backup"
FULL = 2
"""SQLite's number for synchronous=FULL."""

NAMED = 5
"""So many objects are named in a finding; the others are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look came to; `hint` says what to do where it is not as it should be."""

    name: str
    ok: bool
    message: str
    hint: str = ""


def check(database: Database, keyring: KeyRing | None, *, tell: Tell = silent) -> list[Finding]:
    """Look at everything, and say what is as it should be and what is not. Raises StoreUnavailable.

    Reads all of a SQLite file and the whole audit log; nothing is written, and nobody has to stop.
    The revision is to be checked before (`schema.check_schema`).
    """
    looks: list[tuple[str, Callable[[], Finding]]] = [
        ("tables", lambda: _tables(database)),
        ("integrity", lambda: _integrity(database)),
        ("references", lambda: _references(database)),
        ("settings", lambda: _settings(database)),
        ("secrets", lambda: _secrets(database, keyring)),
        ("audit", lambda: _audit(database)),
    ]
    findings = []
    for name, look in looks:
        tell(f"looking at {name}")
        try:
            findings.append(look())
        except DBAPIError as error:  # a damaged file says so wherever it is read
            findings.append(Finding(name, ok=False, message=str(error.orig), hint=RESTORE))
    return findings


def _tables(database: Database) -> Finding:
    with database.read() as connection:
        inspector = inspect(connection)
        there = set(inspector.get_table_names())
        lacking = sorted(WHOLE.tables.keys() - there)
        for name, table in WHOLE.tables.items():
            if name in there:
                columns = {column["name"] for column in inspector.get_columns(name)}
                lacking += [
                    f"{name}.{column}" for column in sorted(set(table.columns.keys()) - columns)
                ]
    if lacking:
        return Finding(
            "tables",
            ok=False,
            message=f"the database lacks {_some(lacking)}",
            hint="somebody changed its tables by hand: restore a backup",
        )
    return Finding("tables", ok=True, message=f"all {len(WHOLE.tables)} tables are there")


def _integrity(database: Database) -> Finding:
    if database.is_sqlite:
        with database.read() as connection:
            rows = connection.exec_driver_sql("PRAGMA integrity_check(10)").scalars().all()
        if list(rows) != ["ok"]:
            return Finding(
                "integrity", ok=False, message=f"the file is damaged: {rows[0]}", hint=RESTORE
            )
        return Finding("integrity", ok=True, message="SQLite finds its file sound")
    with database.snapshot() as connection:
        invalid = list(
            connection.execute(
                text(
                    "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
                    "WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::regnamespace"
                )
            ).scalars()
        )
    if invalid:
        return Finding(
            "integrity",
            ok=False,
            message=f"PostgreSQL calls these indexes invalid: {_some(invalid)}",
            hint="REINDEX them",
        )
    return Finding("integrity", ok=True, message="PostgreSQL calls no index invalid")


def _references(database: Database) -> Finding:
    """Look for rows that refer to rows that are not there."""
    broken: list[str] = []
    with database.snapshot() as connection:
        for table in WHOLE.sorted_tables:
            for key in table.foreign_keys:
                child, parent = key.parent, key.column
                query = (
                    select(child)
                    .where(child.is_not(None), ~select(parent).where(parent == child).exists())
                    .limit(1)
                )
                if connection.execute(query).first() is not None:
                    broken.append(f"{table.name}.{child.name}")
    if broken:
        return Finding(
            "references",
            ok=False,
            message=f"rows refer to rows that are not there: {_some(broken)}",
            hint="restore the last good backup",
        )
    return Finding("references", ok=True, message="every row that is referred to is there")


def _settings(database: Database) -> Finding:
    """Hold the database, as this process opens it, to what durability needs (reliability.md 2.6)."""
    wrong: list[str] = []
    with database.read() as connection:
        if database.is_sqlite:
            mode = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one())
            if mode != "wal":
                wrong.append(f"journal_mode is {mode}, not wal: is it on a network file system?")
            if int(connection.exec_driver_sql("PRAGMA synchronous").scalar_one()) < FULL:
                wrong.append("TRANSSHIP_DURABLE is false: a crash of the machine loses commits")
            if not connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one():
                wrong.append("this SQLite does not hold foreign keys")
            good = "WAL, and every commit waits for the disk"
        else:
            for name in ("synchronous_commit", "fsync", "full_page_writes"):
                value = str(connection.execute(text(f"SHOW {name}")).scalar_one())
                if value == "off":
                    wrong.append(f"{name} is off: a crash of the server loses commits")
            if str(connection.execute(text("SHOW server_encoding")).scalar_one()) != "UTF8":
                wrong.append("server_encoding is not UTF8")
            if connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one():
                wrong.append("it is a standby, which takes no writes")
            good = "every commit waits for the disk"
    if wrong:
        return Finding(
            "settings",
            ok=False,
            message="; ".join(wrong),
            hint="what was answered with success may be lost: correct the setting and restart",
        )
    return Finding("settings", ok=True, message=good)


def _secrets(database: Database, keyring: KeyRing | None) -> Finding:
    with database.read() as connection:
        sealed = list(everything(connection))
    if not sealed:
        return Finding("secrets", ok=True, message="none is stored")
    if keyring is None:
        return Finding(
            "secrets",
            ok=False,
            message=f"{len(sealed)} are stored, and TRANSSHIP_SECRET_KEY_FILE is not set",
            hint="set it to the key file of this installation",
        )
    closed = []
    for shown, owner, value in sealed:
        try:
            keyring.open(owner, value)
        except StoreUnavailable:
            closed.append(shown)
    if closed:
        return Finding(
            "secrets",
            ok=False,
            message=f"{len(closed)} of {len(sealed)} do not open with the keys of "
            f"TRANSSHIP_SECRET_KEY_FILE: {_some(closed)}",
            hint="add the key that they were written with to the file, or set these anew",
        )
    old = sum(not keyring.is_by_first(value) for _shown, _owner, value in sealed)
    message = f"all {len(sealed)} open"
    return Finding(
        "secrets", ok=True, message=message + (f", {old} by an older key" if old else "")
    )


def _audit(database: Database) -> Finding:
    verdict = AuditStore(database).verify()
    if verdict.broken is None:
        return Finding("audit", ok=True, message=f"the chain of {verdict.rows} rows holds")
    return Finding(
        "audit",
        ok=False,
        message=f"row {verdict.broken} is not as it was written: {verdict.reason}",
        hint="somebody changed the log: compare it with a backup (`transship audit verify`)",
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
