"""/api/v1/deletions and the commands over it."""

from __future__ import annotations

import re

import pytest

from service.bootstrap import Services
from tests.support.deletions import waiting_deletion
from tests.unit.api.conftest import Api

PATH = "/api/v1/deletions"


@pytest.fixture
def waiting(fleet: Api, services: Services) -> str:
    return waiting_deletion(services, "fleet", "team/app:v1", "team/app:v2", "team/tool:v1")


def test_a_deletion_is_shown_with_its_tags(fleet: Api, waiting: str) -> None:
    shown = fleet.get(f"{PATH}/{waiting}").get_json()
    tags = fleet.get(f"{PATH}/{waiting}/tags").get_json()["items"]

    assert (shown["state"], shown["rule"], shown["registry"]) == ("waiting", "fleet", "west")
    assert (shown["tags"], shown["due_at"], shown["decided_by"]) == (3, None, None)
    assert "cap of 0 %" in shown["reason"]
    assert [one["tag"] for one in tags] == ["team/app:v1", "team/app:v2", "team/tool:v1"]
    assert {one["state"] for one in tags} == {"pending"}
    assert tags[0]["source"] == "east/team/app:v1"


def test_lists_page_and_filter(fleet: Api, services: Services, waiting: str) -> None:
    other = waiting_deletion(services, "fleet", "team/app:v3")
    first = fleet.get(f"{PATH}?limit=1").get_json()
    second = fleet.get(f"{PATH}?limit=1&cursor={first['next']}").get_json()
    tags = fleet.get(f"{PATH}/{waiting}/tags?limit=2").get_json()
    rest = fleet.get(f"{PATH}/{waiting}/tags?limit=2&cursor={tags['next']}").get_json()

    assert [first["items"][0]["id"], second["items"][0]["id"]] == [other, waiting]
    assert [one["tag"] for one in rest["items"]] == ["team/tool:v1"]
    assert fleet.get(f"{PATH}?state=done").get_json()["items"] == []
    assert len(fleet.get(f"{PATH}?rule=fleet&state=waiting").get_json()["items"]) == 2
    assert "state" in fleet.problems(fleet.get(f"{PATH}?state=wating"))


def test_approval_begins_the_grace_and_comes_once(fleet: Api, waiting: str) -> None:
    approved = fleet.post(f"{PATH}/{waiting}/approve")
    again = fleet.post(f"{PATH}/{waiting}/approve")

    assert approved.status_code == 200
    assert approved.get_json()["state"] == "pending"
    assert re.fullmatch(r"\d{4}-.*Z", approved.get_json()["due_at"])
    assert approved.get_json()["decided_by"]
    assert again.status_code == 409
    assert "it is pending" in again.get_json()["detail"]


def test_undo_within_the_grace_lets_go_of_the_tags(
    fleet: Api, services: Services, waiting: str
) -> None:
    fleet.post(f"{PATH}/{waiting}/approve")

    cancelled = fleet.post(f"{PATH}/{waiting}/cancel").get_json()

    assert cancelled["state"] == "cancelled"
    assert {one.state for one in services.deletions.tags(waiting)} == {"kept"}
    assert fleet.post(f"{PATH}/{waiting}/cancel").status_code == 409


@pytest.mark.parametrize("identity", ["0" * 24, "x", "..%2f1"])
def test_what_is_not_there_is_a_404(fleet: Api, identity: str) -> None:
    for path in (f"{PATH}/{identity}", f"{PATH}/{identity}/tags"):
        assert fleet.get(path).status_code == 404
    assert fleet.post(f"{PATH}/{identity}/cancel").status_code == 404
