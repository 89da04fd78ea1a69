"""One source and several regions, by the command: bytes are counted by the source and by proxies."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.oracle.closure import check
from tests.support.processes import ManagedProcess, wait_until
from tests.support.servers import RealRegistry
from tests.support.source_log import RequestCost
from tests.support.transship import clean_environment, command_line, transship
from tests.support.wire import Wire, image_body

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

COUNT = 4
TAGS = 12
LAYER = 200_000
LARGE = 2_000_000
LARGE_TAGS = 3
"""So many tags have a layer that goes ahead of its image (docs/adr/0016)."""


@dataclass
class World:
    """A source with images, and destinations: each a region of its own, or all in one."""

    source: RealRegistry
    destinations: list[RealRegistry]
    folder: Path
    unique: int

    @property
    def names(self) -> list[str]:
        return [f"r{number}" for number in range(len(self.destinations))]

    def file(self, **document: Any) -> str:
        """Write a file of one rule from the source to every destination; what is given replaces parts."""
        places = {"source": self.source.url}
        places |= dict(zip(self.names, (one.url for one in self.destinations), strict=True))
        regions = {name: name for name in places}
        whole = {
            "version": 1,
            "regions": [{"name": name, "jurisdiction": "one"} for name in regions],
            "links": [
                {"from": one, "to": other, "cost_per_gib": 0.5}
                for one, other in permutations(regions, 2)
            ],
            "registries": [
                {"name": name, "url": url, "region": regions[name], "groups": ["all"]}
                for name, url in places.items()
            ],
            "rules": [
                {
                    "name": "fleet",
                    "source": "source",
                    "select": [{"repositories": ["team/**"]}],
                    "destinations": [{"registry": name} for name in self.names],
                }
            ],
            **document,
        }
        path = self.folder / "transship.yaml"
        path.write_text(yaml.safe_dump(whole), encoding="utf-8")
        return str(path)

    def egress(self) -> float:
        """Bytes of blobs that left the source, by the unique ones."""
        cost = RequestCost.of(self.source.access_log())
        return sum(one.bytes for one in cost.transfers) / self.unique

    def lacks(self, *numbers: int) -> list[str]:
        """What the oracle does not find whole at these destinations; all of them without numbers."""
        wanted = {("team/app", f"v{tag}"): ("team/app", f"v{tag}") for tag in range(TAGS)}
        return [
            fault
            for number in numbers or range(len(self.destinations))
            for fault in check(self.source.url, self.destinations[number].url, wanted).faults
        ]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    unique = 0
    with ExitStack() as stack:
        source, *destinations = [stack.enter_context(RealRegistry()) for _ in range(COUNT + 1)]
        wire = stack.enter_context(Wire(source.url))
        for tag in range(TAGS):
            layer = (b"%d" % tag) * (LARGE if tag < LARGE_TAGS else LAYER)
            config = json.dumps({"architecture": "amd64", "os": "linux", "n": tag}).encode()
            for blob in (config, layer):
                unique += len(blob)
                assert wire.push_blob("team/app", blob).status == 201
            body = image_body(config, [layer])
            assert wire.put_manifest("team/app", f"v{tag}", body).status == 201
        source.clear_access_log()
        yield World(source, destinations, tmp_path, unique)


def test_effect_links_from(world: World) -> None:
    """With links between all, each byte leaves the source once; what crossed is counted as it crossed."""
    done = transship("sync", "-f", world.file(), "--json")

    report = json.loads(done.stdout)
    assert (done.returncode, report["state"]) == (0, "succeeded"), done.stderr
    assert world.lacks() == []
    assert world.egress() == pytest.approx(1.0, abs=0.01)
    moved = {(way["from"], way["to"]): way["bytes"] for way in report["links"]}
    assert sum(sender == "source" for sender, _ in moved) == 1
    got = Counter[str]()
    for (_, receiver), count in moved.items():
        got[receiver] += count
    assert got == dict.fromkeys(world.names, world.unique)


def test_effect_links_to(world: World) -> None:
    """Without a link that leads on, everything comes from the source."""
    done = transship("sync", "-f", world.file(links=[]), "--json")

    assert done.returncode == 0, done.stderr
    assert world.lacks() == []
    assert world.egress() == pytest.approx(COUNT, abs=0.05)


def test_effect_links_cost_per_gib(world: World) -> None:
    """The plan takes the cheap way, and says what it costs."""
    links = [
        {"from": "source", "to": "r0", "cost_per_gib": 4096},
        {"from": "source", "to": "r1", "cost_per_gib": 8192},
        {"from": "r0", "to": "r1", "cost_per_gib": 1024},
    ]
    rule = {
        "name": "fleet",
        "source": "source",
        "select": [{"repositories": ["team/**"]}],
        "destinations": [{"registry": "r1"}, {"registry": "r0"}],
    }

    done = transship("plan", "-f", world.file(links=links, rules=[rule]), "--json")

    plan = json.loads(done.stdout)
    gib = world.unique / 2**30
    assert [(way["from"], way["to"], way["bytes"]) for way in plan["links"]] == [
        ("r0", "r1", world.unique),
        ("source", "r0", world.unique),
    ]
    assert [way["cost"] for way in plan["links"]] == pytest.approx(
        [1024 * gib, 4096 * gib], rel=1e-3
    )
    assert plan["cost"] == pytest.approx(5120 * gib, rel=1e-3)


def test_effect_links_bandwidth(world: World) -> None:
    """Of ways that cost the same, the wide one is taken."""
    links = [
        {"from": "source", "to": "r0", "bandwidth": "1Gbit/s"},
        {"from": "source", "to": "r1", "bandwidth": "1Gbit/s"},
        {"from": "r0", "to": "r1", "bandwidth": "1Mbit/s"},
        {"from": "r1", "to": "r0", "bandwidth": "1Gbit/s"},
    ]
    rule = {
        "name": "fleet",
        "source": "source",
        "select": [{"repositories": ["team/**"]}],
        "destinations": [{"registry": "r0"}, {"registry": "r1"}],
    }

    done = transship("plan", "-f", world.file(links=links, rules=[rule]), "--json")

    ways = {(way["from"], way["to"]) for way in json.loads(done.stdout)["links"]}
    assert ways == {("source", "r1"), ("r1", "r0")}


def test_effect_regions_jurisdiction(world: World) -> None:
    """A group reaches across no border: the file is refused, and nothing is asked of any registry."""
    regions = [{"name": "source", "jurisdiction": "one"}] + [
        {"name": name, "jurisdiction": "other" if name == "r3" else "one"} for name in world.names
    ]
    rule = {
        "name": "fleet",
        "source": "source",
        "select": [{"repositories": ["team/**"]}],
        "destinations": [{"group": "all"}],
    }

    done = transship("sync", "-f", world.file(regions=regions, rules=[rule]))

    assert done.returncode == 2
    assert "r3 of group all is in other, and source in one" in done.stderr
    assert "name the registry itself" in done.stderr
    assert RequestCost.of(world.source.access_log()).requests == 0


def test_a_hop_that_is_killed_costs_its_children_nothing(world: World) -> None:
    """The first hop is killed in the middle: all others end whole."""
    file = world.file()
    environment = {**clean_environment(), "TRANSSHIP_OUTAGE_PATIENCE_SECONDS": "2"}
    command = ManagedProcess(
        "sync",
        [*command_line(), "sync", "-f", file, "--json"],
        log_directory=world.folder,
        environment=environment,
        cwd=world.folder,
    )
    first = world.destinations[0]

    with command:
        wait_until(lambda: _tags_of(first) >= 2, 60, "the first hop's first tags")
        first.kill()
        code = command.wait(120)

    assert code == 1
    assert world.lacks(1, 2, 3) == []


def test_the_others_complete_when_the_source_ends_after_the_first_hop(world: World) -> None:
    first = world.destinations[0]
    file = world.file()
    stopped = threading.Event()

    def stop_source() -> None:
        wait_until(lambda: _tags_of(first) == TAGS, 60, "all tags at the first hop")
        world.source.stop()
        stopped.set()

    watcher = threading.Thread(target=stop_source)
    watcher.start()
    done = transship("sync", "-f", file, "--json")
    watcher.join()
    assert stopped.is_set()
    world.source.start()

    assert done.returncode == 0, done.stderr
    assert world.lacks() == []


def _tags_of(registry: RealRegistry) -> int:
    with Wire(registry.url) as wire:
        answer = wire.request("GET", "/v2/team/app/tags/list")
        return len(answer.json()["tags"] or []) if answer.status == 200 else 0
