"""A release over three real registries, by the command: staged, flipped at once, set back, rolled back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from api.samples.faults import FOREVER
from tests.oracle.closure import check
from tests.support.fault_proxy import FaultProxy
from tests.support.processes import wait_until
from tests.support.receiver import Receiver
from tests.support.servers import RealRegistry
from tests.support.transship import transship
from tests.support.up import Up, running_up
from tests.support.wire import Wire

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

REGIONS = ("eu", "us", "ap")
IMAGES = (*(("team/app", f"r{number}") for number in range(4)), ("team/web", "stable"))


class Fleet:
    """A running service over a source and three regions; `us` is reached by a proxy."""

    def __init__(self, up: Up, source: RealRegistry, there: dict[str, RealRegistry]) -> None:
        self.up = up
        self.source = source
        self.there = there

    def push(self, *, mark: str) -> None:
        """Give every tag of the source a new image."""
        with Wire(self.source.url) as wire:
            for repository, tag in IMAGES:
                wire.image(repository, tag, annotations={"mark": mark})

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return transship(
            "release", *words, TRANSSHIP_URL=self.up.url, TRANSSHIP_TOKEN=self.up.token
        )

    def release(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Run a command to its end: its exit code, and the object that it prints."""
        done = self.command(*words, "--json")
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def digests(self, region: str) -> list[str | None]:
        """What each tag names in a region, asked past the proxy."""
        with Wire(self.there[region].url) as wire:
            return [
                wire.get_manifest(repository, tag)["Docker-Content-Digest"]
                for repository, tag in IMAGES
            ]

    def everywhere(self) -> list[str | None]:
        """What each tag names: the same in every region."""
        found = [self.digests(region) for region in REGIONS]
        assert found[0] == found[1] == found[2]
        return found[0]

    def lacks(self) -> list[str]:
        """What the oracle does not find in the regions as it is at the source."""
        wanted = {place: place for place in IMAGES}
        return [
            fault
            for registry in self.there.values()
            for fault in check(self.source.url, registry.url, wanted).faults
        ]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[tuple[Fleet, FaultProxy, Receiver]]:
    with ExitStack() as stack:
        source = stack.enter_context(RealRegistry())
        there = {region: stack.enter_context(RealRegistry()) for region in REGIONS}
        proxy = stack.enter_context(FaultProxy(there["us"].url))
        receiver = stack.enter_context(Receiver())
        up = stack.enter_context(running_up(tmp_path))
        urls = {region: registry.url for region, registry in there.items()} | {"us": proxy.url}
        for region in ("home", *REGIONS):
            up.ask("PUT", f"/regions/{region}", {"jurisdiction": "all"})
        up.registry("source", source.url, region="home")
        for region, url in urls.items():
            up.registry(f"in-{region}", url, region=region)
        destinations = [{"registry": f"in-{region}"} for region in REGIONS]
        up.rule("spread", "source", "", destinations=destinations)
        up.ask("PUT", "/webhooks/told", {"url": receiver.url, "events": ["release.*"]})
        yield Fleet(up, source, there), proxy, receiver


def test_a_release_flips_three_registries_at_once_and_comes_back(
    fleet: tuple[Fleet, FaultProxy, Receiver],
) -> None:
    """One life: nothing moves before the flip; a flip that fails is undone; the rollback is one command."""
    service, proxy, receiver = fleet
    service.push(mark="one")
    code, made = service.release("create", "one", "--rule", "spread")
    assert (code, made["state"], made["images"]) == (0, "staged", 5)
    assert service.everywhere() == [None] * 5
    code, flipped = service.release("flip", "one")
    assert (code, flipped["state"], flipped["tags"]) == (0, "flipped", {"flipped": 15})
    assert service.lacks() == []
    assert 0 < flipped["window_seconds"] < 10
    print(f"window of 15 tags in 3 registries: {flipped['window_seconds']:.3f} s")
    first = service.everywhere()

    service.push(mark="two")
    images = [word for place in IMAGES for word in ("--image", ":".join(place))]
    assert service.release("create", "two", "--rule", "spread", *images)[0] == 0
    fault = proxy.fault("/manifests/r2$", method="PUT", status=403, times=FOREVER)
    code, failed = service.release("flip", "two")
    assert (code, failed["state"]) == (1, "set_back"), failed
    assert fault.fired >= 1
    assert "in-us/team/app:r2: " in failed["reason"]
    assert service.everywhere() == first

    proxy.faults.clear()
    assert service.release("flip", "two")[1]["state"] == "flipped"
    second = service.everywhere()
    assert service.lacks() == []
    assert not set(second) & set(first)

    service.push(mark="three")
    service.up.ask(
        "POST", "/rules/spread/executions"
    )  # a sync beside it touches no tag of a release
    service.up.idle(60)
    assert service.everywhere() == second

    code, back = service.release("rollback", "two")
    assert (code, back["state"]) == (0, "rolled_back")
    assert service.everywhere() == first
    shown = service.command("show", "two").stdout
    assert "restored" in shown
    assert str(second[0])[:19] in shown
    wanted = ["staged", "flipped", "staged", "set_back", "flipped", "rolled_back"]
    wait_until(lambda: len(receiver.received) == len(wanted), 20, "the events")
    assert sorted(one.event["type"] for one in receiver.received) == sorted(
        f"transship.release.{state}" for state in wanted
    )

    # what "one" has put there was not there before, and distribution 2.8 deletes no tags
    code, back = service.release("rollback", "one")
    assert (code, back["state"], back["tags"]) == (0, "rolled_back", {"stays": 15})
    assert "15 were not there before and stay" in back["reason"]
    refused = service.command("rollback", "one")
    assert refused.returncode == 2
    assert "release one is rolled_back" in refused.stderr
    assert service.command("delete", "one").returncode == 0
    assert [line.split()[0] for line in service.command("list").stdout.splitlines()] == [
        "NAME",
        "two",
    ]
