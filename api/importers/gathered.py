"""What an importer finds: registries with their credentials, mappings, and notes on what is otherwise."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, field
from typing import Any, Literal

from service.errors import InvalidInput
from service.model.names import NameMatcher
from service.model.rule import NameFilter

_LOGIN = re.compile(r"[^\s/@'\"]+:[^\s/@]+@(?!sha(?:256|512):)")
"""user:password@ in front of a host; name:tag@digest is none."""

Weight = Literal["lost", "changed", "look"]
"""lost: what the file asks for is not done; changed: it is done otherwise; look: an operator has to do or know something."""


WITHOUT_REFERRERS = {"referrers": False}
"""For the rules of tools that copy no signatures and SBOMs."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: file, line counted from 1 (None: the file as a whole)."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Note:
    """One thing that the importer tells: about which key, what, and how much it matters."""

    weight: Weight
    place: Place
    key: str
    text: str


@dataclass(frozen=True, slots=True)
class Login:
    """A user and password for a registry, or (`prefix`) for repositories of it; the password is never printed."""

    username: str
    password: str = field(repr=False)
    place: Place
    prefix: str = ""
    variable: str = ""  # of the environment, where the file names one


@dataclass
class FoundRegistry:
    """A registry by its host, as the file speaks of it; `settings` are keys of transship.yaml."""

    host: str
    plain: bool = False  # http
    name: str = ""  # as the file calls it
    logins: list[Login] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mapping:
    """One line of a file: what of a source goes where.

    `entry` are the keys `repositories`, `tags`, `types`, `platforms` and `to` of a rule's select; `rule` are other keys
    of the rule, as JSON: lines that differ in them are of different rules.
    """

    source: str  # host
    destinations: tuple[str, ...]  # hosts
    entry: dict[str, Any]
    place: Place
    rule: str = "{}"


@dataclass
class Gathered:
    """All that one or several files of one format say."""

    registries: dict[str, FoundRegistry] = field(default_factory=dict)
    mappings: list[Mapping] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def registry(self, host: str) -> FoundRegistry:
        """Return the registry of a host, new if it was not met before."""
        return self.registries.setdefault(host, FoundRegistry(host))

    def note(self, weight: Weight, place: Place, key: str, text: str) -> None:
        """Tell something; a user and password in an address are not told."""
        self.notes.append(
            Note(weight, place, *(_LOGIN.sub("***@", str(one)) for one in (key, text)))
        )

    def lost(self, place: Place, key: str, text: str) -> None:
        """Tell that something is not done."""
        self.note("lost", place, key, text)

    def add(
        self,
        source: str,
        destination: str | tuple[str, ...],
        entry: dict[str, Any],
        place: Place,
        rule: AnyMapping[str, Any] | None = None,
    ) -> None:
        """Take up a line; `rule` are keys of its rule. One whose patterns cannot be said here is told of instead."""
        for key in ("repositories", "tags"):
            try:
                _judge(entry.get(key))
            except InvalidInput as error:
                self.lost(place, f"{entry['repositories']}", error.message)
                return
        destinations = (destination,) if isinstance(destination, str) else destination
        self.mappings.append(
            Mapping(source, destinations, entry, place, json.dumps(rule or {}, sort_keys=True))
        )

    def map_of(self, value: Any, place: Place, key: str) -> dict[str, Any]:
        """Return a map, an empty one for nothing; what is none is told of, and nothing of it is read."""
        if value in (None, "", []) or isinstance(value, dict):
            return value or {}
        self.lost(place, key, "not a map: nothing of it was read")
        return {}

    def list_of(self, value: Any, place: Place, key: str) -> list[Any]:
        """Return a list, an empty one for nothing; what is none is told of, and nothing of it is read."""
        if value in (None, "", {}) or isinstance(value, list):
            return value or []
        self.lost(place, key, "not a list: nothing of it was read")
        return []

    def maps_of(
        self, value: Any, at: Callable[..., Place], key: str
    ) -> list[tuple[int, dict[str, Any]]]:
        """Return the maps of a list with their numbers; what is none is told of. `at` gives the place of a path."""
        found = []
        for number, one in enumerate(self.list_of(value, at(key), key)):
            if isinstance(one, dict):
                found.append((number, one))
            else:
                self.lost(at(key, number), f"{key}[{number}]", "not a map: nothing of it was read")
        return found

    def unknown_keys(
        self, value: Iterable[str], known: Iterable[str], place: Place, at: str = ""
    ) -> None:
        """Tell of keys that the format does not have."""
        for key in value:
            if key not in set(known):
                self.lost(place, f"{at}{key}", "an unknown key: it was ignored there, too")


def name_of(host: str) -> str:
    """Return the name of a registry in transship.yaml, made of its host."""
    name = re.sub(r"[^a-z0-9._-]+", "-", host.lower()).strip("-._")[:63]
    return name.rstrip("-._") or "registry"


def variable_of(host: str, prefix: str = "") -> str:
    """Return the environment variable that a registry's password is read from."""
    return "TRANSSHIP_SECRET_" + re.sub(r"[^A-Z0-9]+", "_", f"{host}/{prefix}".upper()).strip("_")


def _judge(names: Any) -> None:
    """Raise InvalidInput for a filter that no rule can have."""
    if isinstance(names, dict):
        found: dict[str, Any] = {
            key: tuple(said) if isinstance(said, list) else said
            for key, said in names.items()
            if key != "newest"
        }
        NameMatcher(NameFilter(**found))


def are_logins(document: AnyMapping[str, Any]) -> bool:
    """Whether a map is one of credentials by registry, by the shape of its values."""
    keys = {"username", "password", "insecure"}
    return any(isinstance(value, dict) and keys & set(value) for value in document.values())
