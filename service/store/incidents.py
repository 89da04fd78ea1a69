"""Incidents of rules: each an alert while it lasts, told once and resolved by itself (issue 6 point 7).

What is kept of them is what a rule's error budget was spent on: intervals, written when something begins
or ends, so that a thousand rules that are well cost nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from service.model.rule import SyncRule
from service.store import codec, outbox
from service.store.clock import database_now, now_epoch
from service.store.database import Database, insert_of
from service.store.tables import rules
from service.store.tables_freshness import rule_incidents

LATE, IDLE, EMPTY = "late", "idle", "empty"
KINDS = (LATE, IDLE, EMPTY)
TOLD = {LATE: ("rule.late", "rule.fresh"), IDLE: ("rule.idle", "rule.running")}
TOLD[EMPTY] = ("rule.empty", "rule.matching")
"""The events that tell of the begin and the end of each kind."""

WINDOW_SECONDS = 30 * 86400.0
TARGET = 0.99
"""A rule is to be within its objective for so large a part of WINDOW_SECONDS; the rest is its budget."""


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that is wrong with a rule, in one region or ("") in all; times by the database's clock.

    `seconds` is what it is behind, for those of lateness.
    """

    rule: str
    kind: str
    region: str
    began_at: float
    reason: str
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """How a rule has kept its objective in one region, over `judged_seconds` until now."""

    judged_seconds: float
    missed_seconds: float

    @property
    def within(self) -> float:
        """The part of the time in which the objective was kept."""
        return 1.0 if self.judged_seconds <= 0 else 1 - self.missed_seconds / self.judged_seconds

    @property
    def left_seconds(self) -> float:
        """So long may the objective still be missed in the window; negative when more was."""
        return (1 - TARGET) * WINDOW_SECONDS - self.missed_seconds

    @property
    def left(self) -> float:
        """The part of the budget that is left, 1 to 0; negative when more than all was spent."""
        return self.left_seconds / ((1 - TARGET) * WINDOW_SECONDS)


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose budget is asked for: a rule that is there since an instant, and its regions."""

    since: float
    regions: tuple[str, ...]


class IncidentStore:
    """The table of incidents."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self, rule_names: Collection[str] | None = None) -> list[Incident]:
        """Return what is wrong now: with these rules, or with all, the oldest first."""
        query = (
            select(rule_incidents)
            .where(rule_incidents.c.ended_at.is_(None))
            .order_by(rule_incidents.c.began_at)
        )
        if rule_names is not None:
            query = query.where(rule_incidents.c.rule.in_(list(rule_names)))
        with self._database.read() as connection:
            return [_incident(row) for row in connection.execute(query)]

    def settle(
        self, kinds: Sequence[str], found: Iterable[Incident]
    ) -> tuple[list[Incident], list[Incident]]:
        """Have the open incidents of these kinds be exactly what was found; returns what began and ended.

        Tells the webhooks of each, in the transaction that notes it.
        """
        wanted = {(one.rule, one.kind, one.region): one for one in found}
        known = {(one.rule, one.kind, one.region): one for one in self.open() if one.kind in kinds}
        begun = [one for key, one in wanted.items() if key not in known]
        ended = [one for key, one in known.items() if key not in wanted]
        if begun or ended:
            self._database.write(lambda connection: _note(connection, begun, ended))
        return begun, ended

    def budgets(self, asked: Mapping[str, Asked]) -> dict[str, dict[str, Budget]]:
        """Return how each rule has kept its objective in each region, over the window or since it is there."""
        query = select(rule_incidents).where(rule_incidents.c.kind == LATE)
        if len(asked) == 1:
            query = query.where(rule_incidents.c.rule.in_(list(asked)))
        with self._database.read() as connection:
            now = database_now(connection)
            rows = connection.execute(query).all()
        missed: dict[str, list[Row[Any]]] = {}
        for row in rows:
            missed.setdefault(row.rule, []).append(row)
        return {rule: _budgets(one, now, missed.get(rule, ())) for rule, one in asked.items()}

    def forget(self) -> int:
        """Forget what ended before the window, and what was of rules that are gone; returns how much."""
        old = rule_incidents.c.ended_at < now_epoch() - WINDOW_SECONDS
        gone = rule_incidents.c.ended_at.is_not(None) & rule_incidents.c.rule.not_in(
            select(rules.c.name)
        )
        statement = delete(rule_incidents).where(old | gone)
        with self._database.read() as connection:
            some = select(func.count()).select_from(rule_incidents).where(old | gone)
            if not connection.execute(some).scalar_one():
                return 0
        return self._database.write(lambda connection: connection.execute(statement).rowcount)


def _budgets(asked: Asked, now: float, missed: Sequence[Row[Any]]) -> dict[str, Budget]:
    begin = max(now - WINDOW_SECONDS, asked.since)
    return {
        region: Budget(
            max(0.0, now - begin),
            _covered(
                (max(begin, row.began_at), min(now, row.ended_at or now))
                for row in missed
                if row.region in ("", region)
            ),
        )
        for region in asked.regions
    }


def _note(connection: Connection, begun: Sequence[Incident], ended: Sequence[Incident]) -> None:
    touched = sorted({one.rule for one in (*begun, *ended)})
    saved = {
        row.name: codec.load_rule(row.spec)
        for row in connection.execute(
            select(rules.c.name, rules.c.spec).where(rules.c.name.in_(touched)).with_for_update()
        )
    }
    for one in begun:
        if one.rule not in saved:
            continue
        made = connection.execute(
            insert_of(connection.dialect.name, rule_incidents)
            .values(
                rule=one.rule,
                kind=one.kind,
                region=one.region,
                began_at=one.began_at,
                reason=one.reason,
            )
            .on_conflict_do_nothing()
        )
        if made.rowcount == 1:
            _tell(connection, saved[one.rule], one, begins=True)
    for one in ended:
        changed = connection.execute(
            update(rule_incidents)
            .where(
                rule_incidents.c.rule == one.rule,
                rule_incidents.c.kind == one.kind,
                rule_incidents.c.region == one.region,
                rule_incidents.c.ended_at.is_(None),
            )
            .values(ended_at=now_epoch())
        )
        if changed.rowcount == 1 and one.rule in saved:
            _tell(connection, saved[one.rule], one, begins=False)
    for name in touched:
        since = select(func.min(rule_incidents.c.began_at)).where(
            rule_incidents.c.rule == name,
            rule_incidents.c.kind == LATE,
            rule_incidents.c.ended_at.is_(None),
        )
        connection.execute(
            update(rules).where(rules.c.name == name).values(late_since=since.scalar_subquery())
        )


def _tell(connection: Connection, rule: SyncRule, one: Incident, *, begins: bool) -> None:
    data: dict[str, Any] = {"region": one.region, "reason": one.reason if begins else ""}
    if one.kind == LATE:
        data["freshness_seconds"] = rule.freshness_seconds
        data["lag_seconds"] = round(one.seconds, 3)
    outbox.rule_told(connection, rule, TOLD[one.kind][0 if begins else 1], data)


def _covered(intervals: Iterable[tuple[float, float]]) -> float:
    """Return the seconds that intervals cover, however they overlap."""
    total, end = 0.0, float("-inf")
    for first, last in sorted(one for one in intervals if one[1] > one[0]):
        total += max(0.0, last - max(first, end))
        end = max(end, last)
    return total


def _incident(row: Row[Any]) -> Incident:
    return Incident(row.rule, row.kind, row.region, float(row.began_at), row.reason)
