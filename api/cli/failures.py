"""What failed in an execution as a rule file that carries out exactly that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from api.cli.connection import Connection
from api.cli.declared import dump, written
from api.cli.options import part

_NOT_KEPT = ("name", "select", "destinations", "trigger", "enabled", "mode", "delete")
MAX_NAME = 63


def rule_file(server: Connection, failed: Iterable[dict[str, Any]]) -> str:
    """Return YAML: one rule for each rule and destination registry, with exact names and tags."""
    by_way: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for copy in failed:
        source, destination = _taken_apart(copy["source"]), _taken_apart(copy["destination"])
        by_way[copy["rule"], source[0], destination[0]].append(copy)
    names = sorted({name for _, *ends in by_way for name in ends})
    registries = [_asked(server, "registries", name) for name in names]
    near = sorted({region for one in registries for region in one.get("endpoints", ())})
    rules = {rule: server.ask("GET", f"/rules/{part(rule)}") for rule in {way[0] for way in by_way}}
    documents = [
        _rule(rules[rule]["effective"], source, registry, copies)
        for (rule, source, registry), copies in sorted(by_way.items())
    ]
    projects = [
        _asked(server, "projects", name)
        for name in sorted({document["project"] for document in documents} - {"default"})
    ]
    whole: dict[str, Any] = {"version": 1}
    if near:
        whole["regions"] = [_asked(server, "regions", name) for name in near]
    if projects:
        whole["projects"] = projects
    return dump({**whole, "registries": registries, "rules": documents})


def _asked(server: Connection, kind: str, name: str) -> dict[str, Any]:
    return written(kind, server.ask("GET", f"/{kind}/{part(name)}"))


def _rule(
    effective: dict[str, Any], source: str, registry: str, copies: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return a rule of exact references, with what the failed one says of how they are copied."""
    ending = f"-failures-{registry}"
    entries: dict[tuple[str, str, str, int], list[str]] = defaultdict(list)
    for copy in copies:
        _, repository, reference = _taken_apart(copy["source"])
        _, to_repository, to_reference = _taken_apart(copy["destination"])
        to_tag = "{tag}" if to_reference == reference else to_reference
        entries[repository, to_repository, to_tag, copy["entry"]].append(reference)
    return {
        "name": f"{effective['name'][: MAX_NAME - len(ending)]}{ending}"[:MAX_NAME],
        **{key: value for key, value in effective.items() if key not in _NOT_KEPT},
        "source": source,
        "select": [
            {
                "repositories": [repository],
                "tags": sorted(set(references)),
                **_content(effective["select"], entry),
                "to": {
                    "repository": to_repository,
                    **({} if to_tag == "{tag}" else {"tag": to_tag}),
                },
            }
            for (repository, to_repository, to_tag, entry), references in sorted(entries.items())
        ],
        "destinations": [{"registry": registry}],
    }


def _content(select: list[dict[str, Any]], entry: int) -> dict[str, Any]:
    """Return what the entry that took a reference says of its content."""
    taken = select[entry] if entry < len(select) else {}
    return {key: taken[key] for key in ("types", "platforms") if taken.get(key)}


def _taken_apart(place: str) -> tuple[str, str, str]:
    """Return registry, repository and reference of `registry/repository:tag` or `...@digest`."""
    registry, _, rest = place.partition("/")
    repository, at, digest = rest.partition("@")
    if at:
        return registry, repository, digest
    repository, _, tag = rest.rpartition(":")
    return registry, repository, tag
