"""image-syncer: an auth file and an images file, or both in one legacy config (peers-cli.md 2.2)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping as AnyMapping
from typing import Any

from api.importers.files import File
from api.importers.gathered import WITHOUT_REFERRERS, Gathered, Login, Place, are_logins
from api.importers.references import digest_of, hub, judged, parted, tags_of
from service.errors import InvalidInput

FORMAT = "image-syncer"
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_LEGACY = frozenset({"auth", "images"})
"""Keys of a file that has both; one of a registry that is called so has another shape."""
_AUTH_KEYS = ("username", "password", "insecure")


def gather(files: list[File], into: Gathered) -> None:
    """Take up what the files say."""
    for file in files:
        document = file.document
        if not isinstance(document, dict):
            into.lost(file.at(), "", "not a map: nothing of it was read")
            continue
        if any(isinstance(document.get(key), dict) for key in _LEGACY) or set(document) <= _LEGACY:
            into.unknown_keys(document, _LEGACY, file.at())
            auth = into.map_of(document.get("auth"), file.at("auth"), "auth")
            _auth(file, auth, ("auth",), into, expand=False)
            images = into.map_of(document.get("images"), file.at("images"), "images")
            _images(file, images, ("images",), into)
        elif are_logins(document):
            _auth(file, document, (), into, expand=True)
        else:
            _images(file, document, (), into)
    into.note(
        "look",
        files[0].at(),
        "--os, --arch, --force",
        "stand on image-syncer's command line, not in its files: `platforms` of a rule's select is for the first two",
    )


def _auth(
    file: File, auth: AnyMapping[str, Any], path: tuple[str, ...], into: Gathered, *, expand: bool
) -> None:
    for key, value in auth.items():
        place = file.at(*path, key)
        if not isinstance(value, dict):
            into.lost(place, key, "not credentials: username and password")
            continue
        into.unknown_keys(value, _AUTH_KEYS, place, f"{key}.")
        host, _, prefix = key.partition("/")
        registry = into.registry(hub(host))
        insecure = value.get("insecure", False)
        if insecure is True:
            registry.settings["tls"] = {"insecure": True}
            into.note(
                "look",
                place,
                f"{key}.insecure",
                "http is not fallen back to: write http:// in url where it is meant",
            )
        elif insecure is not False:
            into.lost(place, f"{key}.insecure", f"{insecure!r} is no true or false")
        username, _ = _expanded(
            value.get("username"), place, f"{key}.username", into, expand=expand
        )
        password, variable = _expanded(
            value.get("password"), place, f"{key}.password", into, expand=expand
        )
        if not username:
            if value.get("password"):
                into.lost(place, f"{key}.username", "a password without a user: no credentials")
            continue
        if username == "_oauth2_":
            into.note(
                "look",
                place,
                f"{key}.username",
                "a service account's key: user _json_key with the JSON as password",
            )
        registry.logins.append(Login(username, password, place, prefix, variable))


def _expanded(
    value: Any, place: Place, key: str, into: Gathered, *, expand: bool
) -> tuple[str, str]:
    """Return a text with its variables filled in, and the variable that it is, if it is nothing else."""
    text = "" if value is None else str(value)
    if not expand or "$" not in text:
        return text, ""
    unset = [
        name
        for found in _VARIABLE.finditer(text)
        if (name := found[1] or found[2]) not in os.environ
    ]
    if unset:
        into.note("look", place, key, f"names ${unset[0]}, which is not set here")
        whole = _VARIABLE.fullmatch(text)
        return "", (whole[1] or whole[2]) if whole else unset[0]
    if not _VARIABLE.search(text):
        into.note(
            "look",
            place,
            key,
            "has a $ that is no variable: image-syncer would drop it, here it stays",
        )
    return _VARIABLE.sub(lambda found: os.environ[found[1] or found[2]], text), ""


def _images(
    file: File, images: AnyMapping[str, Any], path: tuple[str, ...], into: Gathered
) -> None:
    for source, value in images.items():
        place = file.at(*path, source)
        destinations = [value] if isinstance(value, str) else value
        if not isinstance(destinations, list) or not destinations:
            into.lost(
                place, source, "no destination: image-syncer ends there; the line is left out"
            )
            continue
        for destination in dict.fromkeys(map(str, destinations)):
            try:
                filled, _ = _expanded(destination, place, source, into, expand=True)
                if not filled:
                    into.lost(place, source, f"the destination {destination!r} is empty")
                    continue
                _line(source, filled, place, into)
            except InvalidInput as error:
                into.lost(place, source, error.message)


def _line(source: str, destination: str, place: Place, into: Gathered) -> None:
    base = re.split(r"@|:/", source)[0]
    if "/" in base and ":" not in base.rpartition("/")[2] and "." not in base.partition("/")[0]:
        into.lost(
            place,
            source,
            f"without a tag image-syncer takes {base.partition('/')[0]!r} for a registry: write "
            f"docker.io/{base} if Docker Hub is meant",
        )
        return
    host, rest = parted(source)
    repository, tags = _split(rest)
    there, target = parted(destination)
    to, names = _split(target)
    entry: dict[str, Any] = {"repositories": [judged(repository)]}
    if isinstance(tags, str) and tags.startswith("@"):
        digest = digest_of(tags[1:])
        if names not in (None, tags):
            into.lost(place, source, "a digest goes to the same digest, or to a name without any")
            return
        into.add(
            host,
            there,
            entry | {"tags": [digest], "to": {"repository": judged(to)}},
            place,
            WITHOUT_REFERRERS,
        )
        return
    if isinstance(tags, str):
        if names is not None:
            into.lost(
                place, source, "tags of a regex keep their names: the destination may have none"
            )
            return
        entry["tags"] = {"regex": tags[1:-1]}
    if not isinstance(tags, list):
        if names is not None and not isinstance(tags, str):
            into.lost(place, source, "all tags keep their names: the destination may have none")
            return
        into.add(host, there, entry | {"to": {"repository": judged(to)}}, place, WITHOUT_REFERRERS)
        return
    if names is not None and (not isinstance(names, list) or len(names) != len(tags)):
        into.lost(place, source, "as many tags at the destination as at the source, or none")
        return
    for tag, name in zip(tags, names or tags, strict=True):
        ends = {"repository": judged(to)} | ({"tag": name} if name != tag else {})
        into.add(host, there, entry | {"tags": [tag], "to": ends}, place, WITHOUT_REFERRERS)


def _split(rest: str) -> tuple[str, str | list[str] | None]:
    """Return a repository and its tags: none, a list, a regex between slashes, or @ and a digest."""
    repository, at, digest = rest.partition("@")
    if at:
        return repository.partition(":")[
            0
        ], f"@{digest}"  # name:tag@digest: the tag counts for nothing
    if (start := rest.find(":/")) >= 0 and rest.endswith("/"):
        return rest[:start], rest[start + 1 :]
    repository, colon, tags = rest.partition(":")
    return repository, tags_of(tags) if colon else None
