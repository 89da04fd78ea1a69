"""Gauges by region for Prometheus: live workers and slots, queues, what waits and since when."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.errors import StoreUnavailable
from service.store.redis_errors import is_redis_error
from service.store.region_load import RegionLoadStore
from service.store.regions import RegionStore
from service.telemetry import get_logger

log = get_logger("metrics")


class RegionFigures(Collector):
    """Asks SQL at each scrape, in a few steps of an index a region; without SQL it has nothing to say.

    Shown where only operators look (TRANSSHIP_METRICS_LISTEN): the API's own /metrics is for everybody
    and names nothing.
    """

    def __init__(
        self, store: RegionLoadStore, regions: RegionStore, depths: Callable[[str], dict[str, int]]
    ) -> None:
        """`depths` counts the messages in each queue of a region."""
        self._store = store
        self._regions = regions
        self._depths = depths

    def describe(self) -> Iterator[Metric]:
        """Register without asking the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield each gauge, with every region that is declared, or has workers or work."""
        try:
            names = {*self._store.waited_for(), *self._regions.jurisdictions()}
            loads = self._store.load(sorted(names))
        except StoreUnavailable as error:
            log.warning("regions_not_counted", error=str(error))
            return
        workers = _gauge("transship_region_workers", "Live worker processes by region")
        slots = _gauge("transship_region_slots", "Slots of live workers by region")
        waiting = _gauge(
            "transship_region_waiting_copies", "Copies that no worker has taken, 100000 at most"
        )
        oldest = _gauge(
            "transship_region_oldest_seconds",
            "Age of the oldest execution that a waiting copy belongs to; 0 when nothing waits",
        )
        for region, load in loads.items():
            workers.add_metric([region], load.processes)
            slots.add_metric([region], load.slots)
            waiting.add_metric([region], load.waiting)
            oldest.add_metric([region], load.oldest_seconds or 0.0)
        yield from (workers, slots, waiting, oldest, self._queues(loads))

    def _queues(self, names: Iterable[str]) -> Metric:
        depth = GaugeMetricFamily(
            "transship_region_queue_depth",
            "Messages in the queues of a region; none while Redis is away",
            labels=["region", "queue"],
        )
        try:
            for region in names:
                for queue, count in self._depths(region).items():
                    depth.add_metric([region, queue], count)
        except Exception as error:
            if not (isinstance(error, OSError) or is_redis_error(error)):
                raise
            log.warning("queues_not_counted", error=type(error).__name__)
        return depth


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["region"])
