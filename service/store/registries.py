"""Registries as saved: what was written, the endpoint that it means, the sealed secret."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from service.errors import Conflict, NotFoundInStore
from service.model.endpoint import RegistryEndpoint
from service.model.health import Health
from service.store import codec, health
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.keyring import KeyRing
from service.store.pipelines import naming
from service.store.secrets import SecretStore
from service.store.tables import registries, rules
from service.store.tables_health import registry_health
from service.store.tables_migrations import migrations
from service.store.versions import check_created, check_set, check_version, is_unchanged


@dataclass(frozen=True, slots=True)
class StoredRegistry:
    """One registry with its document (secrets removed) and version."""

    endpoint: RegistryEndpoint
    document: dict[str, Any]
    version: int
    secret_set: bool
    paused_at: float | None
    created_at: float
    updated_at: float
    set: str | None = None  # the `apply --set` that it belongs to
    health: Health | None = None  # None: it was not checked yet


class RegistryStore:
    """The table of registries; the name is the identity."""

    def __init__(self, database: Database, keyring: KeyRing | None) -> None:
        self._database = database
        self._keyring = keyring

    def put(
        self,
        endpoint: RegistryEndpoint,
        *,
        document: dict[str, Any],
        secret: str | None = None,
        expected_version: int | None = None,
        set_name: str | None = None,
    ) -> StoredRegistry:
        """Create or replace a registry; one that is so already keeps its version.

        A stored secret is kept while the addresses stay the same, and cleared when url, proxy or
        trusted_hosts change: it was bound to them. What is known of its health is forgotten when they or its
        credentials change. Raises Conflict when `expected_version` is not
        the one in the store (0: must not exist), or it belongs to another set than `set_name`.
        """
        sealed = self._seal(endpoint.name, secret) if secret is not None else None

        def work(connection: Connection) -> bool:
            row = connection.execute(
                select(registries).where(registries.c.name == endpoint.name).with_for_update()
            ).first()
            check_version("registry", endpoint.name, row, expected_version)
            check_set("registry", endpoint.name, row, set_name)
            values: dict[str, Any] = {
                "document": codec.dump(document),
                "endpoint": codec.dump(endpoint),
                "secret": sealed,
                "set_name": set_name or (row.set_name if row else None),
                "updated_at": now_epoch(),
            }
            if row is None:
                made = connection.execute(
                    upsert(connection, registries)
                    .values(name=endpoint.name, version=1, created_at=now_epoch(), **values)
                    .on_conflict_do_nothing()
                )
                check_created("registry", endpoint.name, made.rowcount)
                return True
            if sealed is None and endpoint.credentials.stored:
                before = codec.load_endpoint(row.endpoint)
                same = before.reach == endpoint.reach
                values["secret"] = row.secret if same else None
            if _is_another(codec.load_endpoint(row.endpoint), endpoint):
                health.forget(connection, endpoint.name)
            compared = {key: value for key, value in values.items() if key != "updated_at"}
            if is_unchanged(row, compared):
                return False
            connection.execute(
                update(registries)
                .where(registries.c.name == endpoint.name)
                .values(version=row.version + 1, **values)
            )
            return True

        self._database.write(work)
        return self.get(endpoint.name)

    def get(self, name: str) -> StoredRegistry:
        """Return one registry. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(_SHOWN.where(registries.c.name == name)).first()
        if row is None:
            raise NotFoundInStore(f"there is no registry named {name}")
        return _stored(row)

    def list(self, after: str | None = None, limit: int = 1000) -> list[StoredRegistry]:
        """Return registries by name, from the first one after `after`."""
        query = _SHOWN.order_by(registries.c.name).limit(limit)
        if after is not None:
            query = query.where(registries.c.name > after)
        with self._database.read() as connection:
            return [_stored(row) for row in connection.execute(query)]

    def delete(self, name: str) -> None:
        """Forget a registry.

        Raises NotFoundInStore, and Conflict while a rule names it, itself or by one of its groups, or a migration, or a pipeline.
        """

        def work(connection: Connection) -> None:
            found = connection.execute(
                select(registries.c.endpoint).where(registries.c.name == name)
            ).scalar_one_or_none()
            if found is None:
                raise NotFoundInStore(f"there is no registry named {name}")
            groups = codec.load_endpoint(found).groups
            for row in connection.execute(select(rules.c.name, rules.c.spec)):
                rule = codec.load_rule(row.spec)
                named = name in (rule.source, *(d.registry for d in rule.destinations))
                if named or any(d.group in groups for d in rule.destinations if d.group):
                    raise Conflict(
                        f"registry {name} is used by rule {row.name}",
                        hint="delete or change the rule first",
                    )
            for row in connection.execute(select(migrations.c.name, migrations.c.spec)):
                spec = json.loads(row.spec)
                if name in (spec["source"], spec["destination"], spec["final"]):
                    raise Conflict(
                        f"registry {name} is used by migration {row.name}",
                        hint="delete the migration first",
                    )
            if (pipeline := naming(connection, name)) is not None:
                raise Conflict(
                    f"registry {name} is used by pipeline {pipeline}",
                    hint="change or delete the pipeline first",
                )
            health.forget(connection, name)
            connection.execute(delete(registries).where(registries.c.name == name))

        self._database.write(work)

    def secret(self, name: str, place: int = 0) -> str | None:
        """Return the registry's secret in the clear; only the connection to the registry may ask.

        `place`: of the credential in the registry's list. Raises InvalidConfiguration for a named secret
        that is missing, or not bound to each host that the connection may give it to.
        """
        with self._database.read() as connection:
            row = connection.execute(
                select(registries.c.secret, registries.c.endpoint).where(registries.c.name == name)
            ).first()
        if row is None:
            return None
        endpoint = codec.load_endpoint(row.endpoint)
        if place >= len(endpoint.every_credential):
            return None  # the registry was changed just now
        spec = endpoint.every_credential[place]
        if spec.secret is not None and not spec.named:
            named = SecretStore(self._database, self._keyring)
            return named.reveal(spec.secret, endpoint.audience)
        if row.secret is None:
            return None
        opened = self._ring().open(f"registry:{name}", bytes(row.secret))
        if spec.secret is None:
            return opened
        lent: dict[str, str] = json.loads(opened)
        return lent.get(spec.secret)

    def _seal(self, name: str, secret: str) -> bytes:
        return self._ring().seal(f"registry:{name}", secret)

    def _ring(self) -> KeyRing:
        if self._keyring is None:
            return KeyRing([])
        return self._keyring


def _is_another(before: RegistryEndpoint, now: RegistryEndpoint) -> bool:
    return (before.reach, before.region, before.every_credential) != (
        now.reach,
        now.region,
        now.every_credential,
    )


_SHOWN = select(
    registries,
    registry_health.c.state,
    registry_health.c.since,
    registry_health.c.checked_at,
    registry_health.c.reason,
    registry_health.c.holds,
).outerjoin(registry_health, registry_health.c.registry == registries.c.name)


def _stored(row: Row[Any]) -> StoredRegistry:
    known = None
    if row.state is not None:
        known = Health(row.state, row.since, row.checked_at, row.reason, bool(row.holds))
    return StoredRegistry(
        endpoint=codec.load_endpoint(row.endpoint),
        document=json.loads(row.document),
        version=row.version,
        secret_set=row.secret is not None,
        paused_at=row.paused_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
        set=row.set_name,
        health=known,
    )
