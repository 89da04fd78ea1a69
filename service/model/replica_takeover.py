"""A rule with another primary: what its source and destinations are when a replica takes over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from service.model.rule import Destination, SyncRule
from service.model.selection import destination_registries


def promoted(rule: SyncRule, registry: str, members: Mapping[str, Sequence[str]]) -> SyncRule:
    """Return the rule with `registry` as its source; what was its source is one of its destinations.

    `members` are those of each group. A group that holds the old source takes it in by itself.
    """
    destinations = tuple(one for one in rule.destinations if one.registry != registry)
    taken_in = {name for one in destinations for name in _others(one, registry, members)}
    if rule.source not in taken_in:
        destinations = (Destination(registry=rule.source), *destinations)
    return replace(rule, source=registry, destinations=destinations)


def promoted_document(document: Mapping[str, Any], rule: SyncRule) -> dict[str, Any]:
    """Return what was written of a rule, with the source and the destinations that it has now."""
    places = [
        {"group": one.group} if one.registry is None else {"registry": one.registry}
        for one in rule.destinations
    ]
    return {**document, "source": rule.source, "destinations": places}


def _others(
    destination: Destination, source: str, members: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    if destination.group is not None and set(members.get(destination.group, ())) <= {source}:
        return ()
    return destination_registries(destination, source, members)
