"""The scheduler's metrics: what it alone counts, and the gauges of the whole fleet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter

from service.bootstrap import Services
from service.replication.drive import Drive
from service.replication.fleet_metrics import FleetFigures
from service.replication.metrics_server import read_token, serve
from service.replication.reconcile import TALLIED
from service.replication.region_metrics import RegionFigures
from service.replication.replica_metrics import ReplicaFigures
from service.replication.rule_metrics import RuleFigures
from service.store.figures import FigureStore


class SchedulerMetrics:
    """Counts what the reconciler puts right; shows it, and the fleet's gauges."""

    def __init__(self, services: Services, depths: Callable[[str], dict[str, int]]) -> None:
        """`depths` counts the messages in each queue of a region."""
        self._settings = services.settings
        self._driver: Drive | None = None
        self.registry = CollectorRegistry()
        self._reconciled = Counter(
            "transship_reconciled", "What had to be put right", ["what"], registry=self.registry
        )
        for what in TALLIED:
            self._reconciled.labels(what)
        for figures in (
            FleetFigures(
                FigureStore(services.database),
                services.links,
                services.guard.region_of,
                self._last_round,
            ),
            RegionFigures(services.region_load, services.regions, depths),
            ReplicaFigures(services.replicas.store, services.replicas.statuses),
            RuleFigures(services.freshness_keeper.judged, services.incidents),
        ):
            self.registry.register(figures)

    def tally(self, what: str) -> None:
        """Count something that the reconciler has put right."""
        self._reconciled.labels(what).inc()

    @contextmanager
    def serving(self, driver: Drive) -> Iterator[None]:
        """Serve on TRANSSHIP_METRICS_LISTEN meanwhile. Raises InvalidConfiguration."""
        self._driver = driver
        token = read_token(self._settings.metrics_token_file)
        end = serve(self.registry, self._settings.metrics_listen, token)
        try:
            yield
        finally:
            end()

    def _last_round(self) -> float:
        return 0.0 if self._driver is None else self._driver.last_round_at
