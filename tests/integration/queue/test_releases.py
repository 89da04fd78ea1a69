"""Releases over workers of two regions: each does what is of its own region, or nobody does."""

from __future__ import annotations

from sqlalchemy import select

from api.samples.registry import SampleRegistry
from service.model.endpoint import RegistryEndpoint
from service.model.release import FLIP, ReleaseState, parse_image
from service.model.rule import Destination, NameFilter, Selection, SyncRule
from service.store.tables_releases import release_parts
from tests.support.images import digest_at
from tests.support.processes import ManagedProcess, wait_until
from tests.support.world import World, some_bytes


def worker(world: World, region: str) -> ManagedProcess:
    return world.process(f"worker-{region}", "-m", "workers.main", "worker", "--region", region)


def alive(world: World, region: str) -> bool:
    return region in world.services.region_load.workers()


def open_parts(world: World) -> list[tuple[str, str]]:
    """The regions that have something left to do in the release's present state."""
    query = select(release_parts.c.region, release_parts.c.state).where(
        release_parts.c.state != "ended"
    )
    with world.services.database.read() as connection:
        return [(row.region, row.state) for row in connection.execute(query)]


def test_each_region_moves_its_own_tags_and_none_moves_before_all_are_prepared(
    world: World,
) -> None:
    """While no worker lives in one region nothing flips anywhere; it goes on when one does."""
    services = world.services
    with SampleRegistry() as north:
        for name, registry, region in (
            ("east", world.east, "eu"),
            ("west", world.west, "eu"),
            ("north", north, "us"),
        ):
            services.registries.put(
                RegistryEndpoint(name, registry.url, region=region), document={}
            )
        rule = SyncRule(
            "fleet",
            "east",
            (Selection(NameFilter(("team/*",))),),
            (Destination(registry="west"), Destination(registry="north")),
            referrers=False,
        )
        image = world.push("team/app", "v1", [some_bytes("v1", 500)])

        def state() -> ReleaseState:
            return services.releases.get("both").state

        with (
            world.process("scheduler", "-m", "workers.main", "scheduler"),
            worker(world, "eu") as eu,
        ):
            eu.wait_ready(lambda: alive(world, "eu"))
            with worker(world, "us") as us:
                us.wait_ready(lambda: alive(world, "us"))
                services.releases.create("both", rule, [parse_image("team/app:v1")], region="eu")
                wait_until(lambda: state() is ReleaseState.STAGED, 30, "the staging")
                us.kill()
            wait_until(lambda: not alive(world, "us"), 20, "the death of the worker")

            services.releases.act("both", FLIP, region="eu")
            wait_until(lambda: open_parts(world) == [("us", "sent")], 20, "eu to be prepared")
            assert state() is ReleaseState.PREPARING
            assert digest_at(world.west, "team/app", "v1") is None

            with worker(world, "us") as heir:
                heir.wait_ready(lambda: alive(world, "us"))
                wait_until(lambda: state() is ReleaseState.FLIPPED, 30, "the flip")
        assert digest_at(world.west, "team/app", "v1") == image.digest
        assert digest_at(north, "team/app", "v1") == image.digest
