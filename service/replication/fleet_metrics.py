"""Gauges of the whole fleet for Prometheus: rules' last runs, registries' health, what waits for people, prices of links."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.errors import StoreUnavailable
from service.model.health import HEALTHY
from service.replication.state_metrics import state_gauges
from service.store.figures import FigureStore
from service.store.regions import LinkStore
from service.telemetry import get_logger

log = get_logger("metrics")


class FleetFigures(Collector):
    """Asks SQL at each scrape; without SQL it tells the scheduler's own round only.

    Shown where only operators look (TRANSSHIP_METRICS_LISTEN).
    """

    def __init__(
        self,
        store: FigureStore,
        links: LinkStore,
        region_of: Callable[[str], str | None],
        last_round: Callable[[], float],
    ) -> None:
        """`region_of` a registry; `last_round` is when the scheduler last did a round, 0: never."""
        self._store = store
        self._links = links
        self._region_of = region_of
        self._last_round = last_round

    def describe(self) -> Iterator[Metric]:
        """Register without asking the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield each gauge."""
        yield _one(
            "transship_scheduler_round_timestamp_seconds",
            "When this scheduler last did a round, whether it leads or stands by",
            self._last_round(),
        )
        try:
            yield from [
                *state_gauges(self._store),
                *self._rules(),
                *self._registries(),
                _one(
                    "transship_deletions_waiting",
                    "Deletions that somebody has to approve or cancel",
                    self._store.deletions_waiting(),
                ),
                self._costs(),
            ]
        except StoreUnavailable as error:
            log.warning("fleet_not_counted", error=str(error))

    def _rules(self) -> Iterator[Metric]:
        success = GaugeMetricFamily(
            "transship_rule_last_success_timestamp_seconds",
            "When an execution of the rule last succeeded, of those that are kept",
            labels=["rule"],
        )
        ended = GaugeMetricFamily(
            "transship_rule_last_end_timestamp_seconds",
            "When an execution of the rule last ended, however it did",
            labels=["rule"],
        )
        active = GaugeMetricFamily(
            "transship_rule_active", "1: enabled and not paused", labels=["rule"]
        )
        for one in self._store.rules():
            active.add_metric([one.rule], int(one.enabled and not one.paused))
            if one.succeeded_at is not None:
                success.add_metric([one.rule], one.succeeded_at)
            if one.ended_at is not None:
                ended.add_metric([one.rule], one.ended_at)
        yield from (success, ended, active)

    def _registries(self) -> Iterator[Metric]:
        healthy = GaugeMetricFamily(
            "transship_registry_healthy",
            "1: the last check found it well; 0: it did not; none where nobody has looked",
            labels=["registry"],
        )
        paused = GaugeMetricFamily(
            "transship_registry_paused",
            "1: paused by somebody, or for its health",
            labels=["registry"],
        )
        distrusted = CounterMetricFamily(
            "transship_ledger_distrusted",
            "How often content of the registry was found lost, or could no longer be believed",
            labels=["registry"],
        )
        lost = self._store.distrusted()
        for name, (state, is_paused) in self._store.registry_states().items():
            distrusted.add_metric([name], lost.get(name, 0))
            if state != "unknown":
                healthy.add_metric([name], int(state == HEALTHY))
            paused.add_metric([name], int(is_paused))
        yield from (healthy, paused, distrusted)

    def _costs(self) -> Metric:
        """Tell the price between registries that blobs went between: times transship_crossed_bytes_total it is the cost."""
        cost = GaugeMetricFamily(
            "transship_cost_per_gib",
            "What a GiB costs from one registry to another, by the link of their regions",
            labels=["from", "to"],
        )
        prices = {
            (link.source, link.target): link.cost_per_gib
            for link in self._links.all()
            if link.cost_per_gib is not None
        }
        for sender, receiver in self._store.pairs() if prices else ():
            here, there = self._region_of(sender), self._region_of(receiver)
            price = prices.get((here or "", there or ""))
            if price is not None:
                cost.add_metric([sender, receiver], price)
        return cost


def _one(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
