"""Commands that ask a server, against the API as a process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from api.cli.connection import connect
from service.errors import InvalidConfiguration
from service.model.states import ExecutionState
from service.store.tables import executions
from tests.support.api_process import ApiProcess
from tests.support.commands import Run, runner
from tests.support.transship import write_rules


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    made = ApiProcess(tmp_path_factory.mktemp("api"))
    with made.process:
        made.process.wait_ready(made.ready)
        yield made
    made.services.close()


@pytest.fixture
def run(
    server: ApiProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    return runner(server, monkeypatch, capsys)


@pytest.fixture
def fleet(run: Run, tmp_path: Path) -> Path:
    """A rule is applied, and no run of it is open."""
    file = write_rules(tmp_path / "transship.yaml", "https://a.example", "https://b.example")
    assert run("apply", "-f", str(file)).code == 0
    return file


def end(server: ApiProcess, state: ExecutionState) -> None:
    def work(connection: Connection) -> None:
        connection.execute(update(executions).values(state=state, finished_at=1.0))

    server.services.database.write(work)


def test_apply_leaves_alone_what_is_there_as_the_file_says(run: Run, fleet: Path) -> None:
    version = run("rules", "show", "fleet").json["version"]
    again = run("apply", "-f", str(fleet), "--json")
    write_rules(fleet, "https://a.example", "https://b.example", priority="bulk")
    changed = run("apply", "-f", str(fleet), "--json")
    write_rules(fleet, "https://a.example", "https://b.example")
    run("apply", "-f", str(fleet))

    assert {change["action"] for change in again.json["changes"]} == {"unchanged"}
    assert changed.json["changes"] == [
        {"kind": "registries", "name": "source", "action": "unchanged"},
        {"kind": "registries", "name": "destination", "action": "unchanged"},
        {"kind": "rules", "name": "fleet", "action": "replaced"},
    ]
    assert run("rules", "show", "fleet").json["version"] == version + 2


def test_dry_run_writes_nothing(run: Run, fleet: Path, tmp_path: Path) -> None:
    other = write_rules(tmp_path / "o.yaml", "https://c.example", "https://d.example", name="other")

    said = run("apply", "-f", str(other), "--dry-run")

    assert "rules/other would be created" in said.out
    assert "other" not in run("rules", "ls").out
    assert run("registries", "show", "source").json["url"] == "https://a.example"


def test_apply_of_a_broken_file_names_the_line_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("version: 1\nregistries:\n  - {name: new, urll: x}\n")

    said = run("apply", "-f", str(file))

    assert said.code == 2
    assert "broken.yaml:3" in said.err
    assert "new" not in run("registries", "ls").out


def test_lists_and_objects_are_shown(run: Run, fleet: Path) -> None:
    assert "https://a.example" in run("registries", "ls").out
    assert [item["name"] for item in run("rules", "ls", "--json").json["items"]] == ["fleet"]
    assert run("rules", "show", "fleet").json["source"] == "source"
    assert "source -> destination" in run("rules", "ls").out


def test_run_prints_the_id_and_waiting_gives_the_result(
    run: Run, fleet: Path, server: ApiProcess
) -> None:
    identity = run("rules", "run", "fleet").out.strip()
    in_vain = run("rules", "run", "fleet", "--wait", "--timeout", "0")
    end(server, ExecutionState.SUCCEEDED)
    ended = run("executions", "watch", identity)

    assert run("executions", "show", identity).json["id"] == identity
    assert in_vain.code == 3
    assert (ended.code, ended.out.count("fleet: succeeded")) == (0, 1)
    assert "succeeded" not in ended.err


def test_failed_run_is_exit_code_1(run: Run, fleet: Path, server: ApiProcess) -> None:
    identity = run("rules", "run", "fleet").out.strip()
    end(server, ExecutionState.FAILED)

    watched = run("executions", "watch", identity, "--json")

    assert watched.code == 1
    assert json.loads(watched.out)["state"] == "failed"
    assert run("executions", "failures", identity, "--json").json == {"items": [], "next": None}
    assert run("executions", "failures", identity).out == "nothing failed\n"
    assert identity in run("executions", "ls", "--state", "failed", "--limit", "1").out


def test_key_gives_the_same_run_again(run: Run, fleet: Path, server: ApiProcess) -> None:
    first = run("rules", "run", "fleet", "--idempotency-key", "k1").out
    end(server, ExecutionState.SUCCEEDED)

    assert run("rules", "run", "fleet", "--idempotency-key", "k1").out == first


def test_stop_is_told(run: Run, fleet: Path, server: ApiProcess) -> None:
    identity = run("rules", "run", "fleet").out.strip()

    assert run("executions", "stop", identity).out.strip() == "stopping"
    end(server, ExecutionState.STOPPED)


def test_tokens_are_made_and_revoked(
    run: Run, fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = run("tokens", "create", "ci", "--role", "viewer").out.strip()
    assert "ci" in run("tokens", "ls").out
    monkeypatch.setenv("TRANSSHIP_TOKEN", text)

    assert run("rules", "ls").code == 0
    refused = run("rules", "run", "fleet")

    assert refused.code == 2
    assert "role viewer" in refused.err


def test_a_revoked_token_is_printed_as_one_object(run: Run, fleet: Path) -> None:
    run("tokens", "create", "ci", "--role", "viewer")
    run("pull-tokens", "create", "cluster", "--repository", "team/**")
    for kind, name in (("tokens", "ci"), ("pull-tokens", "cluster")):
        told = run(kind, "revoke", name, "--json")
        assert (told.code, told.json["name"]) == (0, name), told.err
        assert told.json["revoked_at"]
        assert "token" not in told.json


def test_how_long_a_token_may_live_is_told_in_days(run: Run, fleet: Path) -> None:
    for words in (
        ("tokens", "create", "ci", "--role", "viewer"),
        ("pull-tokens", "create", "ci", "--repository", "**"),
    ):
        told = run(*words, "--expires-in", "4000d")
        assert (told.code, "must be between 1m and 3660d" in told.err) == (2, True), told.err


def test_tokens_of_agents_are_of_one_region(run: Run, fleet: Path) -> None:
    said = run("tokens", "create", "lost", "--role", "agent")
    assert (said.code, "region: is missing" in said.err) == (2, True)

    made = run("tokens", "create", "ap", "--role", "agent", "--region", "ap-south", "--json")

    assert json.loads(made.out)["region"] == "ap-south"
    (row,) = [line for line in run("tokens", "ls").out.splitlines() if line.startswith("ap ")]
    assert row.split()[2:5] == ["agent", "ap-south", "never"]


def test_unknown_things_and_tokens_are_exit_code_2(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("rules", "show", "no/thing").code == 2
    assert run("rules", "run", "nothing").code == 2
    monkeypatch.setenv("TRANSSHIP_TOKEN", "wrong")
    refused = run("rules", "ls")
    assert refused.code == 2
    assert "TRANSSHIP_TOKEN" in refused.err


def test_registry_in_use_is_not_deleted(run: Run, fleet: Path) -> None:
    said = run("registries", "delete", "source")

    assert said.code == 2
    assert "rule fleet" in said.err


def test_server_that_is_not_there_is_exit_code_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSSHIP_URL", "http://127.0.0.1:1")

    said = run("rules", "ls")

    assert said.code == 3
    assert "does not answer" in said.err


def test_token_is_not_sent_in_the_clear(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSSHIP_URL", "http://transship.example")

    assert run("rules", "ls").code == 2


def test_missing_variables_are_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRANSSHIP_TOKEN")
    assert "TRANSSHIP_TOKEN is not set" in run("rules", "ls").err
    monkeypatch.delenv("TRANSSHIP_URL")
    assert "--data" in run("rules", "ls").err


def test_data_folder_names_the_server(run: Run, server: ApiProcess, tmp_path: Path) -> None:
    (tmp_path / "engine.json").write_text(json.dumps({"api": f"http://127.0.0.1:{server.port}"}))
    (tmp_path / "admin.token").write_text(f"{server.token}\n")

    assert run("tokens", "ls", "--data", str(tmp_path)).code == 0
    with pytest.raises(InvalidConfiguration, match="not the data folder"):
        connect(tmp_path / "nothing")


def test_changes_that_print_nothing_else_say_what_was_done_to_what(
    run: Run, fleet: Path, server: ApiProcess
) -> None:
    run("tokens", "create", "passing", "--role", "viewer")

    paused = run("rules", "pause", "fleet")
    asked = run("rules", "run", "fleet")
    listed = run("executions", "ls")
    end(server, ExecutionState.STOPPED)
    said = [
        run("rules", "resume", "fleet"),
        run("registries", "pause", "source"),
        run("registries", "resume", "source"),
        run("tokens", "revoke", "passing"),
    ]

    assert "transship rules resume fleet" in paused.err
    assert "rule fleet is paused since" in asked.err
    assert asked.out.strip() == asked.out.split()[0], "stdout is the id"
    assert "rule fleet is paused" in listed.out
    for one, words in zip(
        said, ("rule fleet", "source is paused", "source goes", "passing"), strict=True
    ):
        assert (one.code, one.out, words in one.err) == (0, "", True)


def test_tables_have_headings_in_a_pipe_and_schedules_their_zone(
    run: Run, fleet: Path, tmp_path: Path
) -> None:
    trigger = {"schedule": "0 3 * * *", "timezone": "Europe/Berlin"}
    write_rules(fleet, "https://a.example", "https://b.example", trigger=trigger)
    assert run("apply", "-f", str(fleet)).code == 0

    listed = run("rules", "ls").out

    assert listed.splitlines()[0].split() == [
        "NAME",
        "PROJECT",
        "WAY",
        "TRIGGER",
        "NEXT",
        "RUN",
        "STANDING",
    ]
    assert "0 3 * * * Europe/Berlin" in listed


def test_waiting_at_a_rule_s_source_says_that_nothing_brings_images_there(
    run: Run, fleet: Path
) -> None:
    done = run("wait", "team/app:v1", "--in", "source", "--timeout", "1s")

    assert done.code == 1
    assert "source: not wanted: it is the source of rule fleet" in done.err
    assert "add --source source to wait for it there" in done.err
