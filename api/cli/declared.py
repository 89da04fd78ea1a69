"""What files say against what a server has: what would be created, replaced, deleted."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api.cli.connection import Connection
from api.config_file import KINDS, Config, Outside
from api.documents import dump, written
from api.schemas.governance import load_project
from api.schemas.registry import load_registry
from service.errors import Conflict
from service.model.migration import OWNER

_WRITE_ORDER = ("regions", "links", "registries", "projects", "rules", "pipelines")


@dataclass(frozen=True, slots=True)
class Change:
    """One object: what is to happen to it, what stands on the server, what the files say."""

    kind: str
    name: str
    action: str  # created | replaced | unchanged | deleted
    server: dict[str, Any] | None = None
    file: dict[str, Any] | None = None
    version: int | None = None
    owner: str | None = None  # the set that the object belongs to

    @property
    def differs(self) -> bool:
        """Whether anything is to happen."""
        return self.action != "unchanged"


@dataclass(frozen=True, slots=True)
class State:
    """All objects of a server, by kind and name, as it answers them."""

    items: Mapping[str, Mapping[str, dict[str, Any]]] = field(default_factory=dict)

    def outside(self) -> Outside:
        """Return what a file may name without having it."""
        endpoints = {
            name: load_registry(written("registries", item)).endpoint
            for name, item in self.items["registries"].items()
        }
        projects = {
            name: load_project(written("projects", item))
            for name, item in self.items["projects"].items()
        }
        regions = {name: item.get("jurisdiction") for name, item in self.items["regions"].items()}
        signed = frozenset(
            name for name, item in self.items["pipelines"].items() if item["secret"]["set"]
        )
        return Outside(endpoints, projects, regions, of_server=True, signed=signed)


def read_state(server: Connection) -> State:
    """Return all that the caller may see."""
    return State({kind: {item["name"]: item for item in stored(server, kind)} for kind in KINDS})


def stored(server: Connection, kind: str) -> Iterator[dict[str, Any]]:
    """Yield what somebody wrote down of a kind: not regions that are merely in use, nor rules of migrations."""
    for item in server.items(f"/{kind}"):
        if item.get("declared", True) and not str(item.get("set") or "").startswith(OWNER):
            yield item


def compare(config: Config, state: State, *, owner: str | None, prune: bool) -> list[Change]:
    """Return every object of the files with what is to happen to it, and what is to be deleted.

    Deleted is only what belongs to the set `owner` and is not in the files.
    """
    found = []
    for kind in _WRITE_ORDER:
        for (its_kind, name), document in config.documents.items():
            if its_kind != kind:
                continue
            item = state.items[kind].get(name)
            found.append(_compared(kind, name, item, document, owner))
    if prune and owner is not None:
        for kind in reversed(_WRITE_ORDER):
            for name, item in state.items[kind].items():
                if item["set"] == owner and (kind, name) not in config.documents:
                    found.append(
                        Change(
                            kind, name, "deleted", written(kind, item), None, item["version"], owner
                        )
                    )
    return found


def _compared(
    kind: str, name: str, item: dict[str, Any] | None, document: dict[str, Any], owner: str | None
) -> Change:
    said = written(kind, document)
    if item is None:
        return Change(kind, name, "created", None, said)
    there = written(kind, item)
    same = there == said and (owner is None or item["set"] == owner)
    action = "unchanged" if same else "replaced"
    return Change(kind, name, action, there, said, item["version"], item["set"])


def carry_out(server: Connection, changes: Sequence[Change], owner: str | None) -> None:
    """Write the changes; each is held to the version that was compared.

    A change that another one has to go before (a rule that a project would forbid, a registry that a
    rule still names) is tried again after the others. Raises Conflict when none gets any further.
    """
    waiting = [change for change in changes if change.differs]
    for change in waiting:
        if change.owner not in (None, owner) and owner is not None:
            raise Conflict(
                f"{change.kind}/{change.name} belongs to the set {change.owner}, not {owner}",
                hint=f"apply it with --set {change.owner}, or delete it first",
            )
    while waiting:
        refused: list[Change] = []
        first: Conflict | None = None
        for change in waiting:
            try:
                _write(server, change, owner)
            except Conflict as error:
                refused.append(change)
                first = first or error
        if first is not None and len(refused) == len(waiting):
            raise first
        waiting = refused


def _write(server: Connection, change: Change, owner: str | None) -> None:
    path = f"/{change.kind}/{change.name}"
    if change.action == "deleted":
        server.ask("DELETE", path, **{"If-Match": f'"{change.version}"'})
        return
    held = {"If-None-Match": "*"} if change.version is None else {"If-Match": f'"{change.version}"'}
    query = f"?set={owner}" if owner is not None else ""
    server.ask("PUT", path + query, change.file, **held)


def text_of(document: Mapping[str, Any] | None) -> list[str]:
    """Return a document as lines of YAML."""
    return [] if document is None else dump(document).splitlines(keepends=True)


def unified(change: Change) -> str:
    """Return the difference of one object as `diff -u` shows it."""
    name = f"{change.kind}/{change.name}"
    lines = difflib.unified_diff(
        text_of(change.server), text_of(change.file), f"server/{name}", f"file/{name}"
    )
    return "".join(lines) or f"{name}: only its set differs\n"


def fields(change: Change) -> list[dict[str, Any]]:
    """Return the fields that differ, each as it is on the server and in the file."""
    server = dict(_flat(change.server)) if change.server else {}
    file = dict(_flat(change.file)) if change.file else {}
    return [
        {"field": path, "server": server.get(path), "file": file.get(path)}
        for path in dict.fromkeys([*server, *file])
        if server.get(path) != file.get(path)
    ]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(one, dict | list) for one in value):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{index}]")
    else:
        yield path, value
