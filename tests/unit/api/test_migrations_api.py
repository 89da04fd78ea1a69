"""Migrations over the API: what is taken, what is refused in words, and whose its rules are."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from service.bootstrap import Services
from service.model.migration import FREEZE, INVENTORY, PROOF, WaveState
from service.model.rule import Destination, Selection, SyncRule
from service.store.survey_values import Finding
from service.store.tables_migrations import migration_waves
from tests.support.migrations import DIGEST, standing_migration
from tests.unit.api.conftest import Api

MOVE = "/api/v1/migrations/move"
BODY = {"source": "east", "destination": "west"}
COLLISION = Finding(
    "team/app", "v1", "collision", "app:v1", reason="other/app:v1 would get it, too"
)


def put(api: Api, **more: Any) -> Any:
    return api.put(MOVE, {**BODY, **more})


def test_a_migration_is_written_read_and_replaced(fleet: Api) -> None:
    document = {
        **BODY,
        "select": [{"repositories": ["team/**"], "tags": {"newest": {"count": 3}}}],
        "namespaces": [{"from": "team", "to": "mirror/{repository[1:]}"}],
        "waves": [
            {"name": "first", "repositories": ["team/a*"]},
            {"name": "large", "max_bytes": "1.5GiB"},
        ],
        "windows": [{"between": "20:00-06:00", "days": "mon-fri"}],
        "timezone": "Asia/Shanghai",
        "priority": "bulk",
        "referrers": False,
        "final": "west",
    }

    made = fleet.put(MOVE, document)

    assert made.status_code == 201
    shown = made.get_json()
    assert [wave["name"] for wave in shown["waves"]] == ["first", "large", "rest"]
    assert {wave["state"] for wave in shown["waves"]} == {"pending"}
    assert (shown["state"], shown["proved"], shown["inventory"]) == ("new", None, None)
    assert shown["document"] == {**document, "name": "move"}
    assert fleet.get(MOVE).get_json() == shown
    assert fleet.get("/api/v1/migrations").get_json()["items"] == [shown]
    again = fleet.put(MOVE, document)
    assert (again.status_code, again.get_json()["version"]) == (200, 1)
    changed = put(fleet)
    assert changed.get_json()["version"] == 2
    assert [wave["name"] for wave in changed.get_json()["waves"]] == ["all"]
    stale = fleet.put(MOVE, document, headers={"If-Match": '"1"'})
    assert stale.status_code == 412


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"source": "est"}, "there is no registry 'est'"),
        ({"destination": "wst"}, "there is no registry 'wst'"),
        ({"final": "wst"}, "there is no registry 'wst'"),
        ({"destination": "east"}, "source and destination are the same"),
        ({"namespaces": [{"from": "a", "to": "{repo}"}]}, "unknown placeholder {repo}"),
        ({"namespaces": [{"to": "a"}]}, "namespaces[0].from"),
        ({"waves": [{"name": "a"}, {"name": "b"}]}, "wave a takes everything"),
        (
            {"waves": [{"name": "a", "repositories": ["x"]}, {"name": "a"}]},
            "two waves have one name",
        ),
        ({"waves": [{"name": "rest", "repositories": ["x"]}]}, "does not take the rest"),
        ({"waves": [{"name": "a" * 60, "repositories": ["x"]}]}, "longer than 63"),
        ({"waves": [{"name": "a", "max_bytes": "50 apples"}]}, "is not a size"),
        ({"waves": [{"name": "a", "max_bytes": 0}]}, "must be a size"),
        ({"waves": []}, "may not be empty"),
        ({"windows": [{}]}, "names no time"),
        ({"windows": [{"between": "25:00-26:00"}]}, "no time of the day"),
        ({"windows": [{"days": "mon-fry"}]}, "is no day"),
        ({"timezone": "Mars/Base"}, "Mars/Base"),
        ({"trigger": {"event": True}}, "unknown key"),
        ({"project": "none"}, "none"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_saved(
    fleet: Api, services: Services, more: dict[str, Any], words: str
) -> None:
    refused = put(fleet, **more)

    assert refused.status_code == 400, refused.get_json()
    assert words in refused.get_data(as_text=True)
    assert services.migrations.list() == []


@pytest.mark.parametrize(
    ("surveys", "waves", "action", "words"),
    [
        ((), WaveState.PENDING, "waves/first/start", "no inventory that has ended"),
        ((), WaveState.PENDING, "freeze", "no inventory that has ended"),
        ((INVENTORY,), WaveState.DONE, "delta", "no freeze that has ended"),
        ((INVENTORY,), WaveState.DONE, "prove", "no freeze that has ended"),
        ((INVENTORY, FREEZE), WaveState.PENDING, "delta", "wave first of migration move has not"),
        ((INVENTORY, FREEZE), WaveState.PENDING, "waves/rest/start", "wave first comes before"),
        ((INVENTORY, FREEZE), WaveState.RUNNING, "prove", "wave first of migration move is under"),
        ((INVENTORY,), WaveState.RUNNING, "inventory", "an inventory would change its waves"),
    ],
)
def test_a_step_is_refused_where_it_may_not_be_taken(
    fleet: Api,
    services: Services,
    surveys: tuple[str, ...],
    waves: WaveState,
    action: str,
    words: str,
) -> None:
    standing_migration(services, surveys=surveys, waves=waves)

    refused = fleet.post(f"{MOVE}/{action}")

    assert refused.status_code == 409
    told = refused.get_json()
    assert words in told["detail"]
    assert told["hint"]


def test_no_wave_starts_while_names_collide(fleet: Api, services: Services) -> None:
    standing_migration(
        services, surveys=(INVENTORY,), waves=WaveState.PENDING, findings=(COLLISION,)
    )

    refused = fleet.post(f"{MOVE}/waves/first/start").get_json()

    assert refused["detail"] == (
        "nothing was written: team/app:v1 -> app:v1: other/app:v1 would get it, too"
    )
    assert "transship migrations findings move --of inventory" in refused["hint"]
    assert fleet.get(f"{MOVE}/findings").get_json()["items"] == [
        {
            "kind": "collision",
            "repository": "team/app",
            "tag": "v1",
            "destination": "app:v1",
            "wanted": None,
            "found": None,
            "reason": "other/app:v1 would get it, too",
        }
    ]
    assert fleet.get(f"{MOVE}/findings?of=proof").get_json()["items"] == []
    assert fleet.get(f"{MOVE}/findings?of=waves").status_code == 400
    assert fleet.post(f"{MOVE}/waves/none/start").status_code == 409


def test_a_proof_holds_for_its_freeze_and_its_waves_only(fleet: Api, services: Services) -> None:
    standing_migration(services, surveys=(INVENTORY, FREEZE, PROOF))
    assert fleet.get(MOVE).get_json()["state"] == "proved"
    for moment in ("ended_at", "started_at"):
        _set_waves(services, **{moment: 4e9})
        shown = fleet.get(MOVE).get_json()
        assert (shown["state"], shown["proved"]) == ("frozen", None), "a wave has written since"
        _set_waves(services, **{moment: None})
    assert fleet.get(MOVE).get_json()["proved"] is True
    fleet.post(f"{MOVE}/freeze")
    shown = fleet.get(MOVE).get_json()
    assert (shown["state"], shown["proved"]) == ("freezing", None)
    assert shown["freeze"]["state"] == "pending"
    assert fleet.post(f"{MOVE}/freeze").status_code == 202


def _set_waves(services: Services, **values: float | None) -> None:
    services.database.write(
        lambda connection: connection.execute(update(migration_waves).values(**values))
    )


def test_a_proof_with_a_finding_is_refused(fleet: Api, services: Services) -> None:
    pushed = Finding("team/app", "v1", "pushed", "team/app:v1", found=DIGEST, reason="late")
    standing_migration(services, surveys=(INVENTORY, FREEZE, PROOF), findings=(pushed,))

    shown = fleet.get(MOVE).get_json()

    assert (shown["state"], shown["proved"]) == ("refused", False)
    assert shown["proof"]["findings"] == {"pushed": 1}


def test_pauses_and_steps_are_told_of_and_may_be_repeated(fleet: Api, services: Services) -> None:
    standing_migration(services, surveys=(INVENTORY,), waves=WaveState.PENDING)
    begun = fleet.post(f"{MOVE}/waves/first/start").get_json()
    assert (begun["state"], begun["waves"][0]["state"]) == ("moving", "running")
    for _ in range(2):
        paused = fleet.post(f"{MOVE}/pause").get_json()
        assert (paused["state"], paused["waves"][0]["state"]) == ("paused", "paused")
        assert paused["waves"][1]["state"] == "pending"
    for _ in range(2):
        resumed = fleet.post(f"{MOVE}/resume").get_json()
        assert (resumed["paused_at"], resumed["state"]) == (None, "moving")
    listed = fleet.get(f"{MOVE}/repositories").get_json()["items"]
    assert [(one["repository"], one["tags"], one["wave"]) for one in listed] == [
        ("team/app", 1, None)
    ]
    assert services.audit.verify().rows > 4


def test_a_waves_rule_is_seen_and_changed_by_its_migration_only(
    fleet: Api, services: Services
) -> None:
    standing_migration(services)
    name = "migration-move-first"
    rule = SyncRule(name, "east", (Selection(),), (Destination(registry="west"),))
    services.rules.put(rule, document={"source": "east"}, set_name="migration:move")

    shown = fleet.get(f"/api/v1/rules/{name}").get_json()
    assert shown["set"] == "migration:move"
    body = {
        "source": "east",
        "select": [{"repositories": ["**"]}],
        "destinations": [{"registry": "west"}],
    }
    for refused in (
        fleet.put(f"/api/v1/rules/{name}", body),
        fleet.delete(f"/api/v1/rules/{name}"),
    ):
        assert refused.status_code == 409
        assert "carries out a wave of migration move" in refused.get_json()["detail"]
    fleet.put("/api/v1/rules/migration-other-all", body)
    taken = fleet.put("/api/v1/migrations/other", BODY)
    assert taken.status_code == 409
    assert "there is a rule migration-other-all" in taken.get_json()["detail"]
    assert fleet.delete(MOVE).status_code == 204
    assert fleet.get(f"/api/v1/rules/{name}").status_code == 404
    assert fleet.get(MOVE).status_code == 404


def test_what_a_migration_needs_is_not_deleted_under_it(api: Api, services: Services) -> None:
    for name in ("east", "west"):
        api.put(f"/api/v1/registries/{name}", {"url": f"https://{name}.example"})
    api.put("/api/v1/projects/team", {"read": {"east": ["**"]}, "write": {"west": ["**"]}})
    standing_migration(services, project="team")

    for path in ("registries/west", "registries/east", "projects/team"):
        refused = api.delete(f"/api/v1/{path}")
        assert refused.status_code == 409, path
        assert "migration move" in refused.get_json()["detail"]
