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
from service.model.rule_check import check_rule

Path = tuple[str | int, ...]
_ENTRY = re.compile(r"select\[(\d+)\]")
_NAME = re.compile(r"[A-Za-z0-9._/:-]{1,255}")
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
    rules = [
        item
        for number, item in enumerate(document["rules"])
        if _is_left(item, number, endpoints, places, into)
    ]
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


def _is_left(
    item: dict[str, Any],
    number: int,
    endpoints: Mapping[str, RegistryEndpoint],
    places: Mapping[Path, Place],
    into: Gathered,
) -> bool:
    """Take away the entries and keys that the rule may not have; whether a rule is left.

    Of ten thousand lines those are looked at again that are more than names, which were judged when they were read.
    """
    here = places["rules", number]
    at = {
        id(entry): places.get(("rules", number, n), here) for n, entry in enumerate(item["select"])
    }
    for _ in range(MAX_ROUNDS):
        looked_at = [one for one in item["select"] if not _has_names_alone(one)]
        looked_at = looked_at or item["select"][:1]
        wrong: list[dict[str, Any]] = []
        keys: set[str] = set()
        for problem in _problems({**item, "select": looked_at}, endpoints):
            found = _ENTRY.match(problem.path)
            entry = looked_at[int(found[1])] if found else None
            if entry is None:
                keys.add(_first(problem.path))
            else:
                wrong.append(entry)
            place = here if entry is None else at[id(entry)]
            _tell(into, place, f"rule {item['name']}", problem)
        if not wrong and not keys:
            return True
        item["select"] = [one for one in item["select"] if not any(one is w for w in wrong)]
        if keys & _OF_ITSELF or not item["select"]:
            return False
        for key in keys:
            item.pop(key, None)
    return False


def _problems(
    item: dict[str, Any], endpoints: Mapping[str, RegistryEndpoint]
) -> tuple[FieldProblem, ...]:
    try:
        return check_rule(load_rule(item), endpoints)
    except InvalidFields as error:
        return error.problems


def _has_names_alone(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is one of names: repositories, tags or digests, and where they go."""
    to, tags = entry.get("to", {}), entry.get("tags", [])
    names = [*to.values()] if isinstance(to, dict) else [""]
    return (
        entry.keys() <= {"repositories", "tags", "to"}
        and "repository" in to
        and isinstance(entry["repositories"], list)
        and isinstance(tags, list)
        and all(_NAME.fullmatch(one) for one in (*entry["repositories"], *tags, *names))
    )


def _first(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _tell(into: Gathered, place: Place, what: str, problem: FieldProblem) -> None:
    into.lost(place, f"{what}: {problem.path}", f"{problem.message}: left out")
