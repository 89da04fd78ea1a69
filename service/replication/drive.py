"""The loop that drives everything: due rules, windows, reconciliation, the end of executions.

Runs in the scheduler, or inside a one-shot command. Any number may run; a lease in SQL lets one act.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from sqlalchemy import Connection

from service import tracing
from service.crashpoints import crashpoint
from service.errors import NotFoundInStore, StoreUnavailable
from service.model.rule import SyncRule
from service.replication import executions as execution_cases
from service.replication.dispatch import Dispatcher
from service.replication.reconcile import Reconciler
from service.settings import Settings
from service.store.creation import insert_tags
from service.store.dispatching import DispatchStore
from service.store.endings import Ended
from service.store.executions import ExecutionStore
from service.store.redis_errors import is_redis_error
from service.store.retention import RetentionStore
from service.store.rules import Due, RuleStore
from service.store.verifications import VerificationStore
from service.telemetry import get_logger

LEASE = "scheduler"
TICK_SECONDS = 0.05
IDLE_TICK_SECONDS = 0.25
LOOK_SECONDS = 0.25
REST = 3.0
"""A round is followed by a rest of so many times its length: choosing among a large backlog takes long,
and is to leave the database to the workers."""

MAX_REST_SECONDS = 1.0
SWEEP_SECONDS = 30.0
ORPHANS_SECONDS = 5.0
MANY_RULES = 4
RULES_AT_ONCE = 16
DUE_AT_ONCE = 200
"""Rules started in one round: the lease has to be renewed between rounds."""

log = get_logger("drive")


Make = Callable[[Connection, SyncRule, Sequence[tuple[str, str]], float], str]


class EventIntake(Protocol):
    """What registries told us, ready to be looked at."""

    def consume(self, make: Make) -> int:
        """Hand each rule's due references to `make`, in one transaction with their removal."""


