"""What receipts tell: the committed copies of executions, one for each destination name, in order and page by page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, exists, select, tuple_

from service.model.states import CopyState
from service.store.database import Database
from service.store.tables import copies, executions

AT_ONCE = 500
"""Rows in memory at the same time; also the copies whose way is looked up by one statement."""

MOST_HOPS = 16
T = TypeVar("T")
CONFIRMED = (CopyState.COPIED, CopyState.UNCHANGED)

Place = tuple[str, str, str]
"""Registry by name, repository, tag or digest."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """One name at a destination and what stands there; `at` is in seconds since 1970.

    `route` are the registries that it came through by their names, with source and destination.
    """

    source: Place
    destination: Place
    digest: str
    bytes: int
    route: tuple[str, ...]
    at: float
    attempts: int


class ReceiptStore:
    """Reads the copies of executions as receipts tell of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_rule(self, rule: str, most: int) -> list[str]:
        """Return the ended executions of a rule that may have copied something, the newest first.

        Where they are more than `most`, only those that have something to tell; where these are more, too, one
        more than `most`, so that it is seen: a receipt of a part would pass for one of all.
        """
        query = (
            select(executions.c.id)
            .where(
                executions.c.rule == rule,
                executions.c.kind.in_(["full", "tags", "carry"]),
                executions.c.finished_at.is_not(None),
            )
            .order_by(executions.c.id.desc())
            .limit(most + 1)
        )
        telling = exists().where(
            copies.c.execution_id == executions.c.id, copies.c.state.in_(CONFIRMED)
        )
        with self._database.read() as connection:
            found = list(connection.execute(query).scalars())
            if len(found) > most:
                found = list(connection.execute(query.where(telling)).scalars())
        return found

    def confirmed(self, identities: Sequence[str]) -> Iterator[Confirmed]:
        """Yield what ended executions have committed, or found in place when they came to commit it.

        Sorted by destination, byte by byte; of several copies to one name the newest execution's. All is of one
        moment, and little of it is in memory at a time.
        """
        with self._database.snapshot() as connection:
            rows = connection.execution_options(yield_per=AT_ONCE).execute(
                _query(self._database.is_sqlite, identities)
            )
            with self._database.read() as beside:
                for some in _pieces(_first_of_each(rows), AT_ONCE):
                    yield from _told(beside, some)


def _query(sqlite: bool, identities: Sequence[str]) -> Any:
    names = [
        copies.c.destination_registry,
        copies.c.destination_repository,
        copies.c.destination_reference,
    ]
    order = names if sqlite else [name.collate("C") for name in names]  # SQLite compares bytes
    return (
        select(copies)
        .where(copies.c.execution_id.in_(list(identities)), copies.c.state.in_(CONFIRMED))
        .order_by(*order, copies.c.execution_id.desc())
    )


def _pieces(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some


def _first_of_each(rows: Any) -> Iterator[Row[Any]]:
    last: Place | None = None
    for row in rows:
        if (place := _destination(row)) != last:
            last = place
            yield row


def _told(connection: Connection, rows: Sequence[Row[Any]]) -> Iterator[Confirmed]:
    between = _between(connection, rows)
    for row in rows:
        yield Confirmed(
            (row.source_registry, row.source_repository, row.source_reference),
            _destination(row),
            row.digest,
            row.bytes_copied,
            (row.source_registry, *between.get(row.id, ()), row.destination_registry),
            row.updated_at,
            row.attempts,
        )


def _between(connection: Connection, rows: Sequence[Row[Any]]) -> dict[int, tuple[str, ...]]:
    """Return, for copies that went on from a destination, the registries between, from the source on.

    A name without a copy of its own was in place before: how it came there is not known any more.
    """
    ways: dict[int, list[str]] = {}
    ahead: dict[tuple[str, Place], list[int]] = {}
    for row in rows:
        if row.via_registry:
            ahead.setdefault((row.execution_id, _via(row)), []).append(row.id)
    for _ in range(MOST_HOPS):
        if not ahead:
            break
        for (_, place), followers in ahead.items():
            for one in followers:
                ways.setdefault(one, []).insert(0, place[0])
        further: dict[tuple[str, Place], list[int]] = {}
        for parent in _parents(connection, list(ahead)):
            if parent.via_registry:
                key = (parent.execution_id, _via(parent))
                further.setdefault(key, []).extend(ahead[parent.execution_id, _destination(parent)])
        ahead = further
    return {one: tuple(way) for one, way in ways.items()}


def _parents(connection: Connection, wanted: Sequence[tuple[str, Place]]) -> Iterator[Row[Any]]:
    key = tuple_(
        copies.c.execution_id,
        copies.c.destination_registry,
        copies.c.destination_repository,
        copies.c.destination_reference,
    )
    for some in _pieces(wanted, 200):
        values = [(execution, *place) for execution, place in some]
        yield from connection.execute(select(copies).where(key.in_(values)))


def _destination(row: Row[Any]) -> Place:
    return row.destination_registry, row.destination_repository, row.destination_reference


def _via(row: Row[Any]) -> Place:
    return row.via_registry, row.via_repository, row.via_reference
