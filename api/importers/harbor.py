"""Harbor's replication policies and registries, as its API gives them (peers-cli.md 2.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api.importers.files import File
from api.importers.gathered import Gathered, Login, Place, name_of
from api.importers.references import hub
from service.errors import InvalidReference

FORMAT = "harbor"
MOST_PARTS = 100
HERE = 0  # the id of the Harbor that has the policy

_POLICY = (
    "id", "name", "description", "src_registry", "dest_registry", "dest_namespace", "dest_namespace_replace_count",
    "filters", "trigger", "replicate_deletion", "deletion", "override", "enabled", "speed", "copy_by_chunk",
    "single_active_replication", "creation_time", "update_time",
)  # fmt: skip
_REGISTRY = (
    "id", "name", "description", "type", "url", "insecure", "ca_certificate", "credential", "status",
    "creation_time", "update_time",
)  # fmt: skip
PROVIDERS = {
    "harbor": "harbor",
    "docker-hub": "dockerhub",
    "docker-registry": "distribution",
    "aws-ecr": "ecr",
    "azure-acr": "acr",
    "ali-acr": "aliyun-acr",
    "google-gcr": "gar",
    "google-artifact-registry": "gar",
    "huawei-SWR": "swr",
    "gitlab": "gitlab",
    "quay": "quay",
    "jfrog-artifactory": "jfrog",
    "tencent-tcr": "tcr",
    "github-ghcr": "ghcr",
    "volcengine-cr": "volcengine",
}
"""Harbor's registry types and the providers that they are here; others are recognised by host and answers."""


def gather(files: list[File], into: Gathered, here: str = "") -> None:
    """Take up what the files say; `here` is the host of the Harbor that has the policies."""
    objects = [one for file in files for one in _objects(file, into)]
    known = [value for _, _, value in objects if "url" in value and "filters" not in value]
    registries = {_id(value): value for value in known}
    for file, path, value in objects:
        if value in known:
            continue
        name = str(value.get("name") or "")
        try:
            _policy(value, registries, file.at(*path), into, here)
        except InvalidReference as error:
            into.lost(file.at(*path), name, f"{error.message}: the policy is left out")


def _objects(file: File, into: Gathered) -> list[tuple[File, tuple[int, ...], Mapping[str, Any]]]:
    document = file.document
    listed = document if isinstance(document, list) else [document]
    if not all(isinstance(one, dict) for one in listed):
        into.lost(file.at(), "", "neither a policy nor a list of them: nothing of it was read")
        return []
    return [(file, (n,) if isinstance(document, list) else (), one) for n, one in enumerate(listed)]


def _id(value: Mapping[str, Any]) -> str:
    """Return a registry's id, whatever is written for it, so that it can be looked up."""
    return str(value.get("id"))


def _policy(
    value: Mapping[str, Any],
    registries: Mapping[str, Mapping[str, Any]],
    place: Place,
    into: Gathered,
    here: str,
) -> None:
    name = str(value.get("name") or "")
    if not name:
        raise InvalidReference("no name")
    into.unknown_keys(value, _POLICY, place, f"{name}.")
    source = _host(value.get("src_registry"), registries, place, into, here)
    destination = _host(value.get("dest_registry"), registries, place, into, here)
    entry = _entry(name, value, place, into)
    rule = _rule(name, value, place, into)
    rule["to"] = {"repository": _template(value)}
    into.add(source, destination, entry, place, rule)


def _host(
    said: Any,
    registries: Mapping[str, Mapping[str, Any]],
    place: Place,
    into: Gathered,
    here: str,
) -> str:
    if said is not None and not isinstance(said, dict):
        raise InvalidReference(f"{said!r:.40} is not a registry")
    if said is None or said.get("id", HERE) == HERE:
        if not here:
            raise InvalidReference("names the Harbor that it is of: give --here HOST")
        into.registry(here).settings.setdefault("provider", "harbor")
        return here
    known = {**said, **registries.get(_id(said), {})}
    url = str(known.get("url") or "")
    if not url:
        raise InvalidReference(
            f"registry {said.get('id')} has no url: give the registries' file, too"
        )
    scheme, _, rest = url.partition("://") if "://" in url else ("https", "", url)
    host = hub(rest.strip("/").partition("/")[0])
    fresh = host not in into.registries
    registry = into.registry(host)
    if not fresh:
        return host
    registry.plain = scheme == "http"
    into.unknown_keys(known, _REGISTRY, place, f"{known.get('name')}.")
    if provider := PROVIDERS.get(str(known.get("type"))):
        registry.settings["provider"] = provider
    if known.get("insecure"):
        registry.settings["tls"] = {"insecure": True}
    if known.get("ca_certificate"):
        into.lost(
            place, f"{known.get('name')}.ca_certificate", "a CA is a file here: tls with ca_file"
        )
    credential = into.map_of(known.get("credential"), place, f"{known.get('name')}.credential")
    if credential.get("access_key"):
        secret = str(credential.get("access_secret") or "")
        masked = not secret.strip("*")
        registry.logins.append(
            Login(str(credential["access_key"]), "" if masked else secret, place)
        )
    return host


