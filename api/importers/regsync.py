"""regsync.yml of regclient: creds, defaults, sync entries (peers-cli.md 2.3). Its templates are never run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from api.importers.files import File
from api.importers.gathered import Gathered, Login, Place
from api.importers.globs import glob_of
from api.importers.references import hub, judged, parted, tags_of
from service.errors import InvalidInput, InvalidReference

FORMAT = "regsync"
_TOP = ("version", "creds", "defaults", "sync")
_CREDS = (
    "registry", "hostname", "user", "pass", "token", "credHelper", "credExpire", "credHost", "tls", "regcert",
    "clientCert", "clientKey", "repoAuth", "mirrors", "priority", "pathPrefix", "reqPerSec", "reqConcurrent",
    "blobChunk", "blobMax", "apiOpts", "scheme", "api",
)  # fmt: skip
_SHARED = (
    "interval", "schedule", "ratelimit", "backup", "digestTags", "referrers", "referrerFilters", "referrerSource",
    "referrerTarget", "referrerSlow", "fastCheck", "forceRecursive", "includeExternal", "mediaTypes", "hooks",
)  # fmt: skip
_DEFAULTS = (
    *_SHARED,
    "parallel",
    "skipDockerConfig",
    "userAgent",
    "blobLimit",
    "cacheCount",
    "cacheTime",
)
_ENTRY = (*_SHARED, "source", "target", "type", "tags", "tagSets", "repos", "platform", "platforms")
_SET = ("allow", "deny", "semverRange")

_NOT_HERE = {  # keys whose meaning is not carried over
    "token": "an identity token: give username and password",
    "credHelper": "use `docker_config: true` and allow the helper by TRANSSHIP_DOCKER_CREDENTIAL_HELPERS",
    "regcert": "a CA is a file here: tls with ca_file",
    "clientCert": "a certificate is a file here: tls with client_cert_file",
    "clientKey": "a key is a file here: tls with client_key_file",
    "mirrors": "the source is read where its url says",
    "pathPrefix": "names at the registry are given whole",
    "backup": "a tag that is overwritten is kept under no other name",
    "referrerFilters": "all referrers come along, or none",
    "referrerSource": "referrers are read where the image is",
    "referrerTarget": "referrers go where the image goes",
    "includeExternal": "layers outside of the registry are not fetched",
    "mediaTypes": "everything is copied: `types` in a rule's select is for less",
}
_OTHERWISE = {
    "ratelimit": "what a registry tells of its quota is obeyed, without a minimum of one's own",
    "forceRecursive": "`transship verify` walks everything, and --repair mends",
    "fastCheck": "equal digests end the comparison, and referrers are looked at all the same",
    "blobChunk": "`capabilities` of a registry has uploads and chunk_bytes",
    "blobMax": "`capabilities` of a registry has uploads and chunk_bytes",
    "skipDockerConfig": "the docker configuration is read only where `docker_config: true` says so",
    "userAgent": "requests carry the name of this program",
}
_OF_NO_MATTER = frozenset(
    {"credExpire", "credHost", "repoAuth", "priority", "scheme", "api", "apiOpts", "referrerSlow", "hooks", "parallel",
     "blobLimit", "cacheCount", "cacheTime"}
)  # fmt: skip
_ABSENT: tuple[Any, ...] = (None, False, "", [], {}, 0)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:h|m|s|ms))+")
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def gather(files: list[File], into: Gathered) -> None:
    """Take up what the files say."""
    for file in files:
        document = file.document
        if not isinstance(document, dict):
            into.lost(file.at(), "", "not a map: nothing of it was read")
            continue
        into.unknown_keys(document, _TOP, file.at())
        version = document.get("version", 1)
        if version not in (0, 1):
            into.lost(
                file.at("version"), "version", f"version {version} is not known: nothing was read"
            )
            continue
        for number, credential in into.maps_of(document.get("creds"), file.at, "creds"):
            _credential(file, ("creds", number), credential, into)
        defaults = into.map_of(document.get("defaults"), file.at("defaults"), "defaults")
        into.unknown_keys(defaults, _DEFAULTS, file.at("defaults"), "defaults.")
        _told(file, ("defaults",), defaults, into)
        for number, entry in into.maps_of(document.get("sync"), file.at, "sync"):
            path = ("sync", number)
            into.unknown_keys(entry, _ENTRY, file.at(*path), f"sync[{number}].")
            _told(file, path, entry, into)
            try:
                _entry(file, path, {**defaults, **entry}, into)
            except InvalidInput as error:
                into.lost(file.at(*path), f"sync[{number}]", error.message)


def _told(
    file: File, path: tuple[str | int, ...], value: Mapping[str, Any], into: Gathered
) -> None:
    """Tell of keys that are not carried over, where they say something."""
    at = _spelled(path)
    for key, said in value.items():
        if said in _ABSENT:
            continue
        if key in _OF_NO_MATTER:
            into.note("look", file.at(*path, key), f"{at}.{key}", "nothing of the kind is set here")
        elif key in _NOT_HERE:
            into.lost(file.at(*path, key), f"{at}.{key}", _NOT_HERE[key])
        elif key in _OTHERWISE:
            into.note("changed", file.at(*path, key), f"{at}.{key}", _OTHERWISE[key])


def _spelled(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{one}]" if isinstance(one, int) else one for one in path)


def _credential(
    file: File, path: tuple[str | int, ...], value: Mapping[str, Any], into: Gathered
) -> None:
    at, place = _spelled(path), file.at(*path)
    into.unknown_keys(value, _CREDS, place, f"{at}.")
    _told(file, path, value, into)
    host = str(value.get("registry") or "")
    if not host or "{{" in host:
        into.lost(
            place,
            f"{at}.registry",
            "no name of a registry that could be read: templates are not run",
        )
        return
    registry = into.registry(hub(host))
    if value.get("hostname") and value["hostname"] != host:
        registry.settings["url"] = (
            f"{'http' if value.get('tls') == 'disabled' else 'https'}://{value['hostname']}"
        )
    registry.plain = value.get("tls") == "disabled"
    if value.get("tls") == "insecure":
        registry.settings["tls"] = {"insecure": True}
    limits = {
        name: value[key]
        for key, name in (("reqPerSec", "requests_per_second"), ("reqConcurrent", "concurrency"))
        if value.get(key)
    }
    if limits:
        registry.settings["limits"] = limits
    user, password = (str(value.get(key) or "") for key in ("user", "pass"))
    if "{{" in user:
        into.lost(place, f"{at}.user", "templates are not run: give the user in credentials")
    elif user:
        template = "{{" in password
        registry.logins.append(Login(user, "" if template else password, place))
        if template:
            into.note("look", place, f"{at}.pass", "templates are not run")


def _entry(
    file: File,
    path: tuple[str | int, ...],
    value: Mapping[str, Any],
    into: Gathered,
) -> None:
    at, place = _spelled(path), file.at(*path)
    kind, source, target = (str(value.get(key) or "") for key in ("type", "source", "target"))
    if "{{" in source + target:
        raise InvalidReference("templates are not run: write source and target out")
    if not source or not target:
        raise InvalidReference("needs source and target")
    if value.get("platform"):
        raise InvalidReference(
            f"platform: {value['platform']} copies an image out of its index under another digest; `platforms` in a "
            "rule's select keeps the index"
        )
    rule = _rule(value, place, at, into)
    platforms = _platforms(value.get("platforms"), place, at, into)
    if kind == "image":
        _image(source, target, platforms, rule, place, into)
        return
    if kind == "repository":
        host, repository = parted(source)
        there, to = parted(target)
        named: dict[str, Any] = {
            "repositories": [judged(repository)],
            "to": {"repository": judged(to)},
        }
        filters = [named]
    elif kind == "registry":
        host = hub(source)
        base, _, prefix = target.partition("/")
        there = hub(base)
        to = "/".join(filter(None, (prefix, "{repository}")))
        filters = [
            {**one, "to": {"repository": to}}
            for one in _repositories(value.get("repos"), place, at, into)
        ]
    else:
        raise InvalidReference(f"type is {kind or 'missing'}: image, repository or registry")
    for named in filters:
        for tags in _tags(value, place, at, into):
            entry = {**named, **({"tags": tags} if tags else {}), **platforms}
            into.add(host, there, entry, place, rule)


def _image(
    source: str,
    target: str,
    platforms: Mapping[str, Any],
    rule: Mapping[str, Any],
    place: Place,
    into: Gathered,
) -> None:
    host, rest = parted(source)
    there, ends = parted(target)
    repository, _, tag = rest.partition(":")
    to, _, name = ends.partition(":")
    (tag,), (name,) = tags_of(tag or "latest"), tags_of(name or tag or "latest")
    named = {"repository": judged(to)} | ({"tag": name} if name != tag else {})
    entry = {"repositories": [judged(repository)], "tags": [tag], "to": named, **platforms}
    into.add(host, there, entry, place, rule)


def _rule(value: Mapping[str, Any], place: Place, at: str, into: Gathered) -> dict[str, Any]:
    wanted = bool(value.get("referrers")), bool(value.get("digestTags"))
    if any(wanted) and not all(wanted):
        into.note(
            "changed",
            place,
            f"{at}.referrers",
            "referrers and digestTags come along together here, or not at all",
        )
    rule: dict[str, Any] = {"referrers": any(wanted)}
    if value.get("schedule"):
        rule["trigger"] = {"schedule": str(value["schedule"])}
        into.note("look", place, f"{at}.schedule", "is in UTC here: trigger has a timezone")
    elif value.get("interval"):
        rule["trigger"] = {"every": f"{_seconds(str(value['interval'])):.0f}s"}
    return rule


def _seconds(text: str) -> float:
    """Return the seconds of a duration as Go writes it; raises InvalidReference."""
    if not _DURATION.fullmatch(text):
        raise InvalidReference(f"not a duration: {text[:40]!r}")
    return sum(float(found[1]) * _UNITS[found[2]] for found in _PIECE.finditer(text))


def _platforms(value: Any, place: Place, at: str, into: Gathered) -> dict[str, Any]:
    if not value:
        return {}
    if not isinstance(value, list):
        raise InvalidReference(f"{at}.platforms is not a list of platforms")
    named = [str(one) for one in value if one]
    if "" not in value:
        into.note(
            "changed", place, f"{at}.platforms", "entries of an index without a platform come along"
        )
    return {"platforms": named} if named else {}


def _repositories(value: Any, place: Place, at: str, into: Gathered) -> Iterator[dict[str, Any]]:
    repos = _filter(value, place, f"{at}.repos", into)
    exclude = _denied(_texts(repos, "deny", f"{at}.repos"), slashes=True)
    allowed = _texts(repos, "allow", f"{at}.repos")
    if not allowed:
        yield {"repositories": {"include": ["**"], **exclude}}
    for one in allowed:
        yield {"repositories": {"regex": f"^{one}$", **exclude}}
    into.unknown_keys(repos, ("allow", "deny"), place, f"{at}.repos.")


def _tags(
    value: Mapping[str, Any], place: Place, at: str, into: Gathered
) -> Iterator[dict[str, Any] | None]:
    """Yield filters that are united; None: all tags. Raises InvalidReference."""
    more = value.get("tagSets") or []
    if not isinstance(more, list):
        raise InvalidReference(f"{at}.tagSets is not a list of filters")
    sets = [_filter(one, place, f"{at}.tags", into) for one in (value.get("tags"), *more) if one]
    if not sets:
        yield None
    for number, one in enumerate(sets):
        key = f"{at}.tags[{number}]"
        into.unknown_keys(one, _SET, place, f"{key}.")
        common = _denied(_texts(one, "deny", key), slashes=False)
        if ranges := _texts(one, "semverRange", key):
            common["semver"] = " || ".join(ranges)
            into.note(
                "changed",
                place,
                f"{at}.tags.semverRange",
                "prereleases count only where the range names one, and 3.22-alpine as 3.22",
            )
        allowed = _texts(one, "allow", key)
        for pattern in allowed:
            yield {"regex": f"^{pattern}$", **common}
        if not allowed:
            yield common or None


def _filter(value: Any, place: Place, key: str, into: Gathered) -> dict[str, Any]:
    """Return a filter's map; raises InvalidReference for what is none: without the filter more would go."""
    if value and not isinstance(value, dict):
        raise InvalidReference(f"{key} is not a map of filters")
    return into.map_of(value, place, key)


def _texts(value: Mapping[str, Any], key: str, at: str) -> list[str]:
    """Return a filter's list of texts; raises InvalidReference for what is none: without it more would go."""
    said = value.get(key)
    if said in (None, []):
        return []
    if not isinstance(said, list) or not all(isinstance(one, str | int | float) for one in said):
        raise InvalidReference(f"{at}.{key} is not a list of texts")
    return [str(one) for one in said]


def _denied(patterns: list[str], *, slashes: bool) -> dict[str, Any]:
    """Return `exclude` for expressions; raises InvalidReference for one that no glob says."""
    globs = [glob for one in patterns for glob in glob_of(one, slashes=slashes)]
    return {"exclude": globs} if globs else {}
