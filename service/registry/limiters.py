"""All limiters of a process, and the thread that keeps their leases fresh.

It asks Redis for each registry in use about twice a second, whether it is limited or not: so an
answer "too much" that one process got slows the others within that time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from service.errors import StoreUnavailable
from service.model.budget import LEASE_SECONDS, Budgets, Quota, floor
from service.model.endpoint import Limits
from service.registry.limiter import Limiter, LimiterState
from service.telemetry import get_logger

RENEW_SECONDS = LEASE_SECONDS / 3
QUOTA_SECONDS = 2.0  # what a registry says of its quota is kept so often at most
IDLE_SECONDS = 3.0  # a registry that nobody asked for so long needs no lease

OF_RULE = "rule:"
"""What names of the limiters of rules' bytes begin with; no registry's name has a colon."""

log = get_logger("limits")


class Limiters:
    """Limiters by name: a registry's, and `rule:NAME` for the bytes of a rule."""

    def __init__(self, budgets: Budgets, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._budgets = budgets
        self._clock = clock
        self._known: dict[str, Limiter] = {}
        self._lock = threading.Lock()
        self._urgent = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._away = False
        self._told: dict[str, float] = {}
        self._kept: dict[str, float] = {}

    def get(self, name: str, limits: Limits) -> Limiter:
        """Return the limiter of a name, held to these limits from now on."""
        with self._lock:
            found = self._known.get(name)
            if found is None:
                found = self._known[name] = Limiter(
                    name,
                    limits,
                    wake=self._wake,
                    slowed=lambda rate, wait: self._slowed(name, rate, wait),
                    paced=lambda rate, seconds: self._paced(name, rate, seconds),
                    heard=lambda quota: self._heard(name, quota),
                    clock=self._clock,
                )
        found.set_limits(limits)
        self._ensure_thread()
        return found

    def states(self) -> list[LimiterState]:
        """Return where each registry's limiter stands; rules' are left out."""
        with self._lock:
            known = [one for name, one in self._known.items() if not name.startswith(OF_RULE)]
        return [one.state() for one in known]

    def hurry(self) -> None:
        """Renew all leases now: who shares the budgets has changed."""
        self._urgent.set()

    def close(self) -> None:
        """End the thread."""
        self._closed = True
        self._urgent.set()
        if self._thread is not None and self._pid == os.getpid():
            self._thread.join(timeout=5)

    def renew(self, limiter: Limiter) -> None:
        """Lease a limiter's part anew; the floor rate while Redis is away."""
        asked = self._clock()
        try:
            lease = self._budgets.lease(limiter.name, limiter.limits, limiter.wish())
        except StoreUnavailable as error:
            if not self._away:
                log.warning("limits_at_floor", error=error.message)
            self._away = True
            lease = floor(limiter.limits)
        else:
            self._away = False
        limiter.grant(lease, asked + LEASE_SECONDS)

    def _run(self) -> None:
        while not self._closed:
            self._urgent.clear()
            since = self._clock() - IDLE_SECONDS
            with self._lock:
                used = [one for one in self._known.values() if one.is_used(since)]
            for limiter in used:
                try:
                    self.renew(limiter)
                except Exception:
                    limiter.keep()
                    log.exception("lease_failed", limiter=limiter.name)
            self._urgent.wait(RENEW_SECONDS)

    def _wake(self, _limiter: Limiter) -> None:
        self._ensure_thread()
        self._urgent.set()

    def _ensure_thread(self) -> None:
        if self._thread is not None and self._pid == os.getpid():
            return
        with self._lock:
            if self._closed or (self._thread is not None and self._pid == os.getpid()):
                return
            self._pid = os.getpid()
            self._thread = threading.Thread(target=self._run, name="limits", daemon=True)
            self._thread.start()

    def _slowed(self, name: str, rate: float, wait: float) -> None:
        log.warning("registry_throttles", registry=name, retry_after=wait, rate=round(rate, 1))
        try:
            self._budgets.throttled(name, rate, wait)
        except StoreUnavailable as error:
            log.warning("throttle_not_told", registry=name, error=error.message)
        self._urgent.set()

    def _heard(self, name: str, quota: Quota) -> None:
        """Keep it for whoever looks, now and then: it is told with every answer."""
        now = self._clock()
        if now - self._kept.get(name, -1e9) < QUOTA_SECONDS:
            return
        self._kept[name] = now
        try:
            self._budgets.heard(name, quota)
        except StoreUnavailable as error:
            log.debug("quota_not_told", registry=name, error=error.message)

    def _paced(self, name: str, rate: float, seconds: float) -> None:
        now = self._clock()
        if now - self._told.get(name, -1e9) < 1.0:
            return
        self._told[name] = now
        log.info("registry_quota_is_low", registry=name, requests_per_second=round(rate, 2))
        try:
            self._budgets.pace(name, rate, seconds)
        except StoreUnavailable as error:
            log.warning("pace_not_told", registry=name, error=error.message)
        self._urgent.set()
