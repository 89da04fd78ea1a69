"""What waits for each region, and who is there to carry it out: read from SQL, bounded by its indexes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, TextClause, func, select, text, update

from service.model.states import OPEN_COPIES, CopyState
from service.store.clock import database_now
from service.store.database import Database
from service.store.processes import AGENT, is_alive
from service.store.tables import WAITING, copies, executions, processes

MOST_WAITING = 100_000
"""So many waiting copies of a region are counted; beyond that they are said to be so many."""

KINDS = ("worker", "urgent", AGENT)
PRIORITIES = (0, 1, 2)


@dataclass(frozen=True, slots=True)
class RegionLoad:
    """One region at this moment.

    `waiting` are copies that no worker has taken, MOST_WAITING when there are more; `oldest_seconds`
    is the age of the oldest execution that has one of them, None when nothing waits.
    """

    processes: int = 0
    slots: int = 0
    waiting: int = 0
    oldest_seconds: float | None = None


class RegionLoadStore:
    """Counts live workers and waiting copies by region."""

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

    def workers(self) -> dict[str, tuple[int, int]]:
        """Return how many worker processes live in each region, and their slots; an agent stands for all of its."""
        with self._database.read() as connection:
            return self._workers(connection)

    def waited_for(self) -> list[str]:
        """Return the regions that copies wait for, or workers live in, by name."""
        with self._database.read() as connection:
            found = set(self._workers(connection))
            found |= {region for region, *_ in connection.execute(_SENT)}
            region, step = "", _next_region(sqlite=self._database.is_sqlite)
            while (after := connection.execute(step, {"after": region}).scalar()) is not None:
                region = str(after)
                found.add(region)
        return sorted(found)

    def load(self, names: Iterable[str]) -> dict[str, RegionLoad]:
        """Return what stands in each of these regions; one that nobody knows has nothing."""
        sqlite = self._database.is_sqlite
        with self._database.read() as connection:
            now = database_now(connection)
            workers = self._workers(connection)
            sent = {region: (int(n), oldest) for region, n, oldest in connection.execute(_SENT)}
            loads = {}
            for name in names:
                count, since = sent.get(name, (0, None))
                given = {"region": name, "most": MOST_WAITING}
                count += int(connection.execute(_count(sqlite=sqlite), given).scalar_one())
                oldest = connection.execute(_oldest(sqlite=sqlite), {"region": name}).scalar()
                begun = min((one for one in (since, oldest) if one is not None), default=None)
                alive, slots = workers.get(name, (0, 0))
                loads[name] = RegionLoad(
                    alive,
                    slots,
                    min(count, MOST_WAITING),
                    None if begun is None else max(0.0, now - float(begun)),
                )
        return loads

    def take_over(self, region: str) -> int:
        """Have all open copies carried out in one region; returns how many were of another one.

        For an engine of one machine, which may have served another region when it ran before.
        """
        moved = (
            update(copies)
            .where(copies.c.state.in_(sorted(OPEN_COPIES)), copies.c.region != region)
            .values(region=region)
        )
        some = select(copies.c.id).where(
            copies.c.state.in_(sorted(OPEN_COPIES)), copies.c.region != region
        )
        with self._database.read() as connection:
            if connection.execute(some.limit(1)).first() is None:
                return 0
        return int(self._database.write(lambda connection: connection.execute(moved).rowcount))

    def _workers(self, connection: Connection) -> dict[str, tuple[int, int]]:
        alive = is_alive(self._dead_after, self._agent_dead_after)
        query = (
            select(processes.c.region, func.count(), func.sum(processes.c.slots))
            .where(processes.c.kind.in_(KINDS), alive)
            .group_by(processes.c.region)
        )
        rows = connection.execute(query)
        return {str(region): (int(count), int(slots)) for region, count, slots in rows}


_SENT: Any = (  # a few times the live slots at most: the dispatcher's windows
    select(copies.c.region, func.count(), func.min(executions.c.created_at))
    .join(executions, executions.c.id == copies.c.execution_id)
    .where(copies.c.state == CopyState.DISPATCHED)
    .group_by(copies.c.region)
)


def _index(*, sqlite: bool) -> str:
    """Name the index for SQLite, which reads the whole backlog by another one unless it is told."""
    return "INDEXED BY ix_copies_waiting" if sqlite else ""


@cache
def _next_region(*, sqlite: bool) -> TextClause:
    return text(
        f"SELECT region FROM copies {_index(sqlite=sqlite)} WHERE {WAITING} AND region > :after "
        "ORDER BY region LIMIT 1"
    )


@cache
def _count(*, sqlite: bool) -> TextClause:
    return text(
        f"SELECT count(*) FROM (SELECT 1 FROM copies {_index(sqlite=sqlite)} "
        f"WHERE {WAITING} AND region = :region LIMIT :most) AS counted"
    )


@cache
def _oldest(*, sqlite: bool) -> TextClause:
    """Return the query for when the oldest execution with a waiting copy of a `region` was asked for.

    An execution's id sorts by its time: the first one of each priority is a step in the index.
    """
    firsts = " UNION ALL ".join(
        f"SELECT execution_id FROM (SELECT execution_id FROM copies {_index(sqlite=sqlite)} "
        f"WHERE {WAITING} AND region = :region AND suspect = {suspect} AND priority = {priority} "
        f"ORDER BY execution_id LIMIT 1) AS of_{priority}_{suspect}"
        for suspect in ("false", "true")
        for priority in PRIORITIES
    )
    return text(f"SELECT min(created_at) FROM executions WHERE id IN ({firsts})")
