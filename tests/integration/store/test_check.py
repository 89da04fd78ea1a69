"""What a look over a database finds: each thing that may be wrong with one, and nothing where all is well."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Connection, text, update

from service.store import audit
from service.store.check import Finding, check
from service.store.database import Database
from service.store.hooks import HookStore
from service.store.keyring import KeyRing
from service.store.registries import RegistryStore
from service.store.schema import create_or_upgrade
from service.store.secrets import SecretStore
from service.store.tables import registries
from tests.integration.store.builders import Plot, an_endpoint
from tests.support.servers import PostgresServer


def look(database: Database, keyring: KeyRing | None = None) -> dict[str, Finding]:
    return {one.name: one for one in check(database, keyring)}


def bad(found: dict[str, Finding]) -> set[str]:
    return {name for name, one in found.items() if not one.ok}


@pytest.fixture(scope="session")
def careful() -> Iterator[PostgresServer]:
    """A PostgreSQL that waits for its disk, as the tests' other one does not."""
    with PostgresServer(settings={"fsync": "on"}) as server:
        yield server


@pytest.fixture
def url(request: pytest.FixtureRequest, url: str) -> str:
    if url.startswith("sqlite"):
        return url
    server: PostgresServer = request.getfixturevalue("careful")
    return server.fresh_database()


def test_a_sound_database_has_nothing_wrong(database: Database, plot: Plot) -> None:
    plot.planned("v1")
    told: list[str] = []

    found = check(database, None, tell=told.append)

    assert [one.name for one in found] == [
        "tables",
        "integrity",
        "references",
        "settings",
        "secrets",
        "audit",
    ]
    assert all(one.ok and not one.hint for one in found), found
    assert len(told) == len(found)


def test_secrets_that_do_not_open_are_named(database: Database) -> None:
    old, new = (KeyRing([Fernet.generate_key()]) for _ in range(2))
    store = RegistryStore(database, old)
    for name in ("east", "west"):
        store.put(an_endpoint(name), document={}, secret="hunter2")
    HookStore(database, old).create("east")
    SecretStore(database, new).put("robot", "hunter2", ["east.example"])

    assert bad(look(database, old)) == {"secrets"}
    assert "1 of 4 do not open" in look(database, old)["secrets"].message
    assert "secret robot" in look(database, old)["secrets"].message
    assert "registry east, registry west, hook of east" in look(database, new)["secrets"].message
    assert "4 are stored, and TRANSSHIP_SECRET_KEY_FILE is not set" in (
        look(database)["secrets"].message
    )
    both = KeyRing([*old._keys, *new._keys])
    assert look(database, both)["secrets"].message == "all 4 open, 1 by an older key"


def test_a_swapped_secret_does_not_open(database: Database) -> None:
    ring = KeyRing([Fernet.generate_key()])
    store = RegistryStore(database, ring)
    for name in ("east", "west"):
        store.put(an_endpoint(name), document={}, secret=f"of {name}")
    sealed = ring.seal("registry:west", "of west")
    database.write(
        lambda connection: connection.execute(
            update(registries).where(registries.c.name == "east").values(secret=sealed)
        )
    )

    assert "registry east" in look(database, ring)["secrets"].message


def test_a_changed_audit_log_is_found(database: Database) -> None:
    for number in range(3):
        change = audit.Change("me", "replace", "rules", f"r{number}")
        database.write(lambda connection, change=change: audit.append(connection, change))
    assert look(database)["audit"].message == "the chain of 3 rows holds"

    database.exclusive(
        lambda connection: connection.execute(text("UPDATE audit SET actor = 'you' WHERE seq = 2"))
    )

    found = look(database)
    assert bad(found) == {"audit"}
    assert "row 2" in found["audit"].message


def test_tables_and_columns_that_are_lacking_are_named(database: Database) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text("DROP TABLE event_keys"))
        connection.execute(text("ALTER TABLE processes DROP COLUMN pid"))

    database.exclusive(work)

    found = look(database)
    assert bad(found) == {"tables"}
    assert found["tables"].message == "the database lacks event_keys, processes.pid"


def test_rows_that_refer_to_nothing_are_found(tmp_path: Path) -> None:
    path = tmp_path / "broken.db"
    database = Database(f"sqlite:///{path}")
    create_or_upgrade(database)
    Plot(database).planned("v1")
    with sqlite3.connect(path) as connection:  # whose foreign keys are off
        connection.execute("DELETE FROM executions")
    connection.close()

    found = look(database)
    database.close()

    assert bad(found) == {"references"}
    assert "copies.execution_id" in found["references"].message


def test_a_damaged_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "broken.db"
    database = Database(f"sqlite:///{path}")
    create_or_upgrade(database)
    plot = Plot(database)
    for number in range(30):
        plot.planned(*(f"v{tag}" for tag in range(20)), rule=f"r{number}")
    database.close()
    whole = bytearray(path.read_bytes())
    for page in range(20, len(whole) // 4096, 3):
        whole[page * 4096 : page * 4096 + 200] = bytes(200)
    path.write_bytes(whole)

    database = Database(f"sqlite:///{path}")
    found = look(database)
    database.close()

    assert "integrity" in bad(found)
    assert "restore the last good backup" in found["integrity"].hint


def test_a_database_that_may_lose_commits_is_found(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    for url, word, options in (
        (f"sqlite:///{tmp_path}/a.db", "TRANSSHIP_DURABLE is false", {"durable": False}),
        (postgres.fresh_database(), "fsync is off", {}),
    ):
        database = Database(url, **options)
        create_or_upgrade(database)
        found = look(database)
        database.close()
        assert bad(found) == {"settings"}
        assert word in found["settings"].message


def test_rows_that_come_in_meanwhile_break_no_chain(database: Database) -> None:
    """The log is walked as it was at one moment."""

    def write(_text: str) -> None:
        for number in range(5):
            change = audit.Change("me", "replace", "rules", f"r{number}")
            database.write(lambda connection, change=change: audit.append(connection, change))

    found = check(database, None, tell=write)

    assert {one.name for one in found if not one.ok} == set()
