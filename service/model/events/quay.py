"""Quay's `repo_push`: tags without digests, and nothing that tells one push from the next."""

from __future__ import annotations

from service.model.events.values import (
    Action,
    Delivery,
    Headers,
    RegistryEvent,
    at,
    delivery,
    read,
    word,
)


def parse(headers: Headers, body: bytes, host: str = "") -> Delivery:
    """Read a notification; `updated_tags` is a list, or (old) tags by image id.

    Raises InvalidInput for what is no JSON.
    """
    del headers, host
    document = read(body)
    repository = word(document, "repository")
    tags = at(document, "updated_tags")
    found = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list | dict) else []
    return delivery(
        (RegistryEvent(Action.PUSHED, repository, tag) for tag in found),
        ignored=0 if found else 1,
    )
