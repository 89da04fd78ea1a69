"""Whether anybody works with a database: what must not be done to one that is in use is refused then."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, Table, select, text

from service.errors import Conflict
from service.store.clock import now_epoch
from service.store.portable import our_tables
from service.store.tables import processes

PASSING = frozenset({"processes", "leases"})
"""Tables that say who is at work at the moment: no database is full for having rows there."""


def refuse_while_in_use(connection: Connection, *, dead_after_seconds: float, what: str) -> None:
    """Raise Conflict, naming them, while processes of Transship are alive by their heartbeats."""
    age = (now_epoch() - processes.c.seen_at).label("age")
    alive = connection.execute(
        select(processes.c.kind, processes.c.host, processes.c.pid)
        .where(age < dead_after_seconds)
        .order_by(processes.c.kind, processes.c.host, processes.c.pid)
    ).all()
    if not alive:
        return
    named = ", ".join(f"{row.kind} on {row.host} (process {row.pid})" for row in alive[:5])
    more = f" and {len(alive) - 5} more" if len(alive) > 5 else ""
    raise Conflict(
        f"{what} while processes are at work with it: {named}{more}",
        hint="stop them first; one that was killed counts as alive for "
        f"{dead_after_seconds:g} s after its last heartbeat",
    )


def keep_others_out(connection: Connection, tables: Sequence[Table]) -> None:
    """Let nobody else write until the caller's write transaction ends.

    Over SQLite that is so already. A process that starts meanwhile waits at its first heartbeat.
    """
    if connection.dialect.name == "postgresql" and tables:
        names = ", ".join(f'"{table.name}"' for table in tables)
        connection.execute(text("SET LOCAL lock_timeout = '10s'"))
        connection.execute(text(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE"))


def rows_in_use(connection: Connection) -> dict[str, bool]:
    """Return which of our tables have rows, those left out that only say who is at work."""
    return {
        table.name: connection.execute(select(table).limit(1)).first() is not None
        for table in our_tables(connection)
        if table.name not in PASSING
    }
