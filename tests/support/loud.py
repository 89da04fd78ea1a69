"""Real registries that tell a running service of what is pushed to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.processes import free_port
from tests.support.servers import RealRegistry
from tests.support.up import Up
from tests.support.wire import Wire, image_body


@contextmanager
def loud_registry(
    up: Up, name: str, *, configuration: dict[str, Any] | None = None, **document: Any
) -> Iterator[RealRegistry]:
    """A docker-registry that the service knows by `name`, with notifications of its own to it."""
    port = free_port()
    up.registry(name, f"http://127.0.0.1:{port}", **document)
    endpoint = {
        "name": "transship",
        "url": f"{up.url}/hooks/distribution/{name}",
        "headers": {"Authorization": [f"Bearer {up.hook(name)}"]},
        "timeout": "2s",
        "threshold": 5,
        "backoff": "1s",
    }
    whole = {"notifications": {"endpoints": [endpoint]}, **(configuration or {})}
    with RealRegistry(port=port, configuration=whole) as registry:
        yield registry


def push_real(
    url: str, repository: str, tag: str, mark: str = "", *, basic: tuple[str, str] | None = None
) -> str:
    """Push an image of two small blobs by HTTP; returns its digest."""
    with Wire(url, basic=basic) as wire:
        blobs = [f"{kind} of {repository}:{tag} {mark}".encode() for kind in ("config", "layer")]
        for blob in blobs:
            assert wire.push_blob(repository, blob).status == 201
        answer = wire.put_manifest(repository, tag, image_body(blobs[0], blobs[1:]))
        assert answer.status == 201
    return str(answer["docker-content-digest"])
