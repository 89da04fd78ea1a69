"""The bench in small: what a run costs in requests, bytes and tasks is held; times are not judged."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest

from api.samples.fleet import FleetSummary, push_fleet
from api.samples.fleet_plan import MIB, FleetSpec, plan_fleet
from tests.support.servers import RealRegistry
from tests.support.source_log import RequestCost
from tests.support.transship import transship, write_rules

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

FLEET = FleetSpec(
    repositories=5, tags=16, unique_bytes=20 * MIB, big_images=1, big_image_bytes=17 * MIB
)


@dataclass(frozen=True)
class Limit:
    """The most that a figure may be, and why that much."""

    most: float
    reason: str


LIMITS = {
    "bytes at the source, per unique byte": Limit(
        1.0, "each unique blob crosses the link once (DESIGN, promise 7)"
    ),
    "requests of manifests at the source, per tag": Limit(
        2.4,
        "a GET of the tag and a HEAD before its commit; one GET of each child, signature and "
        "referrer: their share a tag in this fleet",
    ),
    "requests of manifests at the destination, per tag": Limit(
        3.15,
        "a PUT and a read-back of the tag; each child, and each referrer with its tag, is put "
        "once an execution; a HEAD of one tag a repository, of each where it has no more than two",
    ),
    "listings at the destination, per repository": Limit(
        1.0, "one tells what a repository of three tags and more lacks"
    ),
    "requests of blobs at the destination, per repository and blob": Limit(
        2.8, "POST and PUT or one mount, and a ranged read that proves what was not uploaded"
    ),
    "tasks of blobs, per image below 16 MiB": Limit(
        0.0, "a small image is copied and committed inside one task (DESIGN 4.5)"
    ),
    "tasks of blobs, per image above": Limit(
        6.0, "five blobs above 1 MiB are tasks, the small ones one together"
    ),
    "second run, requests per tag at both": Limit(2.0, "one HEAD at each side"),
    "second run, listings at the destination": Limit(0.0, "every tag is found by its HEAD"),
    "second run, blobs asked for": Limit(0.0, "nothing changed"),
}


def test_requests_bytes_and_tasks_stay_within_their_limits(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with RealRegistry() as source, RealRegistry() as destination:
        fleet = push_fleet(source.url, FLEET)
        source.clear_access_log()
        rules = write_rules(tmp_path / "transship.yaml", source.url, destination.url)

        _sync(rules, data)
        found = _first_run(source, destination, fleet, data)
        source.clear_access_log()
        destination.clear_access_log()
        _sync(rules, data)
        found |= _second_run(source, destination, fleet)

    print(json.dumps(found, indent=1))
    above = {
        name: f"{found[name]:.3f} is above {limit.most}: {limit.reason}"
        for name, limit in LIMITS.items()
        if found[name] > limit.most
    }
    assert set(found) == set(LIMITS)
    assert above == {}


def _sync(rules: Path, data: Path) -> None:
    done = transship("sync", "-f", str(rules), "--data", str(data), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "succeeded"


def _first_run(
    source: RealRegistry, destination: RealRegistry, fleet: FleetSummary, data: Path
) -> dict[str, float]:
    here, there = (RequestCost.of(one.access_log()) for one in (source, destination))
    pairs = {
        (repository.name, blob.digest)
        for repository in plan_fleet(FLEET)
        for manifest in repository.manifests()
        for blob in manifest.blobs
    }
    small, large = _blob_tasks(data)
    return {
        "bytes at the source, per unique byte": here.blob_bytes / fleet.unique_bytes,
        "requests of manifests at the source, per tag": _of(here, "manifest") / fleet.tags,
        "requests of manifests at the destination, per tag": _of(there, "manifest") / fleet.tags,
        "listings at the destination, per repository": there.listings / FLEET.repositories,
        "requests of blobs at the destination, per repository and blob": (
            sum(_of(there, what) for what in ("blob", "upload", "mount")) / len(pairs)
        ),
        "tasks of blobs, per image below 16 MiB": small,
        "tasks of blobs, per image above": large,
    }


def _second_run(
    source: RealRegistry, destination: RealRegistry, fleet: FleetSummary
) -> dict[str, float]:
    costs = [RequestCost.of(one.access_log()) for one in (source, destination)]
    return {
        "second run, requests per tag at both": sum(cost.per_tag(fleet.tags) for cost in costs),
        "second run, listings at the destination": float(costs[1].listings),
        "second run, blobs asked for": float(
            sum(_of(cost, what) for cost in costs for what in ("blob", "upload", "mount"))
        ),
    }


def _of(cost: RequestCost, what: str) -> int:
    return sum(count for kind, count in cost.kinds.items() if kind.endswith(f" {what}"))


def _blob_tasks(data: Path) -> tuple[float, float]:
    """The most tasks of blobs that one image had: of those below 16 MiB, of those above."""
    sizes = {
        manifest.digest: sum(blob.size for blob in manifest.blobs)
        for repository in plan_fleet(FLEET)
        for manifest in repository.manifests()
    }
    with sqlite3.connect(data / "transship.db") as database:
        rows = database.execute(
            "SELECT copies.digest, count(DISTINCT copy_blobs.task_id) FROM copy_blobs"
            " JOIN copies ON copies.id = copy_blobs.copy_id GROUP BY copies.id"
        ).fetchall()
    small = [count for digest, count in rows if sizes[digest] < 16 * MIB]
    large = [count for digest, count in rows if sizes[digest] >= 16 * MIB]
    assert large, "the fleet's large image fans out"
    return float(max(small, default=0)), float(max(large))
