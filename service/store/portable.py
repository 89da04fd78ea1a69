"""Rows in the form that both databases have: read in batches, counted, summed up, written elsewhere."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, func, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError

from service.crashpoints import crashpoint
from service.errors import InvalidInput
from service.store.schema import WHOLE

BATCH = 500
TELL_SECONDS = 1.0

Tell = Callable[[str], None]
"""Hears how far something is, in words for a person."""


def silent(_text: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class TableSum:
    """What a table holds: how many rows, and a sum over all of them, whatever their order."""

    rows: int
    checksum: str


class Tally:
    """Counts rows and adds up their hashes."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take rows in; a column stands at the same place in each, and its values are of its type."""
        for row in rows:
            digest = hashlib.sha256(ascii(tuple(row)).encode()).digest()
            self._sum += int.from_bytes(digest, "big")
            self.rows += 1

    @property
    def sum(self) -> TableSum:
        """What came in so far."""
        return TableSum(self.rows, f"{self._sum % (1 << 256):064x}")


def our_tables(connection: Connection) -> list[Table]:
    """Return the tables of Transship that are there, with their columns, each after those it refers to.

    Of any revision, and nothing else that stands beside them: a database may be shared. Keys and indexes
    are left out: to look them up takes longer than to carry the rows of most databases.
    """
    there = inspect(connection)
    names = set(there.get_table_names())
    found = MetaData()
    return [
        Table(
            table.name,
            found,
            *(Column(one["name"], one["type"]) for one in there.get_columns(table.name)),
        )
        for table in WHOLE.sorted_tables
        if table.name in names
    ]


def columns_of(table: Table) -> list[Column[Any]]:
    """Return the columns in the order of their names, which is the same in every database."""
    return sorted(table.columns, key=lambda column: column.name)


def batches(connection: Connection, table: Table) -> Iterator[Sequence[Sequence[Any]]]:
    """Yield all rows of a table, some hundreds in memory, their columns as `columns_of` has them."""
    result = connection.execute(
        select(*columns_of(table)),
        execution_options={"stream_results": True, "yield_per": BATCH},
    )
    with result:
        yield from result.partitions()


def count(connection: Connection, table: Table) -> int:
    """Return how many rows a table has."""
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def sum_up(connection: Connection, table: Table) -> TableSum:
    """Return what a table holds."""
    tally = Tally()
    for rows in batches(connection, table):
        tally.add(rows)
    return tally.sum


def carry(
    source: Connection, target: Connection, tables: Sequence[Table], tell: Tell = silent
) -> dict[str, TableSum]:
    """Write all rows of these tables to tables of the same names; return what was read of each.

    Raises InvalidInput for a table that has other columns at the target, since both have to be at one
    revision, and for a row that the target does not take.
    """
    beyond = {table.name: table for table in our_tables(target)}
    sums = {}
    for table in tables:
        names = [column.name for column in columns_of(table)]
        other = beyond.get(table.name)
        if other is None or [column.name for column in columns_of(other)] != names:
            raise InvalidInput(f"table {table.name} is not the same on both sides")
        said = _Pace(tell, table.name, count(source, table))
        write = _writer(target, other)
        tally = Tally()
        for rows in batches(source, table):
            tally.add(rows)
            try:
                write(rows)
            except (DBAPIError, target.dialect.loaded_dbapi.Error) as error:
                raise InvalidInput(
                    f"a row of {table.name}, among the {len(rows)} after {tally.rows - len(rows)}, is "
                    f"refused: {getattr(error, 'orig', error)}"
                ) from error
            said.at(tally.rows)
        sums[table.name] = tally.sum
        crashpoint("db.table_carried")
    return sums


def _writer(connection: Connection, table: Table) -> Callable[[Sequence[Sequence[Any]]], None]:
    """Return what writes rows into a table: by COPY, where there is one, in half the time."""
    names = [column.name for column in columns_of(table)]
    if connection.dialect.name != "postgresql":
        statement = insert(table)

        def add(rows: Sequence[Sequence[Any]]) -> None:
            connection.execute(statement, [dict(zip(names, row, strict=True)) for row in rows])

        return add
    quoted = ", ".join(f'"{name}"' for name in names)
    command = f'COPY "{table.name}" ({quoted}) FROM STDIN'

    def copy(rows: Sequence[Sequence[Any]]) -> None:
        cursor: Any = connection.connection.cursor()  # psycopg's own, in the same transaction
        with cursor, cursor.copy(command) as door:
            for row in rows:
                door.write_row(row)

    return copy


def compare(connection: Connection, tables: Sequence[Table], wanted: dict[str, TableSum]) -> None:
    """Raise InvalidInput unless these tables hold what they are said to hold."""
    for table in tables:
        found, said = sum_up(connection, table), wanted[table.name]
        if found != said:
            raise InvalidInput(
                f"table {table.name} has {found.rows} rows, checksum {found.checksum[:12]}, where "
                f"{said.rows} rows, checksum {said.checksum[:12]}, were to be"
            )


def renumber(connection: Connection) -> None:
    """Have each sequence go on after the highest number that its table has (PostgreSQL's alone).

    A database of an earlier revision has fewer tables.
    """
    if connection.dialect.name != "postgresql":
        return
    there = set(inspect(connection).get_table_names())
    for table in WHOLE.sorted_tables:
        column = table.autoincrement_column
        if column is None or table.name not in there:
            continue
        highest = int(connection.execute(select(func.max(column))).scalar_one() or 0)
        connection.execute(
            text("SELECT setval(pg_get_serial_sequence(:of, :at), :next, false)"),
            {"of": table.name, "at": column.name, "next": highest + 1},
        )


class _Pace:
    """Tells of a table now and then, and at its end."""

    def __init__(self, tell: Tell, name: str, total: int) -> None:
        self._tell = tell
        self._name = name
        self._total = total
        self._next = time.monotonic() + TELL_SECONDS

    def at(self, rows: int) -> None:
        if time.monotonic() >= self._next or rows == self._total:
            self._next = time.monotonic() + TELL_SECONDS
            self._tell(f"{self._name}: {rows:,} of {self._total:,} rows")
