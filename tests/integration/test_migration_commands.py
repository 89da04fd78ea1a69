"""transship migrations, against the API as a process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.model.endpoint import RegistryEndpoint
from service.model.migration import FREEZE, INVENTORY, PROOF, WaveState
from service.model.rule import Destination, Selection, SyncRule
from service.store.survey_values import Finding
from service.store.tables_migrations import migration_before
from tests.support.api_process import ApiProcess
from tests.support.commands import Run, runner
from tests.support.migrations import DIGEST, standing_migration

PUSHED = Finding("team/app", "v1", "pushed", "team/app:v1", found=DIGEST, reason="pushed late")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    made = ApiProcess(tmp_path_factory.mktemp("api"))
    with made.process:
        made.process.wait_ready(made.ready)
        yield made
    made.services.close()


@pytest.fixture
def run(
    server: ApiProcess,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    for name in ("east", "west"):
        endpoint = RegistryEndpoint(name, f"https://{name}.example")
        server.services.registries.put(endpoint, document={"url": endpoint.url})
    return runner(server, monkeypatch, capsys)


def test_a_migration_is_written_planned_paused_and_forgotten(
    server: ApiProcess, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "move.yaml"
    path.write_text("source: east\ndestination: west\nwaves: [{name: first, repositories: [a]}]\n")
    made = run("migrations", "put", "move", "-f", str(path))
    assert made.code == 0, made.err
    assert "migration move, east to west: new" in made.err
    assert "first" in made.out
    path.write_text("source: [")
    assert run("migrations", "put", "move", "-f", str(path)).code == 2
    assert run("migrations", "plan", "move").code == 1, "there is no inventory"
    refused = run("migrations", "start", "move", "first")
    assert (refused.code, "no inventory" in refused.err) == (2, True)
    assert run("migrations", "inventory", "move", "--no-wait", "--json").json["state"] == (
        "surveying"
    )
    late = run("migrations", "inventory", "move", "--timeout", "0.01")
    assert late.code == 3, "nobody is there to take it"

    standing = run("migrations", "delete", "move")
    assert "what it wrote stays" in standing.err
    standing_migration(server.services, surveys=(INVENTORY,), waves=WaveState.PENDING)
    plan = run("migrations", "plan", "move", "--json")
    assert plan.code == 0
    assert [one["repository"] for one in plan.json["repositories"]] == ["team/app"]
    assert plan.json["problems"] == []
    for word, state in (("pause", "paused"), ("resume", "surveyed")):
        told = run("migrations", word, "move", "--json")
        assert (told.code, told.json["state"]) == (0, state)
    begun = run("migrations", "start", "move", "first", "--no-wait", "--json")
    assert (begun.code, begun.json["waves"][0]["state"]) == (0, "running")
    assert run("migrations", "start", "move", "first", "--timeout", "0.01").code == 3
    listed = run("migrations", "ls", "--json").json
    assert [(one["name"], one["state"]) for one in listed["items"]] == [("move", "moving")]
    assert run("migrations", "delete", "move").code == 0


def test_findings_and_the_way_back_are_listed_and_a_waves_rule_is_not_exported(
    server: ApiProcess, run: Run
) -> None:
    services = server.services
    standing_migration(services, surveys=(INVENTORY, FREEZE, PROOF), findings=(PUSHED,))
    rule = SyncRule("migration-move-first", "east", (Selection(),), (Destination(registry="west"),))
    services.rules.put(rule, document={"source": "east"}, set_name="migration:move")
    services.database.write(
        lambda connection: connection.execute(
            migration_before.insert(),
            [
                {"migration": "move", "repository": "team/app", "tag": "v1", "digest": DIGEST},
                {"migration": "move", "repository": "team/app", "tag": "v2", "digest": ""},
            ],
        )
    )

    found = run("migrations", "findings", "move")
    assert found.code == 1
    assert "pushed late" in found.out
    clean = run("migrations", "findings", "move", "--of", "inventory", "--json")
    assert (clean.code, clean.json["items"]) == (0, [])
    back = run("migrations", "rollback-list", "move", "--json").json["items"]
    assert [(one["tag"], one["before"]) for one in back] == [("v1", DIGEST), ("v2", None)]
    assert "absent" in run("migrations", "rollback-list", "move").out
    shown = run("migrations", "show", "move")
    assert "refused" in shown.err
    assert "1 pushed" in shown.err
    assert "migration-move-first" not in run("export").out
    assert json.loads(run("rules", "show", "migration-move-first").out)["set"] == "migration:move"
