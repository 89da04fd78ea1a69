"""All that is stored sealed, and sealing it anew with the first key of the ring (SECURITY S3)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Row, select, update

from service.errors import StoreUnavailable
from service.store import audit
from service.store.database import Database
from service.store.keyring import KeyRing
from service.store.portable import Tell, silent
from service.store.secrets import owner_of
from service.store.tables import registries
from service.store.tables_events import hooks
from service.store.tables_governance import secrets, webhooks
from service.store.tables_pipelines import pipelines

AT_ONCE = 100
"""Values of one transaction, so that nobody waits for long."""


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column that holds sealed bytes: by which column a row is found, and whom its value is bound to.

    `owner` takes the row's key, and what `bound` holds where the owner is more than the key.
    """

    key: Column[Any]
    value: Column[Any]
    shown: str
    owner: Callable[..., str]
    bound: Column[Any] | None = None

    def rows(self, connection: Connection) -> Iterator[tuple[Row[Any], str]]:
        """Yield each row that has a value (key, value, and `bound`), with its owner."""
        columns = [self.key.label("key"), self.value.label("value")]
        if self.bound is not None:
            columns.append(self.bound.label("bound"))
        for row in connection.execute(
            select(*columns).where(self.value.is_not(None)).order_by(self.key)
        ):
            yield row, self.owner(row.key, *(() if self.bound is None else (row.bound,)))


COLUMNS = (
    SealedColumn(registries.c.name, registries.c.secret, "registry {}", "registry:{}".format),
    SealedColumn(hooks.c.registry, hooks.c.secret, "hook of {}", "hook:{}".format),
    SealedColumn(hooks.c.registry, hooks.c.previous, "hook of {}", "hook:{}".format),
    SealedColumn(webhooks.c.name, webhooks.c.secret, "webhook {}", "webhook:{}".format),
    SealedColumn(pipelines.c.name, pipelines.c.secret, "pipeline {}", "pipeline:{}".format),
    SealedColumn(
        secrets.c.name,
        secrets.c.sealed,
        "secret {}",
        lambda name, hosts: owner_of(name, tuple(json.loads(hosts))),
        bound=secrets.c.hosts,
    ),
)
"""Every column of sealed bytes; a test holds the list to the tables."""


@dataclass(frozen=True, slots=True)
class Resealed:
    """What sealing anew came to, in values: `all` that are stored, `resealed` now, `closed` by name that no key opens."""

    all: int
    resealed: int
    closed: tuple[str, ...]


def everything(connection: Connection) -> Iterator[tuple[str, str, bytes]]:
    """Yield what is sealed: a name for people, the owner that it is bound to, the bytes."""
    for column in COLUMNS:
        for row, owner in column.rows(connection):
            yield column.shown.format(row.key), owner, bytes(row.value)


def reseal(database: Database, ring: KeyRing, *, tell: Tell = silent) -> Resealed:
    """Seal with the first key what another key of the ring has sealed, while everything runs.

    What changes meanwhile is left as it is then: who changed it has sealed it. Called again it finds nothing to
    do. Raises StoreUnavailable.
    """
    count = resealed = 0
    closed: list[str] = []
    for column in COLUMNS:
        with database.read() as connection:
            found = list(column.rows(connection))
        count += len(found)
        old: list[tuple[str, bytes, bytes]] = []
        for row, owner in found:
            value = bytes(row.value)
            if ring.is_by_first(value):
                continue
            try:
                secret = ring.open(owner, value)
            except StoreUnavailable:
                closed.append(column.shown.format(row.key))
                continue
            old.append((row.key, value, ring.seal(owner, secret)))
        for start in range(0, len(old), AT_ONCE):
            resealed += _replace(database, column, old[start : start + AT_ONCE])
            tell(f"sealed anew: {resealed}")
    return Resealed(count, resealed, tuple(closed))


def _replace(database: Database, column: SealedColumn, some: list[tuple[str, bytes, bytes]]) -> int:
    """Replace values that are still what they were; return how many were."""

    def work(connection: Connection) -> int:
        done = 0
        for key, before, after in some:
            changed = connection.execute(
                update(column.value.table)
                .where(column.key == key, column.value == before)
                .values({column.value.name: after})
            )
            done += changed.rowcount
        if done:
            shown = column.value.table.name
            audit.append(
                connection,
                audit.Change("transship db", "reseal", "table", shown, after={"values": done}),
            )
        return done

    return int(database.write(work))
