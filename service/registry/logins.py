"""What a provider's login gives for the configured credential: kept, and renewed before it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from service.model.endpoint import Credential
from service.registry.providers.strategies import Login

LEAST_SECONDS = 2.0
"""Between two logins whose first was refused: a registry that refuses all gets no flood of them."""


class Logins:
    """One client's logins. For any number of threads: one logs in, the others wait for it."""

    def __init__(self, login: Login, clock: Callable[[], float] = time.monotonic) -> None:
        self._login = login
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: Credential | None = None
        self._got_at = 0.0

    def credential(self) -> Credential:
        """Return what the registry takes now; raises what the login does."""
        with self._lock:
            kept = self._kept
            if kept is None or (kept.renew_at is not None and self._clock() >= kept.renew_at):
                self._kept = kept = self._login.login()
                self._got_at = self._clock()
            return kept

    def forget(self) -> bool:
        """Be told that the registry refuses it; whether another login may help."""
        with self._lock:
            if self._kept is None or self._clock() - self._got_at < LEAST_SECONDS:
                return False
            self._kept = None
            return True
