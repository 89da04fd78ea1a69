"""Gauges of executions and open copies by state: names of nothing, so that the API may show them, too."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from service.model.states import OPEN_COPIES, ExecutionState
from service.store.figures import FigureStore


def state_gauges(store: FigureStore) -> Iterator[Metric]:
    """Yield both, states without rows as zero. Raises StoreUnavailable."""
    yield _gauge(
        "transship_executions", "Executions by state", store.executions(), list(ExecutionState)
    )
    yield _gauge(
        "transship_open_copies",
        "Copies of executions that have not ended, by state",
        store.open_copies(),
        sorted(OPEN_COPIES),
    )


def _gauge(name: str, text: str, counts: dict[str, int], states: list[str]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["state"])
    for state in dict.fromkeys([*map(str, states), *counts]):
        family.add_metric([state], counts.get(state, 0))
    return family
