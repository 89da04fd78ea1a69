"""A rule copies a fleet of 200 tags between two real registries, whatever is struck meanwhile."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Source
from tests.oracle.closure import check
from tests.support.processes import require, wait_until
from tests.support.servers import RealRegistry
from tests.support.skopeo import skopeo_check
from tests.support.source_log import RequestCost
from tests.support.transship import Running, transship, write_rules

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

RUN_SECONDS = 240
AMID = 0.9
"""The share of its tags that a fleet has at most when it counts as struck in the midst: it goes on while we look."""
BUSY_A_CORE = 5
"""From so many jobs a core on, registries answer as late as far ones do, and for these workers are started at once."""


def test_a_fleet_replicates_and_a_second_run_copies_nothing(
    source: Source, destination: RealRegistry, data: Path, tmp_path: Path
) -> None:
    rules = write_rules(tmp_path / "transship.yaml", source.url, destination.url)
    assert source.fleet.tags >= 200
    assert source.fleet.repositories >= 50

    first = transship("sync", "-f", str(rules), "--data", str(data), "--json", timeout=RUN_SECONDS)

    assert first.returncode == 0, first.stderr
    report = json.loads(first.stdout)
    assert report["state"] == "succeeded"
    assert report["failures"] == []
    cost = source.cost()
    assert cost.blobs_served_more_than_once() == {}
    assert len(cost.reads_of_blobs()) == source.fleet.unique_blobs
    assert_whole(source, destination)
    skopeo = require("skopeo")
    faults = skopeo_check(skopeo, source.url, destination.url, source.expected(), sample=12)
    assert faults == []
    _assert_tasks_explain_the_log(data, RequestCost.of(destination.access_log()))

    source.registry.clear_access_log()
    destination.clear_access_log()
    second = transship("sync", "-f", str(rules), "--data", str(data), "--json", timeout=RUN_SECONDS)

    assert second.returncode == 0, second.stderr
    again = json.loads(second.stdout)
    assert again["copies"]["copied"] == 0
    assert again["blobs"] == {"copied": 0, "mounted": 0, "present": 0}
    at_source, at_destination = source.cost(), RequestCost.of(destination.access_log())
    requests = at_source.requests + at_destination.requests
    allowed = at_source.listings + at_source.pings + at_destination.pings
    assert requests - allowed <= 2 * len(source.fleet.tag_digests)
    _assert_nothing_to_copy_starts_no_worker(rules, tmp_path / "elsewhere", (data, "worker-1.log"))


def _assert_nothing_to_copy_starts_no_worker(
    rules: Path, data: Path, started: tuple[Path, str]
) -> None:
    """Not even where the command knows nothing of earlier runs; `started` is the log of one that was."""
    fresh = transship("sync", "-f", str(rules), "--data", str(data), "--json", timeout=RUN_SECONDS)

    assert fresh.returncode == 0, fresh.stderr
    assert json.loads(fresh.stdout)["copies"]["copied"] == 0
    used, name = started
    assert (used / "logs" / name).exists()
    if os.getloadavg()[0] < BUSY_A_CORE * (os.cpu_count() or 1):
        assert not (data / "logs" / name).exists()


def test_killed_workers_lose_nothing(
    source: Source, destination: RealRegistry, data: Path, tmp_path: Path
) -> None:
    def strike(running: Running) -> None:
        running.kill("workers.main")

    _struck_three_times(strike, source, destination, data, tmp_path)


def test_a_redis_that_forgets_everything_loses_nothing(
    source: Source, destination: RealRegistry, data: Path, tmp_path: Path
) -> None:
    def strike(running: Running) -> None:
        with running.redis() as client:
            client.flushall()

    _struck_three_times(strike, source, destination, data, tmp_path)


def test_a_killed_sync_goes_on_when_it_is_called_again(
    source: Source, destination: RealRegistry, data: Path, tmp_path: Path
) -> None:
    rules = write_rules(tmp_path / "transship.yaml", source.url, destination.url)
    words = ["sync", "-f", str(rules), "--json"]
    with Running(words, data, tmp_path) as running:
        _wait_for_share(source, destination, 0.3)
        assert share_of(source, destination) < AMID
        running.process.kill()
        wait_until(lambda: not running.pids("workers.main"), 10, "the orphaned workers' end")

    with Running(words, data, tmp_path) as running:
        report = running.report(RUN_SECONDS)

    assert report["state"] == "succeeded", report["failures"][:3]
    assert_whole(source, destination)
    assert_little_was_served_twice(source)


# ---- parts ---------------------------------------------------------------------------------------


def _struck_three_times(
    strike: Callable[[Running], None],
    source: Source,
    destination: RealRegistry,
    data: Path,
    tmp_path: Path,
) -> None:
    rules = write_rules(tmp_path / "transship.yaml", source.url, destination.url)
    shares = []
    with Running(["sync", "-f", str(rules), "--json"], data, tmp_path) as running:
        for share in (0.32, 0.44, 0.56):
            _wait_for_share(source, destination, share)
            strike(running)
            shares.append(share_of(source, destination))
        report = running.report(RUN_SECONDS)

    assert all(0.3 <= share <= AMID for share in shares), shares
    assert report["exit_code"] == 0, report["failures"][:3]
    assert report["state"] == "succeeded"
    assert_whole(source, destination)
    assert_little_was_served_twice(source)


_PUT_TAG = re.compile(r"/v2/(.+)/manifests/([^/?]+)")


def share_of(source: Source, destination: RealRegistry) -> float:
    """The share of the fleet's ordinary tags that the destination has accepted so far."""
    wanted = {place for place in source.expected().values() if not place[1].startswith("sha256-")}
    seen = set()
    for line in destination.access_log():
        if line.method == "PUT" and line.status == 201 and (m := _PUT_TAG.fullmatch(line.path)):
            seen.add((m[1], m[2]))
    return len(seen & wanted) / len(wanted)


def _wait_for_share(source: Source, destination: RealRegistry, share: float) -> None:
    wait_until(
        lambda: share_of(source, destination) >= share, RUN_SECONDS, f"{share:.0%} of the tags"
    )


def assert_whole(source: Source, destination: RealRegistry) -> None:
    report = check(source.url, destination.url, source.expected())
    assert not report.faults, str(report)
    assert report.tags == len(source.fleet.tag_digests)


def assert_little_was_served_twice(source: Source) -> None:
    share = source.cost().blob_bytes / source.fleet.unique_bytes
    print(f"the source served {share:.3f} x its unique bytes")
    assert share <= 1.15


def _assert_tasks_explain_the_log(data: Path, cost: RequestCost) -> None:
    """SQL has a committed copy for each tag put, and a task for each large blob put."""
    with sqlite3.connect(data / "transship.db") as database:
        committed = set(
            database.execute(
                "SELECT destination_repository, destination_reference FROM copies"
                " WHERE state = 'copied'"
            )
        )
        fanned_out = dict(
            database.execute("SELECT digest, min(task_id) FROM copy_blobs GROUP BY digest")
        )
    put = {place for place in cost.manifests_put if not place[1].startswith("sha256")}
    assert committed == put
    assert fanned_out
    assert all(fanned_out.values())
    assert set(fanned_out) <= set(cost.blobs_put) | set(cost.mounts)
