"""Gauges by rule for Prometheus: lag and objective in each region, error budgets, alerts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.errors import StoreUnavailable
from service.replication.freshness import RuleLag
from service.store.incidents import KINDS, Asked, IncidentStore
from service.telemetry import get_logger

log = get_logger("metrics")


class RuleFigures(Collector):
    """Tells what the process that judges rules has found last, of rules with an objective; others tell none.

    Shown where only operators look (TRANSSHIP_METRICS_LISTEN), as RegionFigures.
    """

    def __init__(
        self,
        judged: Callable[[], Sequence[RuleLag]],
        incidents: IncidentStore,
    ) -> None:
        self._judged = judged
        self._incidents = incidents

    def describe(self) -> Iterator[Metric]:
        """Register without asking the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield each gauge; nothing while SQL is away."""
        lag = _gauge(
            "transship_rule_lag_seconds",
            "How long the oldest change is not there yet, or nobody has looked",
            "region",
        )
        objective = _gauge("transship_rule_objective_seconds", "The rule's freshness")
        within = _gauge(
            "transship_rule_within_ratio", "Part of the window within the objective", "region"
        )
        left = _gauge(
            "transship_rule_budget_left_ratio",
            "Part of the error budget that is left; negative when more was spent",
            "region",
        )
        alerts = _gauge("transship_rule_alerts", "What is wrong with rules now", "kind")
        try:
            judged = self._judged()
            budgets = self._incidents.budgets(
                {one.rule: Asked(one.created_at, tuple(one.regions)) for one in judged}
            )
            for one in judged:
                objective.add_metric([one.rule], one.objective_seconds)
                for region, seconds in one.regions.items():
                    budget = budgets[one.rule][region]
                    lag.add_metric([one.rule, region], seconds)
                    within.add_metric([one.rule, region], budget.within)
                    left.add_metric([one.rule, region], budget.left)
            counts: dict[tuple[str, str], int] = {}
            for incident in self._incidents.open():
                if incident.kind in KINDS:
                    key = (incident.rule, incident.kind)
                    counts[key] = counts.get(key, 0) + 1
            for (rule, kind), count in counts.items():
                alerts.add_metric([rule, kind], count)
        except StoreUnavailable as error:
            log.warning("rules_not_counted", error=str(error))
            return
        yield from (lag, objective, within, left, alerts)


def _gauge(name: str, text: str, *more: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["rule", *more])
