"""Registries as they were last seen, for a process that goes on while the database is away."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from service.errors import NotFoundInStore, StoreUnavailable
from service.model.rule import SyncRule
from service.replication.gateway.memory import Memory
from service.store import codec
from service.store.database import Database
from service.store.keyring import KeyRing
from service.store.locations import LocationStore
from service.store.registries import RegistryStore, StoredRegistry
from service.telemetry import get_logger

T = TypeVar("T")

log = get_logger("gateway")

RETRY_SECONDS = 5.0
"""So long the database is left alone after it did not answer: those who wait for an image do not wait for it."""


RECENT_SECONDS = 1.0


class StoreGate:
    """Asks the database, unless it has just not answered."""

    def __init__(self) -> None:
        self._until = 0.0
        self._lock = threading.Lock()

    @property
    def is_away(self) -> bool:
        """Whether it did not answer lately."""
        return time.monotonic() < self._until

    def ask(self, question: Callable[[], T]) -> T:
        """Return its answer. Raises StoreUnavailable, at once where it did not answer lately."""
        if self.is_away:
            raise StoreUnavailable("the database did not answer some seconds ago")
        try:
            return question()
        except StoreUnavailable as error:
            self._away(error.message)
            raise
        except SQLAlchemyError as error:  # such as a table that a newer version has changed
            self._away(str(error)[:300])
            raise StoreUnavailable("the database answers nothing that can be used") from error

    def _away(self, why: str) -> None:
        with self._lock:
            if not self.is_away:
                log.warning("store_away", error=why)
            self._until = time.monotonic() + RETRY_SECONDS


class RecentRules(LocationStore):
    """Rules as they were a moment ago: pulls come by the hundred a second, changes of rules do not."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._kept: tuple[float, list[tuple[SyncRule, bool]]] = (-RECENT_SECONDS, [])

    def rules(self) -> list[tuple[SyncRule, bool]]:
        """Return every rule, and whether it is paused."""
        at, found = self._kept
        if time.monotonic() - at >= RECENT_SECONDS:
            found = super().rules()
            self._kept = (time.monotonic(), found)
        return found


class RecentRegistries(RegistryStore):
    """Registries as they were a moment ago, for the list of all of them."""

    def __init__(self, database: Database, keyring: KeyRing | None) -> None:
        super().__init__(database, keyring)
        self._kept: tuple[float, list[StoredRegistry]] = (-RECENT_SECONDS, [])

    def list(self, after: str | None = None, limit: int = 1000) -> list[StoredRegistry]:
        """Return registries by name; the first page may be of some moments ago."""
        if after is not None:
            return super().list(after, limit)
        at, found = self._kept
        if time.monotonic() - at >= RECENT_SECONDS:
            found = super().list(None, limit)
            self._kept = (time.monotonic(), found)
        return found


class SteadyRegistries(RegistryStore):
    """The table of registries; what it said last where it says nothing now.

    Credentials that were read are kept sealed by the instance's keys, and bound to their registry.
    """

    def __init__(
        self, database: Database, keyring: KeyRing | None, memory: Memory, gate: StoreGate
    ) -> None:
        super().__init__(database, keyring)
        self._keys = keyring
        self._memory = memory
        self._gate = gate
        self._seen: dict[str, StoredRegistry] = {}

    def get(self, name: str) -> StoredRegistry:
        """Return one registry. Raises NotFoundInStore, and StoreUnavailable for one never seen."""
        ask = super().get
        try:
            stored = self._gate.ask(lambda: ask(name))
        except StoreUnavailable:
            found = self._seen.get(name) or self._kept(name)
            if found is None:
                raise
            self._seen[name] = found
            return found
        except NotFoundInStore:
            if self._seen.pop(name, None) is not None or self._kept(name) is not None:
                self._memory.remember_fact(f"registry:{name}", b"null")
            raise
        before = self._seen.get(name)
        self._seen[name] = stored
        if before is None or (before.created_at, before.version) != (
            stored.created_at,
            stored.version,
        ):
            said = [codec.dump(stored.endpoint), stored.version, stored.created_at]
            self._memory.remember_fact(f"registry:{name}", json.dumps(said).encode())
        return stored

    def secret(self, name: str, place: int = 0) -> str | None:
        """Return a registry's secret in the clear, as RegistryStore does."""
        ask = super().secret
        owner = f"gateway:{name}:{place}"
        try:
            found = self._gate.ask(lambda: ask(name, place))
        except StoreUnavailable:
            sealed = self._memory.fact(owner)
            if sealed is None or self._keys is None:
                raise
            return self._keys.open(owner, sealed)
        if found is not None and self._keys is not None:
            self._memory.remember_fact(owner, self._keys.seal(owner, found))
        return found

    def was_known(self, name: str) -> bool:
        """Whether there ever was a registry of that name, as far as this gateway's own file says."""
        return self._memory.fact(f"registry:{name}") is not None

    def _kept(self, name: str) -> StoredRegistry | None:
        value = self._memory.fact(f"registry:{name}")
        if value is None or value == b"null":  # deleted
            return None
        text, version, created_at = json.loads(value)
        return StoredRegistry(
            endpoint=codec.load_endpoint(text),
            document={},
            version=version,
            secret_set=True,
            paused_at=None,
            created_at=created_at,
            updated_at=created_at,
            set=None,
        )
