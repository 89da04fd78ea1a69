"""Move a database to another one, mostly from SQLite to PostgreSQL when one machine is outgrown."""

from __future__ import annotations

from sqlalchemy import Connection

from service.errors import Conflict
from service.store import schema
from service.store.database import Database
from service.store.occupied import keep_others_out, refuse_while_in_use
from service.store.portable import TableSum, Tell, carry, compare, our_tables, renumber, silent
from service.store.restore import prepare


def move(
    source: Database, target: Database, *, dead_after_seconds: float, tell: Tell = silent
) -> dict[str, TableSum]:
    """Write all that `source` holds into `target`, and return what that is, by table.

    Everything arrives or nothing does; rows are counted and summed up on both sides, and memory does
    not grow with them. The source stays as it is, and nobody writes it meanwhile. The target has to be
    without rows; its tables are created. Raises Conflict when either is not as it has to be, or in use,
    InvalidInput for a row that the target does not take, StoreUnavailable.
    """
    if source.url == target.url:
        raise Conflict("the database is to be moved to itself", hint="give another one with --to")

    def work(connection: Connection) -> dict[str, TableSum]:
        version = schema.stamp_of(connection)
        if version != schema.HEAD:
            raise schema.mismatch(version)
        tables = our_tables(connection)
        keep_others_out(connection, tables)
        refuse_while_in_use(
            connection, dead_after_seconds=dead_after_seconds, what="a database is not moved"
        )
        return target.exclusive(lambda beyond: arrive(connection, beyond))

    def arrive(connection: Connection, beyond: Connection) -> dict[str, TableSum]:
        prepare(
            beyond,
            dead_after_seconds=dead_after_seconds,
            replace=False,
            what="nothing is moved there",
        )
        tables = our_tables(connection)
        sums = carry(connection, beyond, tables, tell)
        tell("reading what was written")
        compare(beyond, our_tables(beyond), sums)
        renumber(beyond)
        return sums

    return source.exclusive(work)