def _template(value: Mapping[str, Any]) -> str:
    namespace = str(value.get("dest_namespace") or "")
    count = value.get("dest_namespace_replace_count", -1)
    count = -1 if count is None else count
    if not isinstance(count, int) or isinstance(count, bool) or not -1 <= count <= MOST_PARTS:
        raise InvalidReference(
            f"dest_namespace_replace_count {count!r} is no number from -1 to {MOST_PARTS}"
        )
    if not namespace:
        return "{repository}"
    rest = (
        "{name}" if count == -1 else "{repository}" if count == 0 else f"{{repository[{count}:]}}"
    )
    return f"{namespace}/{rest}"


def _entry(name: str, value: Mapping[str, Any], place: Place, into: Gathered) -> dict[str, Any]:
    entry: dict[str, Any] = {"repositories": {"include": ["**"]}}
    tags: dict[str, list[str]] = {}
    filters = value.get("filters") or []
    if not isinstance(filters, list) or not all(isinstance(one, dict) for one in filters):
        raise InvalidReference("filters is not a list of filters, and without them more would go")
    for one in filters:
        kind, said = one.get("type"), one.get("value")
        excludes = one.get("decoration") == "excludes"
        if one.get("decoration") and kind in ("name", "resource"):
            raise InvalidReference(f"a filter by {kind} has no decoration")
        if kind == "name" and said:
            entry["repositories"] = {"include": [str(said)]}
        elif kind == "tag" and said:
            tags.setdefault("exclude" if excludes else "include", []).append(str(said))
        elif kind == "label":
            raise InvalidReference(
                "filters by label: labels are Harbor's alone, and without the filter more would go"
            )
        elif kind == "resource" and said == "image":
            entry["types"] = ["image"]
        elif kind == "resource" and said not in ("", "artifact"):
            raise InvalidReference(f"a filter by the resource {said!r}")
        elif kind not in ("name", "tag", "resource"):
            into.lost(place, f"{name}.filters", f"an unknown kind of filter: {kind!r}")
    if len(tags.get("include", ())) > 1:
        raise InvalidReference("several filters by tag, which all have to hold")
    return entry | ({"tags": tags} if tags else {})


def _rule(name: str, value: Mapping[str, Any], place: Place, into: Gathered) -> dict[str, Any]:
    rule: dict[str, Any] = {"name": name_of(name), "enabled": bool(value.get("enabled", True))}
    if value.get("override") is False:
        rule["on_conflict"] = "keep"
    trigger = into.map_of(value.get("trigger"), place, f"{name}.trigger")
    kind = trigger.get("type", "manual")
    if kind == "scheduled":
        settings = into.map_of(trigger.get("trigger_settings"), place, f"{name}.trigger_settings")
        cron = str(settings.get("cron", ""))
        seconds, _, five = cron.partition(" ")
        if len(cron.split()) != 6 or seconds != "0":
            raise InvalidReference(
                f"the schedule {cron!r} is not one of six fields that begins with 0"
            )
        rule["trigger"] = {"schedule": five.replace("?", "*")}
    elif kind == "event_based":
        rule["trigger"] = {"event": True}
        into.note(
            "look",
            place,
            f"{name}.trigger",
            "have the source tell of pushes: `transship registries webhook`",
        )
    elif kind != "manual":
        into.lost(place, f"{name}.trigger", f"an unknown trigger: {kind!r}")
    if value.get("replicate_deletion") or value.get("deletion"):
        rule["delete"] = {"enabled": True, "all": True}
        into.note(
            "changed",
            place,
            f"{name}.replicate_deletion",
            "a deletion waits for 24 hours, and for an approval where more than a tenth would go",
        )
    if isinstance(value.get("speed"), int) and value["speed"] > 0:
        rule["bandwidth"] = f"{max(80, value['speed'] * 1024 // 1000)}kbit/s"
        into.note(
            "changed", place, f"{name}.speed", "holds for the whole rule, not for each of its tasks"
        )
    if value.get("copy_by_chunk"):
        into.note(
            "look",
            place,
            f"{name}.copy_by_chunk",
            "`capabilities: {uploads: chunked}` of the destination is for that",
        )
    if value.get("description"):
        into.note("look", place, f"{name}.description", "rules have no description")
    return rule
