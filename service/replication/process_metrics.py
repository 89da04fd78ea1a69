"""Gauges of one process for Prometheus: its limiters, and the work that it has in hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.registry.limiters import Limiters


class ProcessFigures(Collector):
    """Tells what the process holds now; asks nothing of anybody."""

    def __init__(
        self, limiters: Limiters | None, held: Callable[[], Collection[int]], slots: int
    ) -> None:
        """`held` names the copies in hand; `slots` is how many tasks run at once."""
        self._limiters = limiters
        self._held = held
        self._slots = slots

    def describe(self) -> Iterator[Metric]:
        """Register without asking anybody."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield each gauge."""
        yield GaugeMetricFamily(
            "transship_held_copies", "Copies that this process has in hand", value=len(self._held())
        )
        yield GaugeMetricFamily(
            "transship_slots", "Tasks that this process runs at once", value=self._slots
        )
        in_use = _gauge(
            "transship_limiter_requests_in_flight",
            "Requests under way or waiting, where limits hold",
        )
        blocked = _gauge(
            "transship_limiter_blocked_seconds", "For how long the registry wants no request yet"
        )
        rate = _gauge(
            "transship_limiter_requests_per_second",
            "The part of its registry's rate that this process has now; none where it is not limited",
        )
        for one in () if self._limiters is None else self._limiters.states():
            in_use.add_metric([one.name], one.in_flight)
            blocked.add_metric([one.name], one.blocked_seconds)
            if one.requests_per_second is not None:
                rate.add_metric([one.name], one.requests_per_second)
        yield from (in_use, blocked, rate)


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["registry"])
