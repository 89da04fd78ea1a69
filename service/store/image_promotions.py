"""Promotions as people see them: asked for, approved, rejected, cancelled, looked at (issue 10)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, select, update

from service.errors import Conflict, NotFoundInStore
from service.model.gate_answers import APPROVE, WAIT, Decision
from service.model.pipeline import (
    APPROVAL,
    OPEN,
    SCAN,
    WEBHOOK,
    Gate,
    Name,
    PromotionState,
    StepState,
)
from service.store.clock import database_now, now_epoch
from service.store.database import Database, upsert
from service.store.promotion_creation import Asked, insert_promotion
from service.store.promotion_rows import audited, close_gate, end, lock, tell
from service.store.promotion_values import (
    Approval,
    Happening,
    Promotion,
    Promotions,
    Step,
    as_promotion,
    as_step,
)
from service.store.stopping import begin_stop
from service.store.tables_pipelines import (
    promotion_approvals,
    promotion_history,
    promotion_steps,
    promotions,
)

CANCELLED = "the promotion was cancelled"


class PromotionStore:
    """The tables of promotions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, asked: Asked) -> tuple[Promotion, bool]:
        """Save a promotion; whether it is a new one: while the same is under way, that one is returned.

        Raises NotFoundInStore when the pipeline has gone.
        """
        identity, made = self._database.write(partial(insert_promotion, asked=asked))
        return self.get(identity), made

    def get(self, identity: str) -> Promotion:
        """Return one promotion. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(select(promotions).where(promotions.c.id == identity)).first()
        if row is None:
            raise NotFoundInStore(
                f"there is no promotion {identity}", hint="list them: transship promotions ls"
            )
        return as_promotion(row)

    def list(
        self,
        *,
        pipeline: str | None = None,
        stage: str | None = None,
        state: str | None = None,
        project: str | None = None,
        before: str | None = None,
        limit: int = 100,
    ) -> Promotions:
        """Return promotions, the newest first."""
        query = select(promotions).order_by(promotions.c.id.desc()).limit(limit)
        wanted = {"pipeline": pipeline, "stage": stage, "state": state, "project": project}
        for column, value in wanted.items():
            if value is not None:
                query = query.where(promotions.c[column] == value)
        if before is not None:
            query = query.where(promotions.c.id < before)
        with self._database.read() as connection:
            return [as_promotion(row) for row in connection.execute(query)]

    def steps(self, identity: str) -> tuple[Step, ...]:
        """Return the gates of a promotion in their order, and last what is told when it is placed."""
        query = (
            select(promotion_steps)
            .where(promotion_steps.c.promotion == identity)
            .order_by(promotion_steps.c.position)
        )
        with self._database.read() as connection:
            return tuple(as_step(row) for row in connection.execute(query))

    def approvals(self, identity: str) -> tuple[Approval, ...]:
        """Return who has approved, by gate and time."""
        table = promotion_approvals.c
        query = (
            select(table.position, table.actor, table.digest, table.at)
            .where(table.promotion == identity)
            .order_by(table.position, table.at)
        )
        with self._database.read() as connection:
            return tuple(Approval(*row) for row in connection.execute(query))

    def history(self, identity: str) -> tuple[Happening, ...]:
        """Return all that has happened to a promotion, the oldest first."""
        table = promotion_history.c
        query = (
            select(table.at, table.actor, table.event, table.gate, table.reason)
            .where(table.promotion == identity)
            .order_by(table.id)
        )
        with self._database.read() as connection:
            return tuple(Happening(*row) for row in connection.execute(query))

    def placed(
        self, pipeline: str, stage: str, registry: str, repository: str, digest: str
    ) -> bool:
        """Whether the pipeline has put a digest into a repository of a stage."""
        table = promotions.c
        query = select(table.id).where(
            table.registry == registry,
            table.repository == repository,
            table.pipeline == pipeline,
            table.stage == stage,
            table.digest == digest,
            table.state == PromotionState.PLACED,
        )
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def stood(self, stage_of: Promotion, digest: str) -> bool:
        """Whether a digest has stood under a promotion's name at its stage, as far as the pipeline's history goes."""
        table = promotions.c
        name = stage_of.destination
        query = select(table.id).where(
            table.registry == name.registry,
            table.repository == name.repository,
            table.tag == name.tag,
            table.pipeline == stage_of.pipeline,
            table.stage == stage_of.stage,
            table.state == PromotionState.PLACED,
            (table.digest == digest) | (table.found == digest),
        )
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def wrote(self, pipeline: str, name: Name, digest: str) -> bool:
        """Whether the pipeline has put a digest under a name itself, or is about to."""
        table = promotions.c
        query = select(table.id).where(
            table.registry == name.registry,
            table.repository == name.repository,
            table.tag == name.tag,
            table.pipeline == pipeline,
            table.digest == digest,
            table.state.in_([PromotionState.PLACED, PromotionState.COPYING]),
        )
        with self._database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    # ---- what people and gates say ---------------------------------------------------------------

    def approve(self, identity: str, position: int, actor: str, digest: str) -> None:
        """Note that somebody agrees to this digest at a gate; the last one that was missing opens it.

        Again changes nothing. Raises NotFoundInStore, and Conflict where it may not count.
        """

        def work(connection: Connection) -> None:
            row = lock(connection, identity)
            gate = _waiting(connection, row, position)
            if gate.kind != APPROVAL:
                raise Conflict(
                    f"promotion {identity} waits for its gate {position}, which is no approval",
                    hint=f"look at it: transship promotions show {identity}",
                )
            _refuse_digest(row, digest)
            if actor == row.asked_by and not gate.own:
                raise Conflict(
                    f"{actor} has asked for promotion {identity}, and may not approve it",
                    hint="another token has to; or write `own: true` at the gate",
                )
            made = connection.execute(
                upsert(connection, promotion_approvals)
                .values(
                    promotion=identity,
                    position=position,
                    actor=actor,
                    digest=digest,
                    at=now_epoch(),
                )
                .on_conflict_do_nothing()
            )
            if made.rowcount != 1:
                return
            tell(connection, identity, actor, "approved", gate=position, reason=digest)
            table = promotion_approvals.c
            given = connection.execute(
                select(table.actor).where(
                    table.promotion == identity, table.position == position, table.digest == digest
                )
            ).all()
            if len(given) >= gate.count:
                close_gate(connection, row, StepState.PASSED, actor)

        self._database.write(work)

    def reject(self, identity: str, actor: str, digest: str, reason: str) -> None:
        """End a promotion that waits for its gates. Raises NotFoundInStore, and Conflict for one that does not."""

        def work(connection: Connection) -> None:
            row = lock(connection, identity)
            if row.state != PromotionState.WAITING:
                raise Conflict(
                    f"promotion {identity} is {row.state}",
                    hint="what waits for its gates can be rejected; what is placed, rolled back",
                )
            _refuse_digest(row, digest)
            if row.gate < row.gates:
                close_gate(connection, row, StepState.REFUSED, actor, reason)
            else:
                end(connection, row, PromotionState.REJECTED, actor, reason)

        self._database.write(work)

    def cancel(self, identity: str, actor: str) -> None:
        """Take a promotion back that has not ended; a copy that is under way is stopped, and may win.

        Raises NotFoundInStore, and Conflict for one that has ended.
        """

        def work(connection: Connection) -> None:
            row = lock(connection, identity)
            if row.state not in OPEN:
                raise Conflict(
                    f"promotion {identity} is {row.state}",
                    hint="there is nothing to cancel; roll back what is placed",
                )
            if row.state == PromotionState.WAITING:
                end(connection, row, PromotionState.CANCELLED, actor, CANCELLED)
                return
            tell(connection, identity, actor, "stopping", reason=CANCELLED)
            begin_stop(connection, row.execution_id, CANCELLED)

        self._database.write(work)

    def answer(self, identity: str, position: int, decision: Decision) -> bool:
        """Write down what the webhook of a gate has said; whether it counted: once, and in time.

        Raises NotFoundInStore.
        """

        def work(connection: Connection) -> bool:
            row = lock(connection, identity)
            try:
                gate = _waiting(connection, row, position)
            except Conflict:
                return False
            if gate.kind not in (WEBHOOK, SCAN):
                return False
            actor = f"{gate.kind} of gate {position}"
            if decision.decision == WAIT:
                _postpone_to_end(connection, identity, position, decision.reason)
                return True
            passed = decision.decision == APPROVE
            state = StepState.PASSED if passed else StepState.REFUSED
            close_gate(connection, row, state, actor, decision.reason)
            audited(connection, row, actor, decision.decision, gate=position)
            return True

        return self._database.write(work)


def _waiting(connection: Connection, row: Row[Any], position: int) -> Gate:
    """Return the gate that a promotion waits for. Raises Conflict when it is not this one, or its time is over."""
    step = promotion_steps.c
    found = connection.execute(
        select(promotion_steps).where(step.promotion == row.id, step.position == position)
    ).first()
    if (
        row.state != PromotionState.WAITING
        or row.gate != position
        or found is None
        or found.state != StepState.WAITING
    ):
        waits = row.state == PromotionState.WAITING
        raise Conflict(
            f"promotion {row.id} does not wait for gate {position} now"
            if waits
            else f"promotion {row.id} is {row.state}: it waits for no gate any more",
            hint=f"look at it: transship promotions show {row.id}",
        )
    if found.deadline_at <= database_now(connection):
        raise Conflict(
            f"the time of gate {position} of promotion {row.id} is over",
            hint="ask for the promotion again",
        )
    return replace(as_step(found).gate)


def _refuse_digest(row: Row[Any], digest: str) -> None:
    if digest != row.digest:
        raise Conflict(
            f"promotion {row.id} is of {row.digest}, not of {digest[:80]}",
            hint="look at what is to be promoted, and say its digest",
        )


def _postpone_to_end(connection: Connection, identity: str, position: int, reason: str) -> None:
    """Ask no more: whoever decides takes the time that the gate has, and says so by itself."""
    step = promotion_steps.c
    connection.execute(
        update(promotion_steps)
        .where(step.promotion == identity, step.position == position)
        .values(not_before=step.deadline_at, reason=reason or "the answer will come later")
    )
