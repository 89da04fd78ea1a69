"""The API over a real SQLite file, spoken to by Flask's test client."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from api.app import create_app
from api.context import KEY, ApiContext
from service.bootstrap import Services, open_services
from service.settings import Settings
from service.store.keyring import write_new_key
from service.store.schema import create_or_upgrade
from service.store.tokens import ROLES

EAST = {"url": "https://east.example", "groups": ["prod"]}
WEST = {"url": "https://west.example", "groups": ["prod"]}
FLEET = {
    "source": "east",
    "select": [{"repositories": ["team*/**"]}],
    "destinations": [{"registry": "west", "repository": "mirror/{repository}"}],
}
PROJECTS = ("team-a", "team-b")


class RecordingPublisher:
    """Remembers what was announced; raises when told that Redis is away."""

    def __init__(self) -> None:
        self.planned: list[str] = []
        self.examined: list[tuple[str, str]] = []
        self.away = False

    def plan(self, execution: str, *, urgent: bool = False) -> None:
        if self.away:
            raise ConnectionError("no redis")
        self.planned.append(execution)

    def replicate(self, region: str, pages: Any, *, urgent: bool) -> None:
        raise NotImplementedError

    def fan_out(
        self, region: str, ref: Any, task_ids: Any, labels: Any, *, urgent: bool = False
    ) -> None:
        raise NotImplementedError

    def part(self, region: str, ref: Any, part: int, task_id: str) -> None:
        raise NotImplementedError

    def commit(self, region: str, ref: Any) -> None:
        raise NotImplementedError

    def depths(self, region: str) -> dict[str, int]:
        if self.away:
            raise ConnectionError("no redis")
        return {"urgent": 0, "commit": 1, "copy": len(region)}

    def examine(self, region: str, examination: str) -> None:
        if self.away:
            raise ConnectionError("no redis")
        self.examined.append((region, examination))


class Api:
    """A client that signs in as a role and speaks JSON."""

    def __init__(self, app: Flask, tokens: dict[str, str]) -> None:
        self.app = app
        self.tokens = tokens

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        role: str | None = "admin",
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> TestResponse:
        sent = dict(headers or {})
        if role is not None:
            sent.setdefault("Authorization", f"Bearer {self.tokens[role]}")
        if body is not None:
            options["data"] = body if isinstance(body, bytes) else json.dumps(body).encode()
            options.setdefault("content_type", "application/json")
        return self.app.test_client().open(path, method=method, headers=sent, **options)

    def get(self, path: str, **options: Any) -> TestResponse:
        return self.ask("GET", path, **options)

    def put(self, path: str, body: Any, **options: Any) -> TestResponse:
        return self.ask("PUT", path, body, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> TestResponse:
        return self.ask("POST", path, body, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        return self.ask("DELETE", path, **options)

    def problems(self, response: TestResponse, status: int = 400) -> dict[str, str]:
        """The wrong fields of a problem document, each with message and hint."""
        assert response.status_code == status, response.text
        assert response.mimetype == "application/problem+json"
        document = response.get_json()
        assert document["status"] == status
        assert document["instance"] == response.request.path
        return {
            one["field"]: f"{one['message']} | {one['hint']}"
            for one in document.get(
                "errors",
                [{"field": "", "message": document["detail"], "hint": document.get("hint", "")}],
            )
        }


@dataclass(frozen=True)
class Seed:
    """A folder with a key and a database that has tables and tokens; copied for each test."""

    folder: Path
    tokens: dict[str, str]


def settings_in(folder: Path) -> Settings:
    return Settings(
        database_url=f"sqlite:///{folder}/transship.db",
        secret_key_file=str(folder / "keys"),
        secrets_dir=str(folder / "secrets"),
        layouts_dir=str(folder / "layouts"),
    )


@pytest.fixture(scope="session")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Seed:
    folder = tmp_path_factory.mktemp("seed")
    write_new_key(folder / "keys")
    opened = open_services(settings_in(folder), check=False)
    create_or_upgrade(opened.database)
    tokens = {role: opened.tokens.create(role, role)[0] for role in ROLES}
    for project in PROJECTS:
        for role in ROLES:
            name = f"{project}.{role}"
            tokens[name] = opened.tokens.create(name, role, project=project)[0]
    opened.close()
    return Seed(folder, tokens)


@pytest.fixture(scope="session")
def app() -> Flask:
    """The application, once: its routes take longer to compile than most tests. Each test gives it a context."""
    return create_app(Services(Settings()))


def context_of(services: Services, publisher: RecordingPublisher) -> ApiContext:
    return ApiContext(services, publisher, stream_seconds=0.01)


@pytest.fixture(scope="session")
def seed_of_teams(seed: Seed, app: Flask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the seed in which what `teams` has is there."""
    folder = tmp_path_factory.mktemp("teams")
    shutil.copytree(seed.folder, folder, dirs_exist_ok=True)
    opened = open_services(settings_in(folder))
    app.extensions[KEY] = context_of(opened, RecordingPublisher())
    settle_teams(Api(app, seed.tokens))
    opened.close()
    return folder


@pytest.fixture
def services(request: pytest.FixtureRequest, seed: Seed, tmp_path: Path) -> Iterator[Services]:
    with_teams = "teams" in request.fixturenames
    folder = request.getfixturevalue("seed_of_teams") if with_teams else seed.folder
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    opened = open_services(settings_in(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def publisher() -> RecordingPublisher:
    return RecordingPublisher()


@pytest.fixture
def api(services: Services, publisher: RecordingPublisher, seed: Seed, app: Flask) -> Api:
    app.extensions[KEY] = context_of(services, publisher)
    return Api(app, seed.tokens)


@pytest.fixture
def fleet(api: Api) -> Api:
    """Two registries and a rule are there."""
    assert api.put("/api/v1/registries/east", EAST).status_code == 201
    assert api.put("/api/v1/registries/west", WEST).status_code == 201
    assert api.put("/api/v1/rules/fleet", FLEET).status_code == 201
    return api


@pytest.fixture
def teams(api: Api) -> Api:
    """Two projects are there, each with a registry; the rule and a webhook are team-a's. See `services`."""
    return api


def settle_teams(api: Api) -> None:
    """Make what `teams` has."""
    for name in ("east", "west", "north", "spare"):
        assert api.put(f"/api/v1/registries/{name}", EAST | {"groups": []}).status_code == 201
    a = {"read": {"east": ["**"]}, "write": {"west": ["mirror/**"]}}
    assert api.put("/api/v1/projects/team-a", a).status_code == 201
    assert api.put("/api/v1/projects/team-b", {"read": {"north": ["**"]}}).status_code == 201
    assert api.put("/api/v1/projects/spare", {}).status_code == 201
    for token in ("team-a.operator",):
        assert api.put("/api/v1/rules/fleet", FLEET, role=token).status_code == 201
    secret = {"value": "a-secret-word", "hosts": ["east.example"]}
    assert api.put("/api/v1/secrets/spare", secret).status_code == 201
    for region in ("hub", "rim", "spare"):
        assert api.put(f"/api/v1/regions/{region}", {}).status_code == 201
    assert api.put("/api/v1/links/hub:rim", {}).status_code == 201
    hook = {"url": "https://receiver.example/x", "events": ["*"], "project": "team-a"}
    assert api.put("/api/v1/webhooks/fleet", hook).status_code == 201
