"""/api/v1/regions and /api/v1/links, and registries' nearer addresses."""

from __future__ import annotations

from typing import Any

import pytest

from api.schemas.common import READ_ONLY
from service.bootstrap import Services
from service.model.work import ProcessReport
from tests.unit.api.conftest import EAST, FLEET, Api, RecordingPublisher
from tests.unit.api.test_openapi import check

US = {"jurisdiction": "us"}
EU = {"jurisdiction": "eu"}
LINK = {"bandwidth": "200Mbit/s", "cost_per_gib": 0.02}


@pytest.fixture
def atlas(api: Api) -> Api:
    """Two regions and a link are there."""
    assert api.put("/api/v1/regions/us-east", US).status_code == 201
    assert api.put("/api/v1/regions/eu-west", EU).status_code == 201
    assert api.put("/api/v1/links/us-east:eu-west", LINK).status_code == 201
    return api


def names(api: Api, kind: str) -> list[str]:
    return [item["name"] for item in api.get(f"/api/v1/{kind}").get_json()["items"]]


@pytest.mark.parametrize("path", ["regions/eu-west", "links/us-east:eu-west"])
def test_what_is_written_is_read_and_may_be_written_again(atlas: Api, path: str) -> None:
    read = atlas.get(f"/api/v1/{path}").get_json()
    written = {key: value for key, value in read.items() if key not in READ_ONLY}

    again = atlas.put(f"/api/v1/{path}", written)

    body = EU if path.startswith("regions") else LINK
    assert {key: read[key] for key in body} == body
    assert read["effective"].items() >= body.items() or path.startswith("links")
    assert (again.status_code, again.headers["ETag"]) == (200, '"1"')
    assert again.get_json() == read


def test_answers_keep_to_their_schemas(atlas: Api) -> None:
    check(atlas, "RegionAnswer", atlas.get("/api/v1/regions/eu-west").get_json())
    check(atlas, "RegionPage", atlas.get("/api/v1/regions").get_json())
    check(atlas, "LinkAnswer", atlas.get("/api/v1/links/us-east:eu-west").get_json())
    check(atlas, "LinkPage", atlas.get("/api/v1/links").get_json())


@pytest.mark.parametrize("path", ["regions/eu-west", "links/us-east:eu-west"])
def test_writer_that_saw_another_version_is_refused(atlas: Api, path: str) -> None:
    stale = atlas.put(f"/api/v1/{path}", {}, headers={"If-Match": '"7"'})
    create = atlas.put(f"/api/v1/{path}", {}, headers={"If-None-Match": "*"})
    fresh = atlas.put(f"/api/v1/{path}", {}, headers={"If-Match": '"1"'})

    assert (stale.status_code, create.status_code) == (412, 412)
    assert (fresh.status_code, fresh.headers["ETag"]) == (200, '"2"')


def test_region_that_is_named_is_not_forgotten(atlas: Api) -> None:
    placed = {**EAST, "region": "us-east", "endpoints": {"eu-west": {"connect_to": "10.0.0.1:443"}}}
    assert atlas.put("/api/v1/registries/east", placed).status_code == 201

    for region in ("us-east", "eu-west"):
        told = atlas.problems(atlas.delete(f"/api/v1/regions/{region}"), 409)[""]
        assert "registry east" in told
    atlas.put("/api/v1/registries/east", EAST)
    assert (
        "link us-east:eu-west" in atlas.problems(atlas.delete("/api/v1/regions/us-east"), 409)[""]
    )
    assert atlas.delete("/api/v1/links/us-east:eu-west").status_code == 204
    assert atlas.delete("/api/v1/regions/us-east").status_code == 204
    assert atlas.delete("/api/v1/regions/us-east").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "field", "words"),
    [
        ("us-east:ap", {}, "to", "there is no region 'ap'"),
        ("us-eats:eu-west", {}, "from", "did you mean 'us-east'?"),
        ("us-east:eu-west", {"to": "us-east"}, "to", "in the path"),
        ("us-east:us-east", {}, "to", "where the link begins"),
        ("us-east", {}, "to", "may not be empty"),
        ("us-east:eu-west", {"bandwidth": "x"}, "bandwidth", "is not a speed"),
        ("us-east:eu-west", {"name": "a:b"}, "name", "in the path"),
        ("us-east:eu-west", {"version": 1}, "version", "read only"),
    ],
)
def test_bad_link_names_the_field(
    atlas: Api, path: str, body: dict[str, Any], field: str, words: str
) -> None:
    told = atlas.problems(atlas.put(f"/api/v1/links/{path}", body))

    assert words in told[field]


