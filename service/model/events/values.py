"""What every provider's notification comes down to, and how its parts are read out of JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from service.errors import InvalidDigest, InvalidInput, InvalidManifest, InvalidReference
from service.model import strict_json
from service.model.digest import Digest
from service.model.reference import validate_repository, validate_tag

MAX_DEPTH = 32  # reliability.md S10
MAX_EVENTS = 10_000  # of one notification; what comes behind is counted as ignored
OWN_AGENT = "transship/"  # begins the User-Agent that our registry client sends

Headers = Mapping[str, str]


class Action(StrEnum):
    """What a registry says that happened to a tag or manifest."""

    PUSHED = "pushed"
    DELETED = "deleted"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class RegistryEvent:
    """One thing that happened, as far as the registry tells: a hint to look, never a fact.

    `key` names the event among all of its registry; it is empty where the payload has nothing that
    tells a repeated push from a repeated delivery. `ours`: the payload names our own User-Agent.
    """

    action: Action
    repository: str = ""
    tag: str | None = None
    digest: str | None = None
    key: str = ""
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notification, read.

    `ignored` counts what is of no use: pulls, blobs, scans, names that are none. `reply` is what a
    handshake wants for an answer, `notice` what an administrator has to do about it.
    """

    events: tuple[RegistryEvent, ...] = ()
    ignored: int = 0
    reply: Mapping[str, str] | None = None
    notice: str = ""


def read(body: bytes) -> Any:
    """Return the body's JSON value; raises InvalidInput for what is not strict JSON."""
    try:
        return strict_json.loads(body, max_depth=MAX_DEPTH)
    except InvalidManifest as error:
        raise InvalidInput(
            f"the notification is {error.message}", hint="send it as the registry wrote it"
        ) from error


def delivery(found: Iterable[RegistryEvent], *, ignored: int = 0) -> Delivery:
    """Return the delivery of these events; those of no use become a count."""
    kept: list[RegistryEvent] = []
    for event in found:
        checked = _checked(event) if len(kept) < MAX_EVENTS else None
        if checked is None:
            ignored += 1
        else:
            kept.append(checked)
    return Delivery(tuple(kept), ignored)


def _checked(event: RegistryEvent) -> RegistryEvent | None:
    """Return the event if it names a tag or a manifest that can be; an odd digest is left out."""
    if event.action is Action.OTHER:
        return None
    try:
        validate_repository(event.repository)
        if event.tag:
            validate_tag(event.tag)
    except InvalidReference:
        return None
    digest = _digest(event.digest)
    if not event.tag and digest is None:
        return None
    return RegistryEvent(
        event.action, event.repository, event.tag or None, digest, event.key, event.ours
    )


def _digest(text: str | None) -> str | None:
    try:
        return str(Digest.parse(text or ""))
    except InvalidDigest:
        return None


def at(value: Any, *path: str) -> Any:
    """Return what stands at the path of keys; None where there is nothing."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def word(value: Any, *path: str) -> str:
    """Return the text at the path; empty for none, and for what is no text."""
    found = at(value, *path)
    return found if isinstance(found, str) else ""


def items(value: Any, *path: str) -> list[Any]:
    """Return the list at the path; empty for none, and for what is no list."""
    found = at(value, *path)
    return found if isinstance(found, list) else []


def key_of(*parts: object) -> str:
    """Return the key made of these parts; empty when none of them says anything."""
    if not any(parts):
        return ""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:40]


def is_ours(agent: str) -> bool:
    """Whether a User-Agent or actor is this product's."""
    return agent.startswith(OWN_AGENT)


def split_image(text: str) -> tuple[str, str, str, str]:
    """Return host, repository, tag and digest of `host/repo[:tag][@digest]`; parts may be empty."""
    name, _, digest = text.partition("@")
    host, slash, path = name.partition("/")
    if not slash:
        return "", "", "", ""
    repository, _, tag = path.partition(":")
    return host.lower(), repository, tag, digest


def is_elsewhere(host: str, said: str, *domains: str) -> bool:
    """Whether an event is of another registry than `host`: judged among the provider's own names.

    A registry that is reached by a name of somebody's own cannot be told apart, and is not.
    """
    both = (host, said)
    return host != said and all(one.endswith(domains) for one in both)
