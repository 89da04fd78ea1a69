"""Harbor's webhooks: the default payload, CloudEvents, and the 1.x names that Tencent TCR kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from service.model.events.values import (
    Action,
    Delivery,
    Headers,
    RegistryEvent,
    at,
    delivery,
    items,
    key_of,
    read,
    word,
)

_ACTIONS = {
    "PUSH_ARTIFACT": Action.PUSHED,
    "DELETE_ARTIFACT": Action.DELETED,
    "pushImage": Action.PUSHED,
    "deleteImage": Action.DELETED,
    "uploadChart": Action.OTHER,  # of ChartMuseum: no OCI artifact
    "harbor.artifact.pushed": Action.PUSHED,
    "harbor.artifact.deleted": Action.DELETED,
}


def parse(headers: Headers, body: bytes, host: str = "") -> Delivery:
    """Read a notification. Raises InvalidInput for what is no JSON."""
    del headers, host
    document = read(body)
    cloud = "specversion" in document if isinstance(document, dict) else False
    data = at(document, "data" if cloud else "event_data")
    found = items(data, "resources")
    return delivery(_events(document, data, found), ignored=0 if found else 1)


def _events(document: Any, data: Any, resources: list[Any]) -> Iterator[RegistryEvent]:
    action = _ACTIONS.get(word(document, "type"), Action.OTHER)
    repository = word(data, "repository", "repo_full_name") or "/".join(
        part
        for part in (word(data, "repository", "namespace"), word(data, "repository", "name"))
        if part
    )
    moment = word(document, "id") or at(document, "occur_at")
    for resource in resources:
        tag, digest = word(resource, "tag"), word(resource, "digest")
        if tag.startswith("sha256:"):  # pushed by digest
            tag, digest = "", digest or tag
        key = key_of(action, moment, repository, tag, digest) if moment else ""
        yield RegistryEvent(action, repository, tag, digest, key)
