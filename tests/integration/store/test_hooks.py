"""Secrets of hooks: two hold at once, sealed, and gone with their registry."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select

from service.errors import InvalidConfiguration, NotFoundInStore
from service.model.endpoint import RegistryEndpoint
from service.store.database import Database
from service.store.hooks import HookStore
from service.store.keyring import KeyRing
from service.store.registries import RegistryStore
from service.store.tables_events import hooks


@pytest.fixture
def store(database: Database) -> HookStore:
    RegistryStore(database, None).put(RegistryEndpoint("east", "https://e.example"), document={})
    return HookStore(database, KeyRing([Fernet.generate_key()]))


def test_secret_is_told_once(store: HookStore) -> None:
    secret, record = store.create("east")
    again, same = store.create("east")

    assert secret is not None
    assert again is None
    assert record == same
    assert store.secrets("east") == [secret]


def test_rotation_keeps_two_and_drops_the_third(store: HookStore) -> None:
    first, _ = store.create("east")
    second, record = store.rotate("east")
    assert (store.secrets("east"), record.previous, record.version) == ([second, first], True, 2)

    third, _ = store.rotate("east")
    assert store.secrets("east") == [third, second]

    assert store.retire("east").previous is False
    assert store.secrets("east") == [third]


def test_nothing_readable_is_in_the_table(store: HookStore, database: Database) -> None:
    secret, _ = store.create("east")
    with database.read() as connection:
        row = connection.execute(select(hooks)).one()

    assert secret is not None
    assert secret.encode() not in bytes(row.secret)


def test_hook_goes_with_its_registry(store: HookStore, database: Database) -> None:
    store.create("east")

    RegistryStore(database, None).delete("east")

    assert store.secrets("east") == []
    with pytest.raises(NotFoundInStore):
        store.get("east")


@pytest.mark.parametrize("verb", ["get", "rotate", "retire", "delete"])
def test_hook_that_is_not_there_is_told(store: HookStore, verb: str) -> None:
    with pytest.raises(NotFoundInStore, match="no hook"):
        getattr(store, verb)("east")


def test_unknown_registry_and_missing_key_are_told(store: HookStore, database: Database) -> None:
    with pytest.raises(NotFoundInStore, match="no registry named west"):
        store.create("west")
    with pytest.raises(InvalidConfiguration, match="no secret key"):
        HookStore(database, None).create("east")
