"""Preflight: a destination that refuses us altogether is told once, and not once for every tag."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from service.errors import RegistryError
from service.model.states import CopyState
from service.model.work import Selected
from service.replication.clients import Clients, Meter
from service.replication.compare import told
from service.replication.select import ALL_TAGS


def refusals(
    registries: Iterable[str],
    clients: Clients,
    meter: Meter,
    pool: ThreadPoolExecutor,
    requests: dict[str, int],
) -> dict[str, RegistryError]:
    """Return the registries that refuse a ping for good: credentials, certificates, addresses.

    What may pass (a registry that is down, slow or paused) is left to the copies and their retries.
    """

    def ping(name: str) -> RegistryError | None:
        with meter.collect(requests):
            try:
                clients.get(name).ping()
            except RegistryError as error:
                return None if error.retryable else error
        return None

    names = list(dict.fromkeys(registries))
    return {
        name: error
        for name, error in zip(names, pool.map(ping, names), strict=True)
        if error is not None
    }


def refused_copy(registry: str, region: str, error: RegistryError) -> Selected:
    """Return the one failed row that stands for all that a rule has for a registry."""
    return Selected(
        source_repository=ALL_TAGS,
        source_reference=ALL_TAGS,
        destination_registry=registry,
        destination_repository=ALL_TAGS,
        destination_reference=ALL_TAGS,
        digest="",
        region=region,
        fresh=False,
        listed=False,
        state=CopyState.FAILED,
        failure_class=error.failure_class,
        reason=told(error, registry),
        hint=error.hint,
    )
