"""The audit log: append-only rows, each with the hash of the one before it (reliability.md S23).

The chain shows that rows were altered, deleted or put in between; `audit_head` shows a cut end.
Whoever can rewrite the whole table and its head can forge it: keep the head that `audit verify`
prints somewhere else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Row, func, insert, select, update

from service.store.clock import now_epoch
from service.store.database import Database, before_commit, upsert
from service.store.tables_governance import audit, audit_head

LOCK = 0x7472616E61756474
FIRST = "0" * 64
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """One change: who did what to which object; before and after are without secrets."""

    actor: str
    action: str
    kind: str
    name: str
    project: str = ""
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One row of the log."""

    seq: int
    at: float
    change: Change
    hash: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at the whole chain came to; `broken` names the first row that is wrong, and how."""

    rows: int
    head: str
    broken: int | None = None
    reason: str = ""


def append(connection: Connection, change: Change) -> None:
    """Write one change in the caller's write transaction.

    The rows of a group of writes go into the table together, at the end of their transaction: one
    statement and one move of the head for all that wait for the same commit. The head is locked only
    then, after every other row: processes that lock it in between would wait for one another.
    """
    transaction = connection.get_transaction()
    changes = _changes.get(transaction)
    if changes is None:
        changes = _changes[transaction] = []
        before_commit(connection, partial(_write, changes), last=True)
    changes.append(change)


_changes: WeakKeyDictionary[Any, list[Change]] = WeakKeyDictionary()


def _write(changes: Sequence[Change], connection: Connection) -> None:
    seq, head, at = _lock_head(connection)
    rows = []
    for change in changes:
        seq += 1
        values: dict[str, Any] = {
            "seq": seq,
            "at": at,
            "actor": change.actor,
            "action": change.action,
            "kind": change.kind,
            "name": change.name,
            "project": change.project,
            "before": _text(change.before),
            "after": _text(change.after),
            "previous": head,
        }
        head = values["hash"] = _hash(values)
        rows.append(values)
    connection.execute(insert(audit), rows)
    connection.execute(update(audit_head).values(seq=seq, hash=head))


def _lock_head(connection: Connection) -> tuple[int, str, float]:
    query = select(audit_head.c.seq, audit_head.c.hash, now_epoch().label("at")).with_for_update()
    row = connection.execute(query).first()
    if row is None:  # the first row of all: nobody else may write it meanwhile
        if connection.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE has locked already
            connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
        start = upsert(connection, audit_head).values(id=1, seq=0, hash=FIRST)
        connection.execute(start.on_conflict_do_nothing())
        row = connection.execute(query).one()
    return row.seq, row.hash, round(float(row.at), 3)


class AuditStore:
    """Reads the log; rows are written by `append` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(
        self,
        *,
        project: str | None = None,
        kind: str | None = None,
        name: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditRecord]:
        """Return rows, the newest first, older than number `before`."""
        query = select(audit).order_by(audit.c.seq.desc()).limit(limit)
        given = {"project": project, "kind": kind, "name": name, "actor": actor, "action": action}
        for column, wanted in given.items():
            if wanted is not None:
                query = query.where(audit.c[column] == wanted)
        if before is not None:
            query = query.where(audit.c.seq < before)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def verify(self) -> Verdict:
        """Walk the whole chain and say where it is broken, if it is; rows may come in meanwhile."""
        seq, previous = 0, FIRST
        with self._database.snapshot() as connection:
            while True:
                rows = connection.execute(
                    select(audit).where(audit.c.seq > seq).order_by(audit.c.seq).limit(PAGE)
                ).all()
                for row in rows:
                    if row.seq != seq + 1:
                        return Verdict(seq, previous, seq + 1, "it is missing")
                    if row.previous != previous:
                        return Verdict(seq, previous, row.seq, "it does not follow the row before")
                    values = {column.name: getattr(row, column.name) for column in audit.columns}
                    if row.hash != _hash(values):
                        return Verdict(seq, previous, row.seq, "it was altered")
                    seq, previous = row.seq, row.hash
                if not rows:
                    break
            head = connection.execute(select(audit_head)).first()
        if head is not None and head.seq > seq:
            return Verdict(seq, previous, seq + 1, "it is missing, and all that came after it")
        if (head is None and seq) or (
            head is not None and (head.seq, head.hash) != (seq, previous)
        ):
            return Verdict(seq, previous, seq, "the log ends with another row than it should")
        return Verdict(seq, previous)


def _text(document: Mapping[str, Any] | None) -> str:
    if document is None:
        return ""
    return json.dumps(document, separators=(",", ":"), sort_keys=True)


_HASHED = ("seq", "at", "actor", "action", "kind", "name", "project", "before", "after", "previous")


def _hash(values: Mapping[str, Any]) -> str:
    told = [values[name] if name != "at" else f"{values[name]:.3f}" for name in _HASHED]
    return hashlib.sha256(json.dumps(told, separators=(",", ":")).encode()).hexdigest()


def _record(row: Row[Any]) -> AuditRecord:
    return AuditRecord(
        row.seq,
        row.at,
        Change(
            row.actor,
            row.action,
            row.kind,
            row.name,
            row.project,
            json.loads(row.before) if row.before else None,
            json.loads(row.after) if row.after else None,
        ),
        row.hash,
    )
