"""ocync's YAML: registries, target groups, defaults and mappings.

Source: ocync's configuration reference (docs/src/content/configuration.md of its repository, 2026).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from api.importers.files import File
from api.importers.gathered import Gathered, Login, Place
from api.importers.references import hub, judged
from service.errors import InvalidInput, InvalidReference

FORMAT = "ocync"
_TOP = ("global", "registries", "target_groups", "defaults", "mappings")
_REGISTRY = ("url", "auth_type", "max_concurrent", "head_first", "credentials", "token")
_SHARED = ("source", "targets", "tags", "platforms", "artifacts")
_TAGS = (
    "glob", "include", "semver", "semver_prerelease", "exclude", "sort", "latest", "min_tags", "immutable_tags",
)  # fmt: skip
_ARTIFACTS = ("enabled", "include", "exclude", "require_artifacts")
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
_KEYLESS = {"ecr": "aws", "gar": "gcp", "gcr": "gcp", "acr": "azure"}
_OF_HOST = (
    (re.compile(r"\d{12}\.dkr\.ecr\..*|public\.ecr\.aws"), "ecr"),
    (re.compile(r".*-docker\.pkg\.dev|(.*\.)?gcr\.io"), "gar"),
    (re.compile(r".*\.azurecr\.(io|cn|us)"), "acr"),
)
PRERELEASES = ("rc", "alpha", "beta", "pre", "snapshot", "nightly")
"""What ocync leaves out by itself, in any case of letters, unless `include` names it."""


def gather(files: list[File], into: Gathered) -> None:
    """Take up what the files say."""
    for file in files:
        document = file.document
        if not isinstance(document, dict):
            into.lost(file.at(), "", "not a map: nothing of it was read")
            continue
        into.unknown_keys(document, _TOP, file.at())
        if document.get("global"):
            into.note(
                "look",
                file.at("global"),
                "global",
                "caches and staging are not set here; workers and slots say how much is done at once",
            )
        hosts = {
            str(name): _registry(file, str(name), value, into)
            for name, value in _part(file, "registries", into).items()
        }
        groups, defaults = _part(file, "target_groups", into), _part(file, "defaults", into)
        into.unknown_keys(defaults, _SHARED, file.at("defaults"), "defaults.")
        mappings = into.maps_of(document.get("mappings"), file.at, "mappings")
        for number, mapping in mappings:
            place, at = file.at("mappings", number), f"mappings[{number}]"
            into.unknown_keys(mapping, (*_SHARED, "from", "to"), place, f"{at}.")
            try:
                _mapping({**defaults, **mapping}, hosts, groups, place, at, into)
            except InvalidInput as error:
                into.lost(place, at, error.message)


def _part(file: File, key: str, into: Gathered) -> dict[str, Any]:
    return into.map_of(file.document.get(key), file.at(key), key)


def _filled(text: Any) -> str:
    """Return a text with its variables filled in; raises InvalidReference where one has to be set."""

    def value(found: re.Match[str]) -> str:
        name, kind, more = found.groups()
        if name in os.environ:
            return os.environ[name]
        if kind == "-":
            return str(more)
        raise InvalidReference(f"names ${name}, which is not set here")

    return _VARIABLE.sub(value, str(text))


def _registry(file: File, name: str, said: Any, into: Gathered) -> str:
    """Take up a registry; its host, "" for one that could not be read."""
    place, at = file.at("registries", name), f"registries.{name}"
    value = into.map_of(said, place, at)
    into.unknown_keys(value, _REGISTRY, place, f"{at}.")
    try:
        host = hub(_filled(value.get("url") or "").removeprefix("https://").rstrip("/"))
    except InvalidReference as error:
        into.lost(place, f"{at}.url", error.message)
        return ""
    if not host:
        into.lost(place, f"{at}.url", "is missing")
        return ""
    registry = into.registry(host)
    registry.name = registry.name or name
    if value.get("max_concurrent"):
        registry.settings["limits"] = {"concurrency": value["max_concurrent"]}
    if value.get("head_first"):
        into.note(
            "look", place, f"{at}.head_first", "tags are compared by HEAD before anything is read"
        )
    kind = str(value.get("auth_type") or _kind_of(host))
    if kind in _KEYLESS:
        registry.settings["credentials"] = {"keyless": _KEYLESS[kind]}
    elif kind in ("docker_config", "ghcr"):
        registry.settings["credentials"] = {"docker_config": True}
    elif kind == "basic":
        login = into.map_of(value.get("credentials"), place, f"{at}.credentials")
        into.unknown_keys(login, ("username", "password"), place, f"{at}.credentials.")
        _login(login, host, place, at, into)
    elif kind in ("static_token", "token"):
        into.lost(
            place,
            f"{at}.token",
            "a token that is never renewed: give username and password, or keyless",
        )
    elif kind != "anonymous":
        into.lost(place, f"{at}.auth_type", f"{kind!r} is not known")
    return host


def _kind_of(host: str) -> str:
    return next((kind for hosts, kind in _OF_HOST if hosts.fullmatch(host)), "docker_config")


def _login(value: Mapping[str, Any], host: str, place: Place, at: str, into: Gathered) -> None:
    try:
        username = _filled(value.get("username") or "")
    except InvalidReference as error:
        into.lost(place, f"{at}.credentials.username", error.message)
        return
    password, variable = str(value.get("password") or ""), ""
    try:
        password = _filled(password)
    except InvalidReference:
        found = _VARIABLE.search(password)
        password, variable = "", found[1] if found else ""
    into.registry(host).logins.append(Login(username, password, place, variable=variable))


def _mapping(
    value: Mapping[str, Any],
    hosts: Mapping[str, str],
    groups: Mapping[str, Any],
    place: Place,
    at: str,
    into: Gathered,
) -> None:
    source = hosts.get(str(value.get("source")), "")
    targets = value.get("targets") or []
    named = groups.get(targets, [targets]) if isinstance(targets, str) else targets
    if not isinstance(named, list):
        raise InvalidReference("targets is neither a registry, a group nor a list of registries")
    there = tuple(hosts.get(str(one), "") for one in named)
    if not source or not there or not all(there):
        raise InvalidReference("names a source or targets that are not among the registries")
    repository = judged(_filled(value.get("from") or ""))
    to = judged(_filled(value.get("to") or repository))
    common: dict[str, Any] = {"repositories": [repository], "to": {"repository": to}}
    if value.get("platforms"):
        if not isinstance(value["platforms"], list):
            raise InvalidReference("platforms is not a list of platforms")
        common["platforms"] = list(value["platforms"])
        into.note(
            "changed",
            place,
            f"{at}.platforms",
            "an index stays whole and keeps its digest, there it is rewritten",
        )
    tags = value.get("tags") or {}
    if not isinstance(tags, dict):
        raise InvalidReference("tags is not a map of filters, and without them more would go")
    rule = _rule(value, tags, place, at, into)
    for one in _tags(tags, place, at, into):
        into.add(source, there, {**common, "tags": one}, place, rule)


def _rule(
    value: Mapping[str, Any], tags: Mapping[str, Any], place: Place, at: str, into: Gathered
) -> dict[str, Any]:
    artifacts = into.map_of(value.get("artifacts"), place, f"{at}.artifacts")
    into.unknown_keys(artifacts, _ARTIFACTS, place, f"{at}.artifacts.")
    for key, why in (
        ("include", "all referrers come along, or none"),
        ("exclude", "all referrers come along, or none"),
        (
            "require_artifacts",
            "`require: {signature: ...}` of a rule asks for a signature by a key",
        ),
    ):
        if artifacts.get(key):
            into.lost(place, f"{at}.artifacts.{key}", why)
    rule: dict[str, Any] = {"referrers": bool(artifacts.get("enabled", True))}
    least = tags.get("min_tags")
    if least:
        rule["on_empty"] = "fail"
        if least != 1:
            into.note(
                "changed",
                place,
                f"{at}.tags.min_tags",
                "only that nothing at all is found is a failure",
            )
    return rule


def _tags(
    tags: Mapping[str, Any], place: Place, at: str, into: Gathered
) -> Iterator[dict[str, Any]]:
    """Yield filters that are united; raises InvalidReference for an order that newest does not have."""
    into.unknown_keys(tags, _TAGS, place, f"{at}.tags.")
    if tags.get("latest") and tags.get("sort") != "semver":
        raise InvalidReference("latest by the alphabet: `newest` goes by version or creation")
    excluded = _list(tags.get("exclude"))
    pool: dict[str, Any] = {"exclude": [*excluded, *map(_any_case, PRERELEASES)]}
    if globs := _list(tags.get("glob")):
        pool["include"] = globs
    if tags.get("semver"):
        pool["semver"] = str(tags["semver"])
        into.note(
            "changed",
            place,
            f"{at}.tags.semver",
            "what a suffix such as -r3 or -alpine says is read otherwise",
        )
    if tags.get("latest"):
        pool["newest"] = {"count": tags["latest"], "by": "semver"}
    if tags.get("immutable_tags"):
        into.note(
            "look",
            place,
            f"{at}.tags.immutable_tags",
            "`on_conflict: keep` of a rule writes each tag once",
        )
    if tags.get("semver_prerelease"):
        into.note(
            "changed",
            place,
            f"{at}.tags.semver_prerelease",
            "a range that names a prerelease takes those of that version",
        )
    always = _list(tags.get("include"))
    if always:
        yield {"include": always} | ({"exclude": excluded} if excluded else {})
    yield pool


def _list(value: Any) -> list[str]:
    """Return one text or several; raises InvalidReference for what is neither: without a filter more would go."""
    listed = value if isinstance(value, list) else [value] if value else []
    if not all(isinstance(one, str | int | float) for one in listed):
        raise InvalidReference("a filter of tags is neither a text nor a list of texts")
    return [str(one) for one in listed]


def _any_case(word: str) -> str:
    """Return the glob for `*-word*` in any case of letters."""
    return f"*-{''.join(f'[{letter}{letter.upper()}]' for letter in word)}*"
