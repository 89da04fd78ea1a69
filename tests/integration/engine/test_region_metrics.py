"""Gauges by region, as Prometheus gets them."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

from service.errors import StoreUnavailable
from service.model.region import Region
from service.model.work import ProcessReport
from service.replication.region_metrics import RegionFigures
from tests.support.world import World
from workers.signatures import QueuePublisher


def scraped(figures: RegionFigures) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(figures)
    return registry


def test_every_region_that_matters_has_its_gauges(world: World) -> None:
    services = world.services
    services.regions.put(Region("eu"), document={})
    services.state.heartbeat(ProcessReport("boot-1", "worker", "us", 16, "host", 1))
    world.push("team/app", "v1", [b"layer"])
    world.plan("team/app")
    publisher = QueuePublisher(services.redis)
    publisher.examine("eu", "x")

    found = scraped(RegionFigures(services.region_load, services.regions, publisher.depths))

    def value(name: str, region: str, **labels: str) -> float | None:
        return found.get_sample_value(f"transship_region_{name}", {"region": region, **labels})

    assert [value("slots", region) for region in ("eu", "us", "local")] == [0, 16, 0]
    assert [value("workers", region) for region in ("eu", "us", "local")] == [0, 1, 0]
    assert [value("waiting_copies", region) for region in ("eu", "us", "local")] == [0, 0, 1]
    assert value("oldest_seconds", "eu") == 0
    assert 0 <= (value("oldest_seconds", "local") or -1) < 60
    assert value("queue_depth", "eu", queue="urgent") == 1
    assert value("queue_depth", "local", queue="copy") == 0


def test_redis_that_is_away_leaves_the_rest(world: World) -> None:
    def away(_region: str) -> dict[str, int]:
        raise ConnectionError("no redis")

    world.services.regions.put(Region("eu"), document={})
    figures = RegionFigures(world.services.region_load, world.services.regions, away)

    found = scraped(figures)

    assert found.get_sample_value("transship_region_slots", {"region": "eu"}) == 0
    labels = {"region": "eu", "queue": "copy"}
    assert found.get_sample_value("transship_region_queue_depth", labels) is None


def test_sql_that_is_away_costs_the_figures_and_not_the_scrape(world: World) -> None:
    class Away:
        def waited_for(self) -> list[str]:
            raise StoreUnavailable

    store: Any = Away()

    found = scraped(RegionFigures(store, world.services.regions, lambda _: {}))

    assert list(found.collect()) == []
