"""Registries with their secrets, as home tells them to the agents of far regions (docs/adr/0017)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, select

from service.errors import NotFoundInStore, StoreUnavailable, TransshipError
from service.model.endpoint import RegistryEndpoint
from service.store import routes
from service.store.database import Database
from service.store.recalls import lent_to
from service.store.registries import RegistryStore
from service.store.secrets import SecretStore
from service.store.tables import copies, executions

Place = dict[str, Any]
"""A registry as a region needs it: `endpoint`, `secret` (None: there is none, or the region has it), `version`."""


class LentRegistries:
    """Tells registries to agents: those that their copies name, and no other."""

    def __init__(self, database: Database, registries: RegistryStore) -> None:
        self._database = database
        self._registries = registries
        self._secrets = SecretStore(database, None)

    def places(self, names: Iterable[str]) -> tuple[list[Place], dict[str, TransshipError]]:
        """Return registries, and what is wrong with those that cannot be told."""
        found: list[Place] = []
        wrong: dict[str, TransshipError] = {}
        for name in dict.fromkeys(names):
            try:
                found.append(self._place(name))
            except StoreUnavailable:
                raise
            except TransshipError as error:
                wrong[name] = error
        return found, wrong

    def changed(
        self, agent: str, region: str, known: Mapping[str, str]
    ) -> tuple[list[Place], dict[str, TransshipError]]:
        """Return those registries that have changed, of those that copies in an agent's hands need.

        `known`: what the region has, each with the version that it was told with. Only what its copies need
        is told, whatever it asks for.
        """
        if not known:
            return [], {}
        with self._database.read() as connection:
            needed = _needed(connection, agent, region)
        return self.places(
            name for name in sorted(needed & known.keys()) if known[name] != self._version(name)
        )

    def _place(self, name: str) -> Place:
        version = self._version(name)  # first: a change in between is told again
        endpoint = self._registries.get(name).endpoint
        if endpoint.more_credentials:
            endpoint, secret = self._several(endpoint)
        else:
            spec = endpoint.credentials
            secret = self._registries.secret(name) if spec.stored or spec.secret else None
            if secret is not None:
                named = spec.secret is not None
                spec = replace(spec, stored=True, secret=None, named=named)
                endpoint = replace(endpoint, credentials=spec)
        return {"endpoint": asdict(endpoint), "secret": secret, "version": version}

    def _several(self, endpoint: RegistryEndpoint) -> tuple[RegistryEndpoint, str | None]:
        """Return a registry of several credentials as it is told, and their secrets in one, by name."""
        secrets: dict[str, str] = {}
        specs = []
        for place, spec in enumerate(endpoint.every_credential):
            if spec.secret is not None:
                value = self._registries.secret(endpoint.name, place)
                if value is not None:
                    secrets[spec.secret] = value
                specs.append(replace(spec, stored=True, named=True))
            else:
                specs.append(spec)
        told = replace(endpoint, credentials=specs[0], more_credentials=tuple(specs[1:]))
        return told, json.dumps(secrets) if secrets else None

    def _version(self, name: str) -> str:
        """Return what changes with a registry and with the secrets that it names; "" when it is gone."""
        try:
            registry = self._registries.get(name)
        except NotFoundInStore:
            return ""
        told = f"{registry.version}.{registry.updated_at}"
        for spec in registry.endpoint.every_credential:
            if spec.secret is None:
                continue
            try:
                secret = self._secrets.get(spec.secret)
            except NotFoundInStore:
                told = f"{told}/"
            else:
                told = f"{told}/{secret.version}.{secret.updated_at}"
        return told


def _needed(connection: Connection, agent: str, region: str) -> set[str]:
    """Return the registries that copies in an agent's hands may be read at or written to."""
    rows = connection.execute(
        select(
            copies.c.execution_id,
            copies.c.source_registry,
            copies.c.destination_registry,
            copies.c.via_registry,
        )
        .where(lent_to(agent, region))
        .distinct()
    ).all()
    found = {name for row in rows for name in row[1:] if name}
    ways = connection.execute(
        select(executions.c.id, executions.c.route).where(
            executions.c.id.in_({row.execution_id for row in rows})
        )
    )
    senders = {row.id: routes.parse(row.route) for row in ways}
    for row in rows:
        feeders = senders.get(row.execution_id, {}).get(row.destination_registry, routes.ALONE)
        found.update(feeders.names)
    return found
