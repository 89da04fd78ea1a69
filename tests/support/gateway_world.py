"""A database with registries, and gateways over it in the test's own process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from api.gateway.main import Gateway as Process
from service.model.endpoint import CredentialSpec, RegistryEndpoint
from service.model.gateway import GatewayConfig
from service.model.pull_token import PullKeys
from service.settings import Settings
from service.store.keyring import KeyRing, write_new_key
from service.store.schema import create_or_upgrade
from service.stores import Stores


class World:
    """A database with registries, and gateways over it in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_new_key(folder / "keys")
        self.settings = Settings(
            database_url=f"sqlite:///{folder / 'transship.db'}",
            secret_key_file=str(folder / "keys"),
            gateway_listen="127.0.0.1:0",
            drain_seconds=1.0,
        )
        self.stores = Stores(self.settings)
        create_or_upgrade(self.stores.database)

    def registry(self, name: str, url: str, password: str = "", **more: Any) -> None:
        """Save a registry; with a password, of the user `puller`."""
        spec = CredentialSpec(username="puller", stored=True) if password else CredentialSpec()
        endpoint = RegistryEndpoint(name, url, credentials=spec, **more)
        self.stores.registries.put(
            endpoint, document={"name": name, "url": url}, secret=password or None
        )

    def token(self, name: str, *repositories: str, lifetime: float | None = None) -> str:
        """Make a pull token."""
        record = self.stores.pull_tokens.create(name, repositories, lifetime)
        return PullKeys(KeyRing.from_file(self.settings.secret_key_file).every).sign(record.grant)

    def gateway(self, config: GatewayConfig, **more: Any) -> Process:
        """Start a gateway."""
        process = Process(replace(self.settings, **more), config)
        process.start()
        return process
