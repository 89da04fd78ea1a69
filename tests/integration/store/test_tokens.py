"""API tokens: known by hash, unique by name, dead when revoked."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from service.errors import Conflict, NotFoundInStore
from service.store.database import Database
from service.store.tables import tokens
from service.store.tokens import TokenStore
from tests.integration.store.builders import in_threads
from tests.integration.store.conftest import OpenDatabase


def test_a_token_lives_until_it_is_revoked(database: Database) -> None:
    store = TokenStore(database)
    text, record = store.create("ci", "operator")

    assert record.role == "operator"
    assert store.verify(text) == record
    assert store.verify(text + "x") is None
    assert store.verify("") is None
    with database.read() as connection:
        assert text not in str(connection.execute(select(tokens)).all())

    store.revoke("ci")

    assert store.verify(text) is None
    revoked = store.get("ci").revoked_at
    assert revoked is not None
    assert revoked >= record.created_at
    with pytest.raises(NotFoundInStore):
        store.revoke("ci")


def test_a_name_is_given_once(database: Database, open_database: OpenDatabase) -> None:
    stores = [TokenStore(database), TokenStore(open_database())]

    def create(number: int) -> bool:
        try:
            stores[number % 2].create("ci", "viewer")
        except Conflict:
            return False
        return True

    assert in_threads(8, create).count(True) == 1
    assert [token.name for token in stores[0].list()] == ["ci"]
