"""What the dispatcher asks SQL: leadership, windows, eligible copies."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    Select,
    TextClause,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from service.model.rule import SyncRule
from service.model.states import (
    ENDED_EXECUTIONS,
    CopyState,
    ExecutionState,
)
from service.model.work import CopyRef
from service.store import codec
from service.store.clock import now_epoch
from service.store.conditions import rule_is_paused
from service.store.database import upsert
from service.store.endings import EndingStore
from service.store.precedence import first_in_line
from service.store.processes import AGENT
from service.store.recovery import RecoveryStore, again
from service.store.routes import RouteStore
from service.store.tables import (
    WAITING,
    copies,
    executions,
    is_waiting,
    leases,
    processes,
    registries,
)
from service.store.work_rows import label

URGENT = 0
"""The priority whose copies have queues, slots and a window of their own."""

AT_ONCE = 500
"""So many copies are marked by one statement; databases bound its parameters."""

URGENT_PLANNINGS = 4

MAX_PLANNINGS = 12
"""How often an execution's planning may be begun: a rule that kills its planner has to end, too."""


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
class Pending:
    """That copies of a region wait to be sent; `suspects`: some of them one at a time."""

    region: str
    urgent: bool
    suspects: bool


class DispatchStore(RecoveryStore, EndingStore):
    """Queries of the loops that keep work moving; one holder of the lease at a time."""

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
        query = _SLOTS.where(self._alive())
        with self._database.read() as connection:
            return {region: int(slots) for region, slots in connection.execute(query)}

    def attended(self) -> frozenset[str]:
        """Return the regions whose agents fetch copies themselves (docs/adr/0017)."""
        query = select(processes.c.region).where(processes.c.kind == AGENT, self._alive())
        with self._database.read() as connection:
            return frozenset(connection.execute(query).scalars())

    def standing(self) -> dict[tuple[str, bool], int]:
        """Return how many copies stand in the queues, not yet taken: by region and whether urgent."""
        found: dict[tuple[str, bool], int] = {}
        with self._database.read() as connection:
            for region, priority, count in connection.execute(_STANDING):
                key = (region, priority == URGENT)
                found[key] = found.get(key, 0) + int(count)
        return found

    def eligible(
        self, region: str, limit: int, *, urgent: bool | None = None, suspect: bool = False
    ) -> list[Eligible]:
        """Return pending copies of a region: by priority, started ones first, rules in turn.

        Urgent ones may be asked for apart, as they have a window of their own. Suspects always are:
        they go out one at a time. Copies of paused rules, and from or to paused
        registries, are left where they are, and those that stand behind another one.

        The turn is taken by numbering each execution's copies and sorting by that number, so that
        a small rule does not stand behind a large one.
        """
        query = _eligible(urgent, suspect, lateral=not self._database.is_sqlite)
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
                for r in connection.execute(query, {"region": region, "most": limit})
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

    def dispatch(self, chosen: Sequence[Eligible], *, region: str | None = None) -> list[CopyRef]:
        """Mark copies as sent under a new fence, durably, before anything is published.

        `region`: whose workers stand in for those of the copies' own region, for good.
        """

        def work(connection: Connection) -> list[CopyRef]:
            fences: dict[int, int] = {}
            for start in range(0, len(chosen), AT_ONCE):
                some = chosen[start : start + AT_ONCE]
                marked = connection.execute(
                    _DISPATCHING,
                    {
                        "b_ids": [item.id for item in some],
                        "b_refs": [(item.id, item.fence) for item in some],
                    },
                )
                fences |= {row.id: row.fence for row in marked}
            if region is not None:
                moved = update(copies).where(copies.c.id.in_(fences))
                connection.execute(moved.values(region=region))
            return [
                CopyRef(item.id, fences[item.id], item.label)
                for item in chosen
                if item.id in fences
            ]

        if not chosen:
            return []
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
                    .values(**again())
                )

        if refs:
            self._database.write(work)

    def pending(self) -> list[Pending]:
        """Return where copies wait to be sent, urgent ones apart, and whether suspects are there.

        Suspects go out with what is not urgent, whatever their own priority.
        """
        urgent, bulk = [], []
        query = _next_region(sqlite=self._database.is_sqlite)
        with self._database.read() as connection:
            region = ""
            while (found := connection.execute(query, {"after": region}).scalar()) is not None:
                region = str(found)
                waits = connection.execute(_WAITS, {"region": region}).one()
                if waits.urgent:
                    urgent.append(Pending(region, urgent=True, suspects=False))
                if waits.bulk or waits.suspects:
                    bulk.append(Pending(region, urgent=False, suspects=bool(waits.suspects)))
        return [*urgent, *bulk]

    def free_orphans(self, unserved: Collection[str] = ()) -> int:
        """Let go copies that wait for one that will not come; returns how many (`RouteStore`)."""
        return RouteStore(self._database).free_orphans(unserved)

    def busy(self) -> bool:
        """Whether any execution has not ended."""
        with self._database.read() as connection:
            return connection.execute(_OPEN).first() is not None

    def unplanned(self, resend_after_seconds: float, most: int = 1000) -> list[str]:
        """Return executions whose planning nobody holds and was not sent lately; they count as sent.

        With those that are being planned, and those that were sent and not begun yet, they are `most`
        at most: urgent ones first, of which some are sent whatever else is under way, then the oldest.
        """
        unheld = (
            executions.c.state.in_([ExecutionState.PENDING, ExecutionState.RUNNING]),
            executions.c.planned.is_(False),
            executions.c.planner == "",
        )
        sent_lately = executions.c.plan_sent_at >= now_epoch() - resend_after_seconds
        under_way = select(func.count()).where(
            executions.c.state.in_([ExecutionState.PENDING, ExecutionState.RUNNING]),
            executions.c.planned.is_(False),
            or_(executions.c.planner != "", sent_lately),
        )

        def work(connection: Connection) -> list[str]:
            connection.execute(
                update(executions)
                .where(*unheld, executions.c.plan_attempts >= MAX_PLANNINGS)
                .values(
                    state=ExecutionState.RUNNING,
                    planned=True,
                    failure_class="bug",
                    reason=f"planning was begun {MAX_PLANNINGS} times and never came to its end",
                )
            )
            room = most - int(connection.execute(under_way).scalar_one())
            waiting = (
                select(executions.c.id)
                .where(
                    *unheld,
                    executions.c.not_before <= now_epoch(),
                    ~rule_is_paused(executions.c.rule),
                    ~sent_lately,
                )
                .order_by(executions.c.created_at, executions.c.id)
            )
            urgent = executions.c.priority == URGENT
            first = waiting.where(urgent).limit(max(room, URGENT_PLANNINGS))
            names = list(connection.execute(first).scalars())
            if room > len(names):
                others = waiting.where(~urgent).limit(room - len(names))
                names += connection.execute(others).scalars()
            if names:
                connection.execute(
                    update(executions)
                    .where(executions.c.id.in_(names))
                    .values(plan_sent_at=now_epoch())
                )
            return names

        with self._database.read() as connection:
            some = connection.execute(select(executions.c.id).where(*unheld).limit(1)).first()
        return self._database.write(work) if some is not None else []

    def specs(self, identities: Sequence[str]) -> dict[str, SyncRule]:
        """Return the rules of some executions, as they stood when these were created."""
        query = select(executions.c.id, executions.c.spec).where(executions.c.id.in_(identities))
        with self._database.read() as connection:
            return {row.id: codec.load_rule(row.spec) for row in connection.execute(query)}

    def put_off_planning(self, identities: Sequence[str], seconds: float, reason: str) -> None:
        """Have plannings that nobody holds wait for a worker that may do them, and say why: of class region."""
        waiting = update(executions).where(
            executions.c.id.in_(identities), executions.c.planner == ""
        )
        values = {"plan_sent_at": 0, "not_before": now_epoch() + seconds, "reason": reason}
        values["failure_class"] = "region"
        self._database.write(lambda connection: connection.execute(waiting.values(**values)))

    def take_back_plans(self, identities: Sequence[str]) -> None:
        """Have plannings sent again at once whose messages could not be published."""
        unheld = update(executions).where(
            executions.c.id.in_(identities), executions.c.planner == ""
        )
        self._database.write(lambda connection: connection.execute(unheld.values(plan_sent_at=0)))

    def urgent_plannings(self, identities: Sequence[str]) -> set[str]:
        """Return those of some executions that are urgent."""
        query = select(executions.c.id).where(
            executions.c.id.in_(identities), executions.c.priority == URGENT
        )
        with self._database.read() as connection:
            return set(connection.execute(query).scalars())


