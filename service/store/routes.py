"""The way of copies between destinations: who waits for whom, and who holds what (docs/adr/0015)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, and_, bindparam, exists, literal_column, or_, select, update

from service.model.region import Feeders
from service.model.states import ENDED_EXECUTIONS, OPEN_COPIES, CopyState
from service.model.work import Holder
from service.store.clock import now_epoch
from service.store.conditions import rule_is_paused
from service.store.database import Database
from service.store.processes import AGENT
from service.store.tables import HELD, copies, executions, processes, registries

PLACED = (CopyState.COPIED, CopyState.UNCHANGED)
ORPHANS_AT_ONCE = 500
UNDECIDED = "{}"
"""What the column has until a planning has worked a route out; "null": that nothing goes on."""

Senders = Mapping[str, Feeders]
"""Destination -> the destinations that it may be fed from; none: the source alone."""

ALONE = Feeders(())


class RouteStore:
    """Saves the route of an execution, and frees what waits for nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, execution: str, senders: Senders) -> Senders:
        """Save an execution's route, unless it has one; returns the one that holds."""

        def work(connection: Connection) -> str:
            text = connection.execute(
                select(executions.c.route).where(executions.c.id == execution).with_for_update()
            ).scalar_one()
            if text != UNDECIDED:
                return str(text)
            spelt = {name: [feeders.near, feeders.dearer] for name, feeders in senders.items()}
            made = json.dumps(spelt or None)
            connection.execute(
                update(executions).where(executions.c.id == execution).values(route=made)
            )
            return made

        return parse(self._database.write(work))

    def of(self, execution: str) -> Senders | None:
        """Return an execution's route, empty when each copy comes from the source; None: not decided."""
        with self._database.read() as connection:
            query = select(executions.c.route).where(executions.c.id == execution)
            text = connection.execute(query).scalar_one()
        return None if text == UNDECIDED else parse(text)

    def free_orphans(self, unserved: Collection[str] = ()) -> int:
        """Let go what waits for a copy that will not come; returns how many.

        One that is no longer open: each end of a copy lets its followers go, this is the net below that. And one
        that nobody can begin: its registry is paused, or its region is among the `unserved`.
        """
        freed = 0
        while found := self._free_some(unserved):
            freed += found
            if found < ORPHANS_AT_ONCE:
                break
        return freed

    def _free_some(self, unserved: Collection[str]) -> int:
        parent = copies.alias("parent")
        paused = select(registries.c.name).where(registries.c.paused_at.is_not(None))
        comes = and_(
            parent.c.state.in_(OPEN_COPIES),
            or_(
                parent.c.state != CopyState.PENDING,
                parent.c.not_before >= HELD,
                and_(
                    parent.c.destination_registry.not_in(paused),
                    parent.c.region.not_in(list(unserved)),
                ),
            ),
        )
        query = (
            select(copies.c.id)
            .join(executions, executions.c.id == copies.c.execution_id)
            .where(
                executions.c.state.not_in(ENDED_EXECUTIONS),
                executions.c.kind != "plan",
                executions.c.route.not_in([UNDECIDED, "null"]),
                _IS_HELD,
                ~exists().where(_is_parent(parent), comes),
            )
            .limit(ORPHANS_AT_ONCE)
        )
        with self._database.read() as connection:
            found = list(connection.execute(query).scalars())
        if not found:
            return 0
        freeing = update(copies).where(copies.c.id.in_(found), _IS_HELD)
        return self._database.write(
            lambda connection: connection.execute(freeing.values(**_free())).rowcount
        )


def parse(text: str) -> Senders:
    """Return the route that `keep` saved."""
    found: dict[str, Any] = json.loads(text) or {}
    return {name: _feeders(value) for name, value in found.items()}


def _feeders(value: list[Any]) -> Feeders:
    if value and isinstance(value[0], str):  # of a release that knew one list
        return Feeders((value[0],), tuple(value[1:]))
    near, dearer = value
    return Feeders(tuple(near), tuple(dearer))


def let_go_on(connection: Connection, copy: int) -> None:
    """Let go what waits for a copy: in the transaction that ends it, however it ends."""
    connection.execute(_letting_go_on(), {"b_copy": copy})


def let_go_beside(connection: Connection, copy: int, near: Collection[str]) -> bool:
    """Let a copy go when its reference is committed at one of the registries that it is best fed from."""
    freed = connection.execute(_letting_go_beside(), {"b_copy": copy, "b_near": list(near)})
    return bool(freed.rowcount)


def hold_followers(connection: Connection, execution: str) -> None:
    """Hold back each pending copy whose parent has not ended, of an execution that got them all at once."""
    parent = copies.alias("parent")
    connection.execute(
        update(copies)
        .where(
            copies.c.execution_id == execution,
            copies.c.state == CopyState.PENDING,
            copies.c.via_registry != "",
            exists().where(_is_parent(parent), parent.c.state.in_(OPEN_COPIES)),
        )
        .values(not_before=HELD)
    )


