"""Secrets by name: written by people, read by nobody but a connection to one of their hosts (S3, S4)."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from service.errors import Conflict, InvalidConfiguration, NotFoundInStore
from service.model.pipeline import Pipeline
from service.store import codec
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.keyring import KeyRing
from service.store.tables import registries
from service.store.tables_governance import secrets
from service.store.tables_pipelines import pipelines
from service.store.versions import check_created, check_version


@dataclass(frozen=True, slots=True)
class SecretRecord:
    """What is known of a secret; never the secret itself."""

    name: str
    hosts: tuple[str, ...]
    version: int
    created_at: float
    updated_at: float


class SecretStore:
    """The table of secrets, sealed with the key ring and bound to name and hosts."""

    def __init__(self, database: Database, keyring: KeyRing | None) -> None:
        self._database = database
        self._keyring = keyring

    def put(
        self,
        name: str,
        value: str | None,
        hosts: Sequence[str],
        *,
        expected_version: int | None = None,
    ) -> SecretRecord:
        """Create or replace a secret; without a value, the hosts may only become fewer.

        Raises Conflict when it is not at `expected_version`, and InvalidConfiguration for hosts that
        the value was not given for.
        """
        bound = tuple(sorted(dict.fromkeys(hosts)))
        sealed = None if value is None else self._ring().seal(owner_of(name, bound), value)

        def work(connection: Connection) -> None:
            row = connection.execute(
                select(secrets).where(secrets.c.name == name).with_for_update()
            ).first()
            check_version("secret", name, row, expected_version)
            content = sealed
            if content is None:
                content = self._keep(name, row, bound)
            values = {
                "hosts": json.dumps(bound),
                "sealed": content,
                "updated_at": now_epoch(),
            }
            if row is None:
                made = connection.execute(
                    upsert(connection, secrets)
                    .values(name=name, version=1, created_at=now_epoch(), **values)
                    .on_conflict_do_nothing()
                )
                check_created("secret", name, made.rowcount)
                return
            connection.execute(
                update(secrets)
                .where(secrets.c.name == name)
                .values(version=row.version + 1, **values)
            )

        self._database.write(work)
        return self.get(name)

    def _keep(self, name: str, row: Row[Any] | None, hosts: tuple[str, ...]) -> bytes:
        """Seal the stored value again for fewer hosts."""
        if row is None:
            raise InvalidConfiguration(
                f"secret {name} has no value yet", field="value", hint="give one"
            )
        before = tuple(json.loads(row.hosts))
        if not set(hosts) <= set(before):
            raise InvalidConfiguration(
                "the stored value was given for other hosts", field="value", hint="give it again"
            )
        value = self._ring().open(owner_of(name, before), bytes(row.sealed))
        return self._ring().seal(owner_of(name, hosts), value)

    def get(self, name: str) -> SecretRecord:
        """Return what is known of a secret. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(select(secrets).where(secrets.c.name == name)).first()
        if row is None:
            raise NotFoundInStore(f"there is no secret named {name}")
        return _record(row)

    def list(self, after: str | None = None, limit: int = 1000) -> list[SecretRecord]:
        """Return secrets by name, from the first one after `after`."""
        query = select(secrets).order_by(secrets.c.name).limit(limit)
        if after is not None:
            query = query.where(secrets.c.name > after)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def delete(self, name: str) -> None:
        """Forget a secret. Raises NotFoundInStore, and Conflict while a registry or a pipeline uses it."""

        def work(connection: Connection) -> None:
            for row in connection.execute(select(registries.c.name, registries.c.endpoint)):
                specs = codec.load_endpoint(row.endpoint).every_credential
                if any(spec.secret == name for spec in specs):
                    raise Conflict(
                        f"secret {name} is used by registry {row.name}",
                        hint="give the registry other credentials first",
                    )
            for row in connection.execute(select(pipelines.c.name, pipelines.c.spec)):
                steps = codec.load(Pipeline, json.loads(row.spec)).steps()
                if any(gate.secret == name for _, gate in steps):
                    raise Conflict(
                        f"secret {name} is used by pipeline {row.name}",
                        hint="give its webhooks another secret first",
                    )
            if connection.execute(delete(secrets).where(secrets.c.name == name)).rowcount < 1:
                raise NotFoundInStore(f"there is no secret named {name}")

        self._database.write(work)

    def reveal(self, name: str, hosts: Collection[str]) -> str:
        """Return the secret in the clear for a connection that may lead to these hosts.

        Raises InvalidConfiguration when there is no such secret, or it is not bound to all of them.
        """
        with self._database.read() as connection:
            row = connection.execute(select(secrets).where(secrets.c.name == name)).first()
        if row is None:
            raise InvalidConfiguration(
                f"there is no secret named {name}",
                field="credentials.secret",
                hint=f"store it: transship secrets set {name} --host {next(iter(hosts), 'HOST')}",
            )
        bound = tuple(json.loads(row.hosts))
        if foreign := sorted(set(hosts) - set(bound)):
            raise InvalidConfiguration(
                f"secret {name} is not bound to {foreign[0]}",
                field="credentials.secret",
                hint=f"set it again with --host {foreign[0]} if that host is to receive it",
            )
        return self._ring().open(owner_of(name, bound), bytes(row.sealed))

    def _ring(self) -> KeyRing:
        return KeyRing([]) if self._keyring is None else self._keyring


def owner_of(name: str, hosts: Sequence[str]) -> str:
    """Return what a secret is sealed for."""
    return f"secret:{name}:{','.join(hosts)}"


def _record(row: Row[Any]) -> SecretRecord:
    return SecretRecord(
        row.name, tuple(json.loads(row.hosts)), row.version, row.created_at, row.updated_at
    )
