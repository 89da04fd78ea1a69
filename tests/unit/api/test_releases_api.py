"""Releases over the API: what is taken, and what is refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from service.bootstrap import Services
from service.model.release import ReleaseState
from service.store.tables_releases import releases
from tests.unit.api.conftest import FLEET, Api

DIGEST = f"sha256:{64 * 'a'}"


def create(api: Api, **more: Any) -> Any:
    return api.post("/api/v1/releases", {"name": "spring", "rule": "fleet", **more})


def test_a_release_is_accepted_and_shown(fleet: Api, services: Services) -> None:
    images = ["team/app:v1", f"team/app:v2@{DIGEST}", f"team/web@{DIGEST}"]

    made = create(fleet, images=images)

    assert made.status_code == 202
    assert made.headers["Location"] == "/api/v1/releases/spring"
    shown = fleet.get("/api/v1/releases/spring").get_json()
    assert (shown["state"], shown["rule"], shown["images"]) == ("resolving", "fleet", 3)
    assert (shown["tags"], shown["window_seconds"], shown["execution"]) == ({}, None, None)
    assert fleet.get("/api/v1/releases").get_json()["items"] == [shown]
    assert fleet.get("/api/v1/releases?rule=other").get_json()["items"] == []
    assert fleet.get("/api/v1/releases/spring/tags").get_json() == {"items": [], "next": None}
    assert [(one.tag, one.digest) for one in services.releases.get("spring").images] == [
        ("v1", ""),
        ("v2", DIGEST),
        ("", DIGEST),
    ]
    again = create(fleet)
    assert again.status_code == 409
    assert "there is a release spring already" in again.get_json()["detail"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"images": ["team/app"]}, "names neither a tag nor a digest"),
        ({"images": ["team/app:v1@sha256:12"]}, "sha256:12"),
        ({"images": ["Team/app:v1"]}, "Team/app"),
        ({"images": []}, "images"),
        ({"rule": "flet"}, "there is no rule named flet"),
        ({"name": "Spring!"}, "name"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_saved(
    fleet: Api, more: dict[str, Any], words: str
) -> None:
    refused = create(fleet, **more)

    assert refused.status_code in (400, 404)
    assert words in refused.get_data(as_text=True)
    assert fleet.get("/api/v1/releases").get_json()["items"] == []


def test_a_rule_that_keeps_a_replica_has_no_releases(fleet: Api) -> None:
    whole = {key: FLEET[key] for key in ("source", "destinations") if key in FLEET}
    whole["destinations"] = [{"registry": "west"}]
    document = {**whole, "mode": "replicate", "delete": {"enabled": False}}
    assert fleet.put("/api/v1/rules/fleet", document).status_code == 200

    refused = create(fleet)

    assert refused.status_code == 400
    assert "keeps a whole replica" in refused.get_json()["detail"]


def test_what_the_state_does_not_allow_is_a_conflict(fleet: Api, services: Services) -> None:
    create(fleet)
    early = fleet.post("/api/v1/releases/spring/flip")
    assert early.status_code == 409
    assert "release spring is resolving: flip wants it" in early.get_json()["detail"]
    services.database.write(
        lambda c: c.execute(releases.update().values(state=ReleaseState.FLIPPING)).rowcount
    )
    assert fleet.delete("/api/v1/releases/spring").status_code == 409
    services.database.write(
        lambda c: c.execute(releases.update().values(state=ReleaseState.FLIPPED)).rowcount
    )

    begun = fleet.post("/api/v1/releases/spring/rollback")

    assert (begun.status_code, begun.get_json()["state"]) == (202, "checking")
    again = fleet.post("/api/v1/releases/spring/rollback")
    assert again.status_code == 409
    wrong = fleet.post("/api/v1/releases/spring/rollback", {"force": "yes"})
    assert wrong.status_code == 400
    forced = fleet.post("/api/v1/releases/spring/rollback", {"force": True})
    assert (forced.status_code, forced.get_json()["state"]) == (202, "rolling_back")
