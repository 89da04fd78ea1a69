"""From what was gathered to transship.yaml: registries by host, and one rule for all lines between two registries.

A rule takes a tag once, by the first entry that suits it. Lines that send one tag to two names of one registry are
therefore dealt out to as many rules, in their order; all others share one, be they ten thousand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from api.importers.gathered import (
    FoundRegistry,
    Gathered,
    Login,
    Mapping,
    Note,
    Place,
    name_of,
    variable_of,
)
from api.importers.judging import Path, judge

Key = tuple[str, tuple[str, ...], str]
MOST_TAGS = 500
"""In one entry; what names more is several."""


@dataclass(frozen=True)
class Imported:
    """A document of transship.yaml, the passwords that it names by variables, and the report."""

    document: dict[str, Any]
    notes: tuple[Note, ...]
    secrets: AnyMapping[str, str] = field(repr=False, default_factory=dict)
    """Passwords by variable; where a server is to store them, by name."""

    hosts: AnyMapping[str, str] = field(default_factory=dict)
    """Which host may receive a password that a server is to store."""

    @property
    def whole(self) -> bool:
        """Whether everything that was asked for is done."""
        return all(note.weight != "lost" for note in self.notes)

    def text(self) -> str:
        """Return the document as YAML."""
        return yaml.dump(
            self.document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120
        )


class _Plain(yaml.SafeDumper):
    """YAML without anchors: every line says what it means."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        del data
        return True


@dataclass
class _Secrets:
    """Passwords that were met, and whether a server is to store them."""

    stored: bool
    values: dict[str, str] = field(default_factory=dict, repr=False)
    hosts: dict[str, str] = field(default_factory=dict)


def build(gathered: Gathered, *, stored: bool = False) -> Imported:
    """Return what was gathered as one configuration; `stored`: passwords are named as a server's secrets."""
    names = _names(gathered)
    secrets = _Secrets(stored)
    used = {one for mapping in gathered.mappings for one in (mapping.source, *mapping.destinations)}
    registries = [
        _registry(found, names[host], gathered, secrets)
        for host, found in gathered.registries.items()
        if host in used
    ]
    for host, found in gathered.registries.items():
        if host not in used and found.logins:
            gathered.note(
                "look", found.logins[0].place, host, "no line uses this registry: left out"
            )
    places: dict[Path, Place] = {
        ("registries", number): _place_of(host, gathered)
        for number, host in enumerate(h for h in gathered.registries if h in used)
    }
    rules = _rules(gathered, names, places)
    document = judge({"version": 1, "registries": registries, "rules": rules}, places, gathered)
    return Imported(document, tuple(gathered.notes), secrets.values, secrets.hosts)


def _place_of(host: str, gathered: Gathered) -> Place:
    """Return where a registry was met: its credentials, or the first line that names it."""
    found = gathered.registries[host]
    if found.logins:
        return found.logins[0].place
    return next(m.place for m in gathered.mappings if host in (m.source, *m.destinations))


def _names(gathered: Gathered) -> dict[str, str]:
    """Return a name of its own for each host."""
    hosts = dict.fromkeys(
        [*gathered.registries, *(h for m in gathered.mappings for h in (m.source, *m.destinations))]
    )
    names: dict[str, str] = {}
    for host in hosts:
        base = name_of(gathered.registry(host).name or host)
        name, number = base, 2
        while name in names.values():
            name, number = f"{base[:60]}-{number}", number + 1
        names[host] = name
    return names


def _registry(
    found: FoundRegistry, name: str, gathered: Gathered, secrets: _Secrets
) -> dict[str, Any]:
    host = found.host
    document: dict[str, Any] = {
        "name": name,
        "url": f"{'http' if found.plain else 'https'}://{host}",
    }
    credentials = [
        _credentials(host, login, gathered, secrets) for login in _last(found.logins, gathered)
    ]
    if len(credentials) == 1 and "for" not in credentials[0]:
        document["credentials"] = credentials[0]
    elif credentials:
        document["credentials"] = credentials
    settings = {
        key: said for key, said in found.settings.items() if key != "tls" or not found.plain
    }
    return document | settings


def _last(logins: list[Login], gathered: Gathered) -> list[Login]:
    """Return one login a prefix, the last one that was written, the longest prefix first."""
    kept: dict[str, Login] = {}
    for login in logins:
        if login.prefix in kept:
            gathered.note(
                "look", login.place, login.prefix or "username", "stands twice: the last one holds"
            )
        kept[login.prefix] = login
    return sorted(kept.values(), key=lambda one: (-len(one.prefix), one.prefix))


