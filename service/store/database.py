"""SQLite or PostgreSQL behind one door: many short readers, one writer thread a process.

The writer commits groups: thirty threads that each wrote SQLite for themselves starved one another
for up to 17.9 s (reference/engine.md 1.3); one BEGIN IMMEDIATE for whatever waits does not.
"""

from __future__ import annotations

import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    OperationalError,
    ProgrammingError,
)

from service.errors import StoreUnavailable
from service.store.tables import tell_postgresql
from service.telemetry import get_logger

T = TypeVar("T")
MAX_GROUP = 500
WRITE_TRIES = 6
PING_IDLE_SECONDS = 1.0
LONG_LOCK_SECONDS = 600.0
COUNT_ROWS = {"preserve_rowcount": True}
"""Without it an INSERT … ON CONFLICT on PostgreSQL does not tell whether it wrote a row."""

TRANSIENT_SQLSTATES = frozenset({"25P03", "40001", "40P01", "55P03", "57P01", "57P02", "57P03"})

_beside: ContextVar[Callable[[Connection, Any], object] | None] = ContextVar(
    "write_beside", default=None
)

log = get_logger("store")


class Database:
    """One database as seen from one process."""

    def __init__(
        self, url: str, *, busy_timeout_seconds: float = 10.0, durable: bool = True
    ) -> None:
        """`durable`: commits to SQLite outlive a crash of the machine, and not only of processes."""
        self._durable = durable
        self._busy_timeout_seconds = busy_timeout_seconds
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._readers = self._engine(busy_timeout_seconds, immediate=False)
        self._writers = self._engine(busy_timeout_seconds, immediate=True)
        self._queue: queue.SimpleQueue[tuple[Callable[[Connection], Any], Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._kept: Connection | None = None  # the writer thread's, over SQLite

    def _engine(self, busy_timeout_seconds: float, *, immediate: bool) -> Engine:
        if not self.is_sqlite:
            # READ COMMITTED sees each statement's own snapshot: a reader needs no BEGIN and ROLLBACK,
            # which are a round trip each.
            tell_postgresql()
            level = {} if immediate else {"isolation_level": "AUTOCOMMIT"}
            remote = create_engine(
                self.url,
                **level,
                execution_options=COUNT_ROWS,
                pool_size=2 if immediate else 16,  # one beyond is closed when it comes back
                max_overflow=0 if immediate else 16,
                connect_args=_bound_silence(self.url, busy_timeout_seconds),
            )
            tries = WRITE_TRIES if immediate else 1
            _bound_waits(
                remote,
                lock_seconds=busy_timeout_seconds / tries,
                idle_seconds=busy_timeout_seconds if immediate else 0.0,
            )
            _ping_the_idle(remote)
            return remote
        engine = create_engine(
            self.url,
            execution_options=COUNT_ROWS,
            pool_size=2 if immediate else 32,
            max_overflow=0 if immediate else 32,
            connect_args={"timeout": busy_timeout_seconds, "check_same_thread": False},
        )

        @event.listens_for(engine, "connect")
        def _connect(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # SQLAlchemy begins; pysqlite must not
            cursor = connection.cursor()
            _write_ahead(cursor, busy_timeout_seconds)
            cursor.execute(f"PRAGMA synchronous={'FULL' if self._durable else 'NORMAL'}")
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.close()

        if immediate:  # a reader's statement is its own transaction, as over PostgreSQL

            @event.listens_for(engine, "begin")
            def _begin(connection: Connection) -> None:
                connection.exec_driver_sql("BEGIN IMMEDIATE")

        return engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Read for a moment; each statement sees what is committed when it begins.

        Raises StoreUnavailable when the database is not there.
        """
        try:
            with self._readers.connect() as connection:
                yield connection
        except OperationalError as error:
            raise StoreUnavailable(f"the database does not answer: {error.orig}") from error

    def submit(self, statement: Callable[[Connection], T]) -> Future[T]:
        """Queue `statement` for the writer; it may be run again, so it must do SQL only."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the database is closed")
            self._ensure_thread()
            self._queue.put((statement, future))
        return future

    def write(self, statement: Callable[[Connection], T]) -> T:
        """Run `statement` in a durable transaction, shared with whatever else waits.

        Raises whatever the statement raises, and StoreUnavailable when the database is not there.
        What `write_beside` named runs in the same transaction.
        """
        also = _beside.get()
        if also is None:
            return self.submit(statement).result()
        _beside.set(None)

        def both(connection: Connection) -> T:
            result = statement(connection)
            if result is not False:
                also(connection, result)
            return result

        return self.submit(both).result()

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Read one state of the whole database for as long as it takes, while others write.

        Raises StoreUnavailable when the database is not there.
        """
        try:
            with self._readers.connect() as connection:
                if self.is_sqlite:
                    connection.exec_driver_sql("BEGIN")
                    connection.exec_driver_sql("SELECT 1 FROM sqlite_master").all()  # it begins now
                else:
                    connection.execution_options(
                        isolation_level="REPEATABLE READ", postgresql_readonly=True
                    )
                yield connection
        except OperationalError as error:
            raise StoreUnavailable(f"the database does not answer: {error.orig}") from error

    def exclusive(
        self, statement: Callable[[Connection], T], *, patience_seconds: float | None = None
    ) -> T:
        """Run `statement` in a write transaction of its own on this thread: all of it, or nothing.

        For what takes long, or changes the schema. `patience_seconds` is how long another writer of
        SQLite, or a lock of PostgreSQL's, is waited for, if it is not the usual time. Raises what the statement raises, and
        StoreUnavailable when the database is not there.
        """
        try:
            with self._writers.connect() as connection:
                if self.is_sqlite and patience_seconds is not None:
                    self._wait_up_to(connection, patience_seconds)
                try:
                    with connection.begin():
                        if not self.is_sqlite:
                            wait = patience_seconds or LONG_LOCK_SECONDS
                            _set(connection.exec_driver_sql, "LOCAL", wait, LONG_LOCK_SECONDS)
                        (result,) = _carry_out(connection, [statement])
                finally:
                    if self.is_sqlite and patience_seconds is not None:
                        self._wait_up_to(connection, self._busy_timeout_seconds)
        except DBAPIError as error:
            translated = _translate(error)
            if translated is error:
                raise
            raise translated from error
        return cast("T", result)

    @staticmethod
    def _wait_up_to(connection: Connection, seconds: float) -> None:
        """Set SQLite's busy timeout, past SQLAlchemy: it would begin a transaction first."""
        raw = connection.connection.dbapi_connection
        assert raw is not None  # noqa: S101 - for the types: it was connected a moment ago
        raw.cursor().execute(f"PRAGMA busy_timeout={int(seconds * 1000)}").close()

    def close(self) -> None:
        """Finish what is queued and let the connections go."""
        with self._lock:
            thread = None if self._closed else self._thread
            self._closed = True
            if thread is not None:
                self._queue.put(None)
        if thread is not None:
            thread.join(timeout=30)
        if self._kept is not None:
            self._kept.close()
        self._readers.dispose()
        self._writers.dispose()

    def _ensure_thread(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="sql-writer", daemon=True)
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        while True:
            item = self._queue.get()
            group = []
            while item is not None:
                group.append(item)
                if len(group) >= MAX_GROUP:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if group:
                self._commit(group)
            if item is None:
                return

    def _commit(self, group: list[tuple[Callable[[Connection], Any], Future[Any]]]) -> None:
        """One transaction for all; when it fails, one for each, so that one bad item harms only itself.

        When the database is what fails, it fails for all at once: each would wait its tries in vain.
        """
        try:
            results = self._transact([statement for statement, _ in group])
        except Exception as error:  # noqa: BLE001 - every error belongs to a waiting caller
            if len(group) == 1 or (isinstance(error, DBAPIError) and _is_transient(error)):
                for _, future in group:
                    future.set_exception(_translate(error))
                return
            for item in group:
                self._commit([item])
            return
        for (_, future), result in zip(group, results, strict=True):
            future.set_result(result)

    def _transact(self, statements: list[Callable[[Connection], Any]]) -> list[Any]:
        for attempt in range(WRITE_TRIES):
            try:
                with self._begin() as connection:
                    return _carry_out(connection, statements)
            except DBAPIError as error:
                if attempt == WRITE_TRIES - 1 or not _is_transient(error):
                    raise
                log.warning("write_retried", attempt=attempt, error=str(error.orig))
                time.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311 - jitter
        raise AssertionError("unreachable")

    @contextmanager
    def _begin(self) -> Iterator[Connection]:
        """Open a write transaction of the writer thread.

        Over SQLite on a connection that it keeps: taking one from the pool costs as much as a
        statement. Over PostgreSQL a connection may die while it lies idle, and the pool looks.
        """
        connection, self._kept = self._kept or self._writers.connect(), None
        try:
            with connection.begin():
                yield connection
        except BaseException:
            connection.close()
            raise
        if self.is_sqlite:
            self._kept = connection
        else:
            connection.close()


def write_beside(also: Callable[[Connection, Any], object] | None) -> None:
    """Have the next `write` of this thread run `also` in its transaction, with the write's result.

    So a change and what is told of it (the audit log) are saved together or not at all. A write that
    returns False has changed nothing, and nothing is told. None takes the order back; it is carried
    out once.
    """
    _beside.set(also)


def before_commit(
    connection: Connection, work: Callable[[Connection], object], *, last: bool = False
) -> None:
    """Have `work` run at the end of the write transaction that this connection is in.

    For rows that many writes of one group add to: they are written together. `last`: after what
    others have at the end, for a row that every process locks. Raises RuntimeError outside of a
    `Database.write`.
    """
    at_the_end = _at_the_end.get(connection.get_transaction())
    if at_the_end is None:
        raise RuntimeError("before_commit belongs into a write of the Database")
    at_the_end.append((last, work))


_at_the_end: WeakKeyDictionary[Any, list[tuple[bool, Callable[[Connection], object]]]] = (
    WeakKeyDictionary()
)


def _carry_out(connection: Connection, statements: list[Callable[[Connection], Any]]) -> list[Any]:
    at_the_end: list[tuple[bool, Callable[[Connection], object]]] = []
    _at_the_end[connection.get_transaction()] = at_the_end
    results = [statement(connection) for statement in statements]
    for _, work in sorted(at_the_end, key=lambda one: one[0]):
        work(connection)
    return results


def upsert(connection: Connection, table: Any) -> Any:
    """Return the dialect's INSERT that knows ON CONFLICT."""
    return insert_of(connection.dialect.name, table)


def insert_of(dialect: str, table: Any) -> Any:
    """Return the INSERT that knows ON CONFLICT, of a dialect by name: for statements built once."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql  # loads all of its drivers: 20 ms

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)


def _ping_the_idle(engine: Engine) -> None:
    """Ask a connection that has lain idle whether it lives, before it is used.

    SQLAlchemy's pool_pre_ping asks each time: a tenth of the work of a short read.
    """

    @event.listens_for(engine, "checkin")
    def _checkin(_connection: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _checkout(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get("idle_since", time.monotonic()) < PING_IDLE_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error  # the pool takes another one


def _write_ahead(cursor: Any, patience_seconds: float) -> None:
    """Switch to WAL, which SQLite refuses at once, busy timeout or not, while another process does it."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.001, 0.01))  # noqa: S311 - jitter
        else:
            return


def _is_transient(error: DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state in TRANSIENT_SQLSTATES or state.startswith("08")
    return isinstance(error, OperationalError) and "locked" in str(error.orig)


def _bound_silence(url: URL, seconds: float) -> dict[str, int]:
    """Return libpq's options by which a connection that nobody answers any more is given up.

    A firewall that forgot it, or a server that lost its power, tells nobody: without them a process waits
    for a quarter of an hour for what it sent, and for two hours for an answer (F142). What the URL says
    comes first.
    """
    options = {
        "connect_timeout": 5,
        "tcp_user_timeout": int(seconds * 1000),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    return {name: value for name, value in options.items() if name not in url.query}


def _bound_waits(engine: Engine, *, lock_seconds: float, idle_seconds: float) -> None:
    """Wait for a lock of PostgreSQL's for so long a try; poolers refuse it as an option.

    `idle_seconds`: how long a transaction may do nothing before PostgreSQL ends it; 0: as long as it
    likes. Who is frozen in a write, or gone with its machine, would keep its rows locked from everybody.
    """

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        _set(connection.execute, "SESSION", lock_seconds, idle_seconds)
        if not connection.autocommit:
            connection.commit()


def _set(
    execute: Callable[[str], object], reach: str, lock_seconds: float, idle_seconds: float
) -> None:
    """Set both bounds of PostgreSQL, of a session or a transaction, in one round trip."""
    execute(
        f"SET {reach} lock_timeout = {int(lock_seconds * 1000)}; "
        f"SET {reach} idle_in_transaction_session_timeout = {int(idle_seconds * 1000)}"
    )


def _translate(error: Exception) -> Exception:
    """Turn whatever a database in trouble says into StoreUnavailable; our own mistakes stay as they are.

    A read-only standby, a full disk, a shutdown: InternalError, OperationalError and their kin.
    """
    ours = (IntegrityError, ProgrammingError, DataError)
    if isinstance(error, DBAPIError) and not isinstance(error, ours):
        return StoreUnavailable(f"the database does not answer: {error.orig}")
    return error
