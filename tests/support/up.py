"""A running `transship up`, spoken to by its API."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from service.model.states import ENDED_EXECUTIONS
from tests.support.processes import wait_until
from tests.support.transship import Running

UP = ["up", "--listen", "127.0.0.1:0", "--flower-listen", "127.0.0.1:0"]


class Up:
    """One engine with its API; `client` signs in as admin."""

    def __init__(self, running: Running, facts: dict[str, Any], token: str) -> None:
        self.running = running
        self.url: str = facts["api"]
        self.token = token
        self.client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=60,
        )

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the API below /api/v1; anything but success fails."""
        response = self.client.request(method, f"/api/v1{path}", json=body)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def registry(self, name: str, url: str, **more: Any) -> None:
        self.ask("PUT", f"/registries/{name}", {"url": url, **more})

    def rule(self, name: str, source: str, to: str, **more: Any) -> None:
        """A rule that takes everything, unless `more` says otherwise."""
        body = {
            "source": source,
            "select": [{"repositories": ["**"]}],
            "destinations": [{"registry": to}],
            **more,
        }
        self.ask("PUT", f"/rules/{name}", body)

    def hook(self, registry: str) -> str:
        """Make the registry's hook and return its secret."""
        secret: str = self.ask("PUT", f"/registries/{registry}/hook", {})["secret"]
        return secret

    def notify(
        self, path: str, body: bytes, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Post a notification without the API's token."""
        return httpx.post(
            f"{self.url}/hooks/{path}",
            content=body,
            headers=headers or {},
            trust_env=False,
            timeout=60,
        )

    def executions(self, **query: str) -> list[dict[str, Any]]:
        """The newest 200 executions."""
        found: list[dict[str, Any]] = self.client.get(
            "/api/v1/executions", params={"limit": "200", **query}
        ).json()["items"]
        return found

    def idle(self, timeout: float = 20) -> None:
        """Wait until no execution is open."""
        wait_until(
            lambda: all(one["state"] in ENDED_EXECUTIONS for one in self.executions()),
            timeout,
            "every execution to end",
        )


@contextlib.contextmanager
def running_up(folder: Path, *words: str, **variables: str) -> Iterator[Up]:
    """`transship up` over a new data folder, ready."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    with Running([*UP, *words], data, folder, **variables) as running:
        facts = wait_until(lambda: _facts(data, running), 40, "the API")
        up = Up(running, facts, (data / "admin.token").read_text().strip())
        try:
            yield up
        finally:
            up.client.close()


def _facts(data: Path, running: Running) -> dict[str, Any] | None:
    assert running.process.alive, running.process.output()
    try:
        facts: dict[str, Any] = json.loads((data / "engine.json").read_text())
        ready = httpx.get(facts["api"] + "/readyz", trust_env=False, timeout=60).status_code == 200
    except (OSError, ValueError, KeyError, httpx.HTTPError):
        return None
    return facts if ready else None
