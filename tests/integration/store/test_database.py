"""The one writer of a process: groups, errors that stay with their own, locks that pass."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, select, update
from sqlalchemy.exc import IntegrityError

from service.errors import NotFoundInStore, StoreUnavailable
from service.store.clock import now_epoch
from service.store.database import Database
from service.store.tables import leases
from tests.integration.store.builders import in_threads
from tests.integration.store.conftest import OpenDatabase
from tests.support.processes import wait_until
from tests.support.servers import PostgresServer


def test_many_threads_of_several_processes_all_get_to_write(
    database: Database, open_database: OpenDatabase
) -> None:
    databases = [database, open_database()]

    def write(number: int) -> int:
        for turn in range(25):
            databases[number % 2].write(_put(f"{number}.{turn}"))
        return 25

    assert sum(in_threads(32, write)) == 800
    assert len(_names(database)) == 800


def test_one_bad_statement_of_a_group_harms_only_itself(database: Database) -> None:
    release = threading.Event()
    database.submit(lambda _connection: release.wait(10))
    good = [database.submit(_put(f"good{number}")) for number in range(10)]
    twice = database.submit(_put("good3"))
    raising = database.submit(_raise)
    last = database.submit(_put("last"))
    release.set()

    assert isinstance(twice.exception(10), IntegrityError)
    assert isinstance(raising.exception(10), NotFoundInStore)
    for future in [*good, last]:
        future.result(10)
    assert len(_names(database)) == 11


def test_a_statement_that_raises_leaves_nothing_behind(database: Database) -> None:
    def half(connection: Connection) -> None:
        _put("half")(connection)
        raise NotFoundInStore

    with pytest.raises(NotFoundInStore):
        database.write(half)

    assert _names(database) == []


def test_a_group_that_met_a_lock_is_tried_again(
    database: Database, open_database: OpenDatabase, url: str
) -> None:
    database.write(_put("row"))
    patience = "" if database.is_sqlite else "?options=-c%20lock_timeout%3D50ms"
    impatient = Database(url + patience, busy_timeout_seconds=0.05)
    locked, release = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        _touch(connection)
        locked.set()
        release.wait(10)

    def let_go(_context: object) -> None:
        release.set()

    event.listen(impatient._writers, "handle_error", let_go)
    held = open_database().submit(hold)
    assert locked.wait(10)

    impatient.write(_touch)

    held.result(10)
    impatient.close()
    assert release.is_set()
    with database.read() as connection:
        assert connection.execute(select(leases.c.until)).scalar_one() == 2


def test_a_reader_does_not_wait_for_the_writer(database: Database) -> None:
    writing, release = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        _put("slow")(connection)
        writing.set()
        release.wait(10)

    future = database.submit(slow)
    assert writing.wait(10)
    assert _names(database) == []
    release.set()
    future.result(10)
    assert _names(database) == ["slow"]


def test_close_finishes_what_was_queued_and_takes_no_more(
    database: Database, open_database: OpenDatabase
) -> None:
    closing = open_database()
    futures = [closing.submit(_put(f"n{number}")) for number in range(50)]

    closing.close()

    assert all(future.done() for future in futures)
    assert len(_names(database)) == 50
    with pytest.raises(StoreUnavailable, match="closed"):
        closing.write(_put("late"))
    closing.close()


def test_the_clock_is_the_databases(database: Database) -> None:
    with database.read() as connection:
        first, second = (connection.execute(select(now_epoch())).scalar_one() for _ in range(2))

    assert 0 <= float(second) - float(first) < 60
    assert float(first) > 1_700_000_000


def test_a_server_that_is_away_is_told_and_comes_back() -> None:
    with PostgresServer() as server:
        database = Database(server.fresh_database())
        database.write(leases.create)
        database.write(_put("before"))
        server.kill()

        with pytest.raises(StoreUnavailable):
            _names(database)
        futures = [database.submit(_put(f"lost{number}")) for number in range(20)]
        assert {type(future.exception(60)) for future in futures} == {StoreUnavailable}

        server.start()
        database.write(_put("after"))
        assert sorted(_names(database)) == ["after", "before"]
        database.close()


def test_who_is_frozen_in_a_write_does_not_keep_others_from_the_row_for_ever(
    postgres: PostgresServer,
) -> None:
    """And what it wanted to write is written when it wakes, once."""
    address = postgres.fresh_database()
    frozen, other = (Database(address, busy_timeout_seconds=1.5) for _ in range(2))
    other.write(leases.create)
    other.write(_put("row"))
    reached, wake = threading.Event(), threading.Event()

    def freeze(connection: Connection) -> None:
        _touch(connection)
        if not reached.is_set():
            reached.set()
            wake.wait(60)

    pending = frozen.submit(freeze)
    assert reached.wait(10)
    wait_until(lambda: _written(other), 30, "the row to be free")
    wake.set()
    pending.result(30)

    with other.read() as connection:
        assert connection.execute(select(leases.c.until)).scalar_one() == 2
    for database in (frozen, other):
        database.close()


def _written(database: Database) -> bool:
    """Whether the row could be written: not where its lock could not be had."""
    try:
        database.write(_touch)
    except StoreUnavailable:
        return False
    return True


@pytest.mark.parametrize("own", ["", "?tcp_user_timeout=77000&keepalives_idle=33"])
def test_a_connection_that_nobody_answers_is_given_up(postgres: PostgresServer, own: str) -> None:
    """The kernel's options, as they stand on the socket; what the address says comes first."""
    database = Database(postgres.fresh_database() + own, busy_timeout_seconds=7)
    try:
        for engine in (database._readers, database._writers):
            with engine.connect() as connection:
                raw: Any = connection.connection.dbapi_connection
                with socket.socket(fileno=os.dup(raw.fileno())) as line:
                    options = [
                        line.getsockopt(socket.IPPROTO_TCP, name)
                        for name in (
                            socket.TCP_USER_TIMEOUT,
                            socket.TCP_KEEPIDLE,
                            socket.TCP_KEEPINTVL,
                            socket.TCP_KEEPCNT,
                        )
                    ]
            assert options == ([77000, 33] if own else [7000, 10]) + [5, 3]
    finally:
        database.close()


def test_sqlite_is_durable_and_checks_its_keys(database: Database) -> None:
    if not database.is_sqlite:
        with database.read() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
        return
    for immediate in (True, False):
        engine = database._writers if immediate else database._readers
        with engine.connect() as connection:
            values = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]
        assert values == ["wal", 2, 1]
    assert sqlite3.sqlite_version_info >= (3, 35)  # RETURNING


def test_sqlite_without_durability_is_still_written_ahead(tmp_path: Path) -> None:
    """NORMAL: a killed process loses nothing; a crash of the machine may lose the last commits."""
    database = Database(f"sqlite:///{tmp_path / 'state.db'}", durable=False)

    def pragmas(connection: Connection) -> tuple[object, ...]:
        return tuple(
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous")
        )

    with database.read() as connection:
        assert pragmas(connection) == ("wal", 1)
    assert database.write(pragmas) == ("wal", 1)
    database.close()


def _put(name: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute(insert(leases).values(name=name, holder="h", until=0.0))

    return work


def _touch(connection: Connection) -> None:
    connection.execute(update(leases).values(until=leases.c.until + 1))


def _raise(_connection: Connection) -> None:
    raise NotFoundInStore


def _names(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(leases.c.name)).scalars())
