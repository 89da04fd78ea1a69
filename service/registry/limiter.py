"""What this process may ask of one registry: the rate, the slots and the bytes of its lease.

Nothing is waited for while nothing is limited: then `gated` is false, and that is all a request
looks at. Requests are paced by a schedule (each takes the next free moment), bytes likewise; leases
are renewed by a thread (service.registry.limiters), never by a request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from service.errors import Throttled
from service.model.budget import Lease, Quota, Wish
from service.model.endpoint import Limits
from service.registry.quota import left_of_quota, told_quota
from service.registry.wire_errors import retry_after

MAX_WAIT_SECONDS = 60.0  # without anybody getting a turn; then one is sent away with the time
BLOCKED_WAIT_SECONDS = 10.0  # for a registry that wants nothing: longer is the copy's to wait
BURST_SECONDS = 0.1  # how much of a second's budget may be used at once
LOOK_SECONDS = 0.05  # how often a wait looks whether the lease has changed
ANSWER_SECONDS = 0.002  # how soon it looks again for a lease that has just been asked for
WINDOW_SECONDS = 1.0  # over which the rate is told that "too much" halves
PIECE_SECONDS = 0.25  # a paced stream moves at most what its budget gives in this time at once
MIN_PIECE = 16 * 1024
SLOWED = frozenset({429, 503})
NOTHING = Lease()

Slowed = Callable[[float, float], None]  # requests a second lately, Retry-After or 0
Paced = Callable[[float, float], None]  # requests a second that are left, for so many seconds
Heard = Callable[[Quota], None]  # what an answer has said of the registry's quota


class _Schedule:
    """Moments given out one after another, `per_second` of them; not thread-safe by itself."""

    def __init__(self) -> None:
        self._next = 0.0

    def delay(self, now: float, per_second: float) -> float:
        """Return how long to wait for a turn, without taking it."""
        step = 1 / per_second
        return max(0.0, max(self._next, now - max(BURST_SECONDS, step)) + step - now)

    def take(self, now: float, per_second: float) -> None:
        """Take the turn."""
        step = 1 / per_second
        self._next = max(self._next, now - max(BURST_SECONDS, step)) + step

    def owe(self, now: float, per_second: float, amount: float) -> float:
        """Account for an amount that has been used; return how long to pause for it."""
        self._next = max(self._next, now - BURST_SECONDS) + amount / per_second
        return max(0.0, self._next - now)


@dataclass(frozen=True, slots=True)
class LimiterState:
    """Where a limiter stands now; `requests_per_second` None: it is not limited."""

    name: str
    in_flight: int  # requests under way, and threads that wait for theirs
    blocked_seconds: float
    requests_per_second: float | None


class Limiter:
    """The gate before one registry (or one rule's bytes). Thread-safe."""

    def __init__(
        self,
        name: str,
        limits: Limits,
        *,
        wake: Callable[[Limiter], None] | None = None,
        slowed: Slowed | None = None,
        paced: Paced | None = None,
        heard: Heard | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`wake` is told when a lease is needed at once; `slowed`, `paced` and `heard` tell the fleet."""
        self.name = name
        self.limits = limits
        self.used_at = 0.0  # by the clock; who is not used needs no lease
        self._lease = NOTHING
        self._until = 0.0
        self._blocked_until = 0.0
        self._got_on_at = 0.0  # when somebody last got a turn or a slot
        self._wake = wake
        self._slowed = slowed
        self._paced = paced
        self._heard = heard
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._local = threading.local()
        self._turns = _Schedule()
        self._bytes = _Schedule()
        self._inside = 0  # threads that wait or have a request under way
        self._peak = 0
        self._in_use = 0
        self._told: int | None = None  # slots in use that a lease is being asked for with
        self._told_at = 0.0
        self._sent = 0
        self._window = (clock(), 0)  # when, and how many requests had been sent by then
        self.gated = self._is_gated()

    # ---- requests ----------------------------------------------------------------------------

    def note(self) -> None:
        """Count a request that need not wait."""
        self._sent += 1
        self.used_at = self._clock()

    def enter(self) -> Callable[[], None] | None:
        """Wait for a turn; returns what to call when the request is through, if anything.

        Raises Throttled when the turn would come too late to wait for it here.
        """
        self.note()
        if not self.gated:
            return None
        with self._counted():
            self._wait(self._turn, MAX_WAIT_SECONDS)
            if self.limits.concurrency is None or self._prepaid():
                return None
            self._wait(self._slot, MAX_WAIT_SECONDS)
        return self._once(self._leave)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Have one slot for all that this thread asks meanwhile; raises Throttled as `enter` does."""
        if self.limits.concurrency is None or self._prepaid():
            yield
            return
        with self._counted():
            self._wait(self._slot, MAX_WAIT_SECONDS)
        self._local.prepaid = True
        try:
            yield
        finally:
            self._local.prepaid = False
            self._leave()

    def saw(self, status: int, headers: Mapping[str, str]) -> None:
        """Learn from an answer: 429, 503 with Retry-After, and what is left of a quota."""
        now = self._clock()
        if status == 429 or (status == 503 and "retry-after" in headers):
            wait = retry_after(headers) or 0.0
            with self._lock:
                self._blocked_until = max(self._blocked_until, now + wait)
                self.gated = True
            if self._slowed is not None:
                self._slowed(self._rate(now), wait)
            return
        if self._heard is not None and (quota := told_quota(headers)) is not None:
            self._heard(quota)
        left = left_of_quota(headers)
        if left is not None and self._paced is not None:
            self._paced(*left)

    def state(self) -> LimiterState:
        """Return where it stands."""
        now = self._clock()
        with self._lock:
            return LimiterState(
                self.name,
                max(self._inside, self._in_use),
                max(0.0, self._blocked_until - now),
                self._rates(now).requests_per_second,
            )

    # ---- bytes -------------------------------------------------------------------------------

    def piece(self, most: int) -> int:
        """Return how many bytes to move at once, so that a slow budget makes no long silence."""
        bandwidth = self._lease.bandwidth or self.limits.bandwidth
        if not self.gated or bandwidth is None:
            return most
        share = bandwidth * PIECE_SECONDS / max(1, self._inside)
        return min(most, max(MIN_PIECE, int(share)))

    def moved(self, count: int) -> None:
        """Account for bytes that went over the wire: wait until the budget has room for more."""
        self.used_at = self._clock()
        if not self.gated or self.limits.bandwidth is None:
            return
        deadline = self._clock() + MAX_WAIT_SECONDS
        while True:
            now = self._clock()
            with self._lock:
                rate = self._rates(now).bandwidth
                if rate is None:
                    return
                if rate > 0:
                    pause = self._bytes.owe(now, rate, count)
                    break
            if now > deadline:
                return  # whoever leases the rest away from us for a minute may not stall a stream
            if self._until < now:
                self._ask_for_lease()
            self._sleep(LOOK_SECONDS)
        if pause > 0:
            self._sleep(pause)

    def streaming(self) -> AbstractContextManager[None]:
        """Count this thread as one that moves bytes, so that it gets its part."""
        return self._counted()

    # ---- the lease ---------------------------------------------------------------------------

    def is_used(self, since: float) -> bool:
        """Whether anybody asked for something since then, or waits, or has a request under way."""
        return self.used_at >= since or self._inside > 0 or self._in_use > 0

    def wish(self) -> Wish:
        """Return what to lease for, and begin to count anew; `grant` or `keep` has to follow.

        Until then no more slots are taken than the wish tells of: the others get what is left of it.
        """
        now = self._clock()
        with self._lock:
            rate = self._rate(now)
            if now - self._window[0] >= WINDOW_SECONDS:
                self._window = (now, self._sent)
            peak, self._peak = max(self._peak, self._inside, self._in_use), self._inside
            self._told, self._told_at = self._in_use, now
            return Wish(peak, self._in_use, rate)

    def grant(self, lease: Lease, until: float) -> None:
        """Take a lease that holds until a moment of the clock."""
        with self._lock:
            self._lease = lease
            self._until = until
            self._told = None
            if lease.blocked_seconds > 0:
                self._blocked_until = max(
                    self._blocked_until, self._clock() + lease.blocked_seconds
                )
            self.gated = self._is_gated() or self._blocked_until > self._clock()

    def keep(self) -> None:
        """Go on with the lease there is: asking for another has failed."""
        with self._lock:
            self._told = None

    def set_limits(self, limits: Limits) -> None:
        """Hold to other limits from the next lease on."""
        if limits != self.limits:
            with self._lock:
                self.limits = limits
                self._until = 0.0
                self.gated = self._is_gated()

    def _is_gated(self) -> bool:
        return self._lease.is_bound or self.limits != Limits()

    def _rate(self, now: float) -> float:
        began, before = self._window
        return (self._sent - before) / max(WINDOW_SECONDS, now - began)

    def _rates(self, now: float) -> Lease:
        """Return the lease that holds now: nothing at all when it has run out and limits are set."""
        if now <= self._until or self.limits == Limits():
            return self._lease
        limits = self.limits
        return Lease(
            None if limits.requests_per_second is None else 0.0,
            None if limits.concurrency is None else 0,
            None if limits.bandwidth is None else 0.0,
        )

    # ---- waiting -----------------------------------------------------------------------------

    def _wait(self, attempt: Callable[[float], float], longest: float) -> None:
        """Try until `attempt` returns 0: it returns how long to wait, or raises Throttled.

        As long as others of this process get on, however slowly, the turn will come.
        """
        began = self._clock()
        while True:
            now = self._clock()
            with self._lock:
                pause = attempt(now)
                if pause <= 0:
                    self._got_on_at = now
                    return
            if now + pause > max(began, self._got_on_at) + longest:
                raise Throttled(
                    f"{self.name}: its limits leave no room for {pause:.0f} s",
                    registry=self.name,
                    retry_after_seconds=max(pause, 1.0),
                )
            if self._until < now:
                self._ask_for_lease()
            self._sleep(min(pause, LOOK_SECONDS))

    def _turn(self, now: float) -> float:
        blocked = self._blocked_until - now
        if blocked > BLOCKED_WAIT_SECONDS:
            raise Throttled(
                f"{self.name}: the registry wants no request for {blocked:.0f} s",
                registry=self.name,
                retry_after_seconds=blocked,
            )
        if blocked > 0:
            return blocked
        rate = self._rates(now).requests_per_second
        if rate is None:
            if not self._is_gated():
                self.gated = False
            return 0.0
        if rate <= 0:
            return LOOK_SECONDS
        pause = self._turns.delay(now, rate)
        if pause <= 0:
            self._turns.take(now, rate)
        return pause

    def _slot(self, now: float) -> float:
        slots = self._rates(now).concurrency
        if slots is not None and self._in_use >= slots:
            return LOOK_SECONDS
        if slots is not None and self._told is not None and self._in_use >= self._told:
            return min(LOOK_SECONDS, max(ANSWER_SECONDS, (now - self._told_at) / 2))
        self._in_use += 1
        return 0.0

    def _leave(self) -> None:
        with self._lock:
            self._in_use -= 1

    def _prepaid(self) -> bool:
        return bool(getattr(self._local, "prepaid", False))

    def _ask_for_lease(self) -> None:
        if self._wake is not None:
            self._wake(self)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._inside += 1
            self._peak = max(self._peak, self._inside)
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1

    @staticmethod
    def _once(leave: Callable[[], None]) -> Callable[[], None]:
        left = threading.Event()

        def call() -> None:
            if not left.is_set():
                left.set()
                leave()

        return call


@contextmanager
def hold_all(*limiters: Limiter | None) -> Iterator[None]:
    """Have a slot of each, taken in the order of their names so that nobody waits in a circle."""
    with ExitStack() as stack:
        for limiter in sorted({one for one in limiters if one}, key=lambda one: one.name):
            stack.enter_context(limiter.hold())
        yield


@contextmanager
def streaming(*limiters: Limiter | None) -> Iterator[None]:
    """Count this thread among those that move bytes past each of these."""
    with ExitStack() as stack:
        for limiter in limiters:
            if limiter is not None:
                stack.enter_context(limiter.streaming())
        yield
