"""Amazon ECR's `ECR Image Action` of EventBridge, raw or inside an SNS message."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from service.errors import InvalidInput
from service.model.events.values import (
    Action,
    Delivery,
    Headers,
    RegistryEvent,
    delivery,
    key_of,
    read,
    word,
)

_ACTIONS = {"PUSH": Action.PUSHED, "DELETE": Action.DELETED}
_HOST = re.compile(r"(\d{12})\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_SNS = re.compile(r"sns\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?")


def parse(headers: Headers, body: bytes, host: str = "") -> Delivery:
    """Read an event; one of another account or region than `host` names is ignored.

    A SubscriptionConfirmation is answered with what to do: its URL is never called from here.
    Raises InvalidInput for what is no JSON.
    """
    document = read(body)
    kind = word(document, "Type") or headers.get("x-amz-sns-message-type", "")
    if kind == "SubscriptionConfirmation":
        return Delivery(ignored=1, notice=_confirm(word(document, "SubscribeURL")))
    if kind == "Notification":
        try:
            return _read(read(word(document, "Message").encode()), host)
        except InvalidInput:
            return Delivery(ignored=1)  # whatever else is published to the topic
    return _read(document, host)


def _read(event: Any, host: str) -> Delivery:
    if word(event, "detail-type") != "ECR Image Action" or _is_elsewhere(event, host):
        return Delivery(ignored=1)
    action = _ACTIONS.get(word(event, "detail", "action-type"), Action.OTHER)
    if word(event, "detail", "result") not in {"SUCCESS", ""}:
        action = Action.OTHER
    return delivery(
        [
            RegistryEvent(
                action,
                word(event, "detail", "repository-name"),
                word(event, "detail", "image-tag"),
                word(event, "detail", "image-digest"),
                key_of(word(event, "id")),
            )
        ]
    )


def _is_elsewhere(event: Any, host: str) -> bool:
    named = _HOST.fullmatch(host)
    return (
        bool(named)
        and named is not None
        and named.groups()
        != (
            word(event, "account"),
            word(event, "region"),
        )
    )


def _confirm(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not _SNS.fullmatch(parts.netloc):
        return "an SNS subscription wants to be confirmed by an address that is not SNS's: leave it"
    return f"confirm the SNS subscription, if it is yours, by opening {url}"
