"""Every route for every kind of caller; a new route without a row here is red."""

from __future__ import annotations

import pytest

from api.openapi import routes
from tests.unit.api.conftest import EAST, FLEET, Api

READ = {None: 401, "viewer": 200, "operator": 200, "admin": 200}
OPERATE = {None: 401, "viewer": 403, "operator": 200, "admin": 200}
ADMINISTER = {None: 401, "viewer": 403, "operator": 403, "admin": 200}
OPEN = {None: 200, "viewer": 200, "operator": 200, "admin": 200}
HOOK = {None: 401, "viewer": 401, "operator": 401, "admin": 401}  # its own secret, no token

TABLE = {
    ("GET", "/api/v1/registries"): (READ, None),
    ("GET", "/api/v1/registries/{name}"): (READ, None),
    ("PUT", "/api/v1/registries/{name}"): (ADMINISTER, EAST),
    ("DELETE", "/api/v1/registries/{name}"): (ADMINISTER, None),
    ("GET", "/api/v1/registries/{name}/hook"): (OPERATE, None),
    ("PUT", "/api/v1/registries/{name}/hook"): (ADMINISTER, None),
    ("POST", "/api/v1/registries/{name}/hook/rotation"): (ADMINISTER, None),
    ("DELETE", "/api/v1/registries/{name}/hook/previous"): (ADMINISTER, None),
    ("DELETE", "/api/v1/registries/{name}/hook"): (ADMINISTER, None),
    ("POST", "/hooks/{provider}/{registry}"): (HOOK, {}),
    ("POST", "/hooks/{provider}/{registry}/{token}"): (HOOK, {}),
    ("GET", "/api/v1/rules"): (READ, None),
    ("GET", "/api/v1/rules/{name}"): (READ, None),
    ("PUT", "/api/v1/rules/{name}"): (OPERATE, FLEET),
    ("DELETE", "/api/v1/rules/{name}"): (OPERATE, None),
    ("POST", "/api/v1/rules/{name}/executions"): (OPERATE, None),
    ("GET", "/api/v1/executions"): (READ, None),
    ("GET", "/api/v1/executions/{identity}"): (READ, None),
    ("GET", "/api/v1/executions/{identity}/copies"): (READ, None),
    ("GET", "/api/v1/executions/{identity}/events"): (READ, None),
    ("POST", "/api/v1/executions/{identity}/stop"): (OPERATE, None),
    ("GET", "/api/v1/tokens"): (ADMINISTER, None),
    ("POST", "/api/v1/tokens"): (ADMINISTER, {"name": "new", "role": "viewer"}),
    ("GET", "/api/v1/tokens/{name}"): (ADMINISTER, None),
    ("DELETE", "/api/v1/tokens/{name}"): (ADMINISTER, None),
    ("GET", "/healthz"): (OPEN, None),
    ("GET", "/readyz"): (OPEN, None),
    ("GET", "/metrics"): (OPEN, None),
    ("GET", "/openapi.json"): (OPEN, None),
}
NAMES = {"registries": "spare", "rules": "fleet", "tokens": "viewer"}


def test_table_has_every_route(api: Api) -> None:
    assert {(method.upper(), path) for path, method in routes(api.app)} == set(TABLE)


@pytest.mark.parametrize("role", [None, "viewer", "operator", "admin"])
@pytest.mark.parametrize("row", TABLE, ids=" ".join)
def test_route_answers_each_role_as_the_table_says(
    fleet: Api, row: tuple[str, str], role: str | None
) -> None:
    method, path = row
    expected, body = TABLE[row]
    fleet.put("/api/v1/registries/spare", EAST)
    fleet.put("/api/v1/registries/spare/hook", {})
    run = fleet.post("/api/v1/rules/fleet/executions").get_json()["id"]
    if path.endswith("/events"):
        fleet.app.extensions["transship"].closing.set()
    kind = path.split("/")[3] if path.startswith("/api") else ""
    concrete = path.replace("{identity}", run).replace("{name}", NAMES.get(kind, ""))

    response = fleet.ask(method, concrete, body, role=role)

    success = 200 if response.status_code in {200, 201, 202, 204} else response.status_code
    assert success == expected[role], response.text


@pytest.mark.parametrize(
    ("row", "role"),
    [
        (row, role)
        for row, (expected, _) in TABLE.items()
        for role in (None, "viewer", "operator")
        if row[0] != "GET" and expected[role] != 200
    ],
)
def test_refused_caller_changes_nothing(fleet: Api, row: tuple[str, str], role: str | None) -> None:
    method, path = row
    _, body = TABLE[row]
    before = [fleet.get(f"/api/v1/{kind}").get_json() for kind in ("registries", "rules", "tokens")]

    fleet.ask(
        method, path.replace("{name}", "fleet").replace("{identity}", "0" * 24), body, role=role
    )

    assert before == [
        fleet.get(f"/api/v1/{kind}").get_json() for kind in ("registries", "rules", "tokens")
    ]
    assert fleet.get("/api/v1/executions").get_json()["items"] == []


@pytest.mark.parametrize(
    "path", ["/api/v1/nothing", "/api/v2", "/api", "/api/v1/rules/x/y/z", "/api/v1//rules"]
)
def test_unknown_path_is_told_to_callers_with_a_token_only(api: Api, path: str) -> None:
    assert api.get(path, role=None).status_code == 401
    assert api.get(path, role="viewer").status_code == 404


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "PATCH", "POST"])
def test_unknown_method_is_refused(api: Api, method: str) -> None:
    response = api.ask(method, "/api/v1/rules/fleet", role="viewer")

    assert response.status_code == 405
    assert {"GET", "PUT", "DELETE"} <= set(response.headers["Allow"].split(", "))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer nothing",
        "Basic YTpi",
        "Bearer {token} ",
        "Bearer  {token}",
        "Bearer {token},Bearer {token}",
        "Bearer {token}x",
        "Token {token}",
        "{token}",
        "Bearer " + "x" * 8192,
        "Bearer \xe9",
    ],
)
def test_anything_but_one_valid_token_is_401(api: Api, header: str) -> None:
    sent = header.replace("{token}", api.tokens["admin"])

    response = api.get("/api/v1/rules", role=None, headers={"Authorization": sent})

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="transship"'
    assert response.get_json()["code"] == "unauthenticated"


def test_scheme_is_read_without_regard_to_case(api: Api) -> None:
    sent = {"Authorization": f"bearer {api.tokens['viewer']}"}

    assert api.get("/api/v1/rules", role=None, headers=sent).status_code == 200


def test_revoked_token_is_refused_at_once(api: Api) -> None:
    assert api.delete("/api/v1/tokens/viewer").status_code == 204

    assert api.get("/api/v1/rules", role="viewer").status_code == 401


def test_token_in_the_query_is_no_token(api: Api) -> None:
    response = api.get(f"/api/v1/rules?token={api.tokens['admin']}", role=None)

    assert response.status_code == 401


def test_view_that_says_nothing_of_itself_answers_nobody(api: Api) -> None:
    api.app.view_functions["rules.list_rules"] = lambda: "secret"

    assert api.get("/api/v1/rules").status_code == 403