def test_nearer_address_for_a_region_that_nobody_declared_is_refused(atlas: Api) -> None:
    body = {**EAST, "endpoints": {"eu-wets": {"connect_to": "10.0.0.1:443"}}}

    told = atlas.problems(atlas.put("/api/v1/registries/east", body))

    assert "did you mean 'eu-west'?" in told["endpoints.eu-wets"]


def test_stored_password_does_not_follow_another_nearer_address(
    atlas: Api, services: Services
) -> None:
    credentials = {"username": "u", "password": "x-word"}
    body = {**EAST, "credentials": credentials}
    assert atlas.put("/api/v1/registries/east", body).status_code == 201
    moved = {
        **EAST,
        "credentials": {"username": "u", "password": {"set": True}},
        "endpoints": {"eu-west": {"url": "https://elsewhere.example"}},
    }

    told = atlas.problems(atlas.put("/api/v1/registries/east", moved))

    assert "belongs to the address before" in told["credentials.password"]
    assert services.registries.secret("east") == "x-word"


def test_named_secret_has_to_be_bound_to_each_nearer_host(atlas: Api) -> None:
    atlas.put("/api/v1/secrets/east", {"value": "x-word", "hosts": ["east.example"]})
    credentials = {"username": "u", "secret": "east"}
    same_host = {"eu-west": {"connect_to": "10.0.0.1:443"}}
    other_host = {"eu-west": {"url": "https://near.example"}}

    kept = atlas.put(
        "/api/v1/registries/east", {**EAST, "credentials": credentials, "endpoints": same_host}
    )
    told = atlas.problems(
        atlas.put(
            "/api/v1/registries/east",
            {**EAST, "credentials": credentials, "endpoints": other_host},
        )
    )

    assert kept.status_code == 201
    assert "not bound to near.example" in told["credentials.secret"]


def test_regions_in_use_are_listed_with_the_declared_ones(atlas: Api, services: Services) -> None:
    atlas.put("/api/v1/registries/east", {**EAST, "region": "moon"})
    services.state.heartbeat(ProcessReport("boot-1", "worker", "eu-west", 16, "host", 1))
    services.state.heartbeat(ProcessReport("boot-2", "urgent", "eu-west", 4, "host", 2))
    services.state.heartbeat(ProcessReport("boot-3", "scheduler", "mars", 0, "host", 3))
    services.state.heartbeat(ProcessReport("boot-4", "worker", "attic", 8, "host", 4))

    items = atlas.get("/api/v1/regions").get_json()["items"]

    assert [(one["name"], one["declared"]) for one in items] == [
        ("attic", False),
        ("eu-west", True),
        ("moon", False),
        ("us-east", True),
    ]
    by_name = {one["name"]: one for one in items}
    assert by_name["eu-west"]["workers"] == {"processes": 2, "slots": 20}
    assert by_name["moon"] | {"queue": None} == {
        "name": "moon",
        "effective": {"name": "moon"},
        "declared": False,
        "set": None,
        "version": 0,
        "created_at": None,
        "updated_at": None,
        "workers": {"processes": 0, "slots": 0},
        "served_by": "moon",
        "queue": None,
    }
    assert atlas.get("/api/v1/regions/moon").get_json() == by_name["moon"]
    assert atlas.get("/api/v1/regions/mars").status_code == 404
    check(atlas, "RegionPage", {"items": items, "next": None})


def test_list_goes_on_page_by_page(atlas: Api) -> None:
    for name in ("moon", "attic"):
        atlas.put(f"/api/v1/registries/{name}", {**EAST, "region": name})
    found, cursor = [], ""
    for _ in range(4):
        page = atlas.get(f"/api/v1/regions?limit=1{cursor}").get_json()
        found += [one["name"] for one in page["items"]]
        cursor = f"&cursor={page['next']}"

    assert found == ["attic", "eu-west", "moon", "us-east"]
    assert page["next"] is None


