"""Drift in SQL: what somebody else changed at a replica, from when it is seen until it is gone.

A tag at a replica is as it should be when it names what Transship wrote there, or what stood there when it
was equal to the primary's. A row stays open until a whole comparison no longer sees it; once a copy has
been written there since, it is repaired.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, exists, func, select, update

from service.model.replica import DELETED, MOVED, OPEN, REPAIRED, Drift
from service.store import outbox
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.tables import written_tags
from service.store.tables_replicas import replica_baseline, replica_drift, replicas

KEPT_SECONDS = 7 * 86400.0
"""So long what was repaired is shown."""

_ROWS = 300

Place = tuple[str, str, str]
"""Registry, repository and tag."""


class DriftStore:
    """The tables of drift and of what a replica had when it was equal."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(
        self, places: Iterable[Place], source: str | None = None
    ) -> tuple[dict[Place, str], dict[Place, str]]:
        """Return the digests that Transship wrote at some places, and those that it found equal there.

        `source`: only what was written from this registry.
        """
        grouped: dict[tuple[str, str], set[str]] = {}
        for registry, repository, tag in places:
            grouped.setdefault((registry, repository), set()).add(tag)
        written: dict[Place, str] = {}
        equal: dict[Place, str] = {}
        with self._database.read() as connection:
            for (registry, repository), tags in grouped.items():
                names = sorted(tags)
                for start in range(0, len(names), _ROWS):
                    for table, found in ((written_tags, written), (replica_baseline, equal)):
                        query = select(table.c.tag, table.c.digest).where(
                            table.c.registry == registry,
                            table.c.repository == repository,
                            table.c.tag.in_(names[start : start + _ROWS]),
                        )
                        if source is not None and table is written_tags:
                            query = query.where(table.c.source_registry == source)
                        for row in connection.execute(query):
                            found[registry, repository, row.tag] = row.digest
        return written, equal

    def note(
        self, rule: str, execution: str, found: Sequence[Drift], equal: dict[Place, str]
    ) -> None:
        """Save what one page of a comparison has come to: drift, and what is equal though not written."""

        def work(connection: Connection) -> None:
            for (registry, repository, tag), digest in sorted(equal.items()):
                same = upsert(connection, replica_baseline).values(
                    registry=registry, repository=repository, tag=tag, digest=digest
                )
                connection.execute(
                    same.on_conflict_do_update(
                        index_elements=["registry", "repository", "tag"],
                        set_={"digest": same.excluded.digest},
                    )
                )
            for one in sorted(found, key=lambda one: (one.registry, one.repository, one.tag)):
                _see(connection, rule, execution, one)

        if found or equal:
            self._database.write(work)

    def mark_repaired(self, rule: str) -> int:
        """Mark drift as repaired where Transship has written the tag since; returns how much."""
        since = exists().where(
            written_tags.c.registry == replica_drift.c.registry,
            written_tags.c.repository == replica_drift.c.repository,
            written_tags.c.tag == replica_drift.c.tag,
            written_tags.c.written_at >= replica_drift.c.seen_at,
        )
        mine = (replica_drift.c.rule == rule) & (replica_drift.c.state == OPEN)
        with self._database.read() as connection:
            if connection.execute(select(replica_drift.c.tag).where(mine, since)).first() is None:
                return 0

        def work(connection: Connection) -> int:
            changed = connection.execute(
                update(replica_drift)
                .where(mine, since)
                .values(state=REPAIRED, repaired_at=now_epoch())
            )
            return int(changed.rowcount)

        return self._database.write(work)

    def conclude(
        self, rule: str, registry: str, execution: str, kinds: Sequence[str] = (MOVED, DELETED)
    ) -> None:
        """Forget open drift of these kinds that a whole comparison, or a later one, has not seen."""

        def work(connection: Connection) -> None:
            mine = (replica_drift.c.rule == rule) & (replica_drift.c.registry == registry)
            connection.execute(
                delete(replica_drift).where(
                    mine,
                    replica_drift.c.state == OPEN,
                    replica_drift.c.kind.in_(kinds),
                    replica_drift.c.seen_in < execution,
                )
            )
            connection.execute(
                delete(replica_drift).where(
                    mine, replica_drift.c.repaired_at < now_epoch() - KEPT_SECONDS
                )
            )

        self._database.write(work)

    def tell(self, rule: str, project: str, registry: str) -> int | None:
        """Tell webhooks when the drift of a replica is another than they were told; returns it then."""
        counts = self.counts(rule).get(registry, {})
        total = sum(counts.values())

        def work(connection: Connection) -> int | None:
            changed = connection.execute(
                update(replicas)
                .where(
                    replicas.c.rule == rule,
                    replicas.c.registry == registry,
                    replicas.c.told != total,
                )
                .values(told=total)
            )
            if changed.rowcount != 1:
                return None
            outbox.replica_told(
                connection, rule=rule, project=project, registry=registry, drift=counts
            )
            return total

        with self._database.read() as connection:
            told = connection.execute(
                select(replicas.c.told).where(
                    replicas.c.rule == rule, replicas.c.registry == registry
                )
            ).scalar()
        return None if told == total else self._database.write(work)

    def counts(self, rule: str | None = None) -> dict[str, dict[str, int]]:
        """Return how much drift of each kind is open, by registry, of one rule."""
        query = (
            select(replica_drift.c.registry, replica_drift.c.kind, func.count())
            .where(replica_drift.c.rule == rule, replica_drift.c.state == OPEN)
            .group_by(replica_drift.c.registry, replica_drift.c.kind)
        )
        found: dict[str, dict[str, int]] = {}
        with self._database.read() as connection:
            for registry, kind, count in connection.execute(query):
                found.setdefault(registry, {})[kind] = int(count)
        return found

    def list(
        self,
        rule: str,
        registry: str,
        *,
        state: str | None = OPEN,
        after: str = "",
        limit: int = 100,
    ) -> list[Drift]:
        """Return drift in the order of `repository:tag`, after that name; `state` None: all."""
        name = replica_drift.c.repository + ":" + replica_drift.c.tag
        query = (
            select(replica_drift)
            .where(replica_drift.c.rule == rule, replica_drift.c.registry == registry, name > after)
            .order_by(name)
            .limit(limit)
        )
        if state is not None:
            query = query.where(replica_drift.c.state == state)
        with self._database.read() as connection:
            return [
                Drift(
                    row.rule,
                    row.registry,
                    row.repository,
                    row.tag,
                    row.kind,
                    row.wanted,
                    row.found,
                    row.state,
                    row.first_at,
                    row.seen_at,
                    row.repaired_at,
                )
                for row in connection.execute(query)
            ]


def _see(connection: Connection, rule: str, execution: str, one: Drift) -> None:
    """Save one thing that is not as it should be; when it was seen first stays while it is open."""
    key: dict[str, Any] = {
        "rule": rule,
        "registry": one.registry,
        "repository": one.repository,
        "tag": one.tag,
    }
    values = {
        "kind": one.kind,
        "wanted": one.wanted,
        "found": one.found,
        "seen_in": execution,
        "state": OPEN,
    }
    mine = [replica_drift.c[name] == value for name, value in key.items()]
    connection.execute(delete(replica_drift).where(*mine, replica_drift.c.state == REPAIRED))
    statement = upsert(connection, replica_drift).values(
        **key, **values, first_at=now_epoch(), seen_at=now_epoch()
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(key), set_={**values, "seen_at": now_epoch()}
        )
    )
