"""Alibaba Cloud Container Registry: pushes; the time is local and has no zone."""

from __future__ import annotations

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


def parse(headers: Headers, body: bytes, host: str = "") -> Delivery:
    """Read a notification. Raises InvalidInput for what is no JSON."""
    del headers, host
    document = read(body)
    repository = word(document, "repository", "repo_full_name")
    tag = word(document, "push_data", "tag")
    digest = word(document, "push_data", "digest")
    moment = word(document, "push_data", "pushed_at")
    key = key_of(moment, repository, tag, digest) if moment else ""
    action = Action.PUSHED if tag or digest else Action.OTHER
    return delivery([RegistryEvent(action, repository, tag, digest, key)])
