"""What a gateway reads with: clients, what it knows by itself, and what SQL says; and which registry failed at it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import (
    AuthenticationFailed,
    Corrupt,
    Denied,
    NotFound,
    NotFoundInStore,
    RegistryError,
    StoreUnavailable,
    TransshipError,
)
from service.model.digest import Digest
from service.model.gateway import ImagePlace
from service.registry.limiter import Limiter
from service.registry.pulls import Pulls
from service.replication.clients import Clients
from service.replication.gateway.figures import GatewayFigures
from service.replication.gateway.memory import Memory
from service.replication.gateway.places import Places
from service.replication.gateway.steady import StoreGate
from service.store.pulled import PulledStore
from service.telemetry import get_logger

log = get_logger("gateway")

MAPPED_SECONDS, UNMAPPED_SECONDS = 30.0, 1.0


class Away(TransshipError):
    """No registry that has it answers now."""

    code = "gateway_away"
    failure_class = "network"
    retryable = True

    def __init__(self, message: str, *, retry_seconds: int = 5) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class Reading:
    """Thread-safe; one a process."""

    def __init__(
        self,
        clients: Clients,
        memory: Memory,
        places: Places,
        pulled: PulledStore,
        gate: StoreGate,
        figures: GatewayFigures,
    ) -> None:
        self.clients = clients
        self.memory = memory
        self.places = places
        self.pulled = pulled
        self.gate = gate
        self._figures = figures
        self._mappings: dict[ImagePlace, tuple[float, tuple[ImagePlace, ...]]] = {}
        self._flights: dict[object, tuple[threading.Lock, list[int]]] = {}
        self._lock = threading.Lock()

    def pulls(self, registry: str) -> Pulls:
        """Return what reads from a registry. Raises NotFoundInStore, RegistryPaused, Unsupported."""
        return Pulls(self.clients.get(registry))

    def is_gone(self, registry: str) -> bool:
        """Whether the database says that there is no such registry (any more)."""
        try:
            self.clients.get(registry)
        except NotFoundInStore:
            return True
        except TransshipError:
            return False
        return False

    def limiter(self, registry: str) -> Limiter | None:
        """Return this process's part of a registry's limits."""
        return self.clients.get(registry).http.limiter

    def belongs(self, source: ImagePlace, digest: Digest) -> bool:
        """Whether a digest is known to be of a repository: it was served under its name, or copied from there."""
        if self.memory.member(source, digest) is not None:
            return True
        try:
            return bool(self.gate.ask(lambda: self.pulled.copied(*source, str(digest))))
        except StoreUnavailable:
            return False

    def mapped(self, source: ImagePlace) -> tuple[ImagePlace, ...]:
        """Return where images of a repository, and of no other one, were ever copied to.

        Asked last, for what SQL does not call whole, and only where the source does not say that it has it not.
        """
        kept = self._mappings.get(source)
        lasting = MAPPED_SECONDS if kept and kept[1] else UNMAPPED_SECONDS
        if kept is not None and time.monotonic() - kept[0] < lasting:
            return kept[1]
        key = f"mapped:{source[0]}/{source[1]}"
        try:
            everywhere = self.gate.ask(lambda: self.pulled.mapped(*source))
            found = tuple(place for place in everywhere if self.places.may_read(place[0]))
            if kept is None or kept[1] != found:
                self.memory.remember_fact(key, json.dumps(found).encode())
        except StoreUnavailable:
            value = self.memory.fact(key)
            found = kept[1] if kept else ()
            if not found and value is not None:
                found = tuple((name, repository) for name, repository in json.loads(value))
        with self._lock:
            if len(self._mappings) > 10_000:
                self._mappings.clear()
            self._mappings[source] = (time.monotonic(), found)
        return found

    def passed_over(self, registry: str, error: TransshipError) -> None:
        """Count a registry that did not give what it should have, and leave it alone for a while if it is away."""
        known = isinstance(error, RegistryError)
        self._figures.passed_over.labels(registry, error.failure_class).inc()
        if known and not isinstance(error, NotFound | Corrupt | AuthenticationFailed | Denied):
            self.places.pauses.failed(registry)
        log.warning("registry_passed_over", registry=registry, reason=str(error)[:300])

    @contextmanager
    def alone(self, key: object) -> Iterator[None]:
        """Let one thread find out what several want to know."""
        with self._lock:
            flight, users = self._flights.setdefault(key, (threading.Lock(), [0]))
            users[0] += 1
        try:
            with flight:
                yield
        finally:
            with self._lock:
                users[0] -= 1
                if not users[0]:
                    self._flights.pop(key, None)
