"""/api/v1/registries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.bootstrap import Services
from tests.unit.api.conftest import EAST, FLEET, Api

PATH = "/api/v1/registries/east"


def test_put_creates_then_replaces(api: Api) -> None:
    created = api.put(PATH, EAST)
    replaced = api.put(PATH, {**EAST, "region": "eu"})

    assert (created.status_code, created.headers["Location"]) == (201, PATH)
    assert created.headers["ETag"] == '"1"'
    assert replaced.status_code == 200
    assert replaced.headers["ETag"] == '"2"'
    assert replaced.get_json()["region"] == "eu"


def test_get_answers_what_was_written_and_the_defaults(api: Api) -> None:
    api.put(PATH, EAST)

    body = api.get(PATH).get_json()

    written = {key: body[key] for key in ("name", *EAST)}
    assert written == {"name": "east", **EAST}
    assert "region" not in body
    assert body["effective"]["region"] == "local"
    assert body["effective"]["limits"] == {}
    assert body["created_at"].endswith("Z")


def test_password_comes_in_and_never_goes_out(api: Api, services: Services) -> None:
    secret = {**EAST, "credentials": {"username": "u", "password": "s3cret-word"}}

    response = api.put(PATH, secret)

    assert services.registries.secret("east") == "s3cret-word"
    for text in (response.text, api.get(PATH).text, api.get("/api/v1/registries").text):
        assert "s3cret-word" not in text
    assert response.get_json()["credentials"] == {"username": "u", "password": {"set": True}}
    database = services.database.url.database or ""
    for suffix in ("", "-wal"):
        assert b"s3cret-word" not in Path(database + suffix).read_bytes()


def test_password_may_be_kept_by_sending_what_was_read(api: Api, services: Services) -> None:
    api.put(PATH, {**EAST, "credentials": {"username": "u", "password": "s3cret-word"}})
    kept = api.get(PATH).get_json()["credentials"]

    response = api.put(PATH, {**EAST, "region": "eu", "credentials": kept})

    assert response.status_code == 200
    assert services.registries.secret("east") == "s3cret-word"


@pytest.mark.parametrize(
    "change", [{"url": "https://evil.example"}, {"trusted_hosts": ["evil.example"]}]
)
def test_password_is_not_kept_for_another_address(
    api: Api, services: Services, change: dict[str, Any]
) -> None:
    api.put(PATH, {**EAST, "credentials": {"username": "u", "password": "s3cret-word"}})
    kept = {"username": "u", "password": {"set": True}}

    told = api.problems(api.put(PATH, {**EAST, **change, "credentials": kept}))

    assert "give the password again" in told["credentials.password"]
    assert services.registries.get("east").endpoint.url == EAST["url"]
    assert services.registries.secret("east") == "s3cret-word"


def test_password_that_was_never_stored_cannot_be_kept(api: Api) -> None:
    told = api.problems(
        api.put(PATH, {**EAST, "credentials": {"username": "u", "password": {"set": True}}})
    )

    assert "no stored password" in told["credentials.password"]


@pytest.mark.parametrize("file", ["/etc/passwd", "../outside", "{secrets}/../x", "{secrets}", "."])
def test_files_outside_of_the_secrets_folder_are_refused(
    api: Api, services: Services, file: str
) -> None:
    path = file.replace("{secrets}", services.settings.secrets_dir)

    told = api.problems(
        api.put(PATH, {**EAST, "credentials": {"username": "u", "password_file": path}})
    )

    assert "TRANSSHIP_SECRETS_DIR" in told["credentials.password_file"]


def test_files_inside_of_the_secrets_folder_are_taken(api: Api, services: Services) -> None:
    tls = {"ca_file": f"{services.settings.secrets_dir}/ca.pem"}
    credentials = {"username": "u", "password_file": "east"}

    assert api.put(PATH, {**EAST, "tls": tls, "credentials": credentials}).status_code == 201


def test_registry_in_use_is_not_forgotten(fleet: Api) -> None:
    told = fleet.problems(fleet.delete(PATH), 409)

    assert "rule fleet" in told[""]
    assert fleet.get(PATH).status_code == 200


def test_member_of_a_group_in_use_leaves_it_before_it_is_forgotten(fleet: Api) -> None:
    fleet.put("/api/v1/rules/fleet", {**FLEET, "destinations": [{"group": "prod"}]})

    assert fleet.delete("/api/v1/registries/west").status_code == 409
    assert fleet.put("/api/v1/registries/west", {"url": "https://w.example"}).status_code == 409
    fleet.put("/api/v1/registries/north", {"url": "https://n.example", "groups": ["prod"]})
    assert fleet.delete("/api/v1/registries/west").status_code == 409
    assert fleet.put("/api/v1/registries/west", {"url": "https://w.example"}).status_code == 200
    assert fleet.delete("/api/v1/registries/west").status_code == 204


def test_change_that_would_make_a_rule_copy_onto_itself_is_refused(fleet: Api) -> None:
    fleet.put("/api/v1/rules/fleet", {**FLEET, "destinations": [{"registry": "west"}]})

    told = fleet.problems(fleet.put("/api/v1/registries/west", EAST), 409)

    assert "fleet" in told[""]


def test_unused_registry_is_forgotten(api: Api) -> None:
    api.put(PATH, EAST)

    assert api.delete(PATH).status_code == 204
    assert api.get(PATH).status_code == 404
    assert api.delete(PATH).status_code == 404


def test_stale_version_is_refused(api: Api) -> None:
    api.put(PATH, {**EAST, "region": "eu"})
    api.put(PATH, EAST)

    assert api.put(PATH, EAST, headers={"If-Match": '"1"'}).status_code == 412
    assert api.put(PATH, EAST, headers={"If-Match": '"1", "2"'}).status_code == 200
    assert api.put(PATH, EAST, headers={"If-Match": "*"}).status_code == 200
    assert api.put(PATH, EAST, headers={"If-Match": "2"}).status_code == 400
    assert api.put(PATH, EAST, headers={"If-None-Match": "*"}).status_code == 412
    assert api.put(PATH, EAST, headers={"If-None-Match": '"1"'}).status_code == 400
    assert api.delete(PATH, headers={"If-Match": '"1"'}).status_code == 412
    new = "/api/v1/registries/new"
    assert api.put(new, EAST, headers={"If-Match": "*"}).status_code == 412
    assert api.put(new, EAST, headers={"If-None-Match": "*"}).status_code == 201


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({}, "url", "is missing"),
        ({**EAST, "name": "other"}, "name", "differs"),
        ({**EAST, "urll": 1}, "urll", "did you mean 'url'?"),
        ({**EAST, "version": 1}, "version", "read only"),
        ({**EAST, "effective": {}}, "effective", "read only"),
        ({**EAST, "limits": {"concurrency": "10"}}, "limits.concurrency", "whole number"),
        ([], "", "must be an object"),
        (None, "", "must be an object"),
        ("x", "", "must be an object"),
    ],
)
def test_bad_document_names_the_field_and_changes_nothing(
    api: Api, body: Any, field: str, words: str
) -> None:
    told = api.problems(api.put(PATH, json.dumps(body).encode()))

    assert words in told[field]
    assert api.get(PATH).status_code == 404


@pytest.mark.parametrize("name", ["East", "a b", "-a", "%2e%2e", "a;x", "é", "a" * 64])
def test_bad_name_in_the_path_is_refused(api: Api, name: str) -> None:
    assert api.put(f"/api/v1/registries/{name}", EAST).status_code in {400, 404}
    assert api.get("/api/v1/registries").get_json()["items"] == []


def test_list_pages_by_cursor(api: Api) -> None:
    for name in ("a", "b", "c"):
        api.put(f"/api/v1/registries/{name}", EAST)

    first = api.get("/api/v1/registries?limit=2")
    link = first.headers["Link"]
    second = api.get(link[1 : link.index(">")])

    assert [item["name"] for item in first.get_json()["items"]] == ["a", "b"]
    assert link.endswith('; rel="next"')
    assert first.get_json()["next"] in link
    assert [item["name"] for item in second.get_json()["items"]] == ["c"]
    assert second.get_json()["next"] is None
    assert "Link" not in second.headers


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.0", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=1&limit=2", "limit"),
        ("limit=", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=cnVsZXM6YQ", "cursor"),
        ("cursor=%ff", "cursor"),
        ("page=2", "page"),
    ],
)
def test_bad_query_is_refused(api: Api, query: str, field: str) -> None:
    assert field in api.problems(api.get(f"/api/v1/registries?{query}"))


@pytest.mark.parametrize("where", ["", "/x", "/../out", "/link/x"])
def test_only_directories_of_the_layouts_folder_are_registries(
    api: Api, services: Services, where: str
) -> None:
    folder = Path(services.settings.layouts_dir)
    folder.mkdir()
    (folder / "link").symlink_to(folder.parent)

    answer = api.put(PATH, {"url": f"oci:{folder}{where}"})

    if where == "/x":
        assert answer.status_code == 201
        assert answer.get_json()["url"] == f"oci:{folder}/x"
        assert api.get(PATH).get_json()["effective"]["capabilities"]["uploads"] == "whole"
    else:
        assert answer.status_code == 400
        assert api.get(PATH).status_code == 404
