"""Notifications of distribution (docker-registry), and of GitLab's registry: one envelope.

`Content-Type: application/vnd.docker.distribution.events.v2+json`. Blobs are events, too, and so is
every HEAD of ours as a pull; a delete names a tag, or a digest, with the other one empty or absent.
"""

from __future__ import annotations

from typing import Any

from service.model.events.values import (
    Action,
    Delivery,
    Headers,
    RegistryEvent,
    delivery,
    is_ours,
    items,
    key_of,
    read,
    word,
)

_ACTIONS = {"push": Action.PUSHED, "delete": Action.DELETED}
_BLOB = "application/octet-stream"


def parse(headers: Headers, body: bytes, host: str = "") -> Delivery:
    """Read an envelope of events. Raises InvalidInput for what is no JSON."""
    del headers, host
    document = read(body)
    found = items(document, "events")
    return delivery(map(one, found), ignored=0 if found else 1)


def one(item: Any) -> RegistryEvent:
    """Return one event of an envelope; Azure's own webhook is a bare one."""
    action = _ACTIONS.get(word(item, "action"), Action.OTHER)
    if word(item, "target", "mediaType") == _BLOB:
        action = Action.OTHER
    repository = word(item, "target", "repository")
    tag = word(item, "target", "tag")
    digest = word(item, "target", "digest")
    identity = word(item, "id")
    return RegistryEvent(
        action,
        repository,
        tag,
        digest,
        key_of(identity, repository, tag, digest) if identity else "",
        is_ours(word(item, "request", "useragent")) or is_ours(word(item, "actor", "name")),
    )
