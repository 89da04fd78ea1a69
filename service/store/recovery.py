"""What the reconciler asks SQL: the silent, the lost, the overdue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import (
    Connection,
    Double,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)

from service.model.states import (
    BlobState,
    CopyState,
    ExecutionState,
)
from service.model.work import CopyRef
from service.store import attempts, outbox
from service.store.clock import now_epoch
from service.store.database import Database
from service.store.processes import AGENT, is_alive
from service.store.routes import let_go_on
from service.store.tables import (
    copies,
    copy_blobs,
    executions,
    leases,
    processes,
)
from service.store.work_rows import label

CRASHES_OF_A_SUSPECT = 2
"""One crash is mostly the machine's: whole hosts are killed, and all that they held is innocent."""


@dataclass(frozen=True, slots=True)
class IdlePart:
    """A part of a fanned-out copy whose message was lost, or whose worker died."""

    region: str
    ref: CopyRef
    part: int
    task_id: str


class RecoveryStore:
    """Finds work that nobody holds and makes it eligible again."""

    def __init__(
        self,
        database: Database,
        *,
        dead_after_seconds: float,
        agent_dead_after_seconds: float = 90.0,
    ) -> None:
        self._database = database
        self._dead_after = dead_after_seconds
        self._agent_dead_after = agent_dead_after_seconds
        self._dead = select(processes.c.boot, processes.c.kind).where(~self._alive())

    def recover_dead(self, *, max_crashes: int) -> dict[str, int]:
        """Plan again what dead processes held; return how many copies, by boot id.

        A copy whose process died twice is a suspect and runs alone from then on; after `max_crashes`
        more it fails as poison. Copies that
        stood in the queue are sent anew: a message popped by the dead process is lost (celery.md 1.3 #1).
        """
        with self._database.read() as connection:
            dead = connection.execute(self._dead).all()
            agents = {row.boot for row in dead if row.kind == AGENT}
            names = {row.boot for row in dead} - agents
            known = set(connection.execute(_KNOWN).scalars())
            owners = {owner for query in _OWNERS for owner in connection.execute(query).scalars()}
        for agent in sorted(agents):
            self._database.write(partial(_take_back_lent, agent, ~self._alive()))
        names |= owners - known
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
            connection.execute(_PLAN_AGAIN)
            return _resend(connection)

        return self._database.write(work)

    def plan_again(self) -> None:
        """Have each planning sent again at once that was sent and not begun: whoever got it may be dead."""
        self._database.write(lambda connection: connection.execute(_PLAN_AGAIN))

    def take_idle_parts(
        self, *, region: str | None = None, age_seconds: float = 0.0, limit: int = 500
    ) -> list[IdlePart]:
        """Return parts of fanned-out copies that nobody works on; they count as sent by this call.

        Their fence stays: parts that others are moving go on.
        """
        where = []
        if age_seconds:
            where.append(copies.c.updated_at < now_epoch() - age_seconds)
        if region is not None:
            where.append(copies.c.region == region)
        query = (_IDLE_PARTS.where(*where) if where else _IDLE_PARTS).limit(limit)
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
        with self._database.read() as connection:
            return list(connection.execute(_STALE, {"b_age": age_seconds}).scalars())

    def resend_stale(self, region: str, age_seconds: float) -> int:
        """Make the copies of `stale_regions` eligible: their messages were lost one by one."""
        old = copies.c.updated_at < now_epoch() - age_seconds
        return self._database.write(
            lambda connection: _resend(connection, copies.c.region == region, old)
        )

    def overdue_waits(self, grace_seconds: float, limit: int = 200) -> list[tuple[str, str]]:
        """Return the blobs that copies have waited for too long: destination registry and digest."""
        values = {"b_age": grace_seconds, "b_most": limit}
        with self._database.read() as connection:
            return [
                (r.destination_registry, r.waiting_on) for r in connection.execute(_OVERDUE, values)
            ]

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
            return connection.execute(update(copies).where(*where).values(**again())).rowcount

        return self._database.write(work)

    def uncommitted(self, grace_seconds: float, limit: int = 200) -> list[tuple[str, CopyRef]]:
        """Return fanned-out copies whose parts are all through and whose commit did not come.

        They count as sent again: each is returned once in `grace_seconds`.
        """
        values = {"b_age": grace_seconds, "b_most": limit}
        with self._database.read() as connection:
            found = list(connection.execute(_UNCOMMITTED, values).scalars())
        if not found:
            return []

        def work(connection: Connection) -> list[tuple[str, CopyRef]]:
            rows = connection.execute(
                update(copies)
                .where(copies.c.id.in_(found), _IS_UNCOMMITTED)
                .values(updated_at=now_epoch())
                .returning(copies.c.region, copies.c.id, copies.c.fence),
                {"b_age": grace_seconds},
            )
            return [(row.region, CopyRef(row.id, row.fence)) for row in rows]

        return self._database.write(work)

    def _alive(self) -> Any:
        return is_alive(self._dead_after, self._agent_dead_after)


