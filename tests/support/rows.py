"""Rows in every table, of every kind of value that a column may hold."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Connection, Table, insert, select
from sqlalchemy.types import Boolean, Double, Integer, LargeBinary, String

from service.store import codec
from service.store.tables import metadata
from tests.integration.store.builders import a_rule, an_endpoint

ODD = "é \u202e \U0001f6a2 ' \" \\ \n"


def fill(connection: Connection, count: int = 3) -> None:
    """Write some rows into every table; the first has NULL wherever it may."""
    for table in metadata.sorted_tables:
        connection.execute(
            insert(table), [_row(connection, table, number) for number in range(count)]
        )


def _row(connection: Connection, table: Table, number: int) -> dict[str, Any]:
    return {
        column.name: _value(connection, table, column, number)
        for column in table.columns
        if column is not table.autoincrement_column
    }


def _value(connection: Connection, table: Table, column: Column[Any], number: int) -> Any:
    known = {
        ("executions", "state"): ("running", "succeeded", "stopping")[number % 3],
        ("copies", "state"): ("running", "copied", "waiting")[number % 3],
        ("deletions", "state"): ("pending", "done", "checking")[number % 3],
        ("deletion_tags", "state"): "pending",
        ("audit_head", "id"): number + 1,
        ("audit_head", "seq"): 100,  # the head goes on after the rows
        ("rules", "name"): f"rule{number}",
        ("executions", "rule"): f"rule{number}",
    }
    place = (table.name, column.name)
    if place in known:
        return known[place]
    if place in {("rules", "spec"), ("executions", "spec")}:
        return codec.dump(a_rule(f"rule{number}", every=3600.0 if number == 1 else None))
    if place == ("registries", "endpoint"):
        return codec.dump(an_endpoint(f"name{number}"))
    if column.foreign_keys:
        (key,) = column.foreign_keys
        return list(connection.execute(select(key.column).order_by(key.column)).scalars())[number]
    if column.nullable and number == 0:
        return None
    match column.type:
        case Boolean():
            return bool(number % 2)
        case Double():
            return number / 3 + 1_700_000_000.1
        case Integer():  # BigInteger, too
            return number + 1
        case LargeBinary():
            return bytes(range(number, 256))
        case String(length=int(length)):
            return f"{column.name}{number}"[:length]
        case _:
            return f"{column.name} {number} {ODD}"
