"""Counts that many outcomes add to: requests by registry, and bytes by pair of registries.

Each is one statement a transaction, at its end and in one order: two writers must not deadlock.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection

from service.store.database import before_commit, insert_of
from service.store.tables import execution_requests
from service.store.tables_regions import execution_links

Sums = dict[tuple[str, ...], list[int]]


class _Tally:
    """Rows of one table that are added up in memory until their transaction is about to commit."""

    def __init__(self, table: Any, keys: tuple[str, ...], values: tuple[str, ...]) -> None:
        self._table = table
        self._keys = keys
        self._values = values
        self._sums: WeakKeyDictionary[Any, Sums] = WeakKeyDictionary()
        self._statement = cache(self._build)

    def add(self, connection: Connection, key: tuple[str, ...], *amounts: int) -> None:
        """Add to the row of a key, at the end of this write transaction."""
        transaction = connection.get_transaction()
        sums = self._sums.get(transaction)
        if sums is None:
            sums = self._sums[transaction] = {}
            before_commit(connection, partial(self._write, sums))
        known = sums.setdefault(key, [0] * len(self._values))
        for position, amount in enumerate(amounts):
            known[position] += amount

    def _write(self, sums: Sums, connection: Connection) -> None:
        rows = [
            {
                **dict(zip(self._keys, key, strict=True)),
                **dict(zip(self._values, found, strict=True)),
            }
            for key, found in sorted(sums.items())
        ]
        if rows:
            connection.execute(self._statement(connection.dialect.name), rows)

    def _build(self, dialect: str) -> Any:
        statement = insert_of(dialect, self._table)
        return statement.on_conflict_do_update(
            index_elements=list(self._keys),
            set_={name: self._table.c[name] + statement.excluded[name] for name in self._values},
        )


_requests = _Tally(execution_requests, ("execution_id", "registry"), ("requests",))
_crossed = _Tally(
    execution_links, ("execution_id", "from_registry", "to_registry"), ("copies", "bytes")
)


def add_requests(connection: Connection, execution: str, requests: Mapping[str, int]) -> None:
    """Add to an execution's count of requests by registry."""
    for registry, count in requests.items():
        _requests.add(connection, (execution, registry), count)


def add_crossed(
    connection: Connection, execution: str, to: str, crossed: Mapping[str, int], *, copies: int = 0
) -> None:
    """Add bytes of blobs that a registry got, by the registry that they were read at."""
    for registry, count in crossed.items():
        _crossed.add(connection, (execution, registry, to), copies, count)