def again() -> dict[Any, Any]:
    """Return the values that make a copy eligible again, under a new fence."""
    return {
        "state": CopyState.PENDING,
        "owner": "",
        "fence": copies.c.fence + 1,
        "waiting_on": "",
        "updated_at": now_epoch(),
    }


def _take_back_lent(agent: str, is_dead: Any, connection: Connection) -> None:
    """Plan again what an agent holds that is not heard of: a region that is cut off has not crashed."""
    gone = connection.execute(delete(processes).where(processes.c.boot == agent, is_dead))
    if gone.rowcount == 1:  # it may have been heard of since
        held = (copies.c.owner == agent, copies.c.state == CopyState.RUNNING)
        connection.execute(update(copies).where(*held).values(**again()))


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
        attempts.note_deaths(connection, held, boot)
        poisoned = connection.execute(
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
            .returning(copies.c.id)
        ).scalars()
        poison = 0
        for copy in poisoned.all():
            outbox.copy_ended(connection, copy)
            let_go_on(connection, copy)
            poison += 1
        calm = and_(held, copies.c.state == CopyState.COPYING, copies.c.crashes == 0)
        kept = list(connection.execute(select(copies.c.id).where(calm)).scalars())
        replanned = connection.execute(
            update(copies)
            .where(held, copies.c.id.not_in(kept))
            .values(
                **again(),
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
            select(processes.c.region).where(
                processes.c.boot == boot, processes.c.kind.in_(["worker", "urgent"])
            )
        ).scalar_one_or_none()
        connection.execute(delete(processes).where(processes.c.boot == boot))
        if region is not None:
            _resend(connection, copies.c.region == region)
        found[boot] = poison + replanned + len(kept)
    return found


def _waits_for(registry: str, digest: str) -> tuple[Any, ...]:
    return (
        copies.c.state == CopyState.WAITING,
        copies.c.destination_registry == registry,
        copies.c.waiting_on == digest,
    )


def _resend(connection: Connection, *where: Any) -> int:
    return connection.execute(
        update(copies).where(copies.c.state == CopyState.DISPATCHED, *where).values(**again())
    ).rowcount


_PLAN_AGAIN = (
    update(executions)
    .where(
        executions.c.state.in_([ExecutionState.PENDING, ExecutionState.RUNNING]),
        executions.c.planned.is_(False),
        executions.c.planner == "",
    )
    .values(plan_sent_at=0)
)

_KNOWN = select(processes.c.boot)

_OWNERS = (
    select(copies.c.owner).where(copies.c.owner != "").distinct(),
    select(copy_blobs.c.owner)
    .join(copies, copies.c.id == copy_blobs.c.copy_id)
    .where(
        copies.c.state == CopyState.COPYING,
        copies.c.fence == copy_blobs.c.fence,
        copy_blobs.c.state == BlobState.PENDING,
        copy_blobs.c.owner != "",
    )
    .distinct(),
    select(executions.c.planner).where(executions.c.planner != "").distinct(),
)
"""Who holds copies, parts of them, and plannings."""

_OLD = copies.c.updated_at < now_epoch() - bindparam("b_age", type_=Double)

_IS_IDLE_PART = (
    copy_blobs.c.copy_id == copies.c.id,
    copy_blobs.c.fence == copies.c.fence,
    copy_blobs.c.state == BlobState.PENDING,
    copy_blobs.c.owner == "",
)
"""A part of a fanned-out copy was sent and nobody has taken it."""

_IDLE_PARTS = (
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
    .where(copies.c.state == CopyState.COPYING, *_IS_IDLE_PART)
    .distinct()
)

_STALE = (
    select(copies.c.region)
    .where(
        _OLD,
        or_(
            copies.c.state == CopyState.DISPATCHED,
            and_(copies.c.state == CopyState.COPYING, exists().where(*_IS_IDLE_PART)),
        ),
    )
    .distinct()
)

_OVERDUE = (
    select(copies.c.destination_registry, copies.c.waiting_on)
    .where(copies.c.state == CopyState.WAITING, _OLD)
    .distinct()
    .limit(bindparam("b_most"))
)

_IS_UNCOMMITTED = and_(
    copies.c.state == CopyState.COPYING,
    _OLD,
    ~exists().where(
        copy_blobs.c.copy_id == copies.c.id,
        copy_blobs.c.fence == copies.c.fence,
        copy_blobs.c.state == BlobState.PENDING,
    ),
)

_UNCOMMITTED = select(copies.c.id).where(_IS_UNCOMMITTED).limit(bindparam("b_most"))
