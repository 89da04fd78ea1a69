"""Promotions as their keeper sees them: what is due, and what came of it. Each write is made once, whoever makes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, func, or_, select, update

from service.model.pipeline import (
    AFTER,
    OPEN,
    SIGNATURE,
    TRIGGER,
    PromotionState,
    StepState,
)
from service.model.rule import SyncRule
from service.model.states import CopyState
from service.store.clock import database_now, now_epoch
from service.store.creation import insert_tags
from service.store.database import Database
from service.store.promotion_creation import Asked, insert_promotion
from service.store.promotion_rows import audited, close_gate, end, lock, machine, tell
from service.store.promotion_values import Promotion, Promotions, Step, as_promotion, as_step
from service.store.tables import copies, execution_unchanged
from service.store.tables_pipelines import (
    pipeline_pushes,
    pipelines,
    promotion_steps,
    promotions,
)


@dataclass(frozen=True, slots=True)
class Push:
    """A tag that was pushed into the first stage of a pipeline that promotes by itself."""

    pipeline: str
    repository: str
    tag: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Copied:
    """What came of a copy: whether its name is the promotion's digest, what stood there before, why not.

    `found` is "" for nothing, and None where the digest was there already.
    """

    there: bool
    found: str | None
    reason: str = ""


class PromotionWork:
    """The tables of promotions, for their keeper."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, limit: int = 1000) -> Promotions:
        """Return the promotions that something is to be done for, the oldest first.

        Those that are copied, those whose gates have all agreed, and those that look for a signature now: what
        waits for people or a receiver, however many, costs nothing.
        """
        step = promotion_steps.c
        looks = exists().where(
            step.promotion == promotions.c.id,
            step.position == promotions.c.gate,
            step.kind == SIGNATURE,
            step.state == StepState.WAITING,
            step.not_before <= now_epoch(),
        )
        query = (
            select(promotions)
            .where(
                or_(
                    promotions.c.state == PromotionState.COPYING,
                    and_(
                        promotions.c.state == PromotionState.WAITING,
                        or_(promotions.c.gate >= promotions.c.gates, looks),
                    ),
                )
            )
            .order_by(promotions.c.id)
        )
        with self._database.read() as connection:
            return [as_promotion(row) for row in connection.execute(query.limit(limit))]

    def step(self, promotion: Promotion) -> Step | None:
        """Return the gate that a promotion waits for; None when all have agreed."""
        table = promotion_steps.c
        query = select(promotion_steps).where(
            table.promotion == promotion.id, table.position == promotion.gate
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None or promotion.gate >= promotion.gates else as_step(row)

    def expire(self, promotion: Promotion) -> bool:
        """End a promotion whose gate's time is over; whether it was."""

        def work(connection: Connection) -> bool:
            row = lock(connection, promotion.id)
            if row.state != PromotionState.WAITING or row.gate != promotion.gate:
                return False
            table = promotion_steps.c
            found = connection.execute(
                select(promotion_steps).where(table.promotion == row.id, table.position == row.gate)
            ).one()
            if found.state != StepState.WAITING or found.deadline_at > database_now(connection):
                return False
            why = f": {found.reason}" if found.reason else ""
            reason = f"gate {row.gate} ({found.kind}) has not agreed in time{why}"
            close_gate(connection, row, StepState.EXPIRED, machine(row), reason)
            audited(connection, row, machine(row), "expire", gate=row.gate)
            return True

        return self._database.write(work)

    def late(self) -> Sequence[str]:
        """Return the promotions whose gate's time is over."""
        step = promotion_steps.c
        query = (
            select(promotions.c.id)
            .join(
                promotion_steps,
                and_(step.promotion == promotions.c.id, step.position == promotions.c.gate),
            )
            .where(
                promotions.c.state == PromotionState.WAITING,
                step.state == StepState.WAITING,
                step.deadline_at <= now_epoch(),
            )
        )
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def passed(self, promotion: Promotion, reason: str) -> bool:
        """Open the gate that a promotion waits for; whether it waited."""

        def work(connection: Connection) -> bool:
            row = lock(connection, promotion.id)
            if row.state != PromotionState.WAITING or row.gate != promotion.gate:
                return False
            close_gate(connection, row, StepState.PASSED, machine(row), reason)
            audited(connection, row, machine(row), "pass", gate=promotion.gate)
            return True

        return self._database.write(work)

    def note(self, step: Step, reason: str, pause: float | None = None) -> None:
        """Say what a gate waits for, and when it is looked at next; without a pause nothing is counted."""
        table = promotion_steps.c
        values: dict[str, Any] = {"reason": reason}
        if pause is not None:
            values |= {"not_before": now_epoch() + pause, "attempts": table.attempts + 1}
        statement = (
            update(promotion_steps)
            .where(
                table.promotion == step.promotion,
                table.position == step.position,
                table.state == StepState.WAITING,
            )
            .values(**values)
        )
        self._database.write(lambda connection: connection.execute(statement))

    # ---- the copy --------------------------------------------------------------------------------

    def begin_copy(self, promotion: Promotion, rule: SyncRule) -> str:
        """Save the execution that copies a promotion whose gates have all agreed; returns its id.

        "" when it is not to be copied, or something else is being copied to the same name.
        """

        def work(connection: Connection) -> str:
            name = promotion.destination
            table = promotions.c
            same_name = connection.execute(  # locked in one order: two keepers cannot begin at once
                select(promotions)
                .where(
                    table.registry == name.registry,
                    table.repository == name.repository,
                    table.tag == name.tag,
                    table.state.in_(OPEN),
                )
                .order_by(table.id)
                .with_for_update()
            ).all()
            row = next((one for one in same_name if one.id == promotion.id), None)
            if row is None or row.state != PromotionState.WAITING or row.gate < row.gates:
                return ""
            if any(one.state == PromotionState.COPYING for one in same_name):
                return ""
            execution = insert_tags(
                connection,
                rule,
                [(row.source_repository, row.digest)],
                trigger=TRIGGER,
                idempotency_key=f"promotion:{row.id}",
            )
            connection.execute(
                update(promotions)
                .where(table.id == row.id)
                .values(state=PromotionState.COPYING, execution_id=execution)
            )
            tell(connection, row.id, machine(row), "copying", reason=execution)
            audited(connection, row, machine(row), "copy", execution=execution)
            return execution

        return self._database.write(work)

    def copied(self, promotion: Promotion) -> Copied:
        """Return what the execution that has ended has made of the promotion's own name."""
        query = select(copies.c.found, copies.c.state, copies.c.digest, copies.c.reason).where(
            copies.c.execution_id == promotion.execution,
            copies.c.destination_registry == promotion.destination.registry,
            copies.c.destination_repository == promotion.destination.repository,
            copies.c.destination_reference == promotion.destination.tag,
        )
        counted = select(func.coalesce(func.sum(execution_unchanged.c.unchanged), 0)).where(
            execution_unchanged.c.execution_id == promotion.execution
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
            in_place = connection.execute(counted).scalar_one() > 0
        if row is None:
            return Copied(in_place, None, "" if in_place else "nothing was copied")
        done = row.state in (CopyState.COPIED, CopyState.UNCHANGED)
        if not done or row.digest != promotion.digest:
            return Copied(False, None, row.reason or f"its copy ended {row.state}")
        return Copied(True, row.found if row.state == CopyState.COPIED else None)

    def place(self, promotion: Promotion, found: str | None, following: Asked | None) -> bool:
        """Note that the image is whole at its stage, and ask for the next one; whether it was not noted before."""

        def work(connection: Connection) -> bool:
            row = lock(connection, promotion.id)
            if not end(connection, row, PromotionState.PLACED, machine(row)):
                return False
            connection.execute(
                update(promotions).where(promotions.c.id == row.id).values(found=found)
            )
            step = promotion_steps.c
            connection.execute(
                update(promotion_steps)
                .where(step.promotion == row.id, step.kind == AFTER)
                .values(state=StepState.WAITING, begun_at=now_epoch(), not_before=0)
            )
            audited(connection, row, machine(row), "place", found=found)
            if following is not None:
                _ask_on(connection, following)
            return True

        return self._database.write(work)

    def end(self, promotion: Promotion, state: PromotionState, reason: str) -> bool:
        """Note that a promotion has come to nothing; whether it was under way."""

        def work(connection: Connection) -> bool:
            row = lock(connection, promotion.id)
            ended = end(connection, row, state, machine(row), reason)
            if ended:
                audited(connection, row, machine(row), str(state), reason=reason)
            return ended

        return self._database.write(work)

    # ---- pushes ----------------------------------------------------------------------------------

    def pushes(self, limit: int = 100) -> Sequence[Push]:
        """Return pushes that are due, the oldest first."""
        table = pipeline_pushes.c
        query = (
            select(table.pipeline, table.repository, table.tag, table.attempts)
            .where(table.not_before <= now_epoch())
            .order_by(table.received_at)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [Push(*row) for row in connection.execute(query)]

    def promote(self, push: Push, asked: Asked | None) -> None:
        """Ask for the promotion of a push, if there is anything to ask for, and forget the push: both or neither."""

        def work(connection: Connection) -> None:
            connection.execute(  # in the order of whoever deletes the pipeline with its pushes
                select(pipelines.c.name).where(pipelines.c.name == push.pipeline).with_for_update()
            )
            if connection.execute(delete(pipeline_pushes).where(*_this(push))).rowcount and asked:
                _ask_on(connection, asked)

        self._database.write(work)

    def postpone(self, push: Push, pause: float) -> None:
        """Look at a push again later."""
        statement = (
            update(pipeline_pushes)
            .where(*_this(push))
            .values(attempts=push.attempts + 1, not_before=now_epoch() + pause)
        )
        self._database.write(lambda connection: connection.execute(statement))


def _ask_on(connection: Connection, asked: Asked) -> None:
    identity, made = insert_promotion(connection, asked)
    if made:
        row = lock(connection, identity)
        audited(connection, row, machine(row), "ask", trigger=asked.trigger)


def _this(push: Push) -> Any:
    table = pipeline_pushes.c
    return (
        table.pipeline == push.pipeline,
        table.repository == push.repository,
        table.tag == push.tag,
    )