class Drive:
    """One process's driver; `holder` names it in the lease."""

    def __init__(
        self,
        settings: Settings,
        holder: str,
        rules: RuleStore,
        executions: ExecutionStore,
        store: DispatchStore,
        dispatcher: Dispatcher,
        reconciler: Reconciler,
        retention: RetentionStore,
        verifications: VerificationStore,
        *,
        events: EventIntake | None = None,
        plans: bool = True,
        ends: bool = True,
        on_end: Callable[[Ended], None] | None = None,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """`plans`: send executions to be planned, and start those of due rules and events.

        A one-shot command plans for itself and starts no others. `ends`: end executions, and forget old ones;
        a far region leaves that to home. `look_seconds`: how often the end of
        executions and the like is looked for.
        """
        self._look_seconds = look_seconds
        self._settings = settings
        self._holder = holder
        self._rules = rules
        self._executions = executions
        self._store = store
        self._dispatcher = dispatcher
        self._reconciler = reconciler
        self._retention = retention
        self._verifications = verifications
        self._events = events
        self._next_sweep = 0.0
        self._next_orphans = 0.0
        self._plans = plans
        self._ends = ends
        self._on_end = on_end
        self._next_lease = 0.0
        self._next_look = 0.0
        self._next_reconcile = 0.0
        self._leading = False
        self._news = threading.Event()
        self.last_round_at = 0.0  # seconds since 1970; 0: none was done yet

    def hurry(self) -> None:
        """Have a round done at once, with its looks: something was planned, or it is to end."""
        self._next_look = 0.0
        self._news.set()

    def run(self, stop: threading.Event, *, hurried: bool = False) -> None:
        """Drive until `stop` is set; losing SQL or Redis pauses it, nothing ends it.

        `hurried`: whoever sets `stop` calls `hurry` as well.
        """
        waits = self._news if hurried else stop
        while not stop.is_set():
            self._news.clear()
            began = time.monotonic()
            try:
                busy = self.step()
                self.last_round_at = time.time()
            except Exception as error:
                if isinstance(error, StoreUnavailable | OSError) or is_redis_error(error):
                    log.warning("drive_paused", error=f"{type(error).__name__}: {error}")
                else:
                    log.exception("drive_failed")
                busy = False
                stop.wait(0.5)
            tick = TICK_SECONDS if busy else min(IDLE_TICK_SECONDS, self._look_seconds)
            waits.wait(max(tick, min(MAX_REST_SECONDS, REST * (time.monotonic() - began))))
        if self._leading:
            try:
                self._store.resign(LEASE, self._holder)
            except StoreUnavailable:
                log.info("lease_left_to_lapse")

    def _start_due_rules(self) -> None:
        """Start each due rule; one that cannot be started does not keep the others back.

        Many are started at the same time, so that their rows go to the disk together.
        """
        due = self._rules.due(DUE_AT_ONCE)
        if len(due) < MANY_RULES:
            for one in due:
                self._start_due(one)
            return
        with ThreadPoolExecutor(RULES_AT_ONCE, "due") as pool:
            list(pool.map(self._start_due, due))

    def _start_due(self, due: Due) -> None:
        if due.missed:
            log.warning("schedule_missed", rule=due.rule, due_at=due.due_at)
            self._rules.advance(due.rule, due.due_at)
            return
        crashpoint("sched.claimed")
        try:
            execution_cases.start(
                self._rules,
                self._executions,
                due.rule,
                trigger="schedule",
                idempotency_key=f"schedule:{due.rule}:{due.due_at!r}",
            )
        except NotFoundInStore:
            return  # it was deleted a moment ago
        self._rules.advance(due.rule, due.due_at)

    def _start_for_events(self) -> None:
        """Start executions of the tags that registries told us of."""
        if self._events is None:
            return

        def make(
            connection: Connection,
            rule: SyncRule,
            references: Sequence[tuple[str, str]],
            since: float,
        ) -> str:
            return insert_tags(connection, rule, references, trigger="event", changed_at=since)

        self._events.consume(make)

    def _keep_house(self) -> None:
        """Stop what is past its deadline; forget executions that are old enough."""
        for identity in self._executions.overdue():
            log.warning("deadline_passed", execution=identity)
            self._executions.request_stop(identity, reason="its deadline ran out")
        now = time.monotonic()
        if now >= self._next_orphans:
            self._next_orphans = now + ORPHANS_SECONDS
            freed = self._store.free_orphans(self._dispatcher.unserved())
            if freed:
                log.warning("orphans_freed", copies=freed)
        if self._ends and now >= self._next_sweep:
            self._next_sweep = now + SWEEP_SECONDS
            self._retention.sweep(self._settings.executions_kept)

    def step(self) -> bool:
        """Do one round; whether there is work under way."""
        now = time.monotonic()
        lease = max(2.0, 4 * self._settings.heartbeat_seconds)
        if now >= self._next_lease:
            led, self._leading = self._leading, self._store.lead(LEASE, self._holder, lease)
            if self._leading and not led:
                self._reconciler.take_over()
            self._next_lease = now + lease / 4
        if not self._leading:
            return False
        sent = self._dispatcher.fill_windows()
        if now < self._next_look:
            return True
        self._next_look = now + self._look_seconds
        if self._plans:
            self._start_due_rules()
            self._start_for_events()
            self._dispatcher.send_plans()
        if now >= self._next_reconcile:
            self._next_reconcile = now + self._settings.reconcile_seconds
            self._keep_house()
            self._reconciler.reconcile()
        self._verifications.start_repairs()
        for ended in self._store.end_executions() if self._ends else ():
            log.info("execution_ended", execution=ended.execution, state=ended.state.value)
            tracing.execution_told(
                ended.execution,
                ended.created_at,
                time.time(),
                **{"transship.rule": ended.rule, "transship.state": ended.state.value},
            )
            if self._on_end is not None:
                self._on_end(ended)
        return sent > 0 or self._store.busy()
