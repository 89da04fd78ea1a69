"""Gauges of executions, open copies and promotions by state: names of nothing, so that the API may show them, too."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from service.model.pipeline import OPEN
from service.model.states import OPEN_COPIES, ExecutionState
from service.store.figures import FigureStore


def state_gauges(store: FigureStore) -> Iterator[Metric]:
    """Yield all, states without rows as zero. Raises StoreUnavailable."""
    yield _gauge(
        "transship_executions", "Executions by state", store.executions(), list(ExecutionState)
    )
    yield _gauge(
        "transship_open_copies",
        "Copies of executions that have not ended, by state",
        store.open_copies(),
        sorted(OPEN_COPIES),
    )
    yield _gauge(
        "transship_open_promotions",
        "Promotions that have not ended, by state: those that wait for gates, and those that are copied",
        store.open_promotions(),
        sorted(OPEN),
    )


def _gauge(name: str, text: str, counts: dict[str, int], states: list[str]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["state"])
    for state in dict.fromkeys([*map(str, states), *counts]):
        family.add_metric([state], counts.get(state, 0))
    return family
