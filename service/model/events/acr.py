"""Azure Container Registry: its own webhook, and Event Grid with its handshake."""

from __future__ import annotations

from typing import Any

from service.model.events.distribution import one
from service.model.events.values import (
    Action,
    Delivery,
    Headers,
    RegistryEvent,
    at,
    delivery,
    is_elsewhere,
    key_of,
    read,
    word,
)

_GRID = {
    "Microsoft.ContainerRegistry.ImagePushed": Action.PUSHED,
    "Microsoft.ContainerRegistry.ImageDeleted": Action.DELETED,
    "Microsoft.ContainerRegistry.ChartPushed": Action.PUSHED,
    "Microsoft.ContainerRegistry.ChartDeleted": Action.DELETED,
}
_HANDSHAKE = "Microsoft.EventGrid.SubscriptionValidationEvent"
_ACTIONS = {"chart_push": Action.PUSHED, "chart_delete": Action.DELETED}
_DOMAIN = ".azurecr.io"


def parse(headers: Headers, body: bytes, host: str = "") -> Delivery:
    """Read a webhook's bare event, or Event Grid's list. Raises InvalidInput for what is no JSON.

    An event of another registry than `host` is ignored.
    """
    del headers
    document = read(body)
    if not isinstance(document, list):
        return delivery([_bare(document, host)])
    found = []
    for item in document:
        if word(item, "eventType") == _HANDSHAKE:
            code = word(item, "data", "validationCode")
            return Delivery(ignored=1, reply={"validationResponse": code})
        found.append(_of_grid(item, host))
    return delivery(found, ignored=0 if found else 1)


def _bare(item: Any, host: str) -> RegistryEvent:
    event = one(item)
    action = _ACTIONS.get(word(item, "action"), event.action)
    if is_elsewhere(host, word(item, "request", "host").lower(), _DOMAIN):
        action = Action.OTHER
    return RegistryEvent(action, event.repository, event.tag, event.digest, event.key, event.ours)


def _of_grid(item: Any, host: str) -> RegistryEvent:
    data = at(item, "data")
    event = one(data)
    action = _GRID.get(word(item, "eventType"), Action.OTHER)
    if is_elsewhere(host, word(data, "request", "host").lower(), _DOMAIN):
        action = Action.OTHER
    return RegistryEvent(
        action,
        event.repository,
        event.tag,
        event.digest,
        key_of(word(item, "id")) or event.key,
        event.ours,
    )
