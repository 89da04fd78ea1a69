"""Where each replica is: its life, its lag and its drift, for the API and for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from service.model.replica import Progress, Replica, state_of
from service.model.rule import SyncRule
from service.store.drift import DriftStore
from service.store.lag import Lag, LagStore
from service.store.replicas import ReplicaStore


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """A replica of a rule, and how far it is; `drift` counts what is open by kind."""

    rule: SyncRule
    replica: Replica
    state: str
    lag: Lag
    progress: Progress
    drift: dict[str, int] = field(default_factory=dict)


class ReplicaStatuses:
    """Reads all of it from SQL."""

    def __init__(self, replicas: ReplicaStore, drift: DriftStore, lag: LagStore) -> None:
        self._replicas = replicas
        self._drift = drift
        self._lag = lag

    def of(self, rule: SyncRule, registries: Iterable[str]) -> list[ReplicaStatus]:
        """Return the status of a rule's replicas; one that nobody has looked at yet is being prepared."""
        names = list(registries)
        known = self._replicas.of(rule.name)
        made_at, progress = self._replicas.progress(rule.name)
        drift = self._drift.counts(rule.name)
        found = []
        for lag in self._lag.of(rule.name, rule.source, names):
            name = lag.registry
            shown = known.get(name) or Replica(rule.name, name, 0.0)
            mine = progress.get(name, Progress()) if made_at >= shown.joined_at else Progress()
            begun = mine.waiting + mine.copied > 0
            state = state_of(shown, begun=begun, lag_seconds=lag.seconds)
            found.append(ReplicaStatus(rule, shown, state, lag, mine, drift.get(name, {})))
        return found
