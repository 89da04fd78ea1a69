"""transship report over real registries: in the end what counts is what failed last, and the rule file mends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api.config_file import load_text
from api.samples.faults import FOREVER
from tests.integration.test_runs import carry_out, half_failed, mend
from tests.support.api_process import ApiProcess
from tests.support.commands import Run, runner
from tests.support.world import World, open_world, some_bytes


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


def test_report_tells_the_whole_and_its_rule_file_runs_what_failed(
    world: World, server: ApiProcess, run: Run, tmp_path: Path
) -> None:
    identity = half_failed(world, server, run)
    page, rules, receipt = tmp_path / "r.html", tmp_path / "failed.yaml", tmp_path / "r.jsonl"
    words = ["-o", str(page), "--rules", str(rules), "--receipt", str(receipt)]

    made = run("report", identity, *words, "--json")
    told = run("report", identity)

    assert made.code == told.code == 1
    found = made.json
    assert found["copies"] == {
        "copied": 1, "unchanged": 0, "skipped": 0, "failed": 2, "pending": 0,
    }  # fmt: skip
    [section] = found["sections"]
    assert (section["label"], section["state"]) == ("fleet", "partial")
    moved = sum(row.bytes_copied for row in world.copies(identity))
    assert found["bytes"]["copied"] == moved > 2000
    assert found["bytes"]["logical"] == moved + found["bytes"]["saved"]
    [gone] = found["failure_classes"]
    assert (gone["class"], gone["copies"]) == ("gone", 2)
    assert "push the image again" in gone["fix"]
    assert gone["fix"] in told.err
    assert "team/bad" in page.read_text()
    assert found["receipt"]["entries"] == 1
    assert (tmp_path / "r.jsonl.sig").read_text().strip() == found["receipt"]["signature"]
    mend(world)
    world.east.log.clear()
    done = run("sync", "-f", str(rules), "--local", "--json")
    assert done.code == 0, done.err
    assert done.json["copies"]["copied"] == 2
    assert world.west.storage.manifest("elsewhere/other", "x-v1")
    assert not [line for line in world.east.log if "team/good" in line.path]


def test_what_a_later_run_put_right_is_no_failure_any_more(
    world: World, server: ApiProcess, run: Run
) -> None:
    first = half_failed(world, server, run)
    world.push("team/bad", "v1", [some_bytes("team/bad", 2000)])
    retried = run("executions", "retry", first).out.strip()
    carry_out(world, retried)

    halfway = run("report", first, retried, "--json")
    mend(world)
    again = run("executions", "retry", retried).out.strip()
    carry_out(world, again)
    whole = run("rules", "run", "fleet").out.strip()
    carry_out(world, whole)
    ended = run("report", first, retried, again, "--json")
    by_looking = run("report", whole, first, "--json")

    assert (halfway.code, halfway.json["state"]) == (1, "partial")
    assert halfway.json["copies"]["failed"] == halfway.json["failures_total"] == 1
    [left] = halfway.json["rule_file"]["rules"]
    assert [entry["repositories"] for entry in left["select"]] == [["other"]]
    assert (ended.code, ended.json["state"]) == (0, "succeeded")
    assert ended.json["failures"] == ended.json["failure_classes"] == []
    assert ended.json["rule_file"] is None
    assert ended.json["receipt"]["entries"] == 3
    assert [one["execution"] for one in ended.json["sections"][0]["executions"]] == [
        first,
        retried,
        again,
    ]
    assert (by_looking.code, by_looking.json["state"]) == (0, "succeeded")
    assert by_looking.json["copies"]["failed"] == by_looking.json["failures_total"] == 0
    assert by_looking.json["copies"]["unchanged"] == 3
    assert run("report", whole, "--rules", "x.yaml").code == 2
    assert run("report").code == 2
    told = run("report", whole, "-o", "/nowhere/r.html")
    assert (told.code, "cannot be written" in told.err) == (2, True)


def test_what_could_not_be_listed_is_taken_as_its_rule_takes_it(
    world: World, server: ApiProcess, run: Run, tmp_path: Path
) -> None:
    """Its tags are not known: the rule file keeps the rule's own conditions, and copies no other tag."""
    rule = {
        "source": "east",
        "select": [
            {"repositories": ["team/*"], "tags": {"include": ["v*"], "exclude": ["*-rc"]}},
            {"repositories": ["team/app"], "tags": ["x"], "to": {"repository": "x/{name}"}},
            {"repositories": ["other"]},
        ],
        "destinations": [{"group": "west-like", "repository": "mirror/{repository}"}],
    }
    there = {"url": world.west.url, "groups": ["west-like"]}
    assert server.ask("PUT", "/api/v1/registries/west", there)[0] == 200
    assert server.ask("PUT", "/api/v1/rules/fleet", rule)[0] == 201
    for tag in ("v1", "v2-rc", "x", "dev"):
        world.push("team/app", tag, [some_bytes(tag, 500)])
    world.push("other", "v1", [some_bytes("other", 500)])
    identity = run("rules", "run", "fleet").out.strip()
    fault = world.east.fault(r"/team/app/tags/list", status=403, times=FOREVER)
    carry_out(world, identity)
    assert fault.fired
    world.east.faults.clear()

    made = run("report", identity, "--rules", str(tmp_path / "failed.yaml"), "--json")

    [copied] = load_text((tmp_path / "failed.yaml").read_text()).rules
    assert [entry.repositories.include for entry in copied.select] == [("team/app",)] * 2
    assert made.json["failure_classes"][0]["class"] == "denied"
    done = run("sync", "-f", str(tmp_path / "failed.yaml"), "--local", "--json")
    assert done.code == 0, done.err
    assert done.json["copies"]["copied"] == 2
    assert world.west.storage.manifest("mirror/team/app", "v1")
    assert world.west.storage.manifest("x/app", "x")
    assert world.west.storage.manifest("mirror/team/app", "dev") is None
    assert world.west.storage.manifest("mirror/team/app", "v2-rc") is None
    fault = world.east.fault(r"/_catalog", status=403, times=FOREVER)
    whole = {**rule, "select": [{"repositories": ["team/**"], "tags": ["dev"]}]}
    assert server.ask("PUT", "/api/v1/rules/fleet", whole)[0] == 200
    identity = run("rules", "run", "fleet").out.strip()
    carry_out(world, identity)
    assert fault.fired
    world.east.faults.clear()
    made = run("report", identity, "--rules", str(tmp_path / "all.yaml"), "--json")
    assert made.json["failures"][0]["source"] is None  # the rule failed as a whole
    done = run("sync", "-f", str(tmp_path / "all.yaml"), "--local", "--json")
    assert done.code == 0, done.err
    assert world.west.storage.manifest("mirror/team/app", "dev")
