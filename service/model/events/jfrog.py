"""JFrog Artifactory's docker webhooks. Nothing in them tells a repeated push from a repeated delivery.

How a repository is named depends on how Artifactory is reached: `KEY.host/image` with the subdomain
method, `host/KEY/image` with the path method.
"""

from __future__ import annotations

from service.model.events.values import (
    Action,
    Delivery,
    Headers,
    RegistryEvent,
    delivery,
    read,
    word,
)

_ACTIONS = {"pushed": Action.PUSHED, "deleted": Action.DELETED, "promoted": Action.PUSHED}


def parse(headers: Headers, body: bytes, host: str = "") -> Delivery:
    """Read a notification; `host` tells the method. Raises InvalidInput for what is no JSON."""
    del headers
    document = read(body)
    data = document.get("data", document) if isinstance(document, dict) else None
    key, image = word(data, "repo_key"), word(data, "image_name")
    by_path = key and not host.startswith(f"{key}.")
    action = _ACTIONS.get(word(document, "event_type") or word(data, "event_type"), Action.OTHER)
    if isinstance(document, dict) and document.get("domain", "docker") != "docker":
        action = Action.OTHER
    checksum = word(data, "sha256")
    return delivery(
        [
            RegistryEvent(
                action,
                f"{key}/{image}" if by_path and image else image,
                word(data, "tag"),
                f"sha256:{checksum}" if checksum else None,
            )
        ]
    )
