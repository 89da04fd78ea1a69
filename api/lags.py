"""How far the destinations of a rule are behind, as the API answers it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from api.context import services
from api.render import instant
from api.v1.shared import endpoints
from service.errors import InvalidConfiguration
from service.model.selection import destination_registries, members_of_groups
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
    return {
        "rule": rule.name,
        "objective_seconds": objective,
        "seconds": round(worst, 3),
        "kept": None if objective is None else worst <= objective,
        "regions": {name: round(seconds, 3) for name, seconds in sorted(regions.items())},
        "destinations": shown,
    }
