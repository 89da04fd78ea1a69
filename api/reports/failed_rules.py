"""What failed in executions as a rule file that carries out exactly that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from api.schemas.rule import effective_rule
from api.schemas.selection import effective_selection
from service.model.names import NameMatcher
from service.model.rule import Selection, SyncRule
from service.replication.select import ALL_TAGS
from service.store.executions import CopyRecord

_NOT_KEPT = ("name", "select", "destinations", "trigger", "enabled", "mode", "delete", "drift")
MAX_NAME = 63

Written = Callable[[str, str], dict[str, Any]]
"""Returns what somebody wrote down as an object: (kind, name), such as ("registries", "east")."""

Members = Callable[[str], Sequence[str]]
"""Returns the registries of a group by name."""

RuleOf = Callable[[str], SyncRule]
"""Returns the rule of an execution, as it stood when that began."""


def failed_rules(
    failed: Iterable[CopyRecord],
    begun_only: Iterable[str],
    rule_of: RuleOf,
    written: Written,
    members: Members,
) -> dict[str, Any]:
    """Return a transship.yaml that carries out what failed, and nothing else.

    For copies: one rule for each rule and destination registry, with exact names and tags; where a repository could
    not be listed, what the rule takes of it. `begun_only`: executions that failed as a whole; their rules as they are.
    Groups of destinations become their members. Raises what the callables raise.
    """
    by_way: dict[tuple[str, str], list[CopyRecord]] = defaultdict(list)
    for copy in failed:
        by_way[copy.rule, copy.destination_registry].append(copy)
    documents = [_whole(rule_of(one), members) for one in begun_only]
    for (_, registry), copies in sorted(by_way.items()):
        documents.append(_of_copies(rule_of(copies[0].execution), registry, copies, members))
    names = {name for one in documents for name in _registries(one)}
    registries = [written("registries", name) for name in sorted(names)]
    near = sorted({region for one in registries for region in one.get("endpoints", ())})
    projects = sorted({one["project"] for one in documents} - {"default"})
    whole: dict[str, Any] = {"version": 1}
    if near:
        whole["regions"] = [written("regions", name) for name in near]
    if projects:
        whole["projects"] = [written("projects", name) for name in projects]
    return {**whole, "registries": registries, "rules": _told_apart(documents)}


def _registries(document: dict[str, Any]) -> list[str]:
    return [document["source"], *(one["registry"] for one in document["destinations"])]


def _whole(rule: SyncRule, members: Members) -> dict[str, Any]:
    return {
        "name": _name(rule, "-failures"),
        **_kept(effective_rule(rule)),
        "source": rule.source,
        "select": [effective_selection(one) for one in rule.select],
        "destinations": _destinations(rule, members),
    }


def _of_copies(
    rule: SyncRule, registry: str, copies: Sequence[CopyRecord], members: Members
) -> dict[str, Any]:
    """Return a rule of exact references, with what the failed one says of how they are copied."""
    all_of_it = any(copy.source_repository == ALL_TAGS for copy in copies)
    if all_of_it:  # the destination took nothing at all
        select = [effective_selection(one) for one in rule.select]
    else:
        unlisted = sorted({c.source_repository for c in copies if c.source_reference == ALL_TAGS})
        select = [entry for name in unlisted for entry in _listed_anew(rule, name)]
        select += _exact([copy for copy in copies if copy.source_repository not in unlisted], rule)
    return {
        "name": _name(rule, f"-failures-{registry}"),
        **_kept(effective_rule(rule)),
        "source": copies[0].source_registry,
        "select": select,
        "destinations": [one for one in _destinations(rule, members) if one["registry"] == registry]
        or [{"registry": registry}],
    }


def _exact(copies: Sequence[CopyRecord], rule: SyncRule) -> list[dict[str, Any]]:
    entries: dict[tuple[str, str, str, int], list[str]] = defaultdict(list)
    for copy in copies:
        reference, to_reference = copy.source_reference, copy.destination_reference
        to_tag = "{tag}" if to_reference == reference else to_reference
        entries[copy.source_repository, copy.destination_repository, to_tag, copy.entry].append(
            reference
        )
    return [
        {
            "repositories": [repository],
            "tags": sorted(set(references)),
            **_content(rule.select, entry),
            "to": {"repository": to_repository, "tag": to_tag},
        }
        for (repository, to_repository, to_tag, entry), references in sorted(entries.items())
    ]


def _listed_anew(rule: SyncRule, repository: str) -> list[dict[str, Any]]:
    """Return what a rule takes of a repository whose tags could not be listed."""
    return [
        {**effective_selection(entry), "repositories": [repository]}
        for entry in rule.select
        if NameMatcher(entry.repositories).matches(repository)
    ]


def _destinations(rule: SyncRule, members: Members) -> list[dict[str, Any]]:
    """Return where a rule writes, groups by their members: every one but the source."""
    found: dict[str, dict[str, Any]] = {}
    for one in rule.destinations:
        for name in [one.registry] if one.registry else members(one.group or ""):
            if name != rule.source or one.registry:
                place = {"registry": name, "repository": one.repository, "tag": one.tag}
                found.setdefault(name, place)
    return list(found.values())


def _kept(shown: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in shown.items() if key not in _NOT_KEPT}


def _content(select: Sequence[Selection], entry: int) -> dict[str, Any]:
    """Return what the entry that took a reference says of its content."""
    taken = effective_selection(select[entry]) if entry < len(select) else {}
    return {key: taken[key] for key in ("types", "platforms") if taken.get(key)}


def _name(rule: SyncRule, ending: str) -> str:
    return f"{rule.name[: MAX_NAME - len(ending)].rstrip('-._')}{ending}"[:MAX_NAME].rstrip("-._")


def _told_apart(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give rules whose names came to be the same, since they were cut, names of their own."""
    seen: set[str] = set()
    for one in documents:
        name, number = one["name"], 2
        while one["name"] in seen:
            ending = f"-{number}"
            one["name"] = f"{name[: MAX_NAME - len(ending)].rstrip('-._')}{ending}"
            number += 1
        seen.add(one["name"])
    return documents