_OPEN_STATES = sorted(state.value for state in ExecutionState if state not in ENDED_EXECUTIONS)


def _next_region(*, sqlite: bool) -> TextClause:
    """Return the query for the next region `after` one where copies wait: a step in the index.

    SQLite reads the whole backlog by another index unless it is told.
    """
    index = "INDEXED BY ix_copies_waiting" if sqlite else ""
    return text(
        f"SELECT region FROM copies {index} WHERE {WAITING} AND region > :after "
        "ORDER BY region LIMIT 1"
    )


def _some(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return whether a waiting copy of a `region` meets the conditions."""
    return exists(
        select(copies.c.id).where(
            is_waiting(copies), copies.c.region == bindparam("region"), *conditions
        )
    )


_CALM = copies.c.suspect.is_(False)
_WAITS = select(
    _some(_CALM, copies.c.priority == URGENT).label("urgent"),
    _some(_CALM, copies.c.priority > URGENT).label("bulk"),
    _some(copies.c.suspect.is_(True)).label("suspects"),
)
_SLOTS = (
    select(processes.c.region, func.sum(processes.c.slots))
    .where(processes.c.kind == "worker")
    .group_by(processes.c.region)
)
_STANDING = (
    select(copies.c.region, copies.c.priority, func.count())
    .where(copies.c.state == CopyState.DISPATCHED)
    .group_by(copies.c.region, copies.c.priority)
)
_OPEN = select(executions.c.id).where(executions.c.state.not_in(ENDED_EXECUTIONS)).limit(1)
_DISPATCHING = (  # by id: SQLite takes the index of states otherwise, and reads all that is pending
    update(copies)
    .where(
        copies.c.id.in_(bindparam("b_ids", expanding=True)),
        tuple_(copies.c.id, copies.c.fence).in_(bindparam("b_refs", expanding=True)),
        func.coalesce(copies.c.state, "") == CopyState.PENDING,
    )
    .values(state=CopyState.DISPATCHED, fence=copies.c.fence + 1, updated_at=now_epoch())
    .returning(copies.c.id, copies.c.fence)
)


@cache
def _eligible(urgent: bool | None, suspect: bool, *, lateral: bool) -> Select[Any]:
    """Return the query for eligible copies of a `region`, at `most` so many.

    Each open execution gives its first copies, straight from ix_copies_waiting: a backlog of 100,000 is
    not read to choose a hundred. `lateral`: the database has LATERAL; where it has not (SQLite), the
    same is said by a subquery that names the copies.
    """
    paused_registries = select(registries.c.name).where(registries.c.paused_at.is_not(None))
    one = copies.alias("one")
    first = (
        select(one.c.id)
        .where(
            is_waiting(one),
            one.c.region == bindparam("region"),
            one.c.suspect.is_(suspect),
            one.c.priority == executions.c.priority,
            one.c.execution_id == executions.c.id,
            one.c.not_before <= now_epoch(),
            first_in_line(one),
            one.c.source_registry.not_in(paused_registries),
            one.c.destination_registry.not_in(paused_registries),
        )
        .order_by(one.c.started.desc(), one.c.id)
        .limit(bindparam("most", type_=Integer))
        .correlate(executions)
    )
    if lateral:
        named = first.lateral("first")
        source = executions.join(named, true()).join(copies, copies.c.id == named.c.id)
    else:
        source = executions.join(copies, copies.c.id.in_(first))
    turn = (
        func.row_number()
        .over(partition_by=copies.c.execution_id, order_by=(copies.c.started.desc(), copies.c.id))
        .label("turn")
    )
    return (
        select(
            copies.c.id,
            copies.c.fence,
            copies.c.execution_id,
            copies.c.region,
            copies.c.priority,
            copies.c.suspect,
            copies.c.source_registry,
            copies.c.source_repository,
            copies.c.source_reference,
            copies.c.destination_registry,
        )
        .select_from(source)
        .where(
            executions.c.state.in_(_OPEN_STATES),
            *([] if urgent is None else [_is_urgent() if urgent else ~_is_urgent()]),
            ~rule_is_paused(executions.c.rule),
        )
        .order_by(copies.c.priority, copies.c.started.desc(), turn, copies.c.id)
        .limit(bindparam("most", type_=Integer))
    )


def _is_urgent() -> ColumnElement[bool]:
    return executions.c.priority == URGENT
