"""A push that is told of reaches every region, and the lag that is told is the one that a client sees."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from api.samples.faults import FOREVER, FaultRule
from api.samples.registry import SampleRegistry
from tests.support.images import digest_at, push_image
from tests.support.load import busy
from tests.support.processes import wait_until
from tests.support.transship import transship
from tests.support.up import Up, running_up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

REGIONS = ("eu", "us", "ap")
PUSHES = 8


class Fleet:
    """A running service over a source and three regions, joined by links of one cost."""

    def __init__(self, up: Up, source: SampleRegistry, there: dict[str, SampleRegistry]) -> None:
        self.up = up
        self.source = source
        self.there = there
        names = ("home", *REGIONS)
        for name in names:
            up.ask("PUT", f"/regions/{name}", {"jurisdiction": "all"})
        for one, other in permutations(names, 2):
            up.ask("PUT", f"/links/{one}:{other}", {"from": one, "to": other, "cost_per_gib": 0.02})
        up.registry("source", source.url, region="home")
        for region, registry in there.items():
            up.registry(f"in-{region}", registry.url, region=region)
        destinations = [{"registry": f"in-{region}"} for region in REGIONS]
        more: dict[str, Any] = {"destinations": destinations, "freshness": "10s"}
        up.rule("spread", "source", "", trigger={"event": True}, **more)
        self.secret = up.hook("source")

    def push(self, tag: str) -> str:
        """Push an image, and tell of it as the registry would."""
        digest = push_image(self.source, "team/app", tag, mark=tag)
        event = {"id": tag, "action": "push", "target": {"repository": "team/app", "tag": tag}}
        body = json.dumps({"events": [event]}).encode()
        answer = self.up.notify("distribution/source", body, {"Authorization": self.secret})
        assert answer.status_code == 202
        return digest

    def push_and_see(self, tag: str) -> dict[str, float]:
        """Push an image, and return after how many seconds it was in each region."""
        began = time.monotonic()
        digest = self.push(tag)
        arrived: dict[str, float] = {}

        def everywhere() -> bool:
            for region, registry in self.there.items():
                if region not in arrived and digest_at(registry, "team/app", tag) == digest:
                    arrived[region] = time.monotonic() - began
            return len(arrived) == len(REGIONS)

        wait_until(everywhere, 30, "the push in every region")
        return arrived

    def lag(self) -> dict[str, Any]:
        found: dict[str, Any] = self.up.ask("GET", "/rules/spread/lag")
        return found


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        source = stack.enter_context(SampleRegistry())
        there = {region: stack.enter_context(SampleRegistry()) for region in REGIONS}
        patience = {
            "TRANSSHIP_OUTAGE_PATIENCE_SECONDS": "150"
        }  # who is away is looked for every 15 s at least
        up = stack.enter_context(running_up(tmp_path, **patience))
        yield Fleet(up, source, there)
        for registry in there.values():
            registry.faults.clear()


def test_the_lag_that_is_told_is_what_a_client_sees(fleet: Fleet) -> None:
    told: list[float] = []
    seen: list[float] = []
    for number in range(PUSHES):
        arrived = fleet.push_and_see(f"v{number}")
        fleet.up.idle()
        lag = fleet.lag()
        seen.append(max(arrived.values()))
        told.append(max(one["last_seconds"] for one in lag["destinations"]))
        assert (lag["seconds"], lag["kept"]) == (0.0, True)
        for one in lag["destinations"]:
            assert one["last_seconds"] == pytest.approx(arrived[one["region"]], abs=1.0 * busy())

    print(f"seen: {statistics.median(seen):.2f} s, told: {statistics.median(told):.2f} s (medians)")
    reads = [line for line in list(fleet.source.log) if "/blobs/sha256" in line.path]
    assert sum(line.method == "GET" for line in reads) == 2 * PUSHES  # a config and a layer each


def test_a_region_that_is_away_falls_behind_alone(fleet: Fleet) -> None:
    fleet.there["ap"].faults.add(FaultRule(status=503, times=FOREVER))
    began = time.monotonic()
    digest = fleet.push("v1")

    for region in ("eu", "us"):
        registry = fleet.there[region]
        wait_until(
            lambda registry=registry: digest_at(registry, "team/app", "v1") == digest, 30, region
        )
    wait_until(lambda: fleet.lag()["regions"]["ap"] > 10, 30, "the lag of the region that is away")

    lag = fleet.lag()
    own = time.monotonic() - began
    assert lag["kept"] is False
    assert lag["regions"]["eu"] == lag["regions"]["us"] == 0.0
    assert lag["regions"]["ap"] == pytest.approx(own, abs=1.0 * busy())
    done = transship(
        "rules", "lag", "spread", TRANSSHIP_URL=fleet.up.url, TRANSSHIP_TOKEN=fleet.up.token
    )
    assert "in-ap (ap): " in done.stdout
    assert "s behind" in done.stdout
    assert "objective: 10 s, missed now" in done.stdout

    def alerts() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = fleet.up.ask("GET", "/rules/spread")["alerts"]
        return found

    wait_until(alerts, 20, "the alert")
    assert [(one["kind"], one["region"]) for one in alerts()] == [("late", "ap")]
    budget = fleet.lag()["budget"]["regions"]
    assert budget["ap"]["missed_seconds"] > 0 == budget["eu"]["missed_seconds"]
    listed = transship("rules", "ls", TRANSSHIP_URL=fleet.up.url, TRANSSHIP_TOKEN=fleet.up.token)
    assert "late in ap" in listed.stdout

    fleet.there["ap"].faults.clear()
    wait_until(lambda: digest_at(fleet.there["ap"], "team/app", "v1") == digest, 60, "ap")
    fleet.up.idle(60)
    assert fleet.lag()["kept"] is True
    wait_until(lambda: not alerts(), 20, "the alert to resolve itself")
