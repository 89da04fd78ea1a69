"""/api/v1/rules and runs by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from api.schemas.common import READ_ONLY
from service.bootstrap import Services
from tests.support.signing import Signer
from tests.unit.api.conftest import EAST, FLEET, Api, RecordingPublisher

PATH = "/api/v1/rules/fleet"
RUN = f"{PATH}/executions"


def test_put_creates_then_replaces(fleet: Api) -> None:
    replaced = fleet.put(PATH, {**FLEET, "trigger": {"every": "30s"}})

    assert replaced.status_code == 200
    assert replaced.headers["ETag"] == '"2"'
    assert replaced.get_json()["trigger"] == {"every": "30s"}
    assert replaced.get_json()["next_run_at"] is not None


def test_get_answers_what_was_written_and_the_defaults(fleet: Api) -> None:
    body = fleet.get(PATH).get_json()

    assert {key: body[key] for key in FLEET} == FLEET
    assert body["effective"]["priority"] == "normal"
    assert body["effective"]["destinations"][0]["tag"] == "{tag}"


def test_rule_of_unknown_registries_is_refused(fleet: Api) -> None:
    told = fleet.problems(fleet.put("/api/v1/rules/x", {**FLEET, "source": "eats"}))

    assert "did you mean 'east'?" in told["source"]
    assert fleet.get("/api/v1/rules/x").status_code == 404


def test_rule_onto_itself_is_refused(fleet: Api) -> None:
    told = fleet.problems(
        fleet.put("/api/v1/rules/x", {**FLEET, "destinations": [{"registry": "east"}]})
    )

    assert "destinations[0]" in told


def test_rule_that_closes_a_loop_without_an_end_is_refused(fleet: Api) -> None:
    """fleet makes mirror/... of what it takes: a way back of all names would go round for ever."""
    every = {"select": [{"repositories": ["**"]}]}
    assert fleet.put(PATH, {**FLEET, **every}).status_code == 200
    back = {**every, "source": "west", "destinations": [{"registry": "east"}]}

    told = fleet.problems(fleet.put("/api/v1/rules/back", back))

    assert "back -> fleet lead back to west" in told["destinations"]
    same = {**FLEET, **every, "destinations": [{"registry": "west"}]}
    assert fleet.put(PATH, same).status_code == 200
    assert fleet.put("/api/v1/rules/back", back).status_code == 201


def test_stale_version_is_refused(fleet: Api) -> None:
    fleet.put(PATH, {**FLEET, "priority": "bulk"})

    assert fleet.put(PATH, FLEET, headers={"If-Match": '"1"'}).status_code == 412
    assert fleet.delete(PATH, headers={"If-Match": '"1"'}).status_code == 412
    assert fleet.delete(PATH, headers={"If-Match": '"2"'}).status_code == 204


def test_unchanged_rule_keeps_its_version(fleet: Api) -> None:
    again = fleet.put(PATH, FLEET)
    read = fleet.get(PATH).get_json()

    assert (again.status_code, again.headers["ETag"]) == (200, '"1"')
    assert {key: read[key] for key in ("name", *FLEET)} == {"name": "fleet", **FLEET}
    written = {key: value for key, value in read.items() if key not in READ_ONLY}
    assert fleet.put(PATH, written).headers["ETag"] == '"1"'


def test_rule_belongs_to_the_set_it_was_written_under(fleet: Api) -> None:
    assert fleet.put(f"{PATH}?set=prod", FLEET).get_json()["set"] == "prod"
    assert fleet.put(PATH, {**FLEET, "priority": "bulk"}).get_json()["set"] == "prod"
    assert "prod" in fleet.problems(fleet.put(f"{PATH}?set=other", FLEET), 409)[""]
    assert "set" in fleet.problems(fleet.put(f"{PATH}?set=A b", FLEET))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"source": "north"}, "source"),
        ({"select": [{"repositories": ["other/app"]}]}, "select[0].repositories"),
        ({"destinations": [{"registry": "north"}]}, "destinations[0]"),
        ({"destinations": [{"registry": "west", "repository": "all"}]}, "destinations[0]"),
        (
            {
                "select": [{"repositories": ["team-a/app"]}],
                "destinations": [{"registry": "west", "repository": "all/{name}"}],
            },
            "destinations[0]",
        ),
        ({"project": "nobody"}, "project"),
    ],
)
def test_rule_names_only_what_its_project_may_touch(
    fleet: Api, change: dict[str, Any], field: str
) -> None:
    fleet.put("/api/v1/registries/north", EAST)
    project = {"read": {"east": ["team-a/**"]}, "write": {"west": ["mirror/team-a/**"]}}
    assert fleet.put("/api/v1/projects/team-a", project).status_code == 201
    rule = {**FLEET, "project": "team-a"}
    assert fleet.put("/api/v1/rules/own", rule).status_code == 201

    assert field in fleet.problems(fleet.put("/api/v1/rules/own", {**rule, **change}))


def test_project_cannot_forbid_what_its_rules_name(fleet: Api) -> None:
    project = {"read": {"east": ["**"]}, "write": {"west": ["**"]}}
    fleet.put("/api/v1/projects/team-a", project)
    fleet.put(PATH, {**FLEET, "project": "team-a"})

    told = fleet.problems(fleet.put("/api/v1/projects/team-a", {"read": {"east": ["**"]}}), 409)

    assert "rule fleet would be broken" in told[""]
    assert fleet.delete("/api/v1/projects/team-a").status_code == 409


def test_run_is_saved_and_announced(fleet: Api, publisher: RecordingPublisher) -> None:
    response = fleet.post(RUN)

    body = response.get_json()
    assert response.status_code == 202
    assert response.headers["Location"] == f"/api/v1/executions/{body['id']}"
    assert (body["rule"], body["state"], body["trigger"]) == ("fleet", "pending", "api")
    assert publisher.planned == [body["id"]]
    assert fleet.get(response.headers["Location"]).get_json()["id"] == body["id"]


def test_run_is_saved_while_redis_is_away(fleet: Api, publisher: RecordingPublisher) -> None:
    publisher.away = True

    assert fleet.post(RUN).status_code == 202


def test_open_run_is_answered_again(fleet: Api) -> None:
    assert fleet.post(RUN).get_json()["id"] == fleet.post(RUN, {}).get_json()["id"]


def test_repeated_key_answers_the_run_that_it_made(fleet: Api, services: Services) -> None:
    key = {"Idempotency-Key": "once"}
    first = fleet.post(RUN, headers=key).get_json()["id"]
    fleet.post(f"/api/v1/executions/{first}/stop")

    again = fleet.post(RUN, headers=key)

    assert again.status_code == 202
    assert again.get_json()["id"] == first


def test_key_of_another_rule_is_a_conflict(fleet: Api) -> None:
    fleet.put("/api/v1/rules/other", FLEET)
    fleet.post(RUN, headers={"Idempotency-Key": "once"})

    response = fleet.post("/api/v1/rules/other/executions", headers={"Idempotency-Key": "once"})

    assert response.status_code == 409


def test_overlong_key_and_a_body_are_refused(fleet: Api) -> None:
    assert "Idempotency-Key" in fleet.problems(
        fleet.post(RUN, headers={"Idempotency-Key": "x" * 256})
    )
    assert "only" in fleet.problems(fleet.post(RUN, {"only": "a:1"}))
    assert fleet.get("/api/v1/executions").get_json()["items"] == []


def test_run_of_an_unknown_rule_is_404(api: Api) -> None:
    response = api.post("/api/v1/rules/nothing/executions")

    assert response.status_code == 404
    assert response.get_json()["code"] == "not_found"


def test_forgotten_rule_leaves_its_executions(fleet: Api) -> None:
    run = fleet.post(RUN).get_json()["id"]

    assert fleet.delete(PATH).status_code == 204
    assert fleet.get(f"/api/v1/executions/{run}").status_code == 200


def test_a_key_file_is_read_from_the_servers_folder_alone(
    fleet: Api, services: Services, tmp_path: Path
) -> None:
    folder = Path(services.settings.secrets_dir)
    folder.mkdir(parents=True, exist_ok=True)
    public = Signer().public
    outside = tmp_path / "outside.pub"
    outside.write_text(public)
    (folder / "cosign.pub").write_text(public)
    (folder / "link.pub").symlink_to(outside)

    def put(file: str) -> Any:
        return fleet.put(PATH, {**FLEET, "require": {"signature": {"key_file": file}}})

    for file in (str(outside), "../outside.pub", str(folder / "link.pub"), str(folder)):
        told = fleet.problems(put(file))
        assert "TRANSSHIP_SECRETS_DIR" in told["require.signature.key_file"]
    assert "cannot be read" in fleet.problems(put("none.pub"))["require.signature.key_file"]
    kept = put("cosign.pub")

    assert kept.status_code == 200
    assert kept.get_json()["require"] == {"signature": {"key_file": "cosign.pub"}}
    assert services.rules.get("fleet").rule.signature_key == public
