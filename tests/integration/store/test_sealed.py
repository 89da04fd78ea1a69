"""Keys are changed while they are used: all is sealed anew with the first, and the old one can go."""

from __future__ import annotations

from cryptography.fernet import Fernet
from sqlalchemy import LargeBinary, update

from service.model.subscription import Subscription
from service.store.audit import AuditStore
from service.store.check import check
from service.store.database import Database
from service.store.hooks import HookStore
from service.store.keyring import KeyRing
from service.store.registries import RegistryStore
from service.store.schema import WHOLE
from service.store.sealed import COLUMNS, reseal
from service.store.secrets import SecretStore
from service.store.tables import registries
from service.store.webhooks import WebhookStore
from tests.integration.store.builders import an_endpoint

OLD, NEW = Fernet.generate_key(), Fernet.generate_key()


def fill(database: Database, ring: KeyRing) -> None:
    """Store a value in each column that is sealed."""
    for name in ("east", "west"):
        RegistryStore(database, ring).put(an_endpoint(name), document={}, secret=f"of {name}")
    HookStore(database, ring).create("east")
    HookStore(database, ring).rotate("east")
    SecretStore(database, ring).put("robot", "hunter2", ["east.example"])
    wanted = Subscription(name="told", url="https://told.example/", events=("execution.succeeded",))
    WebhookStore(database, ring).put(wanted, document={}, secret="a secret of sixteen")


def test_all_is_sealed_with_the_first_key_and_the_old_one_can_go(database: Database) -> None:
    fill(database, KeyRing([OLD]))
    ring = KeyRing([NEW, OLD])

    first, second = reseal(database, ring), reseal(database, ring)

    assert (first.all, first.resealed, first.closed) == (6, 6, ())
    assert (second.all, second.resealed) == (6, 0)
    (finding,) = [one for one in check(database, KeyRing([NEW])) if one.name == "secrets"]
    assert (finding.ok, finding.message) == (True, "all 6 open")
    assert SecretStore(database, KeyRing([NEW])).reveal("robot", ["east.example"]) == "hunter2"
    told = [
        (one.change.name, one.change.after)
        for one in AuditStore(database).list()
        if one.change.action == "reseal"
    ]
    assert sorted(told, key=str) == [
        ("hooks", {"values": 1}),
        ("hooks", {"values": 1}),
        ("registries", {"values": 2}),
        ("secrets", {"values": 1}),
        ("webhooks", {"values": 1}),
    ]


def test_what_no_key_opens_is_named_and_the_rest_is_done(database: Database) -> None:
    fill(database, KeyRing([OLD]))
    lost = KeyRing([Fernet.generate_key()]).seal("registry:west", "lost")
    database.write(
        lambda connection: connection.execute(
            update(registries).where(registries.c.name == "west").values(secret=lost)
        )
    )

    found = reseal(database, KeyRing([NEW, OLD]))

    assert (found.all, found.resealed, found.closed) == (6, 5, ("registry west",))


def test_what_was_changed_meanwhile_is_left_as_it_is(database: Database) -> None:
    fill(database, KeyRing([OLD]))
    ring = KeyRing([NEW, OLD])

    def change(text: str) -> None:
        if text == "sealed anew: 2":  # the registries are done, the secret has not been read
            SecretStore(database, KeyRing([OLD])).put("robot", "changed", ["east.example"])

    reseal(database, ring, tell=change)

    assert SecretStore(database, KeyRing([NEW])).reveal("robot", ["east.example"]) == "changed"


def test_list_has_every_column_of_sealed_bytes() -> None:
    sealed = {
        column
        for table in WHOLE.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }

    assert {one.value for one in COLUMNS} == sealed
