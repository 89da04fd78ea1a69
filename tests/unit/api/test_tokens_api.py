"""/api/v1/tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, update

from service.bootstrap import Services
from service.store.tables import tokens
from tests.unit.api.conftest import Api


def test_new_token_is_shown_once_and_works(api: Api, services: Services) -> None:
    made = api.post("/api/v1/tokens", {"name": "ci", "role": "operator"})

    text = made.get_json()["token"]
    assert made.status_code == 201
    assert made.headers["Location"] == "/api/v1/tokens/ci"
    assert text.startswith("tsp_")
    assert text not in api.get("/api/v1/tokens").text
    assert text not in api.get("/api/v1/tokens/ci").text
    found = services.tokens.verify(text)
    assert found is not None
    assert found.role == "operator"
    assert text.encode() not in Path(services.database.url.database or "").read_bytes()


def test_bad_tokens_are_refused(api: Api) -> None:
    assert "role" in api.problems(api.post("/api/v1/tokens", {"name": "ci", "role": "root"}))
    assert "name" in api.problems(api.post("/api/v1/tokens", {"name": "", "role": "viewer"}))
    assert api.post("/api/v1/tokens", {"name": "viewer", "role": "viewer"}).status_code == 409


def test_list_pages(api: Api) -> None:
    first = api.get("/api/v1/tokens?limit=5").get_json()
    second = api.get(f"/api/v1/tokens?limit=5&cursor={first['next']}").get_json()

    names = [item["name"] for item in first["items"] + second["items"]]
    assert names == sorted(api.tokens)


def test_token_ends_when_its_time_is_over(api: Api, services: Services) -> None:
    made = api.post("/api/v1/tokens", {"name": "ci", "role": "viewer", "expires_in": "1h"})
    body = made.get_json()
    assert body["token"].startswith(f"tsp_{body['id']}_")
    assert body["expires_at"] > body["created_at"]
    api.tokens["ci"] = body["token"]
    assert api.get("/api/v1/rules", role="ci").status_code == 200

    def end(connection: Connection) -> None:
        connection.execute(update(tokens).where(tokens.c.name == "ci").values(expires_at=1.0))

    services.database.write(end)

    assert api.get("/api/v1/rules", role="ci").status_code == 401


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"project": "nobody"}, "project"),
        ({"expires_in": "1s"}, "expires_in"),
        ({"expires_in": 60}, "expires_in"),
        ({"id": "x"}, "id"),
    ],
)
def test_bad_scope_or_end_of_a_token_is_refused(
    api: Api, change: dict[str, Any], field: str
) -> None:
    body = {"name": "ci", "role": "viewer", **change}

    assert field in api.problems(api.post("/api/v1/tokens", body))


def test_token_cannot_lock_itself_out(api: Api) -> None:
    assert api.delete("/api/v1/tokens/admin").status_code == 409
    assert api.delete("/api/v1/tokens/viewer").status_code == 204
    assert api.delete("/api/v1/tokens/viewer").status_code == 404
    assert api.delete("/api/v1/tokens/nobody").status_code == 404
    revoked = [item for item in api.get("/api/v1/tokens").get_json()["items"] if item["revoked_at"]]
    assert [item["name"] for item in revoked] == ["viewer"]
