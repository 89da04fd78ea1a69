"""What was made of files of others, held to what transship.yaml may say: what may not be said is told of, and left out.

A value that no rule can have must not make the whole file useless, nor a filter that cannot be said copy more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from api.importers.gathered import Gathered, Place
from api.schemas.registry import load_registry
from api.schemas.rule import load_rule
from service.errors import FieldProblem, InvalidFields
from service.model.endpoint import RegistryEndpoint
from service.model.rule import SyncRule
from service.model.rule_check import check_rule

Path = tuple[str | int, ...]
_ENTRY = re.compile(r"select\[(\d+)\]")
_OF_ITSELF = frozenset({"name", "source", "select", "destinations", "mode", "delete", ""})
"""Keys of a rule that nothing is left of without."""

MAX_ROUNDS = 20


def judge(document: dict[str, Any], places: Mapping[Path, Place], into: Gathered) -> dict[str, Any]:
    """Return the document without what is not valid; each is told of as lost.

    `places` are by ("registries", n), ("rules", n) and ("rules", n, entry).
    """
    endpoints: dict[str, RegistryEndpoint] = {}
    registries = []
    for number, item in enumerate(document["registries"]):
        endpoint = _registry(item, places.get(("registries", number)), into)
        if endpoint is not None:
            endpoints[endpoint.name] = endpoint
            registries.append(item)
    rules = []
    for number, item in enumerate(document["rules"]):
        rule = _rule(item, number, places, into)
        if rule is None:
            continue
        wrong = check_rule(rule, endpoints)
        for problem in wrong:
            _tell(into, places[("rules", number)], f"rule {rule.name}", problem)
        if not wrong:
            rules.append(item)
    return {**document, "registries": registries, "rules": rules}


def _registry(item: dict[str, Any], place: Place | None, into: Gathered) -> RegistryEndpoint | None:
    """Return the registry, without the settings that it may not have; None where its address is none."""
    at = place or Place("", None)
    for _ in range(MAX_ROUNDS):
        try:
            return load_registry(item, in_file=True).endpoint
        except InvalidFields as error:
            for problem in error.problems:
                _tell(into, at, f"registry {item['name']}", problem)
            keys = {_first(problem.path) for problem in error.problems}
            if not keys - {"name", "url", ""}:
                return None
            for key in keys - {"name", "url", ""}:
                item.pop(key, None)
    return None


def _rule(
    item: dict[str, Any], number: int, places: Mapping[Path, Place], into: Gathered
) -> SyncRule | None:
    """Return the rule, without the entries and keys that it may not have; None where nothing is left."""
    here = places[("rules", number)]
    at = [places.get(("rules", number, n), here) for n in range(len(item["select"]))]
    for _ in range(MAX_ROUNDS):
        try:
            return load_rule(item)
        except InvalidFields as error:
            entries: set[int] = set()
            keys: set[str] = set()
            for problem in error.problems:
                found = _ENTRY.match(problem.path)
                if found:
                    entries.add(int(found[1]))
                else:
                    keys.add(_first(problem.path))
                place = at[int(found[1])] if found else here
                _tell(into, place, f"rule {item['name']}", problem)
            if keys & _OF_ITSELF:
                return None
            for key in keys:
                item.pop(key, None)
            kept = [n for n in range(len(item["select"])) if n not in entries]
            item["select"] = [item["select"][n] for n in kept]
            at = [at[n] for n in kept]
            if not kept:
                return None
    return None


def _first(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _tell(into: Gathered, place: Place, what: str, problem: FieldProblem) -> None:
    into.lost(place, f"{what}: {problem.path}", f"{problem.message}: left out")
