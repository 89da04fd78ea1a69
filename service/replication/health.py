"""Asks registries now and then whether they are well, and holds the copies of those back that are not.

GET /v2/ with the registry's credentials, by a process of the registry's region: others need not reach it, and
borders may forbid them to. A registry that does not answer, or takes no more credentials
that it took, is asked again soon; then its copies and plannings wait as if it were paused, and go on by
themselves at the first check that is good. What does not pass by itself is told and holds nothing back:
wrong credentials are to fail what met them, with that as the reason. So is a registry that was never well.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from service.errors import (
    AuthenticationFailed,
    Denied,
    NotFoundInStore,
    RegistryError,
    Throttled,
    TransshipError,
)
from service.model.health import HEALTHY, REFUSED, UNHEALTHY, Health, Look
from service.registry.client import RegistryClient
from service.replication.clients import Clients
from service.settings import Settings
from service.store.health import HealthStore
from service.telemetry import get_logger

LEASE = "health"
AT_ONCE = 16
SOONER = 6
"""A registry whose last check was no good is asked so many times as often."""

LISTINGS = 18
"""So many times in a period it is listed which registries there are to ask: that reads every rule."""

log = get_logger("health")


class HealthKeeper:
    """Checks the registries that active rules use; one holder of the lease at a time."""

    def __init__(
        self,
        store: HealthStore,
        clients: Clients,
        settings: Settings,
        slots: Callable[[], Mapping[str, int]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`slots`: the live slots of workers by region."""
        self._store = store
        self._clients = clients
        self._settings = settings
        self._every = settings.health_check_seconds
        self._slots = slots
        self._clock = clock
        self._looked_at: dict[str, float] = {}
        self._next_listing = float("-inf")
        self._send: Callable[[str, list[str]], None] | None = None

    def share(self, send: Callable[[str, list[str]], None]) -> None:
        """Have `send` ask workers of a region for what is not this process's to ask."""
        self._send = send

    def step(self) -> None:
        """Check what is due: here, or by workers of other regions; where none lives, nobody does.

        Without checks nothing is held back: nobody would let it go.
        """
        if self._every <= 0:
            if self._next_listing < 0:
                self._next_listing = 0.0
                self._store.let_all_go()
            return
        now = self._clock()
        if now < self._next_listing:
            return
        self._next_listing = now + self._every / LISTINGS
        due: defaultdict[str, list[str]] = defaultdict(list)
        for one in self._store.to_check():
            if now >= self._looked_at.get(one.registry, -1e9) + self._pause(failing=one.failing):
                due[one.region].append(one.registry)
        own = self._settings.region
        here = [
            n for region in due if self._settings.one_machine or region == own for n in due[region]
        ]
        if here:
            self.check(here)
        elsewhere = {} if self._settings.one_machine else {r: due[r] for r in due if r != own}
        if elsewhere and self._send is not None:
            alive = self._slots()
            for region, names in elsewhere.items():
                if alive.get(region):
                    self._send(region, names)
                    self._looked_at.update(dict.fromkeys(names, now))

    def check(self, names: list[str]) -> None:
        """Ask these registries, several at once, and keep what they say."""
        with ThreadPoolExecutor(min(AT_ONCE, len(names)), "health") as pool:
            for look in pool.map(self._look, names):
                self._looked_at[look.registry] = self._clock()
                self._keep(look)

    def _pause(self, *, failing: bool) -> float:
        return self._every / SOONER if failing else self._every

    def _look(self, name: str) -> Look:
        client: RegistryClient | None = None
        try:
            client = self._clients.get_even_paused(name)
            client.check()
        except (Throttled, NotFoundInStore):  # it answers; or it was deleted just now
            return Look(name, HEALTHY)
        except (AuthenticationFailed, Denied) as error:
            if (
                client is not None and client.anonymous
            ):  # what is public there may be read all the same
                return Look(name, HEALTHY)
            return Look(name, REFUSED, error.message)
        except RegistryError as error:
            return Look(name, UNHEALTHY if error.retryable else REFUSED, error.message)
        except TransshipError as error:  # what its credentials name is not here
            return Look(name, REFUSED, error.message)
        return Look(name, HEALTHY)

    def _keep(self, look: Look) -> None:
        before, now = self._store.note(look)
        if now is None:
            return
        if _holds(now) and not _holds(before):
            log.warning("registry_held_back", registry=look.registry, reason=look.reason)
        elif _holds(before) and not _holds(now):
            log.info("registry_let_go", registry=look.registry, state=now.state)


def _holds(health: Health | None) -> bool:
    return health is not None and health.holds
