"""What the dispatcher and the reconciler ask SQL: eligible copies, live processes, lost work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, func, or_, select, update

from service.model.states import (
    ENDED_EXECUTIONS,
    OPEN_COPIES,
    BlobState,
    CopyState,
    ExecutionState,
)
from service.model.work import CopyRef
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.tables import (
    copies,
    copy_blobs,
    execution_unchanged,
    executions,
    leases,
    processes,
    selections,
)
from service.store.work import label

MAX_PLANNINGS = 12
"""How often an execution's planning may be begun: a rule that kills its planner has to end, too."""

CRASHES_OF_A_SUSPECT = 2
"""One crash is mostly the machine's: whole hosts are killed, and all that they held is innocent."""


@dataclass(frozen=True, slots=True)
class Eligible:
    """A copy that may be sent."""

    id: int
    fence: int
    execution: str
    region: str
    priority: int
    suspect: bool
    label: str


@dataclass(frozen=True, slots=True)
class IdlePart:
    """A part of a fanned-out copy whose message was lost, or whose worker died."""

    region: str
    ref: CopyRef
    part: int
    task_id: str


@dataclass(frozen=True, slots=True)
class Ended:
    """An execution that has just reached its end."""

    execution: str
    rule: str
    state: ExecutionState


class DispatchStore:
    """Queries of the loops that keep work moving; one holder of the lease at a time."""

    def __init__(self, database: Database, *, dead_after_seconds: float) -> None:
        self._database = database
        self._dead_after = dead_after_seconds

    # ---- leadership --------------------------------------------------------------------------

    def lead(self, name: str, holder: str, seconds: float) -> bool:
        """Take or renew a lease; False while somebody else holds it."""

        def work(connection: Connection) -> bool:
            statement = upsert(connection, leases).values(
                name=name, holder=holder, until=now_epoch() + seconds
            )
            result = connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["name"],
                    set_={"holder": holder, "until": now_epoch() + seconds},
                    where=or_(leases.c.holder == holder, leases.c.until < now_epoch()),
                )
            )
            return result.rowcount == 1

        return self._database.write(work)

    def resign(self, name: str, holder: str) -> None:
        """Let a lease go."""

        def work(connection: Connection) -> None:
            connection.execute(
                delete(leases).where(leases.c.name == name, leases.c.holder == holder)
            )

        self._database.write(work)

    # ---- dispatch ----------------------------------------------------------------------------

    def slots(self) -> dict[str, int]:
        """Return the live slots of workers by region."""
        query = (
            select(processes.c.region, func.sum(processes.c.slots))
            .where(processes.c.kind == "worker", self._alive())
            .group_by(processes.c.region)
        )
        with self._database.read() as connection:
            return {region: int(slots) for region, slots in connection.execute(query)}

    def standing(self) -> dict[str, int]:
        """Return how many copies stand in the queue of each region, not yet taken."""
        query = (
            select(copies.c.region, func.count())
            .where(copies.c.state == CopyState.DISPATCHED)
            .group_by(copies.c.region)
        )
        with self._database.read() as connection:
            return {region: int(count) for region, count in connection.execute(query)}

    def eligible(self, region: str, limit: int, *, suspect: bool = False) -> list[Eligible]:
        """Return pending copies of a region: by priority, started ones first, rules in turn.

        Suspects are asked for apart: they go out one at a time.

        The turn is taken by numbering each execution's copies and sorting by that number, so that
        a small rule does not stand behind a large one.
        """
        turn = (
            func.row_number()
            .over(
                partition_by=copies.c.execution_id, order_by=(copies.c.started.desc(), copies.c.id)
            )
            .label("turn")
        )
        inner = (
            select(
                copies.c.id,
                copies.c.fence,
                copies.c.execution_id,
                copies.c.region,
                copies.c.priority,
                copies.c.suspect,
                copies.c.started,
                copies.c.source_registry,
                copies.c.source_repository,
                copies.c.source_reference,
                copies.c.destination_registry,
                turn,
            )
            .where(
                copies.c.state == CopyState.PENDING,
                copies.c.not_before <= now_epoch(),
                copies.c.region == region,
                copies.c.suspect.is_(suspect),
            )
            .subquery()
        )
        query = (
            select(inner)
            .order_by(inner.c.priority, inner.c.started.desc(), inner.c.turn, inner.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [
                Eligible(
                    r.id,
                    r.fence,
                    r.execution_id,
                    r.region,
                    r.priority,
                    bool(r.suspect),
                    label(r),
                )
                for r in connection.execute(query)
            ]

    def suspects_out(self) -> int:
        """Return how many suspects are under way; they run one at a time."""
        with self._database.read() as connection:
            return int(
                connection.execute(
                    select(func.count()).where(
                        copies.c.suspect.is_(True),
                        copies.c.state.in_(
                            [CopyState.DISPATCHED, CopyState.RUNNING, CopyState.COPYING]
                        ),
                    )
                ).scalar_one()
            )

    def dispatch(self, chosen: Sequence[Eligible]) -> list[CopyRef]:
        """Mark copies as sent under a new fence, durably, before anything is published."""

        def work(connection: Connection) -> list[CopyRef]:
            sent = []
            for item in chosen:
                changed = connection.execute(
                    update(copies)
                    .where(
                        copies.c.id == item.id,
                        copies.c.fence == item.fence,
                        copies.c.state == CopyState.PENDING,
                    )
                    .values(
                        state=CopyState.DISPATCHED, fence=item.fence + 1, updated_at=now_epoch()
                    )
                )
                if changed.rowcount == 1:
                    sent.append(CopyRef(item.id, item.fence + 1, item.label))
            return sent

        return self._database.write(work)

    def take_back(self, refs: Sequence[CopyRef]) -> None:
        """Make copies eligible again whose messages could not be published."""

        def work(connection: Connection) -> None:
            for ref in refs:
                connection.execute(
                    update(copies)
                    .where(
                        copies.c.id == ref.id,
                        copies.c.fence == ref.fence,
                        copies.c.state == CopyState.DISPATCHED,
                    )
                    .values(**_again())
                )

        if refs:
            self._database.write(work)

    def pending_regions(self) -> list[str]:
        """Return the regions that have pending copies."""
        with self._database.read() as connection:
            return list(
                connection.execute(
                    select(copies.c.region).where(copies.c.state == CopyState.PENDING).distinct()
                ).scalars()
            )

    def busy(self) -> bool:
        """Whether any execution has not ended."""
        with self._database.read() as connection:
            return (
                connection.execute(
                    select(executions.c.id)
                    .where(executions.c.state.not_in(ENDED_EXECUTIONS))
                    .limit(1)
                ).first()
                is not None
            )

    def unplanned(self, resend_after_seconds: float) -> list[str]:
        """Return executions whose planning nobody holds and was not sent lately; they count as sent."""

        def work(connection: Connection) -> list[str]:
            connection.execute(
                update(executions)
                .where(
                    executions.c.state.in_([ExecutionState.PENDING, ExecutionState.RUNNING]),
                    executions.c.planned.is_(False),
                    executions.c.planner == "",
                    executions.c.plan_attempts >= MAX_PLANNINGS,
                )
                .values(
                    state=ExecutionState.RUNNING,
                    planned=True,
                    failure_class="bug",
                    reason=f"planning was begun {MAX_PLANNINGS} times and never came to its end",
                )
            )
            rows = connection.execute(
                update(executions)
                .where(
                    executions.c.state.in_([ExecutionState.PENDING, ExecutionState.RUNNING]),
                    executions.c.planned.is_(False),
                    executions.c.planner == "",
                    executions.c.not_before <= now_epoch(),
                    executions.c.plan_sent_at < now_epoch() - resend_after_seconds,
                )
                .values(plan_sent_at=now_epoch())
                .returning(executions.c.id)
            )
            return list(rows.scalars())

        with self._database.read() as connection:
            some = connection.execute(
                select(executions.c.id)
                .where(
                    executions.c.state.in_([ExecutionState.PENDING, ExecutionState.RUNNING]),
                    executions.c.planned.is_(False),
                    executions.c.planner == "",
                )
                .limit(1)
            ).first()
        return self._database.write(work) if some is not None else []

    # ---- reconcile ---------------------------------------------------------------------------

    def recover_dead(self, *, max_crashes: int) -> dict[str, int]:
        """Plan again what dead processes held; return how many copies, by boot id.

        A copy whose process died twice is a suspect and runs alone from then on; after `max_crashes`
        more it fails as poison. Copies that
        stood in the queue are sent anew: a message popped by the dead process is lost (celery.md 1.3 #1).
        """
        with self._database.read() as connection:
            dead = connection.execute(
                select(processes.c.boot, processes.c.region).where(~self._alive())
            ).all()
            names = {row.boot for row in dead}
            known = set(connection.execute(select(processes.c.boot)).scalars())
            owners = set(
                connection.execute(select(copies.c.owner).where(copies.c.owner != "").distinct())
                .scalars()
                .all()
            )
            owners |= set(
                connection.execute(
                    select(copy_blobs.c.owner)
                    .join(copies, copies.c.id == copy_blobs.c.copy_id)
                    .where(
                        copies.c.state == CopyState.COPYING,
                        copies.c.fence == copy_blobs.c.fence,
                        copy_blobs.c.state == BlobState.PENDING,
                        copy_blobs.c.owner != "",
                    )
                    .distinct()
                ).scalars()
            )
            planners = set(
                connection.execute(
                    select(executions.c.planner).where(executions.c.planner != "").distinct()
                ).scalars()
            )
        names |= (owners | planners) - known
        if not names:
            return {}
        return self._database.write(
            lambda connection: _bury(connection, sorted(names), max_crashes=max_crashes)
        )

    def forget_processes(self) -> None:
        """Count every process as dead and every lease as over: for an engine that is alone for sure."""

        def work(connection: Connection) -> None:
            connection.execute(delete(leases))
            connection.execute(update(processes).values(seen_at=0.0))

        self._database.write(work)

    def resend_unowned(self) -> int:
        """Make every copy eligible that was sent and that no process holds: Redis lost its messages."""

        def work(connection: Connection) -> int:
            connection.execute(
                update(executions)
                .where(executions.c.planned.is_(False), executions.c.planner == "")
                .values(plan_sent_at=0)
            )
            return _resend(connection)

        return self._database.write(work)

    def take_idle_parts(
        self, *, region: str | None = None, age_seconds: float = 0.0, limit: int = 500
    ) -> list[IdlePart]:
        """Return parts of fanned-out copies that nobody works on; they count as sent by this call.

        Their fence stays: parts that others are moving go on.
        """
        where = [
            copies.c.state == CopyState.COPYING,
            copy_blobs.c.fence == copies.c.fence,
            copy_blobs.c.state == BlobState.PENDING,
            copy_blobs.c.owner == "",
        ]
        if age_seconds:
            where.append(copies.c.updated_at < now_epoch() - age_seconds)
        if region is not None:
            where.append(copies.c.region == region)
        query = (
            select(
                copies.c.id,
                copies.c.fence,
                copies.c.region,
                copies.c.source_registry,
                copies.c.source_repository,
                copies.c.source_reference,
                copies.c.destination_registry,
                copy_blobs.c.part,
                copy_blobs.c.task_id,
            )
            .join(copy_blobs, copy_blobs.c.copy_id == copies.c.id)
            .where(*where)
            .distinct()
            .limit(limit)
        )
        with self._database.read() as connection:
            parts = [
                IdlePart(r.region, CopyRef(r.id, r.fence, label(r)), r.part, r.task_id)
                for r in connection.execute(query)
            ]
        if parts:
            self._database.write(
                lambda connection: connection.execute(
                    update(copies)
                    .where(copies.c.id.in_([part.ref.id for part in parts]))
                    .values(updated_at=now_epoch())
                )
            )
        return parts

    def stale_regions(self, age_seconds: float) -> list[str]:
        """Return the regions where a copy was sent long ago and nobody has taken it."""
        old = copies.c.updated_at < now_epoch() - age_seconds
        query = (
            select(copies.c.region)
            .where(old, or_(copies.c.state == CopyState.DISPATCHED, _has_idle_part()))
            .distinct()
        )
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def resend_stale(self, region: str, age_seconds: float) -> int:
        """Make the copies of `stale_regions` eligible: their messages were lost one by one."""
        old = copies.c.updated_at < now_epoch() - age_seconds
        return self._database.write(
            lambda connection: _resend(connection, copies.c.region == region, old)
        )

    def overdue_waits(self, grace_seconds: float, limit: int = 200) -> list[tuple[str, str]]:
        """Return the blobs that copies have waited for too long: destination registry and digest."""
        query = (
            select(copies.c.destination_registry, copies.c.waiting_on)
            .where(
                copies.c.state == CopyState.WAITING,
                copies.c.updated_at < now_epoch() - grace_seconds,
            )
            .distinct()
            .limit(limit)
        )
        with self._database.read() as connection:
            return [(r.destination_registry, r.waiting_on) for r in connection.execute(query)]

    def wait_on(self, registry: str, digest: str) -> None:
        """Let copies wait another while for a blob that is on its way."""
        self._database.write(
            lambda connection: connection.execute(
                update(copies).where(*_waits_for(registry, digest)).values(updated_at=now_epoch())
            )
        )

    def wake(self, registry: str, digest: str, *, everybody: bool) -> int:
        """Make copies that wait for a blob eligible: all of them, or the first, to lead."""

        def work(connection: Connection) -> int:
            where = _waits_for(registry, digest)
            if not everybody:
                first = connection.execute(select(func.min(copies.c.id)).where(*where)).scalar_one()
                where = (*where, copies.c.id == first)
            return connection.execute(update(copies).where(*where).values(**_again())).rowcount

        return self._database.write(work)

    def uncommitted(self, grace_seconds: float, limit: int = 200) -> list[tuple[str, CopyRef]]:
        """Return fanned-out copies whose parts are all through and whose commit did not come.

        They count as sent again: each is returned once in `grace_seconds`.
        """
        overdue = and_(
            copies.c.state == CopyState.COPYING,
            copies.c.updated_at < now_epoch() - grace_seconds,
            ~exists().where(
                copy_blobs.c.copy_id == copies.c.id,
                copy_blobs.c.fence == copies.c.fence,
                copy_blobs.c.state == BlobState.PENDING,
            ),
        )
        with self._database.read() as connection:
            found = list(
                connection.execute(select(copies.c.id).where(overdue).limit(limit)).scalars()
            )
        if not found:
            return []

        def work(connection: Connection) -> list[tuple[str, CopyRef]]:
            rows = connection.execute(
                update(copies)
                .where(copies.c.id.in_(found), overdue)
                .values(updated_at=now_epoch())
                .returning(copies.c.region, copies.c.id, copies.c.fence)
            )
            return [(row.region, CopyRef(row.id, row.fence)) for row in rows]

        return self._database.write(work)

    # ---- the end of executions -----------------------------------------------------------------

    def end_executions(self) -> list[Ended]:
        """End each execution whose selection is complete and that has no open copy left."""
        open_copy = exists().where(
            copies.c.execution_id == executions.c.id, copies.c.state.in_(OPEN_COPIES)
        )
        query = select(executions).where(
            executions.c.state.not_in(ENDED_EXECUTIONS),
            or_(executions.c.planned.is_(True), executions.c.state == ExecutionState.STOPPING),
            ~open_copy,
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [ended for row in rows if (ended := self._end(row)) is not None]

    def _end(self, row: Any) -> Ended | None:
        def work(connection: Connection) -> Ended | None:
            counts: dict[str, int] = {
                state: int(count)
                for state, count in connection.execute(
                    select(copies.c.state, func.count())
                    .where(copies.c.execution_id == row.id)
                    .group_by(copies.c.state)
                )
            }
            matched = int(
                connection.execute(
                    select(func.sum(selections.c.matched)).where(
                        selections.c.execution_id == row.id
                    )
                ).scalar_one()
                or 0
            )
            unchanged = int(
                connection.execute(
                    select(func.sum(execution_unchanged.c.unchanged)).where(
                        execution_unchanged.c.execution_id == row.id
                    )
                ).scalar_one()
                or 0
            )
            state, reason = _verdict(row, counts, matched, unchanged)
            changed = connection.execute(
                update(executions)
                .where(executions.c.id == row.id, executions.c.state == row.state)
                .values(state=state, reason=reason, finished_at=now_epoch())
            )
            return Ended(row.id, row.rule, state) if changed.rowcount == 1 else None

        return self._database.write(work)

    def _alive(self) -> Any:
        return processes.c.seen_at > now_epoch() - self._dead_after


def _again() -> dict[Any, Any]:
    return {
        "state": CopyState.PENDING,
        "owner": "",
        "fence": copies.c.fence + 1,
        "waiting_on": "",
        "updated_at": now_epoch(),
    }


def _bury(connection: Connection, boots: Sequence[str], *, max_crashes: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for boot in boots:
        held = or_(
            and_(copies.c.owner == boot, copies.c.state == CopyState.RUNNING),
            and_(
                copies.c.state == CopyState.COPYING,
                exists().where(
                    copy_blobs.c.copy_id == copies.c.id,
                    copy_blobs.c.fence == copies.c.fence,
                    copy_blobs.c.owner == boot,
                    copy_blobs.c.state == BlobState.PENDING,
                ),
            ),
        )
        poison = connection.execute(
            update(copies)
            .where(
                held,
                copies.c.suspect.is_(True),
                copies.c.crashes + 1 >= CRASHES_OF_A_SUSPECT + max_crashes,
            )
            .values(
                state=CopyState.FAILED,
                owner="",
                fence=copies.c.fence + 1,
                crashes=copies.c.crashes + 1,
                failure_class="bug",
                reason=f"the worker died each time that it ran this copy alone ({max_crashes} times)",
                hint="look at the worker's memory limit and log, then retry the execution",
                updated_at=now_epoch(),
            )
        ).rowcount
        calm = and_(held, copies.c.state == CopyState.COPYING, copies.c.crashes == 0)
        kept = list(connection.execute(select(copies.c.id).where(calm)).scalars())
        again = connection.execute(
            update(copies)
            .where(held, copies.c.id.not_in(kept))
            .values(
                **_again(),
                crashes=copies.c.crashes + 1,
                suspect=copies.c.crashes + 1 >= CRASHES_OF_A_SUSPECT,
            )
        ).rowcount
        connection.execute(  # the other parts of these may be well under way elsewhere
            update(copies).where(copies.c.id.in_(kept)).values(crashes=copies.c.crashes + 1)
        )
        connection.execute(
            update(copy_blobs)
            .where(copy_blobs.c.owner == boot, copy_blobs.c.state == BlobState.PENDING)
            .values(owner="")
        )
        connection.execute(
            update(executions)
            .where(executions.c.planner == boot)
            .values(planner="", plan_sent_at=0)
        )
        region = connection.execute(
            select(processes.c.region).where(processes.c.boot == boot, processes.c.kind == "worker")
        ).scalar_one_or_none()
        connection.execute(delete(processes).where(processes.c.boot == boot))
        if region is not None:
            _resend(connection, copies.c.region == region)
        found[boot] = poison + again + len(kept)
    return found


def _waits_for(registry: str, digest: str) -> tuple[Any, ...]:
    return (
        copies.c.state == CopyState.WAITING,
        copies.c.destination_registry == registry,
        copies.c.waiting_on == digest,
    )


def _has_idle_part() -> Any:
    """Whether a part of a fanned-out copy was sent and nobody has taken it."""
    return and_(
        copies.c.state == CopyState.COPYING,
        exists().where(
            copy_blobs.c.copy_id == copies.c.id,
            copy_blobs.c.fence == copies.c.fence,
            copy_blobs.c.state == BlobState.PENDING,
            copy_blobs.c.owner == "",
        ),
    )


def _resend(connection: Connection, *where: Any) -> int:
    return connection.execute(
        update(copies).where(copies.c.state == CopyState.DISPATCHED, *where).values(**_again())
    ).rowcount


def _verdict(
    row: Any, counts: dict[str, int], matched: int, unchanged: int
) -> tuple[ExecutionState, str]:
    from service.store import codec

    bad = counts.get(CopyState.FAILED, 0) + counts.get(CopyState.SUPERSEDED, 0)
    good = counts.get(CopyState.COPIED, 0) + counts.get(CopyState.UNCHANGED, 0) + unchanged
    if row.state == ExecutionState.STOPPING or counts.get(CopyState.STOPPED, 0):
        return ExecutionState.STOPPED, row.reason
    if row.failure_class:
        return (ExecutionState.PARTIAL if good else ExecutionState.FAILED), row.reason
    if bad:
        return (ExecutionState.PARTIAL if good else ExecutionState.FAILED), ""
    if matched == 0 and codec.load_rule(row.spec).on_empty == "fail":
        return ExecutionState.FAILED, "the rule matches nothing, and on_empty is fail"
    return ExecutionState.SUCCEEDED, ""
