"""Opens a client as a registry is: an index (registry/index_client.py), or a directory (registry/layout), is loaded only for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service.model.endpoint import Credential, RegistryEndpoint
from service.registry.client import RegistryClient
from service.registry.providers.recognise import configured


def open_client(
    endpoint: RegistryEndpoint, credential: Callable[[], Credential], **options: Any
) -> RegistryClient:
    """Return the client of a registry, of an index or of a directory. `options` are RegistryClient's."""
    if endpoint.layout is not None:
        from service.registry.layout.client import LayoutClient

        return LayoutClient(endpoint, credential, **options)
    known = configured(endpoint)
    if known is None or not known.index:
        return RegistryClient(endpoint, credential, **options)
    from service.registry.index_client import IndexClient

    return IndexClient(endpoint, credential, **options)