def test_queues_are_counted_in_messages_and_copies(
    atlas: Api, publisher: RecordingPublisher
) -> None:
    queue = atlas.get("/api/v1/regions/us-east").get_json()["queue"]
    publisher.away = True
    away = atlas.get("/api/v1/regions/us-east").get_json()["queue"]

    assert queue == {
        "urgent": {"depth": 0},
        "commit": {"depth": 1},
        "copy": {"depth": 7},
        "waiting": 0,
        "oldest_seconds": None,
    }
    assert away["copy"] == {"depth": None}


def test_project_is_not_told_of_regions_of_registries_that_it_does_not_know(atlas: Api) -> None:
    for name, region in (("east", "moon"), ("north", "mars")):
        atlas.put(f"/api/v1/registries/{name}", {**EAST, "region": region})
    atlas.put("/api/v1/projects/team-a", {"read": {"east": ["**"]}})

    listed = atlas.get("/api/v1/regions", role="team-a.viewer").get_json()["items"]

    assert [one["name"] for one in listed] == ["eu-west", "moon", "us-east"]
    assert atlas.get("/api/v1/regions/mars", role="team-a.viewer").status_code == 404


@pytest.mark.parametrize("path", ["regions/us-east", "links/us-east:eu-west"])
def test_changes_are_written_down(atlas: Api, path: str) -> None:
    kind, _, name = path.partition("/")
    atlas.put(f"/api/v1/{path}", {"jurisdiction": "ca"} if kind == "regions" else {})

    log = atlas.get(f"/api/v1/audit?kind={kind}&name={name}").get_json()["items"]

    assert [one["action"] for one in log] == ["replace", "create"]
    assert log[0]["before"] == log[1]["after"]


# ---- a registry, looked at from a region ---------------------------------------------------------


def test_worker_of_the_region_is_asked(
    fleet: Api, services: Services, publisher: RecordingPublisher
) -> None:
    services.state.heartbeat(ProcessReport("boot-1", "worker", "eu-west", 16, "host", 1))
    body = {"from": "eu-west", "repository": "a/b", "write": False}

    asked = fleet.post("/api/v1/registries/east/examination", body)

    shown = asked.get_json()
    assert (asked.status_code, shown["state"]) == (202, "pending")
    assert publisher.examined == [("eu-west", shown["id"])]
    assert fleet.get(asked.headers["Location"]).get_json() == shown
    check(fleet, "RemoteExamination", shown)
    question = services.examinations.begin(shown["id"], "boot-1")
    assert question is not None
    services.examinations.end(
        shown["id"], [{"name": "ping", "result": "yes", "detail": "", "means": "it speaks"}]
    )
    ended = fleet.get(asked.headers["Location"]).get_json()
    assert (ended["state"], ended["worker"]) == ("ended", "boot-1")
    assert ended["findings"][0]["name"] == "ping"
    check(fleet, "RemoteExamination", ended)
    other = asked.headers["Location"].replace("/east/", "/west/")
    assert fleet.get(other).status_code == 404
    (row,) = fleet.get("/api/v1/audit?kind=registries&name=east&limit=1").get_json()["items"]
    assert row["after"] == {"repository": "a/b", "write": False, "from": "eu-west"}


def test_region_without_workers_is_told_with_what_to_do(
    fleet: Api, services: Services, publisher: RecordingPublisher
) -> None:
    services.state.heartbeat(ProcessReport("boot-1", "worker", "us-east", 16, "host", 1))

    refused = fleet.post("/api/v1/registries/east/examination", {"from": "eu-west"})

    told = fleet.problems(refused, 409)[""]
    assert "no worker of region eu-west is alive" in told
    assert "transship worker --region eu-west" in told
    assert "workers live in us-east" in told
    assert publisher.examined == []


def test_queue_that_is_away_is_told(
    fleet: Api, services: Services, publisher: RecordingPublisher
) -> None:
    services.state.heartbeat(ProcessReport("boot-1", "worker", "eu-west", 16, "host", 1))
    publisher.away = True

    refused = fleet.post("/api/v1/registries/east/examination", {"from": "eu-west"})

    assert "the queue does not answer" in fleet.problems(refused, 503)[""]


def test_rule_runs_between_registries_of_regions(atlas: Api) -> None:
    for name, region in (("east", "us-east"), ("west", "moon")):
        body = {"url": f"https://{name}.example", "region": region}
        assert atlas.put(f"/api/v1/registries/{name}", body).status_code == 201

    assert atlas.put("/api/v1/rules/fleet", FLEET).status_code == 201
    assert names(atlas, "links") == ["us-east:eu-west"]
