"""How far the destinations of a rule are behind, as the API answers it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from api.context import services
from api.render import instant
from api.v1.shared import endpoints
from service.errors import InvalidConfiguration
from service.model.selection import destination_registries, members_of_groups
from service.store.incidents import TARGET, WINDOW_SECONDS, Asked
from service.store.rules import StoredRule


def of_rule(stored: StoredRule) -> dict[str, Any]:
    """Return the lag of each destination, and the worst of each region."""
    rule, known = stored.rule, endpoints()
    members = members_of_groups(known.values())
    names: dict[str, None] = {}
    for destination in rule.destinations:
        try:
            names.update(dict.fromkeys(destination_registries(destination, rule.source, members)))
        except InvalidConfiguration:
            continue  # a group without members
    lags = services().lag.of(rule.name, rule.source, list(names))
    regions: dict[str, float] = {}
    shown = []
    for lag in lags:
        region = known[lag.registry].region if lag.registry in known else ""
        regions[region] = max(regions.get(region, 0.0), lag.seconds)
        shown.append(
            {
                **asdict(lag),
                "region": region,
                "seconds": round(lag.seconds, 3),
                "last_seconds": None if lag.last_seconds is None else round(lag.last_seconds, 3),
                "last_at": instant(lag.last_at),
            }
        )
    worst = max(regions.values(), default=0.0)
    objective = rule.freshness_seconds
    unseen = None if rule.trigger.event else services().lag.unseen(rule.name, stored.created_at)
    return {
        "rule": rule.name,
        "objective_seconds": objective,
        "seconds": round(worst, 3),
        "unseen_seconds": None if unseen is None else round(unseen, 3),
        "kept": None if objective is None else max(worst, unseen or 0.0) <= objective,
        "budget": None if objective is None else _budget(stored, regions),
        "regions": {name: round(seconds, 3) for name, seconds in sorted(regions.items())},
        "destinations": shown,
    }


def _budget(stored: StoredRule, regions: Iterable[str]) -> dict[str, Any]:
    """Return how much of its error budget a rule has spent in each region."""
    asked = {stored.rule.name: Asked(stored.created_at, tuple(regions))}
    found = services().incidents.budgets(asked)[stored.rule.name]
    return {
        "window_seconds": WINDOW_SECONDS,
        "target": TARGET,
        "regions": {
            name: {
                "judged_seconds": round(one.judged_seconds, 3),
                "missed_seconds": round(one.missed_seconds, 3),
                "within": round(one.within, 6),
                "left": round(one.left, 6),
                "left_seconds": round(one.left_seconds, 3),
            }
            for name, one in sorted(found.items())
        },
    }
