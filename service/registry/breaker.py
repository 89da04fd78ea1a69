"""Keeps a process from asking a registry that is away: a circuit breaker (reliability P13, 2.5, F111).

Many failures in a row, with nothing good between them, open it: requests are refused here at once, and
hold no slot for the time that a connection takes to fail. Now and then one is let through to see; an
answer closes it. A registry that has taken our credentials and takes them no more opens it, too: the
new ones are on their way (a rotation), and asking on with the old ones may lock the account.

What is refused here raises RegistryAway, which says since when: whoever works for a copy decides how
long that is waited for (service.replication.failures).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from service.errors import AuthenticationFailed, RegistryAway, RegistryError
from service.telemetry import get_logger

FAILURES = 8
"""In a row: twice what one small request is tried, so that no single one opens it."""
FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 30.0
REFUSED_PAUSES = 5
"""How many first pauses the first one is where credentials are refused: somebody has to change them."""
MAX_REFUSED_PAUSE_SECONDS = 60.0
DOUBT_SECONDS = 60.0
FORGOTTEN_SECONDS = 120.0  # nobody has asked for so long: what was, says nothing of now
PROBE_SECONDS = 60.0  # a probe that has said nothing for so long is followed by another

log = get_logger("breaker")


class Reputation(Protocol):
    """What the fleet remembers of registries; no call raises."""

    def accepted(self, registry: str, *, push: bool) -> None:
        """Remember that it took our credentials."""

    def was_accepted(self, registry: str, *, push: bool) -> bool:
        """Whether any process has seen them taken lately."""


class Breaker:
    """The breaker before one registry, of one client. Thread-safe.

    `is_open` is all that a request looks at as long as nothing is wrong.
    """

    def __init__(
        self,
        registry: str,
        *,
        known_as: str = "",
        reputation: Reputation | None = None,
        patient: bool = False,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
        max_pause_seconds: float = MAX_PAUSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin closed.

        `reputation` is what all processes remember, of what is `known_as` this. `patient`: credentials that are refused after
        they were taken are waited for; else they are wrong, whatever was before. `max_pause_seconds`
        lie between two probes at most: a part of how long the registry is waited for at all.
        """
        self.is_open = False
        self._registry = registry
        self._reputation = reputation
        self._known_as = known_as or registry
        self._patient = patient
        self._accepted = {False: False, True: False}  # by whether it was to push
        self._first_pause = min(first_pause_seconds, max_pause_seconds)
        self._max_pause = min(max_pause_seconds, MAX_PAUSE_SECONDS)
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._doubted_at = -DOUBT_SECONDS
        self._since = 0.0  # the first of these failures
        self._failed_at = 0.0  # the last of them
        self._cause: RegistryError | None = None
        self._pause = 0.0
        self._probe_at = 0.0  # when the next is let through
        self._overdue_at = 0.0  # when one that is under way is given up
        self._prober = 0  # the thread that was let through

    # ---- before a request ------------------------------------------------------------------------

    def enter(self) -> None:
        """Let this thread's request through, or raise RegistryAway."""
        with self._lock:
            if not self.is_open or self._prober == threading.get_ident():
                return
            now = self._clock()
            if now < (self._overdue_at if self._prober else self._probe_at):
                raise self._away(now)
            self._prober = threading.get_ident()
            self._overdue_at = now + PROBE_SECONDS
            if now - self._failed_at > FORGOTTEN_SECONDS:
                self._since = now

    def hurry(self) -> None:
        """Let the next request through, unless another one is under way."""
        with self._lock:
            if self.is_open:
                self._probe_at = self._clock()

    @property
    def refuses_credentials(self) -> bool:
        """Whether it is open for credentials: a probe has to present them anew."""
        return self.is_open and isinstance(self._cause, AuthenticationFailed)

    # ---- after it --------------------------------------------------------------------------------

    def came(self, *, challenge: bool = False) -> None:
        """Take note of an answer that is no failure of the registry's; `challenge`: a 401."""
        if not self._failures and not self.is_open:
            return
        with self._lock:
            if self.refuses_credentials and (challenge or self._prober != threading.get_ident()):
                return  # or it was for a token of before
            if self.is_open:
                self._close()
            self._failures = 0

    def gave_up(self) -> None:
        """Take note that a request which was let through ended without telling anything."""
        if not self.is_open:
            return
        with self._lock:
            if self.is_open and self._prober == threading.get_ident():
                self._prober = 0
                self._probe_at = self._clock() + self._pause

    def failed(self, error: RegistryError) -> RegistryError:
        """Count a failure; returns what to raise: the error, or RegistryAway once it is open."""
        with self._lock:
            now = self._failed_at = self._clock()
            if self.is_open:
                self._probed(now)
                if not isinstance(self._cause, AuthenticationFailed):
                    self._cause = error
                return self._away(now)
            if not self._failures:
                self._since = now
            self._failures += 1
            if self._failures < FAILURES:
                return error
            self._open(error, self._first_pause, now)
            return self._away(now)

    def accepted(self, *, push: bool) -> None:
        """Remember that the registry has taken our credentials."""
        if not self._accepted[push]:
            self._accepted[push] = True
            if self._patient and self._reputation is not None:
                self._reputation.accepted(self._known_as, push=push)

    def was_accepted(self, *, push: bool) -> bool:
        """Whether it has taken them before, and a refusal may thus be one that passes."""
        if not self._patient or self._accepted[push]:
            return self._patient
        return self._reputation is not None and self._reputation.was_accepted(
            self._known_as, push=push
        )

    def refused(self, error: AuthenticationFailed) -> RegistryError:
        """Open for credentials that were taken before and are not now; returns what to raise."""
        with self._lock:
            now = self._failed_at = self._clock()
            if self.refuses_credentials:
                self._probed(now)
            else:
                self._since = now
                self._open(error, REFUSED_PAUSES * self._first_pause, now)
            return self._away(now)

    def doubted(self, error: AuthenticationFailed) -> RegistryError:
        """Return what a refusal by a registry that takes the credentials otherwise is raised as.

        The new ones may have come just between: the first refusals in a while are tried again, the
        next ones are what they say (too small a scope).
        """
        with self._lock:
            now = self._clock()
            passed = now - self._doubted_at
            if self._first_pause <= passed < DOUBT_SECONDS:
                return error
            if passed >= DOUBT_SECONDS:
                self._doubted_at = now
        return RegistryAway(
            self._registry, error, since_seconds=0.0, retry_after_seconds=self._first_pause
        )

    # ---- under the lock --------------------------------------------------------------------------

    def _open(self, cause: RegistryError, pause: float, now: float) -> None:
        self.is_open = True
        self._cause = cause
        self._pause = pause
        self._probe_at = now + pause
        self._prober = 0
        log.warning("registry_away", registry=self._registry, reason=cause.message)

    def _probed(self, now: float) -> None:
        """Wait longer for the next probe, if this thread's was one."""
        if self._prober != threading.get_ident():
            return
        refused = isinstance(self._cause, AuthenticationFailed)
        self._pause = min(
            2 * self._pause, MAX_REFUSED_PAUSE_SECONDS if refused else self._max_pause
        )
        self._probe_at = now + self._pause
        self._prober = 0

    def _close(self) -> None:
        log.info(
            "registry_back",
            registry=self._registry,
            away_seconds=round(self._clock() - self._since, 1),
        )
        self.is_open = False
        self._cause = None
        self._prober = 0

    def _away(self, now: float) -> RegistryAway:
        return RegistryAway(
            self._registry,
            self._cause or RegistryError(registry=self._registry),
            since_seconds=now - self._since,
            retry_after_seconds=self._pause if self._prober else max(0.05, self._probe_at - now),
        )
