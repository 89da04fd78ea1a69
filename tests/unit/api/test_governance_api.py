"""/api/v1/projects, secrets, webhooks and audit."""

from __future__ import annotations

from typing import Any

import pytest

from api.schemas.common import READ_ONLY
from service.bootstrap import Services
from service.model.states import ExecutionState
from service.model.subscription import EVENT_TYPES
from tests.unit.api.conftest import EAST, FLEET, Api

PROJECT = {"read": {"east": ["team-a/**"]}, "write": {"west": ["mirror/team-a/**"]}}
HOOK = {"url": "https://receiver.example/x?y=1", "events": ["execution.*"], "only": "failures"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("registries/spare", EAST),
        ("rules/own", FLEET),
        ("projects/team-a", PROJECT),
        ("webhooks/ops", HOOK),
    ],
)
def test_what_is_written_is_read_and_may_be_written_again(
    fleet: Api, path: str, body: dict[str, Any]
) -> None:
    created = fleet.put(f"/api/v1/{path}", body)
    read = fleet.get(f"/api/v1/{path}").get_json()
    written = {key: value for key, value in read.items() if key not in READ_ONLY}
    again = fleet.put(f"/api/v1/{path}", written if "webhooks" not in path else body)

    assert created.status_code == 201
    assert {key: read[key] for key in body} == body
    assert created.get_json() == read
    assert (again.status_code, again.headers["ETag"]) == (200, '"1"')


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"read": {"nowhere": ["**"]}}, "read.nowhere"),
        ({"write": {"east": []}}, "write"),
        ({"write": {"east": ["["]}}, "write[0]"),
        ({"write": ["east"]}, "write"),
        ({"reed": {}}, "reed"),
    ],
)
def test_bad_project_names_the_field(fleet: Api, body: dict[str, Any], field: str) -> None:
    assert field in fleet.problems(fleet.put("/api/v1/projects/team-a", body))


def test_default_project_is_everything_until_it_is_written(fleet: Api) -> None:
    before = fleet.get("/api/v1/projects/default").get_json()
    confined = {"read": {"east": ["**"]}, "write": {"west": ["mirror/**"]}}
    written = fleet.put("/api/v1/projects/default", confined)
    refused = fleet.put("/api/v1/rules/new", {**FLEET, "destinations": [{"registry": "east"}]})

    assert (before["version"], before["effective"]["everything"]) == (0, True)
    assert written.status_code == 201
    assert "destinations[0]" in fleet.problems(refused)
    assert fleet.delete("/api/v1/projects/default").status_code == 204
    assert fleet.get("/api/v1/projects/default").get_json()["effective"]["everything"] is True


def test_secret_comes_in_and_never_goes_out(fleet: Api, services: Services) -> None:
    body = {"value": "a-secret-word", "hosts": ["East.example"]}
    stored = fleet.put("/api/v1/secrets/east", body)
    again = fleet.put("/api/v1/secrets/east", {**body, "value": "another-word"})

    assert (stored.status_code, again.status_code) == (201, 200)
    shown = again.get_json()
    assert {key: shown[key] for key in ("name", "set", "hosts", "version")} == {
        "name": "east",
        "set": True,
        "hosts": ["east.example"],
        "version": 2,
    }
    assert services.secrets.reveal("east", ["east.example"]) == "another-word"
    texts = [fleet.get(f"/api/v1/{path}").text for path in ("secrets", "secrets/east", "audit")]
    assert not [text for text in texts if "word" in text]


def test_secret_in_use_is_not_forgotten(fleet: Api) -> None:
    fleet.put("/api/v1/secrets/east", {"value": "a-secret-word", "hosts": ["east.example"]})
    named = {**EAST, "credentials": {"username": "robot", "secret": "east"}}
    assert fleet.put("/api/v1/registries/east", named).status_code == 200

    assert "registry east" in fleet.problems(fleet.delete("/api/v1/secrets/east"), 409)[""]
    fleet.put("/api/v1/registries/east", EAST)
    assert fleet.delete("/api/v1/secrets/east").status_code == 204


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"value": "x"}, "hosts"),
        ({"value": "x", "hosts": []}, "hosts"),
        ({"value": "x", "hosts": ["https://east.example"]}, "hosts[0]"),
        ({"value": "x", "hosts": ["u@east.example"]}, "hosts[0]"),
        ({"value": "********", "hosts": ["east.example"]}, "value"),
        ({"value": "", "hosts": ["east.example"]}, "value"),
        ({"value": "a\nb", "hosts": ["east.example"]}, "value"),
        ({"hosts": ["east.example"]}, "value"),
    ],
)
def test_bad_secret_names_the_field(api: Api, body: dict[str, Any], field: str) -> None:
    assert field in api.problems(api.put("/api/v1/secrets/east", body))
    assert api.get("/api/v1/secrets").get_json()["items"] == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "https://",
        "https://u:p@a.example/",
        "https://a.example/#x",
        "https://a.example:0/",
        "https://a.example:99999/",
        "https://a.example/ b",
        "https:\\\\a.example",
        "//a.example",
        "https://é.example/",
        "javascript:alert(1)",
    ],
)
def test_bad_webhook_url_is_refused(api: Api, url: str) -> None:
    assert "url" in api.problems(api.put("/api/v1/webhooks/ops", {**HOOK, "url": url}))


