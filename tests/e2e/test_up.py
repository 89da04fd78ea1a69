"""transship up: everything on one machine, driven by its API, killed and started again."""

from __future__ import annotations

import json
import signal
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Source
from tests.e2e.test_main_job import (
    AMID,
    assert_little_was_served_twice,
    assert_whole,
    share_of,
)
from tests.support.processes import wait_until
from tests.support.servers import RealRegistry
from tests.support.source_log import RequestCost
from tests.support.transship import Running, clean_environment, transship, write_rules

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

UP = ["up", "--listen", "127.0.0.1:0", "--flower-listen", "127.0.0.1:0"]


def test_a_rule_runs_through_the_api_and_flower_shows_its_tasks(
    source: Source, destination: RealRegistry, data: Path, tmp_path: Path
) -> None:
    rules = write_rules(tmp_path / "transship.yaml", source.url, destination.url)
    with Running(UP, data, tmp_path) as up:
        facts = _facts(data)
        environment = _as_client(facts, data)

        applied = transship("apply", "-f", str(rules), environment=environment)
        ran = transship("rules", "run", "fleet", "--wait", "--json", environment=environment)
        listed = transship("executions", "ls", "--json", environment=environment)
        tasks = wait_until(lambda: _flower_knows(facts, data), 30, "every task in Flower")
        code = _interrupt(up)
        left = up.pids("")

    assert applied.returncode == 0, applied.stderr
    assert ran.returncode == 0, ran.stderr
    execution = json.loads(ran.stdout)
    assert execution["state"] == "succeeded"
    assert json.loads(listed.stdout)["items"][0]["id"] == execution["execution"]
    assert all(task["state"] == "SUCCESS" for task in tasks.values())
    assert any("mirror" in task["args"] or "<-" in task["args"] for task in tasks.values())
    _assert_queue_and_log_agree(data, tasks, RequestCost.of(destination.access_log()))
    assert_whole(source, destination)
    assert code == 0
    assert left == []


def test_a_killed_up_goes_on_by_itself_when_it_is_started_again(
    source: Source, destination: RealRegistry, data: Path, tmp_path: Path
) -> None:
    rules = write_rules(tmp_path / "transship.yaml", source.url, destination.url)
    with Running(UP, data, tmp_path) as up:
        before = _facts(data)
        environment = _as_client(before, data)
        assert transship("apply", "-f", str(rules), environment=environment).returncode == 0
        started = transship("rules", "run", "fleet", environment=environment)
        identity = started.stdout.strip()
        wait_until(lambda: share_of(source, destination) >= 0.3, 120, "30 % of the tags")
        up.process.kill()
        wait_until(lambda: not up.pids("workers.main"), 10, "the orphans' end")
        assert share_of(source, destination) < AMID

    with Running(UP, data, tmp_path):
        wait_until(lambda: _facts(data) != before, 30, "the second start")
        environment = _as_client(_facts(data), data)
        ended = transship("executions", "watch", identity, environment=environment)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert_whole(source, destination)
    assert_little_was_served_twice(source)


def test_two_engines_never_share_a_directory(data: Path, tmp_path: Path) -> None:
    with Running(UP, data, tmp_path):
        _facts(data)
        second = transship(*UP, "--data", str(data))

    assert second.returncode == 2
    assert "held by `transship up`" in second.stderr


# ---- parts ---------------------------------------------------------------------------------------


def _facts(data: Path) -> dict[str, Any]:
    """What the engine notes about itself once its API answers."""

    def look() -> dict[str, Any] | None:
        try:
            facts: dict[str, Any] = json.loads((data / "engine.json").read_text())
            ready = (
                httpx.get(facts["api"] + "/readyz", trust_env=False, timeout=60).status_code == 200
            )
        except (OSError, ValueError, KeyError, httpx.HTTPError):
            return None
        return facts if ready else None

    return wait_until(look, 40, "the API")


def _as_client(facts: dict[str, Any], data: Path) -> dict[str, str]:
    token = (data / "admin.token").read_text().strip()
    return {**clean_environment(), "TRANSSHIP_URL": facts["api"], "TRANSSHIP_TOKEN": token}


def _flower_knows(facts: dict[str, Any], data: Path) -> dict[str, Any] | None:
    """Flower's tasks once all that SQL names are there and have ended; events come a moment late."""
    token = (data / "admin.token").read_text().strip()
    answer = httpx.get(
        facts["flower"] + "/api/tasks?limit=10000",
        auth=("admin", token),
        trust_env=False,
        timeout=60,
    )
    tasks: dict[str, Any] = answer.json()
    ended = {identity for identity, task in tasks.items() if task["state"] == "SUCCESS"}
    return tasks if _blob_tasks(data) <= ended and len(ended) == len(tasks) else None


def _blob_tasks(data: Path) -> set[str]:
    with sqlite3.connect(data / "transship.db") as database:
        return {identity for (identity,) in database.execute("SELECT task_id FROM copy_blobs")}


def _assert_queue_and_log_agree(data: Path, tasks: dict[str, Any], cost: RequestCost) -> None:
    """Each large blob that the destination took has a task; each image that fanned out a commit."""
    with sqlite3.connect(data / "transship.db") as database:
        parts = database.execute(
            "SELECT copy_id, count(DISTINCT part), min(fence) FROM copy_blobs GROUP BY copy_id"
        ).fetchall()
        large = {
            digest
            for (digest,) in database.execute(
                "SELECT digest FROM copy_blobs WHERE state = 'copied' AND size >= 1048576"
            )
        }
    by_name: dict[str, int] = {}
    for task in tasks.values():
        by_name[task["name"]] = by_name.get(task["name"], 0) + 1
    chords = [row for row in parts if row[1] > 1]
    assert large
    assert large <= set(cost.blobs_put)
    assert by_name["transship.copy_blob"] >= len(_blob_tasks(data)) > len(chords) > 0
    assert by_name["transship.commit_manifest"] >= len(chords)
    assert by_name["transship.replicate"] > 0
    assert by_name["transship.plan_execution"] > 0


def _interrupt(up: Running) -> int | None:
    """Press Ctrl-C and wait for the end."""
    up.process.send_signal(signal.SIGINT)
    return up.process.wait(40)
