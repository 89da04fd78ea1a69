"""Gauges by replica for Prometheus: drift of each kind, lag, and whether it has caught up."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.errors import StoreUnavailable
from service.model.replica import BEHIND, CAUGHT_UP, KINDS
from service.replication.replica_status import ReplicaStatuses
from service.store.replicas import ReplicaStore
from service.telemetry import get_logger

log = get_logger("metrics")


class ReplicaFigures(Collector):
    """Asks SQL at each scrape; without SQL it has nothing to say.

    Shown where only operators look (TRANSSHIP_METRICS_LISTEN), as the figures of regions are.
    """

    def __init__(self, store: ReplicaStore, statuses: ReplicaStatuses) -> None:
        self._store = store
        self._statuses = statuses

    def describe(self) -> Iterator[Metric]:
        """Register without asking the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield each gauge, with every replica of the enabled rules."""
        drift = GaugeMetricFamily(
            "transship_replica_drift",
            "What somebody else changed at a replica, and is not put right",
            labels=["rule", "registry", "kind"],
        )
        lag = GaugeMetricFamily(
            "transship_replica_lag_seconds",
            "How long the oldest change at the primary is not at a replica yet",
            labels=["rule", "registry"],
        )
        caught_up = GaugeMetricFamily(
            "transship_replica_caught_up",
            "1: it has had everything since it joined; 0: it is being filled, or fenced",
            labels=["rule", "registry"],
        )
        try:
            for rule in self._store.rules():
                for one in self._statuses.of(rule, self._store.of(rule.name)):
                    labels = [rule.name, one.replica.registry]
                    for kind in KINDS:
                        drift.add_metric([*labels, kind], one.drift.get(kind, 0))
                    lag.add_metric(labels, one.lag.seconds)
                    caught_up.add_metric(labels, int(one.state in (CAUGHT_UP, BEHIND)))
        except StoreUnavailable as error:
            log.warning("replicas_not_counted", error=str(error))
            return
        yield from (drift, lag, caught_up)
