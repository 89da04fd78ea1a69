"""zot's CloudEvents (pkg/extensions/events): in headers, as its HTTP sink sends them, or structured."""

from __future__ import annotations

from typing import Any

from service.model.events.values import (
    Action,
    Delivery,
    Headers,
    RegistryEvent,
    at,
    delivery,
    key_of,
    read,
    word,
)

_ACTIONS = {
    "zotregistry.image.updated": Action.PUSHED,
    "zotregistry.image.deleted": Action.DELETED,
}


def parse(headers: Headers, body: bytes, host: str = "") -> Delivery:
    """Read a notification. Raises InvalidInput for what is no JSON."""
    del host
    document = read(body)
    structured = "specversion" in document if isinstance(document, dict) else False
    data: Any = at(document, "data") if structured else document
    kind = word(document, "type") if structured else headers.get("ce-type", "")
    identity = word(document, "id") if structured else headers.get("ce-id", "")
    action = _ACTIONS.get(kind, Action.OTHER)
    repository, reference, digest = (word(data, one) for one in ("name", "reference", "digest"))
    tag = "" if reference.startswith("sha256:") else reference  # pushed by digest
    key = key_of(action, identity, repository, tag, digest) if identity else ""
    return delivery([RegistryEvent(action, repository, tag, digest or reference, key)])
