"""Docker Hub's webhooks: pushes only, unsigned, no digest. `callback_url` is never called."""

from __future__ import annotations

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


def parse(headers: Headers, body: bytes, host: str = "") -> Delivery:
    """Read a notification. Raises InvalidInput for what is no JSON."""
    del headers, host
    document = read(body)
    repository = word(document, "repository", "repo_name")
    if repository and "/" not in repository:
        repository = f"library/{repository}"
    tag = word(document, "push_data", "tag")
    moment = at(document, "push_data", "pushed_at")  # a number, sometimes with a fraction
    key = key_of(moment, repository, tag) if moment else ""
    action = Action.PUSHED if tag else Action.OTHER
    return delivery([RegistryEvent(action, repository, tag, None, key)])
