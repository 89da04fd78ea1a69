"""/api/v1/overview: what needs attention, to whom it may be known, and plans of rules that are not saved."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import insert, update

from service.bootstrap import Services
from service.model.states import CopyState
from service.store.clock import now_epoch
from service.store.incidents import Incident
from service.store.tables import copies, executions, processes, registries
from service.store.tables_health import registry_health
from tests.support.pipelines import standing_promotion
from tests.unit.api.conftest import Api
from tests.unit.api.test_executions_api import add_copy


def overview(api: Api, role: str = "viewer") -> dict[str, Any]:
    found: dict[str, Any] = api.get("/api/v1/overview", role=role).get_json()
    return found


def concerns(api: Api, role: str = "viewer") -> list[tuple[str, str, str]]:
    return [(one["severity"], one["kind"], one["name"]) for one in overview(api, role)["concerns"]]


def driven(services: Services) -> None:
    """Have a scheduler report."""
    row = insert(processes).values(
        boot="b", kind="scheduler", region="local", slots=0, host="h", pid=1,
        started_at=now_epoch(), seen_at=now_epoch(),
    )  # fmt: skip
    services.database.write(lambda connection: connection.execute(row))


def ended(services: Services, identity: str, state: str, at: float) -> None:
    values = (
        update(executions).where(executions.c.id == identity).values(state=state, finished_at=at)
    )
    services.database.write(lambda connection: connection.execute(values))


def test_nothing_concerns_anybody_while_all_is_well(fleet: Api, services: Services) -> None:
    driven(services)

    found = overview(fleet)

    assert found["concerns"] == []
    assert found["rules"] == {"total": 1, "active": 1, "failed": 0, "late": 0}


def test_a_scheduler_that_is_not_heard_of_comes_first(fleet: Api) -> None:
    fleet.post("/api/v1/rules/fleet/pause")

    assert concerns(fleet) == [("critical", "scheduler", ""), ("info", "rule", "fleet")]


def test_rule_that_failed_last_until_it_succeeds(fleet: Api, services: Services) -> None:
    driven(services)
    first = fleet.post("/api/v1/rules/fleet/executions").get_json()["id"]
    ended(services, first, "failed", 1000.0)
    assert concerns(fleet) == [("warning", "rule", "fleet")]

    second = fleet.post("/api/v1/rules/fleet/executions").get_json()["id"]
    ended(services, second, "succeeded", 2000.0)
    assert concerns(fleet) == []


def test_run_that_somebody_has_stopped_concerns_nobody(fleet: Api, services: Services) -> None:
    driven(services)
    first = fleet.post("/api/v1/rules/fleet/executions").get_json()["id"]
    ended(services, first, "stopped", 1000.0)

    assert concerns(fleet) == []


def test_incidents_and_registries_that_are_not_well(fleet: Api, services: Services) -> None:
    driven(services)
    services.incidents.settle(("late",), [Incident("fleet", "late", "eu", 1.0, "9 s behind", 9.0)])
    ill = insert(registry_health).values(
        registry="east", state="unhealthy", reason="503", since=1.0, checked_at=1.0, failures=2, holds=True
    )  # fmt: skip
    paused = update(registries).where(registries.c.name == "west").values(paused_at=1.0)
    for statement in (ill, paused):
        services.database.write(lambda connection, it=statement: connection.execute(it))

    assert concerns(fleet) == [
        ("warning", "registry", "east"),
        ("warning", "rule", "fleet"),
        ("info", "registry", "west"),
    ]
    assert overview(fleet)["rules"]["late"] == 1


def test_a_project_sees_its_rules_and_nothing_of_the_platform(teams: Api) -> None:
    teams.post("/api/v1/rules/fleet/pause")

    assert concerns(teams, "team-a.viewer") == [("info", "rule", "fleet")]
    assert concerns(teams, "team-b.viewer") == []
    assert overview(teams, "team-b.viewer")["rules"]["total"] == 0
    assert overview(teams, "team-b.viewer")["executions"] == {}


RULE = {
    "source": "east",
    "select": [{"repositories": ["new/**"]}],
    "destinations": [{"registry": "west"}],
}


def test_a_rule_that_is_not_saved_is_planned_and_not_carried_out(
    fleet: Api, services: Services
) -> None:
    made = fleet.post("/api/v1/plans", {"rule": "new", "document": RULE})

    assert made.status_code == 202
    assert fleet.get("/api/v1/rules/new").status_code == 404
    identity = made.get_json()["id"]
    ended(services, identity, "succeeded", 1000.0)
    refused = fleet.post(f"/api/v1/plans/{identity}/executions")
    assert refused.status_code == 409
    assert "not saved" in refused.get_json()["detail"]

    assert fleet.put("/api/v1/rules/new", RULE).status_code == 201
    assert fleet.post(f"/api/v1/plans/{identity}/executions").status_code == 202


def test_a_document_is_judged_as_a_rule_is(teams: Api) -> None:
    unknown = teams.post(
        "/api/v1/plans", {"rule": "new", "document": {**RULE, "source": "nowhere"}}
    )
    assert unknown.status_code == 400
    outside = teams.post("/api/v1/plans", {"rule": "new", "document": RULE}, role="team-b.operator")
    assert outside.status_code in (400, 403)


def test_history_is_of_the_rules_that_the_caller_sees(teams: Api, services: Services) -> None:
    identity = teams.post("/api/v1/rules/fleet/executions").get_json()["id"]
    add_copy(services, identity, CopyState.COPIED, bytes_copied=7)
    now = time.time()
    services.database.write(lambda c: c.execute(update(copies).values(updated_at=now)))

    found = teams.get("/api/v1/overview/history", role="team-a.viewer").get_json()

    assert sum(found["copies"]) == 1
    assert sum(found["bytes"]) == 7
    assert len(found["copies"]) == len(found["bytes"]) == 60
    (rule,) = found["rules"]
    assert (rule["rule"], rule["copies"], rule["objective_seconds"]) == ("fleet", 1, None)
    assert [one is None for one in rule["seconds"]].count(False) == 1
    assert rule["late"] == []
    assert found["rules_total"] == 1

    others = teams.get("/api/v1/overview/history", role="team-b.viewer").get_json()
    assert (sum(others["copies"]), others["rules"]) == (0, [])


def test_promotions_that_wait_for_people_are_told_to_those_who_see_their_project(
    teams: Api, services: Services
) -> None:
    driven(services)
    standing_promotion(services, project="team-a")

    expected = ("info", "pipeline", "shop")
    assert expected in concerns(teams)
    assert expected in concerns(teams, "team-a.viewer")
    assert expected not in concerns(teams, "team-b.viewer")
