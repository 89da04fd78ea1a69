"""One registry client per registry and process, and a meter for the requests that each work sends."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from service.errors import RegistryPaused
from service.model.endpoint import RegistryEndpoint
from service.registry import credentials
from service.registry.breaker import Breaker, Reputation
from service.registry.client import DEFAULT_TIMEOUTS, RegistryClient
from service.registry.confined import confine_layout, confine_tls
from service.registry.limiters import Limiters
from service.registry.opening import open_client
from service.registry.timeouts import Timeouts
from service.settings import Settings
from service.store import codec
from service.store.registries import RegistryStore

RECHECK_SECONDS = 2.0
PROBES = 10
"""So often, at least, a registry that is away is asked while it is waited for."""

LATELY_SECONDS = 5.0

CHECK_TIMEOUTS = Timeouts(connect_seconds=5.0, read_seconds=15.0, head_seconds=15.0)
"""How long a check of a registry's health waits: two of them have to fail within the patience of copies."""


class Meter:
    """Counts HTTP requests for whatever work the calling thread is doing."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()

    @contextmanager
    def collect(self, into: dict[str, int]) -> Iterator[None]:
        """Count the requests of this thread into `into`, which several threads may share."""
        before = getattr(self._local, "into", None)
        self._local.into = into
        try:
            yield
        finally:
            self._local.into = before

    def into(self) -> dict[str, int]:
        """Return where the calling thread counts, for threads that work for it."""
        found = getattr(self._local, "into", None)
        return {} if found is None else found

    def counter(self, registry: str) -> Callable[[str, str, int], None]:
        """Return what a client calls for each request that it sent."""

        def count(_method: str, _kind: str, _status: int) -> None:
            into = getattr(self._local, "into", None)
            if into is not None:
                with self._lock:
                    into[registry] = into.get(registry, 0) + 1

        return count


@dataclass(frozen=True, slots=True)
class _Known:
    """A client, and what the store said of its registry when it was last asked."""

    client: RegistryClient
    saved: tuple[float, int]  # when it was created, and how often it was changed since
    paused: bool
    held: bool  # it is paused because its health is bad, not by a person
    why: str  # what its health says, while it is held
    seen_at: float


class Clients:
    """Registry clients by registry name; one is made anew when its registry was changed.

    Each reaches its registry as processes of `settings.region` do; what it says of the registry
    (`client.endpoint`) is the same in all regions.
    """

    def __init__(
        self,
        registries: RegistryStore,
        settings: Settings,
        meter: Meter,
        limiters: Limiters | None = None,
        reputation: Reputation | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        """Open nothing yet; `reputation` is what breakers tell other processes."""
        self._timeouts = timeouts
        self._registries = registries
        self._settings = settings
        self._meter = meter
        self._limiters = limiters
        self._reputation = reputation
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._checkers: dict[str, tuple[tuple[float, int], RegistryClient]] = {}

    def get(self, name: str) -> RegistryClient:
        """Return the client of a registry. Raises NotFoundInStore, and RegistryPaused."""
        known = self._look(name)
        if known.held:
            raise RegistryPaused(
                f"registry {name} is held back until it is well again: {known.why}",
                registry=name,
                hint="it goes on by itself",
            )
        if known.paused:
            raise RegistryPaused(f"registry {name} is paused", registry=name)
        return known.client

    def checker(self, name: str) -> tuple[RegistryClient, tuple[float, int]]:
        """Return a client to see how a registry is, paused or not, and when it was created and its version.

        It waits little for answers, and has a breaker of its own. Raises NotFoundInStore.
        """
        stored = self._registries.get(name)
        saved = (stored.created_at, stored.version)
        with self._lock:
            found = self._checkers.get(name)
            if found is None or found[0] != saved:
                client = self._open(stored.endpoint, timeouts=CHECK_TIMEOUTS)
                if found is not None:
                    found[1].http.close()
                found = self._checkers[name] = (saved, client)
        if self._limiters is not None:
            # who asks so seldom has not heard yet that the registry wants nothing now
            self._limiters.renew(self._limiters.get(name, stored.endpoint.limits))
        return found[1], saved

    def paused(self, name: str) -> bool:
        """Whether somebody has paused a registry, as seen some seconds ago at most.

        One that is held back for its health is not: nothing more begins there, and what runs finds its own end.
        """
        known = self._look(name)
        return known.paused and not known.held

    def endpoint(self, name: str) -> RegistryEndpoint:
        """Return a registry's endpoint, paused or not. Raises NotFoundInStore."""
        return self._look(name).client.endpoint

    def scope(self, name: str) -> str:
        """Return the credential scope of a registry: what one credential proved, another may not see."""
        return self.endpoint(name).credentials.username

    def answers_within(self) -> float:
        """Return the seconds that the slowest of the registries asked lately takes for an answer."""
        since = time.monotonic() - LATELY_SECONDS
        known = list(self._known.values())
        return max(
            (
                one.client.answers_within("manifest")
                for one in known
                if one.client.http.times.noted_at >= since
            ),
            default=0.0,
        )

    def _look(self, name: str) -> _Known:
        known = self._known.get(name)
        now = time.monotonic()
        if known is not None and now - known.seen_at < RECHECK_SECONDS:
            return known
        stored = self._registries.get(name)
        with self._lock:
            known = self._known.get(name)
            saved = (stored.created_at, stored.version)
            if known is not None and known.saved == saved:
                client = known.client
            else:
                client = self._open(stored.endpoint, self._timeouts)
                if known is not None:  # whoever is using it goes on; what it keeps is closed
                    known.client.http.close()
            health = stored.health
            held = health is not None and health.holds
            why = health.reason if health is not None and held else ""
            known = _Known(client, saved, stored.paused_at is not None, held, why, now)
            self._known[name] = known
        return known

    def look_anew(self) -> None:
        """Have the store asked again for each registry that is asked for next: what was saved before this counts."""
        with self._lock:
            for name, known in self._known.items():
                self._known[name] = replace(known, seen_at=-RECHECK_SECONDS)

    def close(self) -> None:
        """Close every client."""
        with self._lock:
            for known in self._known.values():
                known.client.close()
            for _, checker in self._checkers.values():
                checker.close()
            self._known.clear()
            self._checkers.clear()

    def _open(
        self, endpoint: RegistryEndpoint, timeouts: Timeouts = DEFAULT_TIMEOUTS
    ) -> RegistryClient:
        known_as = _known_as(endpoint)
        folder, region = self._settings.secrets_dir, self._settings.region
        confine_layout(endpoint, self._settings.layouts_dir)
        endpoint = confine_tls(endpoint, folder)
        host = endpoint.seen_from(region).host

        first, *more = credentials.readers(
            endpoint,
            host,
            lambda place: self._registries.secret(endpoint.name, place),
            folder=folder,
            helpers=self._settings.allowed_helpers,
        )
        limiter = self._limiters.get(endpoint.name, endpoint.limits) if self._limiters else None
        return open_client(
            endpoint,
            first,
            more=more,
            identity_hosts=self._settings.identity_hosts,
            on_request=self._meter.counter(endpoint.name),
            limiter=limiter,
            region=region,
            timeouts=timeouts,
            breaker=Breaker(
                endpoint.name,
                known_as=known_as,
                reputation=self._reputation,
                patient=self._settings.rotation_patience_seconds > 0,
                first_pause_seconds=2 * self._settings.retry_seconds,
                max_pause_seconds=self._settings.outage_patience_seconds / PROBES,
            ),
        )


def _known_as(endpoint: RegistryEndpoint) -> str:
    """Return what a registry's reputation is kept by: another address, or other credentials, have none yet."""
    specs = [codec.dump(spec) for spec in endpoint.every_credential]
    what = repr((endpoint.reach, specs))
    return f"{endpoint.name}:{hashlib.sha256(what.encode()).hexdigest()[:16]}"