def _credentials(host: str, login: Login, gathered: Gathered, secrets: _Secrets) -> dict[str, Any]:
    where = f"the password of {login.username} at {'/'.join(filter(None, (host, login.prefix)))}"
    variable = variable_of(host, login.prefix)
    found: dict[str, Any] = {"for": login.prefix} if login.prefix else {}
    found["username"] = login.username
    if login.password and secrets.stored:
        name = name_of(f"{host}-{login.prefix}")
        secrets.values[name], secrets.hosts[name] = login.password, host
        return found | {"secret": name}
    if login.password:
        secrets.values[variable] = login.password
        what = f"set {variable} to {where}"
    elif login.variable:
        what = f"set {variable} to what ${login.variable} holds: {where}"
    else:
        what = f"the file does not have it: set {variable} to {where}"
    gathered.note("look", login.place, "password", what)
    return found | {"password_env": variable}


def _rules(
    gathered: Gathered, names: AnyMapping[str, str], places: dict[Path, Place]
) -> list[dict[str, Any]]:
    dealt: dict[Key, list[_Deal]] = {}
    for mapping in gathered.mappings:
        deals = dealt.setdefault((mapping.source, mapping.destinations, mapping.rule), [])
        deal = next((one for one in deals if one.takes(mapping)), None)
        if deal is None:
            deal = _Deal()
            deals.append(deal)
        deal.add(mapping)
    rules: list[dict[str, Any]] = []
    taken: set[str] = set()
    for (source, destinations, rule), deals in dealt.items():
        keys = json.loads(rule)
        there = (
            names[destinations[0]] if len(destinations) == 1 else f"{len(destinations)}-registries"
        )
        wanted = keys.pop("name", f"{names[source]}-to-{there}")
        named = keys.pop("to", {})
        to = [{"registry": names[one], **named} for one in destinations]
        for deal in deals:
            places |= {
                ("rules", len(rules), number): place for number, place in enumerate(deal.places)
            }
            places["rules", len(rules)] = deal.places[0]
            rules.append(
                {
                    "name": _free(wanted, taken),
                    "source": names[source],
                    "select": deal.entries,
                    "destinations": to,
                }
                | keys
            )
    return rules


def _free(wanted: str, taken: set[str]) -> str:
    """Return the wanted name of a rule, with a number where others have it."""
    name, number = wanted[:63].rstrip("-._"), 2
    while name in taken:
        name, number = f"{wanted[:59]}-{number}", number + 1
    taken.add(name)
    return name


class _Deal:
    """The entries of one rule. Of each repository a tag is sent to one name, by whichever entry takes it."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.places: list[Place] = []  # of the line that each entry began with
        self._named: dict[tuple[str, str], str] = {}  # repository and tag: what becomes of it
        self._ends: dict[str, set[str]] = {}  # repository: what becomes of its tags
        self._described: set[str] = set()  # repositories whose tags are described, not only named
        self._open: dict[str, dict[str, Any]] = {}  # entries that more tags may be added to

    def takes(self, mapping: Mapping) -> bool:
        """Whether no entry so far takes for another name what this one is for."""
        end, tags = _end(mapping.entry), mapping.entry.get("tags")
        for repository in _repositories(mapping.entry):
            others = self._ends.get(repository, set()) - {end}
            if not others:
                continue
            if not isinstance(tags, list) or repository in self._described:
                return False
            if any(self._named.get((repository, tag), end) != end for tag in tags):
                return False
        return True

    def add(self, mapping: Mapping) -> None:
        """Take a line up: tags of one repository that go to one name are one entry."""
        end, tags = _end(mapping.entry), mapping.entry.get("tags")
        repositories = _repositories(mapping.entry)
        for repository in repositories:
            self._ends.setdefault(repository, set()).add(end)
            if isinstance(tags, list):
                self._named |= {(repository, tag): end for tag in tags}
            else:
                self._described.add(repository)
        known = self._open.get(f"{repositories} {end}")
        if (
            known is not None
            and isinstance(tags, list)
            and len(known["tags"]) + len(tags) <= MOST_TAGS
        ):
            known["tags"] += [tag for tag in tags if tag not in known["tags"]]
        elif mapping.entry not in self.entries[-1:]:
            self.entries.append(mapping.entry)
            self.places.append(mapping.place)
            if isinstance(tags, list):
                self._open[f"{repositories} {end}"] = mapping.entry


def _end(entry: AnyMapping[str, Any]) -> str:
    """Return what becomes of what an entry takes, as a text: names and platforms."""
    return repr({key: entry[key] for key in sorted(entry) if key not in ("repositories", "tags")})


def _repositories(entry: AnyMapping[str, Any]) -> list[str]:
    named = entry.get("repositories", ())
    return list(named) if isinstance(named, list) else [repr(named)]


def environment(imported: Imported) -> None:
    """Have this process's environment hold the passwords that it does not have already."""
    for variable, value in imported.secrets.items():
        os.environ.setdefault(variable, value)
