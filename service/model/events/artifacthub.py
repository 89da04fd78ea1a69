"""Artifact Hub's webhooks: CloudEvents of its default template (internal/notification), about new releases."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

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

NEW_RELEASE = "io.artifacthub.package.new-release"


def parse(headers: Headers, body: bytes, host: str = "") -> Delivery:
    """Read a notification; a chart is REPOSITORY/CHART, as in its page's address. Raises InvalidInput for what is no JSON."""
    del headers, host
    document = read(body)
    repository, version = "", word(document, "data", "package", "version")
    parts = unquote(urlsplit(word(document, "data", "package", "url")).path).split("/")
    action = Action.OTHER
    if word(document, "type") == NEW_RELEASE and parts[1:3] == ["packages", "helm"]:
        action, repository = Action.PUSHED, "/".join(parts[3:5])
    tag = version.replace("+", "_")
    key = key_of(word(document, "id"), repository, tag) if word(document, "id") else ""
    return delivery([RegistryEvent(action, repository, tag, None, key)])
