"""/api/v1/tokens."""

from __future__ import annotations

from pathlib import Path

from service.bootstrap import Services
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
    first = api.get("/api/v1/tokens?limit=2").get_json()
    second = api.get(f"/api/v1/tokens?limit=2&cursor={first['next']}").get_json()

    assert [item["name"] for item in first["items"] + second["items"]] == [
        "admin",
        "operator",
        "viewer",
    ]


def test_token_cannot_lock_itself_out(api: Api) -> None:
    assert api.delete("/api/v1/tokens/admin").status_code == 409
    assert api.delete("/api/v1/tokens/viewer").status_code == 204
    assert api.delete("/api/v1/tokens/viewer").status_code == 404
    assert api.delete("/api/v1/tokens/nobody").status_code == 404
    revoked = [item for item in api.get("/api/v1/tokens").get_json()["items"] if item["revoked_at"]]
    assert [item["name"] for item in revoked] == ["viewer"]
