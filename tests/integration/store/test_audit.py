"""The audit log: rows chained by hash, saved by the transaction of the change."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, delete, select, update

from service.errors import Conflict
from service.store.audit import AuditStore, Change, append
from service.store.database import Database, write_beside
from service.store.schema import create_or_upgrade
from service.store.tables_governance import audit, audit_head
from tests.integration.store.builders import in_threads
from tests.integration.store.conftest import OpenDatabase


def fill(database: Database, count: int = 5) -> None:
    for number in range(count):
        change = Change("admin", "replace", "rules", f"rule{number}", after={"n": number})
        database.write(lambda connection, change=change: append(connection, change))


def test_whole_log_is_whole(database: Database) -> None:
    assert AuditStore(database).verify().broken is None
    fill(database)

    found = AuditStore(database).verify()

    assert (found.rows, found.broken) == (5, None)
    newest = AuditStore(database).list(limit=2)
    assert [record.seq for record in newest] == [5, 4]
    assert found.head == newest[0].hash
    assert newest[0].change.after == {"n": 4}


@pytest.mark.parametrize(
    "column", ["actor", "action", "kind", "name", "project", "before", "after", "at"]
)
def test_altered_row_is_named(database: Database, column: str) -> None:
    fill(database)
    value = 1.0 if column == "at" else "x"

    def alter(connection: Connection) -> None:
        connection.execute(update(audit).where(audit.c.seq == 3).values({column: value}))

    database.write(alter)

    assert AuditStore(database).verify().broken == 3


@pytest.mark.parametrize(("seq", "named"), [(1, 1), (3, 3), (5, 5)])
def test_deleted_row_is_named(database: Database, seq: int, named: int) -> None:
    fill(database)
    database.write(lambda connection: connection.execute(delete(audit).where(audit.c.seq == seq)))

    assert AuditStore(database).verify().broken == named


def test_cut_end_with_its_head_put_back_shows_at_the_head_that_was_kept(database: Database) -> None:
    """What a hash chain cannot show by itself: hence the head is printed, to be kept elsewhere."""
    fill(database)
    kept = AuditStore(database).verify().head

    def cut(connection: Connection) -> None:
        connection.execute(delete(audit).where(audit.c.seq > 3))
        last = connection.execute(select(audit.c.hash).where(audit.c.seq == 3)).scalar_one()
        connection.execute(update(audit_head).values(seq=3, hash=last))

    database.write(cut)

    found = AuditStore(database).verify()
    assert found.broken is None
    assert found.head != kept


def test_recomputed_row_breaks_the_next_one(database: Database) -> None:
    fill(database)

    def forge(connection: Connection) -> None:
        connection.execute(update(audit).where(audit.c.seq == 2).values(hash="0" * 64))

    database.write(forge)

    assert AuditStore(database).verify().broken == 2


def test_processes_that_write_at_once_make_one_chain(open_database: OpenDatabase) -> None:
    databases = [open_database() for _ in range(4)]
    create_or_upgrade(databases[0])

    in_threads(4, lambda number: fill(databases[number], 10))

    found = AuditStore(databases[0]).verify()
    assert (found.rows, found.broken) == (40, None)


def test_row_is_saved_with_the_change_or_not_at_all(database: Database) -> None:
    change = Change("admin", "replace", "rules", "r")

    def refused(_connection: Connection) -> None:
        raise Conflict("no")

    write_beside(lambda connection, _: append(connection, change))
    with pytest.raises(Conflict):
        database.write(refused)
    assert AuditStore(database).verify().rows == 0

    write_beside(lambda connection, _: append(connection, change))
    database.write(lambda _: False)  # nothing changed
    assert AuditStore(database).verify().rows == 0

    write_beside(lambda connection, _: append(connection, change))
    database.write(lambda _: None)
    database.write(lambda _: None)
    assert AuditStore(database).verify().rows == 1
