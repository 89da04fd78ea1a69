"""What rules are judged by: when each looked at its source last, what it matched, and what is under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, func, or_, select

from service.model.rule import SyncRule
from service.model.states import ENDED_EXECUTIONS, ExecutionState
from service.store import codec
from service.store.clock import database_now
from service.store.database import Database
from service.store.lag import KINDS
from service.store.tables import executions, rules, selections, written_tags
from service.store.tables_events import registry_events

BAD = (ExecutionState.PARTIAL, ExecutionState.FAILED, ExecutionState.STOPPED)


@dataclass(frozen=True, slots=True)
class Judged:
    """A rule that is enabled and not paused; times are seconds since 1970 by the database's clock.

    `looked_at`: when its last full execution began that succeeded, or when the rule was saved first.
    `started_at`: when its last full execution began; None when there is none. `running`: one is under way.
    """

    rule: SyncRule
    created_at: float
    looked_at: float
    started_at: float | None
    running: bool


class FreshnessStore:
    """Reads what rules are judged by, all rules at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def rules(self) -> tuple[list[Judged], float]:
        """Return the rules that are to be judged, and the database's clock."""
        full = and_(executions.c.rule == rules.c.name, executions.c.kind == "full")
        good = select(func.max(executions.c.started_at)).where(
            full, executions.c.state == ExecutionState.SUCCEEDED
        )
        last = select(func.max(executions.c.started_at)).where(full)
        running = select(func.count()).where(
            full,
            executions.c.started_at.is_not(None),
            executions.c.state.not_in(ENDED_EXECUTIONS),
        )
        query = select(
            rules.c.spec,
            rules.c.created_at,
            good.scalar_subquery().label("good"),
            last.scalar_subquery().label("last"),
            running.scalar_subquery().label("running"),
        ).where(
            rules.c.enabled,
            rules.c.paused_at.is_(None),
            or_(rules.c.freshness_seconds.is_not(None), rules.c.next_run_at.is_not(None)),
        )
        with self._database.read() as connection:
            now = database_now(connection)
            rows = connection.execute(query).all()
        return [
            Judged(
                codec.load_rule(row.spec),
                float(row.created_at),
                float(row.good if row.good is not None else row.created_at),
                None if row.last is None else float(row.last),
                bool(row.running),
            )
            for row in rows
        ], now

    def behind(self) -> tuple[set[str], set[str]]:
        """Return rules of which something may not be there yet, and sources that told of something.

        Of all others everything is there: nothing is asked for them one by one.
        """
        good = (
            select(executions.c.rule, func.max(executions.c.created_at).label("at"))
            .where(executions.c.kind == "full", executions.c.state == ExecutionState.SUCCEEDED)
            .group_by(executions.c.rule)
            .subquery()
        )
        some = (
            select(executions.c.rule)
            .outerjoin(good, good.c.rule == executions.c.rule)
            .where(
                executions.c.kind.in_(KINDS),
                or_(
                    executions.c.state.not_in(ENDED_EXECUTIONS),
                    and_(
                        executions.c.state.in_(BAD),
                        executions.c.created_at > func.coalesce(good.c.at, 0),
                    ),
                ),
            )
            .distinct()
        )
        told = select(registry_events.c.registry).distinct()
        with self._database.read() as connection:
            return set(connection.execute(some).scalars()), set(connection.execute(told).scalars())

    def match_nothing(self) -> Sequence[tuple[str, float]]:
        """Return rules whose last full look matched nothing, and when it began, though earlier ones did.

        A look that could not list its source is none.
        """
        looked = or_(
            executions.c.state.in_([ExecutionState.SUCCEEDED, ExecutionState.PARTIAL]),
            and_(
                executions.c.state == ExecutionState.FAILED,
                executions.c.reason.like("the rule matches nothing%"),
            ),
        )
        last = (
            select(executions.c.rule, func.max(executions.c.id).label("id"))
            .where(executions.c.kind == "full", looked)
            .group_by(executions.c.rule)
            .subquery()
        )
        matched = (
            select(func.coalesce(func.sum(selections.c.matched), 0))
            .where(selections.c.execution_id == executions.c.id)
            .scalar_subquery()
        )
        earlier = executions.alias("earlier")
        before = (
            select(selections.c.matched)
            .join(earlier, earlier.c.id == selections.c.execution_id)
            .where(
                earlier.c.rule == executions.c.rule,
                earlier.c.kind == "full",
                selections.c.matched > 0,
            )
            .exists()
        )
        wrote = select(written_tags.c.tag).where(written_tags.c.rule == executions.c.rule).exists()
        query = (
            select(executions.c.rule, executions.c.created_at)
            .join(last, last.c.id == executions.c.id)
            .join(rules, rules.c.name == executions.c.rule)
            .where(rules.c.enabled, rules.c.paused_at.is_(None), matched == 0, or_(before, wrote))
        )
        with self._database.read() as connection:
            return [(row.rule, float(row.created_at)) for row in connection.execute(query)]
