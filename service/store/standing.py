"""What open executions wait for: pauses of their rules and registries, and copies that are tried again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, case, func, literal, select, union_all

from service.model.rule import SyncRule
from service.model.states import OPEN_COPIES
from service.store import codec
from service.store.clock import now_epoch
from service.store.database import Database
from service.store.executions import ExecutionRecord
from service.store.tables import FAR, copies, executions, registries, rules
from service.store.tables_health import registry_health

ONLY_LOOKING = frozenset({"plan", "verify"})
"""Kinds that a paused rule keeps from beginning, and does not interrupt."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A pause that an execution waits behind; `since` in seconds since 1970.

    `reason`: what a registry fails with, where its health is the pause; it ends by itself.
    """

    kind: str  # rule | registry
    name: str
    since: float
    reason: str = ""


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


_PAUSED = union_all(
    select(
        literal("registry"),
        registries.c.name,
        registries.c.paused_at,
        case((registry_health.c.holds, registry_health.c.reason), else_=""),
    )
    .outerjoin(registry_health, registry_health.c.registry == registries.c.name)
    .where(registries.c.paused_at.is_not(None)),
    select(literal("rule"), rules.c.name, rules.c.paused_at, literal("")).where(
        rules.c.name.in_(bindparam("names", expanding=True)), rules.c.paused_at.is_not(None)
    ),
)


class StandingStore:
    """Reads why what is open does not move."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def holds(self, records: Iterable[ExecutionRecord]) -> dict[str, list[Hold]]:
        """Return the pauses that open executions wait behind, by id, for a whole page.

        One query, which finds nothing where nothing is paused; two more for the
        registries and the executions only while a registry is paused.
        """
        wanted = [record for record in records if not record.state.ended]
        if not wanted:
            return {}
        names = sorted({record.rule for record in wanted})
        with self._database.read() as connection:
            pauses = [Hold(*row) for row in connection.execute(_PAUSED, {"names": names})]
            if not pauses:
                return {}
            by_rule = {one.name: one for one in pauses if one.kind == "rule"}
            by_registry = {one.name: one for one in pauses if one.kind == "registry"}
            held = _held_by_registries(connection, wanted, by_registry) if by_registry else {}
        found: dict[str, list[Hold]] = {}
        for record in wanted:
            interrupts = record.kind not in ONLY_LOOKING or record.started_at is None
            if record.rule in by_rule and interrupts:
                found.setdefault(record.id, []).append(by_rule[record.rule])
            if record.id in held:
                found.setdefault(record.id, []).extend(held[record.id])
        return found

    def retries(self, execution: str) -> Sequence[Retry]:
        """Return why open copies of an execution are tried again, by destination and class."""
        later = case(
            (copies.c.not_before.between(now_epoch(), FAR), copies.c.not_before), else_=None
        )
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


def _held_by_registries(
    connection: Connection, wanted: Sequence[ExecutionRecord], paused: Mapping[str, Hold]
) -> dict[str, list[Hold]]:
    """Return which executions read from or write to a paused registry, by name or by group."""
    groups_of = {
        row.name: frozenset(codec.load_endpoint(row.endpoint).groups)
        for row in connection.execute(
            select(registries.c.name, registries.c.endpoint).where(
                registries.c.name.in_(sorted(paused))
            )
        )
    }
    specs = select(executions.c.id, executions.c.spec).where(
        executions.c.id.in_([record.id for record in wanted])
    )
    found: dict[str, list[Hold]] = {}
    for identity, spec in connection.execute(specs):
        rule = codec.load_rule(spec)
        holds = [
            hold
            for name, hold in sorted(paused.items())
            if _concerns(rule, name, groups_of.get(name, frozenset()))
        ]
        if holds:
            found[identity] = holds
    return found


def _concerns(rule: SyncRule, registry: str, groups: frozenset[str]) -> bool:
    return rule.source == registry or any(
        one.registry == registry or (one.group in groups) for one in rule.destinations
    )
