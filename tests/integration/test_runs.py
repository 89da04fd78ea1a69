"""transship executions: log, report, retry, export of what failed, over real registries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.config_file import load_text
from service.model.failure_classes import CLASSES
from tests.support.api_process import ApiProcess
from tests.support.commands import Run, runner
from tests.support.world import World, open_world, some_bytes

REPORT = {
    "schema",
    "execution",
    "state",
    "copies",
    "blobs",
    "bytes",
    "requests",
    "links",
    "seconds",
    "executions",
    "destinations",
    "warnings",
    "failures_total",
    "failures",
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "world").mkdir()
    with open_world(tmp_path / "world") as made:
        yield made


@pytest.fixture
def server(world: World, tmp_path: Path) -> Iterator[ApiProcess]:
    made = ApiProcess(tmp_path, database_url=world.settings.database_url)
    with made.process:
        made.process.wait_ready(made.ready)
        for registry, name in ((world.east, "east"), (world.west, "west")):
            assert made.ask("PUT", f"/api/v1/registries/{name}", {"url": registry.url})[0] == 200
        yield made
    made.services.close()


@pytest.fixture
def run(
    server: ApiProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    return runner(server, monkeypatch, capsys)


def carry_out(world: World, execution: str) -> None:
    assert world.services.planner.plan(execution, world.services.boot)
    world.run_to_end(execution, world.party(retry_seconds=0.001))
    world.services.dispatching.end_executions()


def half_failed(world: World, server: ApiProcess, run: Run) -> str:
    """A run of two tags, one of which lost a layer at the source."""
    rule = {
        "source": "east",
        "select": [
            {"repositories": ["team/*"], "tags": ["v*"]},
            {"repositories": ["other"], "to": {"repository": "elsewhere/{name}", "tag": "x-{tag}"}},
        ],
        "destinations": [{"registry": "west", "repository": "mirror/{repository}"}],
        "referrers": False,
        "priority": "bulk",
    }
    assert server.ask("PUT", "/api/v1/rules/fleet", rule)[0] == 201
    world.push("team/good", "v1", [some_bytes("good", 2000)])
    for repository in ("team/bad", "other"):
        image = world.push(repository, "v1", [some_bytes(repository, 2000)])
        world.east.storage.delete_blob(repository, image.layers[-1])
    identity = run("rules", "run", "fleet").out.strip()
    carry_out(world, identity)
    return identity


def mend(world: World) -> None:
    for repository in ("team/bad", "other"):
        world.push(repository, "v1", [some_bytes(repository, 2000)])


def test_log_and_report_tell_each_copy_and_the_whole(
    world: World, server: ApiProcess, run: Run
) -> None:
    identity = half_failed(world, server, run)

    log = run("executions", "log", identity, "--json")
    words = run("executions", "log", identity, "--state", "failed")
    report = run("executions", "report", identity, "--json")
    told = run("executions", "report", identity)

    by_source = {copy["source"]: copy for copy in log.lines}
    assert set(by_source) == {"east/team/good:v1", "east/team/bad:v1", "east/other:v1"}
    bad = by_source["east/team/bad:v1"]
    assert (bad["state"], bad["class"]) == ("failed", "gone")
    assert bad["reason"]
    assert bad["attempts"] >= 1
    assert bad["updated_at"].endswith("Z")
    assert words.out.count("failed") >= 2
    assert "team/good" not in words.out
    assert report.code == told.code == 1
    assert set(report.json) == REPORT
    assert (report.json["state"], report.json["failures_total"]) == ("partial", 2)
    assert "fleet: partial" in told.out

    shown = run("executions", "copy", identity, str(bad["id"]), "--json").json
    lines = run("executions", "copy", identity, str(bad["id"])).out.splitlines()
    last = shown["attempts_log"][-1]
    assert (last["outcome"], last["class"]) == ("failed", "gone")
    assert f"{last['ended_at']}  attempt {last['number']}: failed, by {last['worker']}" in lines[-1]
    assert "by east -> west, in region local" in lines[1]
    assert run("executions", "copy", identity, "999999").code != 0


def test_shape_of_a_run_is_that_of_sync(
    world: World, server: ApiProcess, run: Run, tmp_path: Path
) -> None:
    identity = half_failed(world, server, run)
    file = tmp_path / "all.yaml"
    file.write_text(run("export").out)

    here = run("sync", "-f", str(file), "--local", "--json")
    assert here.out, here.err
    there = run("executions", "report", identity, "--json")

    def shape(value: object) -> object:
        if isinstance(value, dict):
            return {key: shape(inner) for key, inner in value.items() if key != "requests"}
        return [shape(value[0])] if isinstance(value, list) and value else type(value).__name__

    assert shape(here.json) == shape(there.json)


def test_retry_runs_only_what_failed(world: World, server: ApiProcess, run: Run) -> None:
    identity = half_failed(world, server, run)
    mend(world)
    before = world.tag_puts("team/good", "v1")

    again = run("executions", "retry", identity).out.strip()
    carry_out(world, again)

    assert again != identity
    assert world.tag_at_west("team/bad", "v1")
    assert world.west.storage.manifest("elsewhere/other", "x-v1")
    assert world.tag_puts("team/good", "v1") == before
    assert len(world.copies(again)) == 2
    refused = run("executions", "retry", again)
    assert (refused.code, "nothing failed" in refused.err) == (2, True)


def test_failures_of_one_class_are_told_with_what_mends_them_and_run_again_alone(
    world: World, server: ApiProcess, run: Run
) -> None:
    denied = world.west.fault("/mirror/team/bad/manifests/v1", method="PUT", status=403, times=99)
    half_failed(world, server, run)
    world.push("team/bad", "v1", [some_bytes("team/bad", 2000)])
    by_hand = run("rules", "run", "fleet").out.strip()
    carry_out(world, by_hand)
    assert denied.fired

    told = run("executions", "failures", by_hand)
    items = run("executions", "failures", by_hand, "--json").json["items"]

    assert {one["class"]: one["fix"] for one in items} == {
        name: CLASSES[name].fix for name in ("denied", "gone")
    }
    for name in ("denied", "gone"):
        assert f"1 of class {name}: {CLASSES[name].fix}\n" in told.out
        assert f"  then: transship executions retry {by_hand} --class {name}\n" in told.out
    refused = run("executions", "retry", by_hand, "--class", "network", "--class", "auth")
    assert refused.code == 2
    assert "failed as network or auth" in refused.err
    assert "what failed there: denied, gone" in refused.err
    assert run("executions", "retry", by_hand, "--class", "denid").code == 2

    world.west.faults.clear()
    again = run("executions", "retry", by_hand, "--class", "denied").out.strip()
    carry_out(world, again)

    assert [copy.source_repository for copy in world.copies(again)] == ["team/bad"]
    assert world.tag_at_west("team/bad", "v1")


def test_exported_failures_are_a_rule_file_that_runs(
    world: World, server: ApiProcess, run: Run, tmp_path: Path
) -> None:
    identity = half_failed(world, server, run)
    file = tmp_path / "failures.yaml"
    assert run("executions", "failures", identity, "--export", str(file)).code == 0
    config = load_text(file.read_text())
    assert [rule.name for rule in config.rules] == ["fleet-failures-west"]
    assert config.rules[0].priority == "bulk"
    assert not config.rules[0].referrers
    mend(world)
    world.east.log.clear()

    done = run("sync", "-f", str(file), "--local", "--json")

    assert done.code == 0, done.err
    assert done.json["copies"]["copied"] == 2
    assert world.tag_at_west("team/bad", "v1")
    assert world.west.storage.manifest("elsewhere/other", "x-v1")
    assert not [line for line in world.east.log if "team/good" in line.path]
    assert not [line for line in world.east.log if line.path.endswith(("_catalog", "/tags/list"))]


def test_nothing_to_export_is_told(
    world: World, server: ApiProcess, run: Run, tmp_path: Path
) -> None:
    identity = half_failed(world, server, run)
    mend(world)
    again = run("executions", "retry", identity).out.strip()
    carry_out(world, again)

    said = run("executions", "failures", again, "--export", str(tmp_path / "x.yaml"))

    assert said.code == 2
    assert "nothing to export" in said.err
    assert run("executions", "failures", again).out == "nothing failed\n"


def test_watch_of_an_ended_run_prints_its_last_totals_as_a_line(
    world: World, server: ApiProcess, run: Run
) -> None:
    identity = half_failed(world, server, run)

    watched = run("executions", "watch", identity, "--json")

    assert watched.code == 1
    [line] = watched.out.splitlines()
    assert json.loads(line)["copies"] == {
        "copied": 1,
        "unchanged": 0,
        "skipped": 0,
        "failed": 2,
        "pending": 0,
    }


def test_lists_are_filtered(world: World, server: ApiProcess, run: Run) -> None:
    identity = half_failed(world, server, run)

    def found(*words: str) -> list[str]:
        return [one["id"] for one in run("executions", "ls", "--json", *words).json["items"]]

    assert found("--state", "partial", "--rule", "fleet", "--project", "default") == [identity]
    assert found("--since", "2000-01-01T00:00:00Z") == [identity]
    assert found("--since", "2999-01-01T00:00:00+02:00") == []
    assert found("--state", "running") == []
    assert run("executions", "ls", "--since", "yesterday").code == 2
    assert run("executions", "ls", "--state", "parcial").code == 2


def test_run_of_one_reference_copies_that_one(world: World, server: ApiProcess, run: Run) -> None:
    half_failed(world, server, run)
    mend(world)
    world.push("team/good", "v2", [some_bytes("good2", 2000)])

    identity = run("rules", "run", "fleet", "--only", "team/good:v2").out.strip()
    carry_out(world, identity)

    assert world.tag_at_west("team/good", "v2")
    assert world.tag_at_west("team/bad", "v1") is None
    assert run("executions", "show", identity).json["kind"] == "tags"
    assert "single tags by api" in run("executions", "ls").out
    assert run("rules", "run", "fleet", "--only", "team/good").code == 2
    assert run("rules", "run", "fleet", "--only", "TEAM/good:v1").code == 2
