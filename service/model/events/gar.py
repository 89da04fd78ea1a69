"""Google Artifact Registry: Pub/Sub push deliveries of the topic `gcr`."""

from __future__ import annotations

import base64
import binascii

from service.errors import InvalidInput
from service.model.events.values import (
    Action,
    Delivery,
    Headers,
    RegistryEvent,
    delivery,
    is_elsewhere,
    key_of,
    read,
    split_image,
    word,
)

_ACTIONS = {"INSERT": Action.PUSHED, "DELETE": Action.DELETED}


def parse(headers: Headers, body: bytes, host: str = "") -> Delivery:
    """Read a delivery; a name at another host than `host` is ignored.

    Raises InvalidInput for what is no JSON.
    """
    del headers
    document = read(body)
    try:
        event = read(base64.b64decode(word(document, "message", "data"), validate=True))
    except (binascii.Error, ValueError, InvalidInput):
        return Delivery(ignored=1)  # a message of another topic
    action = _ACTIONS.get(word(event, "action"), Action.OTHER)
    tag_host, tag_repository, tag, _ = split_image(word(event, "tag"))
    digest_host, digest_repository, _, digest = split_image(word(event, "digest"))
    if is_elsewhere(host, tag_host or digest_host, ".pkg.dev", "gcr.io"):
        action = Action.OTHER
    key = key_of(word(document, "message", "messageId") or word(document, "message", "message_id"))
    repository = tag_repository or digest_repository
    return delivery([RegistryEvent(action, repository, tag, digest, key)])