def test_unknown_event_is_told_with_what_there_is(api: Api) -> None:
    told = api.problems(api.put("/api/v1/webhooks/ops", {**HOOK, "events": ["execution.done"]}))

    assert all(event in told["events[0]"] for event in EVENT_TYPES)


def test_webhook_s_secret_stays_while_the_url_does(api: Api, services: Services) -> None:
    path = "/api/v1/webhooks/ops"
    assert api.put(path, {**HOOK, "secret": "a-signing-word"}).get_json()["secret"] == {"set": True}
    assert api.put(path, {**HOOK, "events": ["*"]}).get_json()["secret"] == {"set": True}
    assert services.webhooks.secret("ops") == "a-signing-word"
    kept = api.put(path, {**HOOK, "secret": {"set": True}})
    assert kept.get_json()["secret"] == {"set": True}

    moved = api.put(path, {**HOOK, "url": "https://evil.example/"})

    assert moved.get_json()["secret"] == {"set": False}
    assert services.webhooks.secret("ops") is None


def test_deliveries_are_listed_page_by_page(fleet: Api, services: Services) -> None:
    fleet.put("/api/v1/webhooks/ops", {**HOOK, "only": "failures", "events": ["*"]})
    fleet.put("/api/v1/webhooks/all", {"url": HOOK["url"], "events": ["*"]})
    for _ in range(3):
        run = fleet.post("/api/v1/rules/fleet/executions").get_json()["id"]
        services.executions.request_stop(run)
        services.dispatching.end_executions()
        assert services.executions.get(run).state is ExecutionState.STOPPED

    first = fleet.get("/api/v1/webhooks/all/deliveries?limit=2").get_json()
    second = fleet.get(f"/api/v1/webhooks/all/deliveries?limit=2&cursor={first['next']}").get_json()

    found = first["items"] + second["items"]
    assert [one["event"] for one in found] == ["execution.stopped"] * 3
    assert {one["state"] for one in found} == {"pending"}
    assert fleet.get("/api/v1/webhooks/ops/deliveries").get_json()["items"] == []
    assert "state" in fleet.problems(fleet.get("/api/v1/webhooks/all/deliveries?state=x"))
    assert fleet.delete("/api/v1/webhooks/all").status_code == 204


def test_audit_tells_who_changed_what_from_what_to_what(fleet: Api) -> None:
    fleet.put("/api/v1/rules/fleet", {**FLEET, "priority": "bulk"}, role="operator")
    fleet.put("/api/v1/rules/fleet", {**FLEET, "priority": "bulk"}, role="operator")  # no change
    fleet.delete("/api/v1/rules/fleet", role="operator")

    rows = fleet.get("/api/v1/audit?kind=rules").get_json()["items"]

    assert [(row["actor"], row["action"]) for row in rows] == [
        ("operator", "delete"),
        ("operator", "replace"),
        ("admin", "create"),
    ]
    assert "priority" not in rows[1]["before"]
    assert rows[1]["after"]["priority"] == "bulk"
    assert rows[0]["before"]["priority"] == "bulk"
    assert rows[0]["project"] == "default"
    assert fleet.get("/api/v1/audit?actor=nobody").get_json()["items"] == []
    assert fleet.get("/api/v1/audit?action=cross").get_json()["items"] == []
    deleted = fleet.get("/api/v1/audit?kind=rules&action=delete").get_json()["items"]
    assert {row["action"] for row in deleted} == {"delete"}
    assert fleet.get("/api/v1/audit/verification").get_json()["whole"] is True


def test_project_s_admin_sees_the_changes_of_the_project(teams: Api) -> None:
    seen = teams.get("/api/v1/audit", role="team-a.admin").get_json()["items"]
    other = teams.get("/api/v1/audit", role="team-b.admin").get_json()["items"]

    assert {row["project"] for row in seen} == {"team-a"}
    assert {row["project"] for row in other} <= {"team-b"}
