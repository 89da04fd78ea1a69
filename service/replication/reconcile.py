"""Reconcile: find work that nobody holds and send it again. Owns liveness; the chord is the fast path."""

from __future__ import annotations

import time
from collections.abc import Callable

from service.crashpoints import crashpoint
from service.model.ports import ClaimState, Publisher
from service.protections import without
from service.settings import Settings
from service.store.dispatching import DispatchStore
from service.telemetry import get_logger

TALLIED = (
    "process_died",
    "commit_sent_again",
    "waiting_too_long",
    "messages_lost",
    "taken_over",
    "redis_lost_its_memory",
)
"""What the reconciler puts right; names of its log's events, too."""

log = get_logger("reconcile")


class Reconciler:
    """One pass a second over what SQL says is under way."""

    def __init__(
        self,
        settings: Settings,
        store: DispatchStore,
        publisher: Publisher,
        read_epoch: Callable[[], str | None],
        new_epoch: Callable[[], str],
        blob_state: Callable[[str, str], ClaimState],
        *,
        clock: Callable[[], float] = time.monotonic,
        tally: Callable[[str], None] | None = None,
    ) -> None:
        """`tally` is told each time that something had to be put right (TALLIED).

        `read_epoch` and `new_epoch` ask and mark the Redis that carries the queue.

        None from the first: nothing has been sent to it yet, so it has nothing to lose.

        `blob_state` says of a destination registry and a digest whether the blob is moving (HELD),
        there (DONE), hopeless (CORRUPT) or free to be claimed (MINE).
        """
        self._settings = settings
        self._store = store
        self._publisher = publisher
        self._read_epoch = read_epoch
        self._new_epoch = new_epoch
        self._blob_state = blob_state
        self._epoch = ""
        self._resending = False
        self._parts_unsent = False  # the queue went away while parts were sent that count as sent
        self._clock = clock
        self._tally = tally or _untold
        self._heard_at: float | None = None
        self._judge_from = 0.0

    def reconcile(self) -> None:
        """Do one pass. Raises what SQL or Redis raise; the next pass finds the same work."""
        self._recover_dead()
        if self._parts_unsent:
            self._send_parts()
        self._check_redis()
        self._check_messages()
        self._check_waits()
        for region, ref in self._store.uncommitted(self._settings.waiting_grace_seconds):
            log.info("commit_sent_again", copy=ref.id)
            self._tally("commit_sent_again")
            self._publisher.commit(region, ref)

    def _recover_dead(self) -> None:
        """Bury the silent, but not right after SQL was away, or we were: then all were silent."""
        if without("reconciler"):
            return
        now, dead_after = self._clock(), self._settings.dead_after_seconds
        if self._heard_at is not None and now - self._heard_at > dead_after / 2:
            self._judge_from = now + dead_after
        if now >= self._judge_from:
            found = self._store.recover_dead(max_crashes=self._settings.max_crashes)
            if found:
                crashpoint("recon.found")
            for boot, count in found.items():
                log.warning("process_died", boot=boot, copies_planned_again=count)
                self._tally("process_died")
            if found:
                self._store.plan_again()  # a message that the dead had taken is not sent by itself
                self._send_parts()
                crashpoint("recon.requeued")
        else:
            self._store.busy()
        self._heard_at = now

    def _send_parts(self, region: str | None = None, age_seconds: float = 0.0) -> int:
        self._parts_unsent = True
        parts = self._store.take_idle_parts(region=region, age_seconds=age_seconds)
        for part in parts:
            self._publisher.part(part.region, part.ref, part.part, part.task_id)
        self._parts_unsent = False
        return len(parts)

    def _check_waits(self) -> None:
        """Look at blobs that copies have waited for too long: a wake-up may have been lost.

        One that a live process moves is waited for further. One that is there wakes all; where
        nobody moves it, one copy is woken to lead, and the others wait for it.
        """
        for registry, digest in self._store.overdue_waits(self._settings.waiting_grace_seconds):
            state = self._blob_state(registry, digest)
            if state is ClaimState.HELD:
                self._store.wait_on(registry, digest)
                continue
            woken = self._store.wake(registry, digest, everybody=state is not ClaimState.MINE)
            log.info("waiting_too_long", registry=registry, digest=digest, woken=woken)
            self._tally("waiting_too_long")

    def _check_messages(self) -> None:
        """Send again what was sent long ago to a region whose queues are empty by now."""
        age = self._settings.visibility_timeout + self._settings.waiting_grace_seconds
        for region in self._store.stale_regions(age):
            if self._publisher.waiting(region) == 0:
                count = self._store.resend_stale(region, age)
                count += self._send_parts(region, age)
                log.warning("messages_lost", region=region, copies_sent_again=count)
                self._tally("messages_lost")

    def take_over(self) -> None:
        """Send again what nobody holds, as whoever led before may have died before it was sent."""
        count = self._store.resend_unowned() + self._send_parts()
        if count:
            log.info("taken_over", copies_sent_again=count)
            self._tally("taken_over")

    def _check_redis(self) -> None:
        """Send everything unowned again as soon as Redis has lost its memory, or a worker its connection."""
        epoch = self._read_epoch()
        if epoch is None or (epoch and epoch == self._epoch):
            return
        known = self._epoch
        marked = epoch or self._new_epoch()
        if known or not epoch or self._resending:
            self._resending = True  # until it is done: SQL may be what was away
            count = self._store.resend_unowned() + self._send_parts()
            if known or count:
                log.warning("redis_lost_its_memory", copies_sent_again=count)
                self._tally("redis_lost_its_memory")
        self._resending = False
        self._epoch = marked


def _untold(_what: str) -> None:
    """Tell nobody."""
