"""skopeo sync's YAML: registries with images, by name, by regex and by version (peers-cli.md 2.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from api.importers.files import File
from api.importers.gathered import WITHOUT_REFERRERS, Gathered, Login, Place
from api.importers.references import digest_of, hub, judged, tags_of
from service.errors import InvalidInput

FORMAT = "skopeo"
_KEYS = (
    "images",
    "images-by-tag-regex",
    "images-by-semver",
    "credentials",
    "tls-verify",
    "cert-dir",
)
_CREDENTIALS = ("username", "password")
_PRERELEASE = re.compile(r"\d-[0-9A-Za-z]")


@dataclass(frozen=True)
class Options:
    """What stands on skopeo's command line: where to, and how things are named there."""

    to: str  # HOST or HOST/PREFIX
    scoped: bool = False
    suffix: str = ""
    all_platforms: bool = False


def gather(files: list[File], into: Gathered, options: Options) -> None:
    """Take up what the files say."""
    names: dict[tuple[str, str], str] = {}
    for file in files:
        if not isinstance(file.document, dict):
            into.lost(file.at(), "", "not a map of registries: nothing of it was read")
            continue
        for host, value in file.document.items():
            if not isinstance(value, dict):
                into.lost(file.at(host), host, "not a map: nothing of it was read")
                continue
            _registry(file, str(host), value, into, options, names)
    if not options.all_platforms:
        into.note(
            "changed",
            files[0].at(),
            "--all",
            "skopeo without --all copies one platform out of an index; here it stays whole, and keeps its digest: "
            "give `platforms` in a rule's select for fewer",
        )


def _registry(
    file: File,
    host: str,
    value: Mapping[str, Any],
    into: Gathered,
    options: Options,
    names: dict[tuple[str, str], str],
) -> None:
    place = file.at(host)
    into.unknown_keys(value, _KEYS, place, f"{host}.")
    registry = into.registry(hub(host))
    at_login = file.at(host, "credentials")
    credentials = into.map_of(value.get("credentials"), at_login, f"{host}.credentials")
    into.unknown_keys(credentials, _CREDENTIALS, at_login, f"{host}.credentials.")
    if credentials.get("username"):
        registry.logins.append(
            Login(str(credentials["username"]), str(credentials.get("password") or ""), at_login)
        )
    if value.get("tls-verify") is False:
        registry.settings["tls"] = {"insecure": True}
    if value.get("cert-dir"):
        into.lost(
            file.at(host, "cert-dir"),
            f"{host}.cert-dir",
            "certificates are named one by one here: tls with ca_file, client_cert_file, client_key_file",
        )
    before = len(into.mappings)
    for key, repository, tags, at in _wanted(file, host, value, into):
        try:
            to = _to(host, judged(repository), options)
        except InvalidInput as error:
            into.lost(at, f"{host}.{key}.{repository}", error.message)
            continue
        other = names.setdefault((options.to, to["repository"]), f"{host}/{repository}")
        if other != f"{host}/{repository}":
            into.note(
                "look",
                at,
                f"{host}.{key}.{repository}",
                f"goes to the name that {other} goes to: --scoped keeps them apart",
            )
        there = hub(options.to.partition("/")[0])
        for one in tags:
            entry = {
                "repositories": [repository],
                **({} if one is None else {"tags": one}),
                "to": to,
            }
            into.add(hub(host), there, entry, at, WITHOUT_REFERRERS)
    if len(into.mappings) == before:
        into.note("look", place, host, "no images: nothing is copied from here")


def _to(host: str, repository: str, options: Options) -> dict[str, str]:
    prefix = options.to.partition("/")[2]
    name = f"{host}/{repository}" if options.scoped else repository.rpartition("/")[2]
    to = {"repository": judged("/".join(filter(None, (prefix, name))))}
    return to | ({"tag": f"{{tag}}{options.suffix}"} if options.suffix else {})


Wanted = tuple[str, str, list[Any], Place]


def _wanted(file: File, host: str, value: Mapping[str, Any], into: Gathered) -> Iterator[Wanted]:
    """Yield key, repository, filters of its tags (None: all), and place."""
    for key in ("images", "images-by-tag-regex", "images-by-semver"):
        listed = value.get(key) or {}
        if not isinstance(listed, dict):
            into.lost(file.at(host, key), f"{host}.{key}", "not a map of repositories")
            continue
        for repository, wanted in listed.items():
            place = file.at(host, key, repository)
            name = _full(host, str(repository))
            at = f"{host}.{key}.{repository}"
            if key == "images":
                try:
                    yield key, name, _listed(wanted), place
                except InvalidInput as error:
                    into.lost(place, at, error.message)
            elif not isinstance(wanted, str) or not wanted:
                into.lost(place, at, "no text: skopeo leaves out the whole map then")
            elif key == "images-by-tag-regex":
                yield key, name, [{"regex": wanted}], place
            elif _PRERELEASE.search(wanted):
                into.note(
                    "changed",
                    place,
                    at,
                    "variants such as 3.22-alpine count as their version here, as prereleases there",
                )
                yield key, name, [{"semver": wanted}], place
            else:  # no prerelease in the range: nothing with a suffix is taken
                yield key, name, [{"semver": wanted, "exclude": ["*-*"]}], place


def _full(host: str, repository: str) -> str:
    return (
        f"library/{repository}"
        if hub(host) == "docker.io" and "/" not in repository
        else repository
    )


def _listed(wanted: Any) -> list[Any]:
    if not wanted:
        return [None]
    if not isinstance(wanted, list):
        raise InvalidInput("not a list of tags")
    texts = [str(one) for one in wanted]
    tags = [tag for one in texts if not one.startswith("sha256:") for tag in tags_of(one)]
    digests = [digest_of(one) for one in texts if one.startswith("sha256:")]
    return [found for found in (tags, digests) if found]
