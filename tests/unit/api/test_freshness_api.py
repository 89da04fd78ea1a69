"""What the API tells of a rule's freshness: its lag, its error budget, and what is wrong with it now."""

from __future__ import annotations

import pytest

from service.bootstrap import Services
from service.store.incidents import Incident
from tests.unit.api.conftest import FLEET, Api


def test_alerts_are_shown_with_their_rule_until_they_resolve_themselves(
    fleet: Api, services: Services
) -> None:
    assert fleet.get("/api/v1/rules/fleet").get_json()["alerts"] == []
    late = Incident("fleet", "late", "eu", 1_700_000_000.0, "90 s behind, 60 s are allowed", 90.0)
    idle = Incident("fleet", "idle", "", 1_700_000_100.0, "it was to run, and did not")
    services.incidents.settle(("late", "idle"), [late, idle])

    shown = fleet.get("/api/v1/rules").get_json()["items"][0]

    assert [(one["kind"], one["region"]) for one in shown["alerts"]] == [
        ("late", "eu"),
        ("idle", None),
    ]
    assert shown["alerts"][0]["since"] == shown["late_since"] == "2023-11-14T22:13:20.000Z"
    assert shown["alerts"][0]["reason"] == "90 s behind, 60 s are allowed"
    refused = fleet.put("/api/v1/rules/fleet", {**FLEET, "alerts": []})
    assert refused.status_code == 400
    services.incidents.settle(("late", "idle"), [])
    assert fleet.get("/api/v1/rules/fleet").get_json()["alerts"] == []


def test_lag_comes_with_the_budget_where_there_is_an_objective(
    fleet: Api, services: Services
) -> None:
    without = fleet.get("/api/v1/rules/fleet/lag").get_json()
    assert (without["objective_seconds"], without["kept"], without["budget"]) == (None, None, None)
    assert without["unseen_seconds"] == pytest.approx(0, abs=60)
    fleet.put("/api/v1/rules/fleet", {**FLEET, "freshness": "1h"})

    found = fleet.get("/api/v1/rules/fleet/lag").get_json()

    assert (found["objective_seconds"], found["kept"]) == (3600.0, True)
    assert (found["budget"]["window_seconds"], found["budget"]["target"]) == (2592000.0, 0.99)
    [region] = found["regions"]
    assert found["budget"]["regions"][region] == {
        "judged_seconds": pytest.approx(0, abs=60),
        "missed_seconds": 0.0,
        "within": 1.0,
        "left": 1.0,
        "left_seconds": 25920.0,
    }


def test_a_rule_that_is_told_of_events_has_no_age_of_its_look(fleet: Api) -> None:
    fleet.put("/api/v1/rules/fleet", {**FLEET, "trigger": {"event": True}})

    assert fleet.get("/api/v1/rules/fleet/lag").get_json()["unseen_seconds"] is None
