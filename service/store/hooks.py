"""The secrets of hooks: two may hold at once, so that a sender can be given a new one in peace."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from service.errors import NotFoundInStore
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.keyring import KeyRing
from service.store.tables import registries
from service.store.tables_events import hooks

PREFIX = "tsh_"


@dataclass(frozen=True, slots=True)
class HookRecord:
    """What is known of a registry's hook; never its secrets."""

    registry: str
    version: int
    previous: bool  # whether the secret before this one still holds
    created_at: float
    rotated_at: float | None
    received_at: float | None
    notice: str


class HookStore:
    """The table of hooks: one a registry, sealed with the keys of secrets at rest.

    Sealed and not hashed: a signature is checked with the secret itself.
    """

    def __init__(self, database: Database, keyring: KeyRing | None) -> None:
        self._database = database
        self._keyring = keyring

    def create(self, registry: str) -> tuple[str | None, HookRecord]:
        """Return the registry's hook and, when it is made by this call, its secret.

        Raises NotFoundInStore for an unknown registry, InvalidConfiguration without a secret key.
        """
        secret, sealed = self._new(registry)

        def work(connection: Connection) -> bool:
            _need_registry(connection, registry)
            made = connection.execute(
                upsert(connection, hooks)
                .values(registry=registry, secret=sealed, version=1, created_at=now_epoch())
                .on_conflict_do_nothing()
            )
            return made.rowcount == 1

        made = self._database.write(work)
        return secret if made else None, self.get(registry)

    def rotate(self, registry: str) -> tuple[str, HookRecord]:
        """Return a new secret; the one before holds on, the one before that ends.

        Raises NotFoundInStore.
        """
        secret, sealed = self._new(registry)

        def work(connection: Connection) -> None:
            changed = connection.execute(
                update(hooks)
                .where(hooks.c.registry == registry)
                .values(
                    previous=hooks.c.secret,
                    secret=sealed,
                    version=hooks.c.version + 1,
                    rotated_at=now_epoch(),
                )
            )
            if changed.rowcount != 1:
                raise _none(registry)

        self._database.write(work)
        return secret, self.get(registry)

    def retire(self, registry: str) -> HookRecord:
        """End the secret before the current one, at once. Raises NotFoundInStore."""

        def work(connection: Connection) -> None:
            changed = connection.execute(
                update(hooks).where(hooks.c.registry == registry).values(previous=None)
            )
            if changed.rowcount != 1:
                raise _none(registry)

        self._database.write(work)
        return self.get(registry)

    def get(self, registry: str) -> HookRecord:
        """Return what is known of a hook. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(select(hooks).where(hooks.c.registry == registry)).first()
        if row is None:
            raise _none(registry)
        return _record(row)

    def secrets(self, registry: str) -> list[str]:
        """Return the secrets that hold, the current one first; none for a registry without a hook."""
        with self._database.read() as connection:
            row = connection.execute(
                select(hooks.c.secret, hooks.c.previous).where(hooks.c.registry == registry)
            ).first()
        if row is None:
            return []
        return [
            self._ring().open(f"hook:{registry}", bytes(sealed))
            for sealed in row
            if sealed is not None
        ]

    def delete(self, registry: str) -> None:
        """Take no more events of a registry. Raises NotFoundInStore."""

        def work(connection: Connection) -> None:
            if connection.execute(delete(hooks).where(hooks.c.registry == registry)).rowcount < 1:
                raise _none(registry)

        self._database.write(work)

    def _new(self, registry: str) -> tuple[str, bytes]:
        secret = PREFIX + secrets.token_urlsafe(32)
        return secret, self._ring().seal(f"hook:{registry}", secret)

    def _ring(self) -> KeyRing:
        return KeyRing([]) if self._keyring is None else self._keyring


def _need_registry(connection: Connection, name: str) -> None:
    found = connection.execute(select(registries.c.name).where(registries.c.name == name)).first()
    if found is None:
        raise NotFoundInStore(f"there is no registry named {name}")


def _none(registry: str) -> NotFoundInStore:
    return NotFoundInStore(
        f"registry {registry} has no hook", hint=f"make one: transship registries hook {registry}"
    )


def _record(row: Row[Any]) -> HookRecord:
    return HookRecord(
        row.registry,
        row.version,
        row.previous is not None,
        row.created_at,
        row.rotated_at,
        row.received_at,
        row.notice,
    )