def holders(connection: Connection, row: Any, senders: Senders) -> tuple[Holder, ...]:
    """Return who has what a copy's row is to bring, besides its source, the nearest first.

    A name without a copy of its own was in place when it was compared.
    """
    if not row.via_registry:
        return ()
    placed: dict[str, Holder] = {}
    named: set[tuple[str, str, str]] = set()
    for one in connection.execute(
        _BESIDE,
        {
            "b_execution": row.execution_id,
            "b_repository": row.source_repository,
            "b_reference": row.source_reference,
        },
    ):
        name = (one.destination_registry, one.destination_repository, one.destination_reference)
        named.add(name)
        if one.state in PLACED and one.digest == row.digest:
            placed.setdefault(name[0], Holder(*name))
    via = Holder(row.via_registry, row.via_repository, row.via_reference)
    if (via.registry, via.repository, via.reference) not in named:
        placed[via.registry] = via
    feeders = senders.get(row.destination_registry, ALONE)
    order = dict.fromkeys([via.registry, *feeders.names])
    return tuple(
        placed[name] for name in order if name in placed and name != row.destination_registry
    )


def _is_parent(parent: Any) -> Any:
    return and_(
        parent.c.execution_id == copies.c.execution_id,
        parent.c.destination_registry == copies.c.via_registry,
        parent.c.destination_repository == copies.c.via_repository,
        parent.c.destination_reference == copies.c.via_reference,
    )


def _free() -> dict[str, Any]:
    return {"not_before": 0, "updated_at": now_epoch()}


_IS_HELD = and_(
    copies.c.via_registry != literal_column("''"),
    copies.c.state == CopyState.PENDING,
    copies.c.not_before >= HELD,
)
_GOES_ON = and_(copies.c.via_registry != literal_column("''"), copies.c.state.in_(OPEN_COPIES))
_BESIDE = select(
    copies.c.destination_registry,
    copies.c.destination_repository,
    copies.c.destination_reference,
    copies.c.digest,
    copies.c.state,
).where(
    copies.c.execution_id == bindparam("b_execution"),
    copies.c.source_repository == bindparam("b_repository"),
    copies.c.source_reference == bindparam("b_reference"),
)


def _is_served() -> Any:
    """Return the condition that workers live in a copy's region, or lived there a moment ago."""
    return exists().where(
        processes.c.region == copies.c.region, processes.c.slots > 0, processes.c.kind == "worker"
    )


def _is_attended() -> Any:
    """Return the condition that a copy's region fetches its copies itself, and gets nothing ahead."""
    return exists().where(processes.c.region == copies.c.region, processes.c.kind == AGENT)


@cache
def beside() -> Any:
    """Return the query for the copies of :b_copy's reference that go on from others and have not ended.

    It tells of each if workers serve its region.
    """
    mine = copies.alias("mine")
    same = ("execution_id", "source_repository", "source_reference")
    return (
        select(copies, _is_served().label("is_served"))
        .join(mine, and_(*(copies.c[name] == mine.c[name] for name in same)))
        .where(
            mine.c.id == bindparam("b_copy"), copies.c.id != mine.c.id, _GOES_ON, ~_is_attended()
        )
    )


@cache
def going_on() -> Any:
    """Return the query for copy :b_copy, if it has not ended and its rule and registries are not paused."""
    paused = exists().where(
        registries.c.name.in_(
            [copies.c.source_registry, copies.c.destination_registry, copies.c.via_registry]
        ),
        registries.c.paused_at.is_not(None),
    )
    return select(copies).where(
        copies.c.id == bindparam("b_copy"), _GOES_ON, ~paused, ~rule_is_paused(copies.c.rule)
    )


@cache
def _letting_go_beside() -> Any:
    other = copies.alias("other")
    same = ("execution_id", "source_repository", "source_reference")
    committed = exists().where(
        *(other.c[name] == copies.c[name] for name in same),
        other.c.state == CopyState.COPIED,
        other.c.destination_registry.in_(bindparam("b_near", expanding=True)),
    )
    return (
        update(copies)
        .where(copies.c.id == bindparam("b_copy"), _IS_HELD, committed)
        .values(**_free())
    )


@cache
def _letting_go_on() -> Any:
    ended = copies.alias("ended")
    mine = ended.c.id == bindparam("b_copy")
    same = {
        "execution_id": "execution_id",
        "via_registry": "destination_registry",
        "via_repository": "destination_repository",
        "via_reference": "destination_reference",
    }
    return (
        update(copies)
        .where(
            _IS_HELD,
            *(
                copies.c[here] == select(ended.c[there]).where(mine).scalar_subquery()
                for here, there in same.items()
            ),
        )
        .values(**_free())
    )
