"""GitHub's `registry_package` and `package` events, for ghcr.io.

`package_type` is "npm" for an image in GitHub's own example, so it decides nothing; a package that
was published without a tag is a child of an index, or something attached.
"""

from __future__ import annotations

from typing import Any

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
    split_image,
    word,
)

_ACTIONS = {"published": Action.PUSHED, "updated": Action.PUSHED}
_CONTAINER = "container"


def parse(headers: Headers, body: bytes, host: str = "") -> Delivery:
    """Read a notification; `X-GitHub-Event: ping` and others are ignored.

    Raises InvalidInput for what is no JSON.
    """
    document = read(body)
    kind = headers.get("x-github-event", "registry_package")
    package = at(document, kind if kind in {"registry_package", "package"} else "")
    if not isinstance(package, dict):
        return Delivery(ignored=1)
    version = at(package, "package_version")
    there, repository, url_tag, _ = split_image(word(version, "package_url"))
    if not _is_container(package, version) or is_elsewhere(host, there, "ghcr.io"):
        return Delivery(ignored=1)
    if not repository:
        repository = f"{word(package, 'namespace')}/{word(package, 'name')}".lower()
    tag = word(version, "container_metadata", "tag", "name") or url_tag
    digest = word(version, "container_metadata", "tag", "digest") or word(version, "version")
    action = _ACTIONS.get(word(document, "action"), Action.OTHER)
    key = key_of(headers.get("x-github-delivery", ""))
    return delivery([RegistryEvent(action, repository, tag, digest, key)])


def _is_container(package: Any, version: Any) -> bool:
    said = (word(package, "ecosystem"), word(package, "package_type"))
    return _CONTAINER in {one.lower() for one in said} or isinstance(
        at(version, "container_metadata"), dict
    )
