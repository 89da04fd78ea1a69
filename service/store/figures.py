"""Counts for metrics: rows by state, and what a rule, a registry or a link is at."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Select, and_, case, func, select

from service.model.pipeline import APPROVAL, OPEN, PromotionState
from service.model.states import ENDED_EXECUTIONS, ExecutionState
from service.store.clock import now_epoch
from service.store.database import Database
from service.store.deletion_values import WAITING
from service.store.tables import copies, executions, ledgers, processes, registries, rules
from service.store.tables_deletions import deletions
from service.store.tables_health import registry_health
from service.store.tables_pipelines import promotion_steps, promotions
from service.store.tables_regions import execution_links


@dataclass(frozen=True, slots=True)
class RuleRuns:
    """When a rule's kept executions that copy ended last, in seconds since 1970; None: none has."""

    rule: str
    project: str
    enabled: bool
    paused: bool
    succeeded_at: float | None
    ended_at: float | None

    @property
    def failed_last(self) -> bool:
        """Whether its last execution ended otherwise than succeeded."""
        return self.ended_at is not None and self.ended_at > (self.succeeded_at or 0.0)


class FigureStore:
    """Reads counts; labels are names that an administrator has given, and closed lists (reliability.md S34)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def executions(self) -> dict[str, int]:
        """Return the number of executions in each state."""
        query = select(executions.c.state, func.count()).group_by(executions.c.state)
        with self._database.read() as connection:
            return {str(state): int(count) for state, count in connection.execute(query)}

    def open_copies(self) -> dict[str, int]:
        """Return the number of copies in each state, of executions that have not ended."""
        query = (
            select(copies.c.state, func.count())
            .where(copies.c.execution_id.in_(_open()))
            .group_by(copies.c.state)
        )
        with self._database.read() as connection:
            return {str(state): int(count) for state, count in connection.execute(query)}

    def rules(self) -> list[RuleRuns]:
        """Return every rule, with the ends of its executions of kind full or tags that are kept."""
        good = executions.c.state == ExecutionState.SUCCEEDED
        runs = (
            select(
                executions.c.rule,
                func.max(executions.c.finished_at).label("ended_at"),
                func.max(case((good, executions.c.finished_at))).label("succeeded_at"),
            )
            .where(
                executions.c.kind.in_(("full", "tags")),
                executions.c.state
                != ExecutionState.STOPPED,  # somebody's, or a pause's: no failure
            )
            .group_by(executions.c.rule)
            .subquery()
        )
        query = (
            select(
                rules.c.name,
                rules.c.spec,
                rules.c.enabled,
                rules.c.paused_at,
                runs.c.succeeded_at,
                runs.c.ended_at,
            )
            .outerjoin(runs, runs.c.rule == rules.c.name)
            .order_by(rules.c.name)
        )
        with self._database.read() as connection:
            return [
                RuleRuns(
                    row.name,
                    json.loads(row.spec)["project"],
                    bool(row.enabled),
                    row.paused_at is not None,
                    row.succeeded_at,
                    row.ended_at,
                )
                for row in connection.execute(query)
            ]

    def registry_states(self) -> dict[str, tuple[str, bool]]:
        """Return each registry's health ("unknown" where nobody has looked) and whether it is paused."""
        query = (
            select(registries.c.name, registries.c.paused_at, registry_health.c.state)
            .outerjoin(registry_health, registry_health.c.registry == registries.c.name)
            .order_by(registries.c.name)
        )
        with self._database.read() as connection:
            return {
                row.name: (row.state or "unknown", row.paused_at is not None)
                for row in connection.execute(query)
            }

    def distrusted(self) -> dict[str, int]:
        """Return how often each registry's content was found lost, or could no longer be believed."""
        query = select(ledgers.c.registry, func.sum(ledgers.c.epoch)).group_by(ledgers.c.registry)
        with self._database.read() as connection:
            return {row[0]: int(row[1]) for row in connection.execute(query)}

    def bytes_lately(self, seconds: float) -> int:
        """Return the bytes of copies of open executions that ended in the last so many seconds."""
        query = select(func.coalesce(func.sum(copies.c.bytes_copied), 0)).where(
            copies.c.execution_id.in_(_open()),
            copies.c.updated_at > now_epoch() - seconds,
        )
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def is_driven(self, seconds: float) -> bool:
        """Whether a scheduler, or a one-shot command in its place, has been heard of in so many seconds."""
        query = select(processes.c.boot).where(
            processes.c.kind.in_(("scheduler", "command")),
            processes.c.seen_at > now_epoch() - seconds,
        )
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def deletions_waiting(self) -> int:
        """Return how many deletions somebody has to approve or to cancel."""
        query = select(func.count()).where(deletions.c.state == WAITING)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def open_promotions(self) -> dict[str, int]:
        """Return how many promotions are under way, by state."""
        state = promotions.c.state
        query = select(state, func.count()).where(state.in_(OPEN)).group_by(state)
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def approvals_wanted(self) -> list[tuple[str, str, int]]:
        """Return how many promotions wait for people, by pipeline, each with its project."""
        step, promotion = promotion_steps.c, promotions.c
        query = (
            select(promotion.pipeline, promotion.project, func.count())
            .join(
                promotion_steps,
                and_(step.promotion == promotion.id, step.position == promotion.gate),
            )
            .where(promotion.state == PromotionState.WAITING, step.kind == APPROVAL)
            .group_by(promotion.pipeline, promotion.project)
            .order_by(promotion.pipeline)
        )
        with self._database.read() as connection:
            return [(row[0], row[1], row[2]) for row in connection.execute(query)]

    def pairs(self) -> list[tuple[str, str]]:
        """Return the registries that blobs went between in the executions that are kept: from and to."""
        query = select(execution_links.c.from_registry, execution_links.c.to_registry).distinct()
        with self._database.read() as connection:
            return [(row[0], row[1]) for row in connection.execute(query)]


def _open() -> Select[tuple[str]]:
    """Return the executions that have not ended, by ix_executions_state; copies of others are not read for them."""
    return select(executions.c.id).where(
        executions.c.state.in_(set(ExecutionState) - ENDED_EXECUTIONS)
    )
