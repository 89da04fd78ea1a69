"""/api/v1/reports: of executions and of a migration, in the shape that the document tells."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, update

from service.bootstrap import Services
from service.model.states import CopyState
from service.store.tables import executions
from tests.unit.api.conftest import Api
from tests.unit.api.test_executions_api import add_copy, run
from tests.unit.api.test_openapi import check
from tests.unit.api.test_receipts_api import an_ended_run


def test_report_keeps_to_its_schema(fleet: Api, services: Services) -> None:
    identity = an_ended_run(fleet, services, "1.2")
    add_copy(
        services,
        identity,
        CopyState.FAILED,
        destination_reference="9",
        failure_class="denied",
        reason="destination west: no",
    )

    found = fleet.get(f"/api/v1/reports?execution={identity}", role="viewer").get_json()

    check(fleet, "FullReport", found)
    assert (found["failures_total"], found["receipt"]["entries"]) == (1, 1)
    assert found["rule_file"]["rules"][0]["name"] == "fleet-failures-west"


@pytest.mark.parametrize(("kind", "state"), [("tags", "stopped"), ("full", "succeeded")])
def test_a_stopped_run_is_made_good_by_a_look_at_everything_only(
    kind: str, state: str, fleet: Api, services: Services
) -> None:
    """The single tag that somebody pushed afterwards says nothing of all that was never begun."""
    first = an_ended_run(fleet, services, "1")
    later = an_ended_run(fleet, services, "2")

    def work(connection: Connection) -> None:
        change = update(executions)
        connection.execute(change.where(executions.c.id == first).values(state="stopped"))
        connection.execute(change.where(executions.c.id == later).values(kind=kind, planned=True))

    services.database.write(work)

    found = fleet.get(f"/api/v1/reports?execution={first}&execution={later}").get_json()

    assert (found["state"], found["sections"][0]["state"]) == (state, state)


def test_report_of_a_migration_has_a_section_for_each_wave(fleet: Api) -> None:
    waves = [{"name": "first", "repositories": ["team/**"]}, {"name": "rest"}]
    document = {"source": "east", "destination": "west", "waves": waves}
    assert fleet.put("/api/v1/migrations/move", document).status_code == 201

    found = fleet.get("/api/v1/reports?migration=move", role="viewer").get_json()

    check(fleet, "FullReport", found)
    assert [(one["label"], one["state"]) for one in found["sections"]] == [
        ("first", "pending"),
        ("rest", "pending"),
    ]
    assert (found["state"], found["migration"]["proved"]) == ("pending", None)
    assert found["receipt"] is None
    assert fleet.get("/api/v1/receipts?migration=move").status_code == 409


def test_reports_on_nothing_and_on_too_much_are_refused(fleet: Api) -> None:
    identity = run(fleet)
    for wrong in ("", f"?execution={identity}&migration=x", "?rule=fleet"):
        assert fleet.get(f"/api/v1/reports{wrong}").status_code == 400
    for unknown in ("?migration=x", "?execution=0123456789abcdef01234567"):
        assert fleet.get(f"/api/v1/reports{unknown}").status_code == 404
    many = "&".join(f"execution={number}" for number in range(1001))
    assert fleet.get(f"/api/v1/reports?{many}").status_code == 400


def test_report_of_an_open_execution_says_that_it_goes_on(fleet: Api) -> None:
    identity = run(fleet)

    found = fleet.get(f"/api/v1/reports?execution={identity}").get_json()

    assert (found["state"], found["ended_at"], found["receipt"]) == ("running", None, None)
