"""Registries: versions, conflicts, and secrets that stay with the object and address they belong to."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select, update

from service.errors import Conflict, InvalidConfiguration, NotFoundInStore, StoreUnavailable
from service.model.endpoint import CredentialSpec, Limits
from service.store.database import Database
from service.store.keyring import KeyRing
from service.store.registries import RegistryStore
from service.store.rules import RuleStore
from service.store.tables import registries
from tests.integration.store.builders import a_rule, an_endpoint, in_threads
from tests.integration.store.conftest import OpenDatabase

STORED = CredentialSpec(username="u", stored=True)
OLD, NEW = Fernet.generate_key(), Fernet.generate_key()


@pytest.fixture
def store(database: Database) -> RegistryStore:
    return RegistryStore(database, KeyRing([OLD]))


def test_each_put_raises_the_version(store: RegistryStore) -> None:
    first = store.put(an_endpoint(), document={"url": "https://east.example"}, expected_version=0)
    second = store.put(an_endpoint(region="eu"), document={"region": "eu"}, expected_version=1)

    assert (first.version, second.version) == (1, 2)
    assert second.endpoint == an_endpoint(region="eu")
    assert second.document == {"region": "eu"}
    assert second.created_at == first.created_at
    assert second.updated_at >= first.updated_at


@pytest.mark.parametrize("expected", [0, 2])
def test_a_writer_that_saw_another_version_is_told(store: RegistryStore, expected: int) -> None:
    store.put(an_endpoint(), document={})

    with pytest.raises(Conflict, match=f"is at version 1, not {expected}"):
        store.put(an_endpoint(region="eu"), document={}, expected_version=expected)
    assert store.get("east").endpoint.region == "local"


def test_of_writers_that_saw_the_same_version_one_wins(
    open_database: OpenDatabase, database: Database
) -> None:
    stores = [
        RegistryStore(database, None),
        *(RegistryStore(open_database(), None) for _ in range(3)),
    ]

    def write(number: int, expected: int) -> bool:
        try:
            stores[number].put(
                an_endpoint(), document={"by": number, "saw": expected}, expected_version=expected
            )
        except Conflict:
            return False
        return True

    assert in_threads(4, lambda number: write(number, 0)).count(True) == 1
    assert in_threads(4, lambda number: write(number, 1)).count(True) == 1
    assert stores[0].get("east").version == 2


def test_lists_are_cut_by_name(store: RegistryStore) -> None:
    for name in ("c", "a", "b"):
        store.put(an_endpoint(name), document={})

    assert [r.endpoint.name for r in store.list(limit=2)] == ["a", "b"]
    assert [r.endpoint.name for r in store.list(after="b")] == ["c"]


def test_a_registry_that_a_rule_names_stays(store: RegistryStore, database: Database) -> None:
    rules = RuleStore(database)
    store.put(an_endpoint("east"), document={})
    store.put(an_endpoint("west"), document={})
    rules.put(a_rule(), document={})

    for name in ("east", "west"):
        with pytest.raises(Conflict, match="used by rule fleet"):
            store.delete(name)
    rules.delete("fleet")
    store.delete("east")
    with pytest.raises(NotFoundInStore):
        store.get("east")
    with pytest.raises(NotFoundInStore):
        store.delete("east")


# ---- secrets -------------------------------------------------------------------------------------


def test_a_secret_is_sealed_and_never_in_what_is_read(
    store: RegistryStore, database: Database
) -> None:
    stored = store.put(an_endpoint(credentials=STORED), document={}, secret="hunter2")

    assert stored.secret_set
    assert store.secret("east") == "hunter2"
    assert "hunter2" not in repr(stored)
    with database.read() as connection:
        sealed = connection.execute(select(registries.c.secret)).scalar_one()
    assert b"hunter2" not in bytes(sealed)


def test_a_secret_stays_while_the_addresses_do(store: RegistryStore) -> None:
    store.put(an_endpoint(credentials=STORED), document={}, secret="hunter2")
    store.put(
        an_endpoint(credentials=STORED, region="eu", limits=Limits(concurrency=4)), document={}
    )

    assert store.secret("east") == "hunter2"


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://elsewhere.example"},
        {"trusted_hosts": ("auth.elsewhere.example",)},
        {"credentials": CredentialSpec(username="u", password_env="TRANSSHIP_SECRET_EAST")},
    ],
)
def test_a_secret_goes_when_what_it_was_bound_to_changes(
    store: RegistryStore, change: dict[str, object]
) -> None:
    store.put(an_endpoint(credentials=STORED), document={}, secret="hunter2")
    changed = store.put(an_endpoint(**{"credentials": STORED, **change}), document={})

    assert not changed.secret_set
    assert store.secret("east") is None


def test_a_secret_moved_to_another_row_does_not_open(
    store: RegistryStore, database: Database
) -> None:
    store.put(an_endpoint("east", credentials=STORED), document={}, secret="hunter2")
    store.put(an_endpoint("west", credentials=STORED), document={}, secret="other")

    def swap(connection: object) -> None:
        sealed = connection.execute(  # type: ignore[attr-defined]
            select(registries.c.secret).where(registries.c.name == "east")
        ).scalar_one()
        connection.execute(  # type: ignore[attr-defined]
            update(registries).where(registries.c.name == "west").values(secret=sealed)
        )

    database.write(swap)

    with pytest.raises(StoreUnavailable, match="secret of registry:west does not open"):
        store.secret("west")


def test_keys_rotate(store: RegistryStore, database: Database) -> None:
    store.put(an_endpoint(credentials=STORED), document={}, secret="hunter2")
    rotated = RegistryStore(database, KeyRing([NEW, OLD]))
    assert rotated.secret("east") == "hunter2"

    rotated.put(an_endpoint(credentials=STORED), document={}, secret="hunter3")

    assert RegistryStore(database, KeyRing([NEW])).secret("east") == "hunter3"
    with pytest.raises(StoreUnavailable, match="does not open"):
        store.secret("east")


def test_without_a_key_no_secret_is_taken(database: Database) -> None:
    store = RegistryStore(database, None)

    with pytest.raises(InvalidConfiguration, match="no secret key"):
        store.put(an_endpoint(credentials=STORED), document={}, secret="hunter2")
    assert store.list() == []


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"not a key\n", b"\xff\xfe"])
def test_a_broken_key_file_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "keys"
    file.write_bytes(content)

    with pytest.raises(InvalidConfiguration) as caught:
        KeyRing.from_file(file)
    assert caught.value.field == "TRANSSHIP_SECRET_KEY_FILE"
