"""Freshness: each rule's lag in each region, judged by its objective; rules that did not run or match nothing.

Changes that registries tell of are as old as their word; where a rule is told of none, its lag is the time
since its last good look, since nobody knows what happened at the source meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from service.errors import InvalidConfiguration
from service.model.endpoint import RegistryEndpoint
from service.model.rule import SyncRule
from service.model.schedule import LATE_SECONDS, next_run
from service.model.selection import destination_registries, members_of_groups
from service.store.freshness import FreshnessStore, Judged
from service.store.incidents import EMPTY, IDLE, LATE, Incident, IncidentStore
from service.store.lag import LagStore
from service.store.registries import RegistryStore
from service.telemetry import get_logger

LEASE = "freshness"
JUDGE_SECONDS = 2.0
LOOK_SECONDS = 20.0
"""How often schedules and matches are looked at, and what has ended long ago is forgotten."""

log = get_logger("freshness")


@dataclass(frozen=True, slots=True)
class RuleLag:
    """The lag of a rule in each region, in seconds, as it was judged last."""

    rule: str
    created_at: float
    objective_seconds: float
    regions: Mapping[str, float]


class FreshnessKeeper:
    """Judges all rules, again and again; one holder of the lease at a time."""

    def __init__(
        self,
        registries: RegistryStore,
        store: FreshnessStore,
        lags: LagStore,
        incidents: IncidentStore,
        *,
        grace_seconds: float = LATE_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """`grace_seconds`: a run that is so long overdue did not come; `look_seconds`: how often that is looked for."""
        self._registries = registries
        self._store = store
        self._lags = lags
        self._incidents = incidents
        self._grace = grace_seconds
        self._look_seconds = look_seconds
        self._next_judgement = 0.0
        self._next_look = 0.0
        self._lock = threading.Lock()
        self._judged: tuple[float, tuple[RuleLag, ...]] = (float("-inf"), ())

    def step(self) -> None:
        """Judge what is due."""
        now = time.monotonic()
        if now >= self._next_judgement:
            self._next_judgement = now + JUDGE_SECONDS
            self.judge()
        if now >= self._next_look:
            self._next_look = now + self._look_seconds
            self.look()
            self._incidents.forget()

    def judged(self) -> tuple[RuleLag, ...]:
        """Return the lags of rules with an objective; none where another process has judged lately."""
        with self._lock:
            at, found = self._judged
        return found if time.monotonic() - at < 10 * JUDGE_SECONDS else ()

    def judge(self) -> list[tuple[str, bool]]:
        """Judge lags by their objectives; returns (rule, late) of what has become late, or fresh again."""
        judged, now = self._store.rules()
        wanted = [one for one in judged if one.rule.freshness_seconds is not None]
        busy, told = self._store.behind() if wanted else (set(), set())
        endpoints = {one.endpoint.name: one.endpoint for one in self._registries.list(limit=10_000)}
        lags = [
            self._lag(one, now, endpoints, asked=one.rule.name in busy or one.rule.source in told)
            for one in wanted
        ]
        with self._lock:
            self._judged = (time.monotonic(), tuple(lags))
        late = [
            Incident(
                lag.rule,
                LATE,
                region,
                now - (seconds - lag.objective_seconds),
                f"{seconds:.0f} s behind, {lag.objective_seconds:g} s are allowed",
                seconds,
            )
            for lag in lags
            for region, seconds in lag.regions.items()
            if seconds > lag.objective_seconds
        ]
        begun, ended = self._incidents.settle((LATE,), late)
        for one in begun:
            log.warning("rule_late", rule=one.rule, region=one.region, reason=one.reason)
        for one in ended:
            log.warning("rule_fresh", rule=one.rule, region=one.region)
        return [*((one.rule, True) for one in begun), *((one.rule, False) for one in ended)]

    def look(self) -> None:
        """Find rules that should have run and did not, and such as match nothing any more."""
        judged, now = self._store.rules()
        found = [*self._idle(judged, now), *self._empty()]
        begun, ended = self._incidents.settle((IDLE, EMPTY), found)
        for one in begun:
            log.warning("rule_alert", rule=one.rule, kind=one.kind, reason=one.reason)
        for one in ended:
            log.warning("rule_alert_ended", rule=one.rule, kind=one.kind)

    def _lag(
        self,
        one: Judged,
        now: float,
        endpoints: Mapping[str, RegistryEndpoint],
        *,
        asked: bool,
    ) -> RuleLag:
        rule = one.rule
        regions = dict.fromkeys(sorted(set(_places(rule, endpoints).values())), 0.0)
        if asked:
            places = _places(rule, endpoints)
            for lag in self._lags.of(rule.name, rule.source, list(places)):
                region = places[lag.registry]
                regions[region] = max(regions[region], lag.seconds)
        unseen = unseen_seconds(rule, one.looked_at, now)
        if unseen is not None:
            regions = {name: max(seconds, unseen) for name, seconds in regions.items()}
        return RuleLag(rule.name, one.created_at, rule.freshness_seconds or 0.0, regions)

    def _idle(self, judged: list[Judged], now: float) -> Iterator[Incident]:
        for one in judged:
            if one.running:
                continue
            due = next_run(one.rule.trigger, one.started_at or one.created_at)
            if due is not None and due + self._grace < now:
                at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(due))
                reason = f"it was to run at {at}, and did not"
                yield Incident(one.rule.name, IDLE, "", due, reason)

    def _empty(self) -> Iterator[Incident]:
        for name, looked_at in self._store.match_nothing():
            reason = "it matches nothing now, and has before"
            yield Incident(name, EMPTY, "", looked_at, reason)


def unseen_seconds(rule: SyncRule, looked_at: float, now: float) -> float | None:
    """Return how long nobody has looked at the source; None where events tell of changes."""
    return None if rule.trigger.event else max(0.0, now - looked_at)


def _places(rule: SyncRule, endpoints: Mapping[str, RegistryEndpoint]) -> dict[str, str]:
    """Return the registries that a rule writes to, each with its region."""
    members = members_of_groups(endpoints.values())
    found: dict[str, str] = {}
    for destination in rule.destinations:
        try:
            names = destination_registries(destination, rule.source, members)
        except InvalidConfiguration:
            continue  # a group without members
        found.update((name, endpoints[name].region) for name in names if name in endpoints)
    return found
