"""An inventory of a fleet that no memory would hold: a simulated registry, made up as it is read (issue 8, scale)."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from service.model.digest import Digest
from service.model.manifest import Manifest, parse_manifest
from service.model.migration import INVENTORY, SurveyState, Wave
from service.registry.results import ManifestHead, RepositoryPage, TagPage
from service.replication.migration_survey import Surveyor
from service.store.migration_waves import WaveAssignment
from tests.integration.engine.moving import Move
from tests.support.world import World

OCI_IMAGE = "application/vnd.oci.image.manifest.v1+json"
TAGS_A_REPOSITORY = 500
PAGE = 100
LAYER = "application/vnd.oci.image.layer.v1.tar"
SIZES = (1500, 1040, 30_000, 5_000_000)
MIB = 1 << 20
WHOLE = int(os.environ.get("MIGRATION_TAGS", "1000000"))
GROWTH = 24 * MIB
"""What a process may grow by after the first fifth of the fleet: Python's own wandering, and SQLite's caches."""


class SimulatedRegistry:
    """Answers as a registry's client does, from numbers alone: a digest says which image of which repository it is."""

    name = "east"
    endpoint = SimpleNamespace(host="east.example")

    def __init__(self, tags: int) -> None:
        self.count = tags // TAGS_A_REPOSITORY
        self.reads = 0

    def repositories(self) -> list[str]:
        return sorted(f"team{n % 9}/app{n:05d}" for n in range(self.count))

    def list_repositories(self, *, cursor: str | None = None) -> Iterator[RepositoryPage]:
        names = self.repositories()
        for at in range(int(cursor or 0), len(names), PAGE):
            more = str(at + PAGE) if at + PAGE < len(names) else None
            yield RepositoryPage(tuple(names[at : at + PAGE]), more)

    def list_tags(self, repository: str, *, cursor: str | None = None) -> Iterator[TagPage]:
        del repository
        for at in range(int(cursor or 0), TAGS_A_REPOSITORY, PAGE):
            more = str(at + PAGE) if at + PAGE < TAGS_A_REPOSITORY else None
            yield TagPage(tuple(f"v{n}" for n in range(at, at + PAGE)), more)

    def head_manifest(self, repository: str, tag: str) -> ManifestHead:
        number = int(repository[-5:]) + 1
        digest = Digest.parse(f"sha256:{number:032x}{int(tag[1:]):032x}")
        return ManifestHead(digest, OCI_IMAGE, 1)

    def get_manifest(self, repository: str, digest: str) -> Manifest:
        """Every image has a config and a layer of its own, a layer of its repository's and one of all."""
        self.reads += 1
        seeds = (f"{digest} config", f"{digest} layer", repository, "all")
        described = [
            {"mediaType": LAYER, "digest": _digest(seed), "size": size}
            for seed, size in zip(seeds, SIZES, strict=True)
        ]
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE,
            "config": described[0],
            "layers": described[1:],
        }
        return parse_manifest(json.dumps(document).encode(), OCI_IMAGE)


def _digest(seed: str) -> str:
    return f"sha256:{hashlib.sha256(seed.encode()).hexdigest()}"


def _resident() -> int:
    """Bytes of this process that are in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(14_400)
@pytest.mark.parametrize("tags", [4_000, pytest.param(WHOLE, marks=pytest.mark.nightly)])
def test_the_inventory_of_a_large_fleet_takes_no_more_memory_than_that_of_a_small_one(
    world: World, tags: int
) -> None:
    """Another process takes each slice; sizes are exact, and the memory stays as it was after the first fifth."""
    simulated = SimulatedRegistry(tags)
    waves = (Wave("first", ("team1/**",)), Wave("large", max_bytes=20_000_000), Wave("rest"))
    move = Move(world, waves=waves)
    services = world.services
    surveyors = [
        Surveyor(
            services.settings,
            services.migration_surveys,
            WaveAssignment(services.database, services.migration_surveys),
            services.plans,
            services.projects,
            SimpleNamespace(get=lambda _name: simulated),  # type: ignore[arg-type]
            services.meter,
            services.guard,
            slice_seconds=0.2 if tags < WHOLE else 5.0,
        )
        for _ in range(2)
    ]
    move.surveys.begin("move", INVENTORY)
    began, base, slices = time.monotonic(), 0, 0
    peak = 0
    while move.latest(INVENTORY).state is not SurveyState.ENDED:
        surveyors[slices % 2].step()
        slices += 1
        assert move.latest(INVENTORY).state is not SurveyState.FAILED, move.latest(INVENTORY)
        if base:
            peak = max(peak, _resident())
        elif simulated.reads > tags / 5:
            base = _resident()
    took = time.monotonic() - began
    grown = (peak - base) / MIB
    print(f"{tags} tags in {took:.0f} s and {slices} slices, {grown:.1f} MiB more at the most")

    figures = move.latest(INVENTORY).figures
    size = len(
        simulated.get_manifest(
            "team0/app00000", str(simulated.head_manifest("team0/app00000", "v1").digest)
        ).raw
    )
    images = simulated.count * TAGS_A_REPOSITORY
    assert figures["tags"] == images
    assert figures["bytes"] == images * (sum(SIZES) + size)
    unique = images * (SIZES[0] + SIZES[1] + size) + simulated.count * SIZES[2] + SIZES[3]
    assert figures["unique_bytes"] == unique
    assert sum(move.wave(one.name).figures["unique_bytes"] for one in waves) == unique
    assert simulated.reads <= images * 1.05 + 1, "a page is read twice where a slice ends, no more"
    assert base, "the fleet was too small to tell"
    assert peak - base < GROWTH
