"""Asks registries now and then whether they are well, and holds the copies of those back that are not.

GET /v2/ with the registry's credentials, by a process of the registry's region: others need not reach it, and
borders may forbid them to. A registry that does not answer, or takes no more credentials
that it took, is asked again soon; then its copies and plannings wait as if it were paused, and go on by
themselves at the first check that is good. What does not pass by itself is told and holds nothing back:
wrong credentials are to fail what met them, with that as the reason. So is a registry that was never well.
What is held back and cannot be asked any more is let go: its region has no worker, or became a far one.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace

from service.errors import (
    AuthenticationFailed,
    Denied,
    NotFoundInStore,
    RegistryAway,
    RegistryError,
    StoreUnavailable,
    Throttled,
    TransshipError,
)
from service.model.health import HEALTHY, REFUSED, UNHEALTHY, Health, Look, ToCheck
from service.registry.client import RegistryClient
from service.replication.clients import Clients
from service.settings import Settings
from service.store.health import HealthStore
from service.telemetry import get_logger

LEASE = "health"
AT_ONCE = 16
OVERLOADED = 503
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
        self._asked_at: dict[str, float] = {}  # when a region's workers were asked
        self._asked: dict[str, dict[str, float | None]] = {}  # what, and when it was checked before
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
                self._store.let_all_go()
                self._next_listing = 0.0
            return
        now = self._clock()
        if now < self._next_listing:
            return
        self._next_listing = now + self._every / LISTINGS
        listed = self._store.to_check()
        served = self._served(listed)
        forsaken = [
            one.registry for one in listed if one.holds and (one.far or one.region not in served)
        ]
        if forsaken:
            self._store.let_go(forsaken)
            log.info("registries_let_go", registries=forsaken, reason="nobody is there to check")
        due: defaultdict[str, list[ToCheck]] = defaultdict(list)
        for one in listed:
            last = self._looked_at.get(one.registry, -1e9)
            if (
                one.region in served
                and not one.far
                and now >= last + self._pause(failing=one.failing)
            ):
                due[one.region].append(one)
        here = [one.registry for region in due if self._is_here(region) for one in due[region]]
        if here:
            self.check(here)
        for region, ones in due.items():
            if not self._is_here(region) and not self._is_busy(region, listed):
                self._ask(region, ones)

    def _is_here(self, region: str) -> bool:
        return self._settings.one_machine or region == self._settings.region

    def _served(self, listed: Sequence[ToCheck]) -> set[str]:
        """Return the regions whose registries can be asked: by this process, or by a worker that lives there."""
        regions = {one.region for one in listed}
        served = {region for region in regions if self._is_here(region)}
        if self._send is not None and served != regions:
            alive = self._slots()
            served.update(region for region in regions if alive.get(region))
        return served

    def _is_busy(self, region: str, listed: Sequence[ToCheck]) -> bool:
        """Whether what a region was asked for last is still under way there; after a period it counts as lost."""
        if self._clock() >= self._asked_at.get(region, float("-inf")) + self._every:
            return False
        asked = self._asked[region]
        return any(
            one.registry in asked and one.checked_at == asked[one.registry] for one in listed
        )

    def _ask(self, region: str, ones: Sequence[ToCheck]) -> None:
        if self._send is None:
            return
        names = [one.registry for one in ones]
        self._send(region, names)
        now = self._clock()
        self._asked_at[region] = now
        self._asked[region] = {one.registry: one.checked_at for one in ones}
        self._looked_at.update(dict.fromkeys(names, now))

    def check(self, names: list[str]) -> None:
        """Ask these registries, several at once, and keep what each says as soon as it does."""
        with ThreadPoolExecutor(min(AT_ONCE, len(names)), "health") as pool:
            looks = {pool.submit(self._look, name): name for name in names}
            for done in as_completed(looks):
                self._looked_at[looks[done]] = self._clock()
                look = done.result()
                if look is not None:
                    self._keep(look)

    def _pause(self, *, failing: bool) -> float:
        return self._every / SOONER if failing else self._every

    def _look(self, name: str) -> Look | None:
        """Return how a registry is; None where nothing was learnt: it was not asked, or is gone."""
        try:
            client, saved = self._clients.checker(name)
        except (NotFoundInStore, StoreUnavailable):
            return None
        except TransshipError as error:  # what it needs is not here
            return Look(name, REFUSED, error.message)
        look = self._asked_of(name, client)
        return look and replace(look, saved=saved)

    def _asked_of(self, name: str, client: RegistryClient) -> Look | None:
        try:
            client.check()
        except StoreUnavailable:
            return None
        except Throttled as error:
            if error.status not in (0, OVERLOADED):
                return Look(name, HEALTHY)  # it answers
            return Look(name, UNHEALTHY, error.message) if error.status else None
        except (AuthenticationFailed, Denied) as error:
            if client.anonymous:  # what is public there may be read all the same
                return Look(name, HEALTHY)
            return Look(name, REFUSED, error.message)
        except RegistryAway as error:
            rotated = isinstance(error.cause, AuthenticationFailed)
            patience = self._settings.rotation_patience_seconds if rotated else None
            return Look(name, UNHEALTHY, error.message, patience)
        except RegistryError as error:
            return Look(name, UNHEALTHY if error.retryable else REFUSED, error.message)
        except TransshipError as error:  # what its credentials name is not here
            return Look(name, REFUSED, error.message)
        return Look(name, HEALTHY)

    def _keep(self, look: Look) -> None:
        before, now = self._store.note(look, apart_seconds=self._every / SOONER / 2)
        if now is None:
            return
        if _holds(now) and not _holds(before):
            log.warning("registry_held_back", registry=look.registry, reason=look.reason)
        elif _holds(before) and not _holds(now):
            log.info("registry_let_go", registry=look.registry, state=now.state)


def _holds(health: Health | None) -> bool:
    return health is not None and health.holds
