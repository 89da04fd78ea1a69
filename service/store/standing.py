"""What open executions wait for: pauses of their rules and registries, and copies that are tried again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import case, func, select

from service.model.rule import SyncRule
from service.model.states import OPEN_COPIES
from service.store import codec
from service.store.clock import now_epoch
from service.store.database import Database
from service.store.executions import ExecutionRecord
from service.store.tables import copies, executions, registries, rules

ONLY_LOOKING = frozenset({"plan", "verify"})
"""Kinds that a paused rule keeps from beginning, and does not interrupt."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A pause that an execution waits behind; `since` in seconds since 1970."""

    kind: str  # rule | registry
    name: str
    since: float


@dataclass(frozen=True, slots=True)
class Retry:
    """Open copies of one destination that failed for one class of reasons and are tried again.

    `reason` is one of theirs; `next_at` (seconds since 1970) is none while one is under way.
    """

    destination: str
    failure_class: str
    reason: str
    copies: int
    tries: int
    next_at: float | None


class StandingStore:
    """Reads why what is open does not move."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def holds(self, records: Iterable[ExecutionRecord]) -> dict[str, list[Hold]]:
        """Return the pauses that open executions wait behind, by id: two queries for a whole page."""
        wanted = [record.id for record in records if not record.state.ended]
        if not wanted:
            return {}
        paused = select(registries.c.name, registries.c.paused_at, registries.c.endpoint).where(
            registries.c.paused_at.is_not(None)
        )
        query = (
            select(
                executions.c.id,
                executions.c.rule,
                executions.c.kind,
                executions.c.started_at,
                executions.c.spec,
                rules.c.paused_at,
            )
            .outerjoin(rules, rules.c.name == executions.c.rule)
            .where(executions.c.id.in_(wanted))
        )
        found: dict[str, list[Hold]] = {}
        with self._database.read() as connection:
            held = [
                (
                    Hold("registry", row.name, row.paused_at),
                    frozenset(codec.load_endpoint(row.endpoint).groups),
                )
                for row in connection.execute(paused)
            ]
            if not held:
                query = query.where(rules.c.paused_at.is_not(None))
            for row in connection.execute(query):
                holds = found.setdefault(row.id, [])
                interrupts = row.kind not in ONLY_LOOKING or row.started_at is None
                if row.paused_at is not None and interrupts:
                    holds.append(Hold("rule", row.rule, row.paused_at))
                if held:
                    rule = codec.load_rule(row.spec)
                    holds += [hold for hold, groups in held if _concerns(rule, hold.name, groups)]
        return {identity: holds for identity, holds in found.items() if holds}

    def retries(self, execution: str) -> Sequence[Retry]:
        """Return why open copies of an execution are tried again, by destination and class."""
        later = case((copies.c.not_before > now_epoch(), copies.c.not_before), else_=None)
        query = (
            select(
                copies.c.destination_registry,
                copies.c.failure_class,
                func.max(copies.c.reason),
                func.count(),
                func.max(copies.c.attempts),
                func.min(later),
            )
            .where(
                copies.c.execution_id == execution,
                copies.c.state.in_(OPEN_COPIES),
                copies.c.failure_class.not_in(["", "paused"]),
            )
            .group_by(copies.c.destination_registry, copies.c.failure_class)
            .order_by(copies.c.destination_registry, copies.c.failure_class)
        )
        with self._database.read() as connection:
            return [Retry(*row) for row in connection.execute(query)]


def _concerns(rule: SyncRule, registry: str, groups: frozenset[str]) -> bool:
    return rule.source == registry or any(
        one.registry == registry or (one.group in groups) for one in rule.destinations
    )
