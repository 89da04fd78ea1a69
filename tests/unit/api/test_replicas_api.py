"""/api/v1/replicas who may lack what, and who takes over."""

from __future__ import annotations

from service.bootstrap import Services
from tests.support.replicas import standing_replica
from tests.unit.api.conftest import EAST, FLEET, WEST, Api

PATH = "/api/v1/replicas"


def registries(api: Api) -> None:
    for name, document in (("east", EAST), ("west", WEST)):
        assert api.put(f"/api/v1/registries/{name}", document).status_code == 201


def test_replica_is_shown_with_its_drift(api: Api, services: Services) -> None:
    registries(api)
    where = standing_replica(services, drift="team/app:v1")

    (shown,) = api.get(PATH).get_json()["items"]
    (drift,) = api.get(f"{PATH}/{where}/drift").get_json()["items"]

    assert shown == api.get(f"{PATH}/{where}").get_json()
    assert (shown["state"], shown["primary"], shown["policy"]) == ("preparing", "east", "report")
    assert shown["drift"] == {"moved": 1, "deleted": 0, "added": 0}
    assert (drift["repository"], drift["tag"], drift["kind"]) == ("team/app", "v1", "moved")
    assert api.get(f"{PATH}/{where}/drift?state=repaired").get_json()["items"] == []
    assert "state" in api.problems(api.get(f"{PATH}/{where}/drift?state=opn"))


def test_only_a_rule_that_replicates_has_replicas(fleet: Api) -> None:
    assert fleet.get(PATH).get_json()["items"] == []
    refused = fleet.problems(fleet.get(f"{PATH}/fleet/west"), 404)
    assert "does not replicate" in refused[""]
    drifting = fleet.put("/api/v1/rules/fleet", {**FLEET, "drift": "repair"})
    assert "replicate" in fleet.problems(drifting)["drift"]


def test_promotion_is_refused_until_the_loss_is_accepted(api: Api, services: Services) -> None:
    registries(api)
    where = standing_replica(services)
    before = api.get("/api/v1/rules/instance").get_json()

    asked = api.get(f"{PATH}/{where}/promotion").get_json()
    refused = api.problems(api.post(f"{PATH}/{where}/promote"), 409)

    assert [one["why"] for one in asked["missing"]] == ["it has not caught up since it joined"]
    assert "may lack 1" in refused[""]
    assert api.get("/api/v1/rules/instance").get_json() == before
    done = api.post(f"{PATH}/{where}/promote", {"accept_missing": True})
    after = api.get("/api/v1/rules/instance").get_json()
    assert (done.status_code, done.get_json()["primary"]) == (200, "west")
    assert (after["source"], after["destinations"]) == ("west", [{"registry": "east"}])
    assert after["effective"]["source"] == "west"
    newest = services.audit.list(kind="replicas", limit=1)[0].change
    assert (newest.action, newest.before, newest.after) == (
        "promote",
        {key: before[key] for key in newest.before or {}},
        {key: after[key] for key in newest.after or {}},
    )
    again = api.post(f"{PATH}/{where}/promote", {"accept_missing": True})
    assert (again.status_code, again.get_json()["missing"]) == (200, [])
    assert api.get("/api/v1/rules/instance").get_json()["version"] == after["version"]


def test_file_of_before_a_promotion_does_not_undo_it(api: Api, services: Services) -> None:
    registries(api)
    where = standing_replica(services)
    old = dict(services.rules.get("instance").document)
    assert api.post(f"{PATH}/{where}/promote", {"accept_missing": True}).status_code == 200

    refused = api.put("/api/v1/rules/instance", old)

    assert "taken over" in api.problems(refused, 409)[""]
    assert api.post(f"{PATH}/instance/east/reverse").get_json()["held"] is True
    assert api.post(f"{PATH}/instance/east/reverse").status_code == 200
    assert "no replica" in api.problems(api.post(f"{PATH}/instance/west/reverse"), 404)[""]
