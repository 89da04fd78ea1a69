"""transship receipts: made by a server or by a one-shot sync, checked offline with nothing but a public key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_runs import half_failed
from tests.support.api_process import ApiProcess
from tests.support.commands import Run, runner
from tests.support.transship import transship, write_rules
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


def test_server_signs_what_it_committed_and_others_check_it_offline(
    world: World, run: Run, server: ApiProcess, tmp_path: Path
) -> None:
    identity = half_failed(world, server, run)
    file, key = tmp_path / "r.jsonl", tmp_path / "key.pem"

    made = run("receipts", "make", identity, "-o", str(file), "--json")
    key.write_text(run("receipts", "key").out)
    verified = transship("receipts", "verify", str(file), "--key", str(key), "--json")  # no server

    assert made.code == 0, made.err
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout) == made.json
    assert (made.json["executions"], made.json["entries"]) == ([identity], 1)
    [entry] = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    digest = world.tag_at_west("team/good", "v1")
    assert digest
    assert (entry["source"], entry["destination"], entry["digest"], entry["route"]) == (
        "east/team/good:v1",
        "west/mirror/team/good:v1",
        digest,
        ["east", "west"],
    )
    assert world.west.url.partition("://")[2] not in file.read_text()
    file.write_text(file.read_text().replace("team/good:v1", "team/good:v2"))
    changed = run("receipts", "verify", str(file), "--key", str(key))
    assert (changed.code, changed.out) == (2, "")
    assert "is not what was signed" in changed.err
    assert run("receipts", "make", "-o", str(file)).code == 2
    assert run("receipts", "make", "nothing", "-o", str(file)).code == 2


def test_sync_leaves_a_receipt_whose_key_its_folder_keeps(world: World, tmp_path: Path) -> None:
    world.push("team/app", "v1", [some_bytes("a layer", 2000)])
    rules = write_rules(tmp_path / "t.yaml", world.east.url, world.west.url)
    data, file, key = tmp_path / "data", tmp_path / "r.jsonl", tmp_path / "key.pem"

    refused = transship("sync", "-f", str(rules), "--receipt", str(file))
    page = tmp_path / "r.html"
    words = ("--receipt", str(file), "--report", str(page), "--data", str(data))
    synced = transship("sync", "-f", str(rules), *words)

    assert refused.returncode == 2
    assert "--data DIR" in refused.stderr
    assert synced.returncode == 0, synced.stderr
    key.write_text(transship("receipts", "key", "--data", str(data)).stdout)
    verified = transship("receipts", "verify", str(file), "--key", str(key), "--json")
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["entries"] == 1
    assert json.loads(verified.stdout)["instance"] in page.read_text()
    assert '"destination":"destination/mirror/team/app:v1"' in file.read_text()
