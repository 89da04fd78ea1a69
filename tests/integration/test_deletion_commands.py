"""transship deletions, against the API as a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api_process import ApiProcess
from tests.support.commands import Run, runner
from tests.support.deletions import waiting_deletion
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
    server: ApiProcess,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Run:
    run = runner(server, monkeypatch, capsys)
    file = write_rules(tmp_path / "transship.yaml", "https://a.example", "https://b.example")
    assert run("apply", "-f", str(file)).code == 0
    return run


def test_a_deletion_is_listed_shown_approved_and_undone(server: ApiProcess, run: Run) -> None:
    identity = waiting_deletion(server.services, "fleet", "team/app:v1", "team/app:v2")

    listed = run("deletions", "ls", "--state", "waiting", "--json").json["items"]
    people = run("deletions", "ls")
    shown = run("deletions", "show", identity, "--json").json
    approved = run("deletions", "approve", identity)
    twice = run("deletions", "approve", identity)
    undone = run("deletions", "cancel", identity, "--json").json

    assert [one["id"] for one in listed] == [identity]
    assert identity in people.out
    assert "2 of" in people.out
    assert [one["tag"] for one in shown["items"]] == ["team/app:v1", "team/app:v2"]
    assert (approved.code, "is pending" in approved.err) == (0, True)
    assert f"`transship deletions cancel {identity}` keeps them" in approved.err
    assert twice.code != 0
    assert "pending" in twice.err
    assert undone["state"] == "cancelled"
    tags = run("deletions", "show", identity, "--json").json["items"]
    assert {one["state"] for one in tags} == {"kept"}


def test_an_unknown_deletion_and_an_unknown_state_are_told(run: Run) -> None:
    missing = run("deletions", "show", "0" * 24)
    wrong = run("deletions", "ls", "--state", "wating")

    assert missing.code == 2
    assert "no deletion" in missing.err
    assert wrong.code == 2
    assert "waiting" in wrong.err
