"""What promotions have to post: questions of gates, and the news of what is placed. Taken under a lease, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, or_, select, update

from service.model.pipeline import AFTER, SCAN, WEBHOOK, PromotionState, StepState
from service.store.clock import now_epoch
from service.store.database import Database
from service.store.promotion_rows import audited, lock, machine, tell
from service.store.promotion_values import Promotion, Step, as_promotion, as_step
from service.store.tables_pipelines import promotion_steps, promotions

_CALLED = (WEBHOOK, SCAN, AFTER)


@dataclass(frozen=True, slots=True)
class Call:
    """A step whose webhook is to be posted to, by whoever has taken it."""

    promotion: Promotion
    step: Step


Calls = Sequence[Call]


class PromotionPosts:
    """The steps of promotions, for whoever posts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take_calls(self, limit: int, lease_seconds: float) -> Calls:
        """Take posts that are due, for so long; an attempt is counted before it is made."""
        step = promotion_steps.c
        due = (
            step.state == StepState.WAITING,
            step.not_before <= now_epoch(),
            step.kind.in_(_CALLED),
            or_(
                and_(
                    step.kind != AFTER,
                    promotions.c.state == PromotionState.WAITING,
                    promotions.c.gate == step.position,
                    step.deadline_at > now_epoch(),
                ),
                and_(step.kind == AFTER, promotions.c.state == PromotionState.PLACED),
            ),
        )
        joined = promotion_steps.join(promotions, promotions.c.id == step.promotion)
        with self._database.read() as connection:
            query = select(func.count()).select_from(joined).where(*due)
            if connection.execute(query).scalar_one() == 0:
                return []

        def work(connection: Connection) -> Calls:
            taken = []
            chosen = select(promotion_steps).select_from(joined).where(*due)
            for row in connection.execute(chosen.order_by(step.not_before).limit(limit)).all():
                changed = connection.execute(
                    update(promotion_steps)
                    .where(
                        step.promotion == row.promotion,
                        step.position == row.position,
                        step.state == StepState.WAITING,
                        step.attempts == row.attempts,
                    )
                    .values(attempts=row.attempts + 1, not_before=now_epoch() + lease_seconds)
                )
                if changed.rowcount == 1:
                    whole = connection.execute(
                        select(promotions).where(promotions.c.id == row.promotion)
                    ).one()
                    taken.append(Call(as_promotion(whole), as_step(row)))
            return taken

        return self._database.write(work)

    def not_answered(self, call: Call, status: int | None, reason: str, pause: float) -> None:
        """Write down that a post came to no answer that counts; it is made again after a pause."""
        step = promotion_steps.c

        def work(connection: Connection) -> None:
            changed = connection.execute(
                update(promotion_steps)
                .where(
                    step.promotion == call.promotion.id,
                    step.position == call.step.position,
                    step.state == StepState.WAITING,
                )
                .values(status=status, reason=reason, not_before=now_epoch() + pause)
            )
            if changed.rowcount and reason != call.step.reason:
                row = lock(connection, call.promotion.id)
                tell(
                    connection,
                    row.id,
                    machine(row),
                    "after.not_taken" if call.step.gate.kind == AFTER else "gate.no_answer",
                    gate=call.step.position,
                    reason=reason,
                )

        self._database.write(work)

    def told(self, call: Call, status: int | None, reason: str = "") -> None:
        """Write down that what is told afterwards was taken, or with a reason that it never was."""
        step = promotion_steps.c
        state = StepState.FAILED if reason else StepState.PASSED

        def work(connection: Connection) -> None:
            row = lock(connection, call.promotion.id)
            changed = connection.execute(
                update(promotion_steps)
                .where(
                    step.promotion == row.id,
                    step.position == call.step.position,
                    step.state == StepState.WAITING,
                )
                .values(state=state, status=status, reason=reason, ended_at=now_epoch())
            )
            if changed.rowcount:
                event = "after.failed" if reason else "after.delivered"
                tell(connection, row.id, machine(row), event, reason=reason)
                audited(connection, row, machine(row), event, status=status)

        self._database.write(work)
