"""The API as a process of its own over a SQLite file, for tests."""

from __future__ import annotations

import http.client
import json
import os
import sys
from pathlib import Path
from typing import Any

from service.bootstrap import Services, open_services
from service.settings import Settings
from service.store.keyring import write_new_key
from service.store.schema import create_or_upgrade
from tests.support.processes import ManagedProcess, free_port

ROOT = Path(__file__).parents[2]


class ApiProcess:
    """`python -m api.serve` over a SQLite file, with an admin token."""

    def __init__(
        self, folder: Path, *, environment: dict[str, str] | None = None, **settings: Any
    ) -> None:
        """`settings` are the process's beside the usual ones; `environment` are other variables."""
        self.port = free_port()
        settings.setdefault("database_url", f"sqlite:///{folder}/transship.db")
        settings.setdefault("secret_key_file", str(folder / "keys"))
        self.settings = Settings(listen=f"127.0.0.1:{self.port}", **settings)
        write_new_key(folder / "keys")
        self.services: Services = open_services(self.settings, check=False)
        create_or_upgrade(self.services.database)
        self.token, _ = self.services.tokens.create("admin", "admin")
        self.process = ManagedProcess(
            "api",
            [sys.executable, "-m", "api.serve"],
            log_directory=folder,
            environment={**os.environ, **self.settings.to_env(), **(environment or {})},
            cwd=ROOT,
        )

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = self.connect()
        try:
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
            text = None if body is None else json.dumps(body)
            connection.request(method, path, body=text, headers=headers)
            response = connection.getresponse()
            raw = response.read()
            return response.status, json.loads(raw) if raw else None
        finally:
            connection.close()

    def run(self) -> str:
        for name in ("east", "west"):
            self.ask("PUT", f"/api/v1/registries/{name}", {"url": f"https://{name}.example"})
        rule = {
            "source": "east",
            "select": [{"repositories": ["**"]}],
            "destinations": [{"registry": "west"}],
        }
        assert self.ask("PUT", "/api/v1/rules/fleet", rule)[0] == 201
        status, body = self.ask("POST", "/api/v1/rules/fleet/executions")
        assert status == 202
        identity: str = body["id"]
        return identity

    def ready(self) -> bool:
        return self.ask("GET", "/readyz")[0] == 200
