"""Rows of copies as work, with what their execution's rule says of them."""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy import Connection, Row, select

from service.model.rule import REPLICATE, Selection, SyncRule
from service.model.work import CopyRef, CopyWork, Holder
from service.store import codec, routes
from service.store.creation import ASKED, BY_HAND, ONE_SHOT, REPAIR, RETRY
from service.store.routes import Senders
from service.store.tables import executions

RULES_KEPT = 256


class RuleCache:
    """The rules of executions as they stood when these were created: none ever changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: dict[str, tuple[SyncRule, str, Senders]] = {}

    def of(self, connection: Connection, execution: str) -> tuple[SyncRule, str, Senders]:
        """Return the rule as it stood when the execution was created, what triggered that, and the route.

        Kept, since none ever changes: a route is saved before there are copies.
        """
        with self._lock:
            known = self._rules.get(execution)
        if known is None:
            row = connection.execute(
                select(executions.c.spec, executions.c.trigger, executions.c.route).where(
                    executions.c.id == execution
                )
            ).one()
            known = codec.load_rule(row.spec), row.trigger, routes.parse(row.route)
            with self._lock:
                if len(self._rules) >= RULES_KEPT:
                    self._rules.clear()
                self._rules[execution] = known
        return known


def label(row: Any) -> str:
    """Return which copy a row is, in the words that Flower and logs show."""
    return (
        f"{row.destination_registry} <- {row.source_registry} "
        f"{row.source_repository}:{row.source_reference}"
    )


def copy_work(
    row: Row[Any],
    rule: SyncRule,
    trigger: str,
    *,
    holders: tuple[Holder, ...] = (),
    routed: bool = False,
) -> CopyWork:
    """Return a row of copies as work; `trigger` is the execution's, `holders` as `routes` tells them."""
    entry = rule.select[row.entry] if row.entry < len(rule.select) else Selection()
    return CopyWork(
        ref=CopyRef(row.id, row.fence, label(row)),
        execution=row.execution_id,
        rule=row.rule,
        region=row.region,
        source_registry=row.source_registry,
        source_repository=row.source_repository,
        source_reference=row.source_reference,
        destination_registry=row.destination_registry,
        destination_repository=row.destination_repository,
        destination_reference=row.destination_reference,
        digest=row.digest,
        referrers=bool(row.referrers),
        listed=bool(row.listed),
        fresh=bool(row.fresh),
        retried=row.attempts > 1,
        failures=row.failures,
        replans=row.replans,
        throttles=row.throttles,
        urgent=row.priority == 0,
        late=bool(row.behind),
        asked=trigger in ASKED,
        asked_again=trigger in (REPAIR, RETRY, BY_HAND),
        repair=trigger == REPAIR,
        on_conflict=rule.on_conflict,
        expected=row.found if rule.mode == REPLICATE and trigger not in ONE_SHOT else "",
        bandwidth=rule.bandwidth,
        timezone=rule.trigger.timezone,
        types=entry.types,
        platforms=entry.platforms,
        signature_key=rule.signature_key,
        holders=holders,
        named=rule.mode != REPLICATE
        and any(d.registry == row.destination_registry for d in rule.destinations),
        routed=routed,
        attempt=row.attempts,
        owner=row.owner,
        begun_at=row.updated_at,
    )
