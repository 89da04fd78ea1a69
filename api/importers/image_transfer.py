"""image-transfer: security file and rule file, in the meaning that its documentation has (peers-cli.md 2.1)."""

from __future__ import annotations

from typing import Any

from api.importers.files import File
from api.importers.gathered import WITHOUT_REFERRERS, Gathered, Login, Place, are_logins
from api.importers.references import hub, judged, tags_of
from service.errors import InvalidInput, InvalidReference

FORMAT = "image-transfer"
_HUB = "registry.hub.docker.com"  # its name for Docker Hub
_AUTH_KEYS = ("username", "password", "insecure")
_SECRET_KEYS = ("secretId", "secretKey")


def gather(files: list[File], into: Gathered, default: str = "") -> None:
    """Take up what the files say; `default` is where lines without a target go, HOST or HOST/NAMESPACE."""
    for file in files:
        document = file.document
        if not isinstance(document, dict):
            into.lost(file.at(), "", "not a map: nothing of it was read")
        elif set(document) <= {"ccr", "tcr"} and all(
            isinstance(v, dict) for v in document.values()
        ):
            into.lost(
                file.at(),
                "ccr, tcr",
                "keys of the quick mode: `transship migrate ccr-to-tcr` moves a whole account with them",
            )
        elif are_logins(document):
            _security(file, into)
        else:
            _rules(file, into, default)
    into.note(
        "look",
        files[0].at(),
        "--tag-exist-overridden, --qps, --routines",
        "stand on image-transfer's command line: `on_conflict: keep` in a rule is --tag-exist-overridden=false, "
        "`limits` of a registry are the others",
    )


def _security(file: File, into: Gathered) -> None:
    for key, value in file.document.items():
        place = file.at(key)
        if not isinstance(value, dict):
            into.lost(place, str(key), "not credentials: username and password")
            continue
        into.unknown_keys(value, _AUTH_KEYS, place, f"{key}.")
        host, _, prefix = str(key).partition("/")
        registry = into.registry(hub(host))
        if value.get("insecure") is True:
            registry.settings["tls"] = {"insecure": True}
            into.note(
                "look",
                place,
                f"{key}.insecure",
                "http is not fallen back to: write http:// in url where it is meant",
            )
        username, password = (str(value.get(one) or "") for one in ("username", "password"))
        if username and password:
            registry.logins.append(Login(username, password, place, prefix))
        elif username or password:
            into.note(
                "changed",
                place,
                str(key),
                "half of a login: the docker configuration is asked, as there",
            )
            registry.settings["credentials"] = {"docker_config": True}


def _rules(file: File, into: Gathered, default: str) -> None:
    for source, target in file.document.items():
        place = file.at(source)
        if target is not None and not isinstance(target, str):
            into.lost(place, source, "the target is no text")
            continue
        try:
            _line(str(source), target or "", place, into, default)
        except InvalidInput as error:
            into.lost(place, source, error.message)


def _line(source: str, target: str, place: Place, into: Gathered, default: str) -> None:
    host, repository, tags = _parted(source)
    if not target:
        if not default:
            into.lost(place, source, "no target: give --to HOST, image-transfer's --registry")
            return
        base, _, namespace = default.partition("/")
        there, to = hub(base), "/".join(filter(None, (namespace, repository)))
        names: list[str] = []
    else:
        there, to, names = _parted(target)
    ends: dict[str, Any] = {"repository": judged(to)}
    entry: dict[str, Any] = {"repositories": [judged(repository)]}
    if tags:
        entry["tags"] = tags
    if names and names != tags:
        if len(tags) != 1 or len(names) != 1:
            into.lost(
                place,
                source,
                "a list of tags keeps its names, and so do all tags: give the target none",
            )
            return
        ends["tag"] = names[0]
    into.add(host, there, entry | {"to": ends}, place, WITHOUT_REFERRERS)


def _parted(text: str) -> tuple[str, str, list[str]]:
    """Return registry, repository and tags by image-transfer's grammar; raises InvalidReference."""
    if "@" in text:
        raise InvalidReference(f"{text!r}: digests are misread there, and are not taken here")
    parts = text.split("/", 2)
    if len(parts) == 2 and ":" in parts[0] and "." not in parts[0]:
        raise InvalidReference(
            f"{text!r}: image-transfer takes {parts[0]!r} for a namespace of Docker Hub; write a host with a dot"
        )
    if len(parts) == 3 or (len(parts) == 2 and "." in parts[0]):
        host, rest = parts[0], "/".join(parts[1:])
    else:
        host, rest = _HUB, text if len(parts) == 2 else f"library/{text}"
    path, slash, last = rest.rpartition("/")
    name, colon, tags = last.partition(":")
    if ":" in tags:
        raise InvalidReference(f"{text!r}: more than one colon")
    return hub(host), f"{path}{slash}{name}", tags_of(tags) if colon else []
