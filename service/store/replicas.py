"""Replicas in SQL: who follows which rule's primary, since when, and how far each of them is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, exists, func, select, update

from service.model.replica import Progress, Replica
from service.model.rule import REPLICATE, SyncRule
from service.model.states import ENDED_EXECUTIONS, OPEN_COPIES, CopyState, ExecutionState
from service.store import codec
from service.store.clock import now_epoch
from service.store.creation import insert_full
from service.store.database import Database, upsert
from service.store.tables import copies, executions, rules, selections
from service.store.tables_replicas import replica_drift, replicas

TRIGGER = "replica"
"""The trigger of an execution that a new replica, or a repair, has asked for."""

FULL = and_(executions.c.kind == "full", executions.c.trigger != "command")
AGAIN_SECONDS = 600.0
"""After so long a replica that could not be filled is tried again, whatever the rule's trigger is."""

_AT_ONCE = 500
COMPLETE = (ExecutionState.SUCCEEDED, ExecutionState.PARTIAL)


class ReplicaStore:
    """The table of replicas."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---- who they are ----------------------------------------------------------------------------

    def rules(self) -> list[SyncRule]:
        """Return the enabled rules that replicate."""
        query = (
            select(rules.c.spec)
            .where(rules.c.enabled, rules.c.spec.like(f'%"mode":"{REPLICATE}"%'))
            .order_by(rules.c.name)
        )
        with self._database.read() as connection:
            found = [codec.load_rule(text) for text in connection.execute(query).scalars()]
        return [rule for rule in found if rule.mode == REPLICATE]

    def of(self, rule: str) -> dict[str, Replica]:
        """Return the replicas of a rule by registry."""
        query = select(replicas).where(replicas.c.rule == rule).order_by(replicas.c.registry)
        with self._database.read() as connection:
            return {row.registry: replica(row) for row in connection.execute(query)}

    def meet(
        self, rule: str, registries: Iterable[str], since: float | None = None
    ) -> dict[str, Replica]:
        """Return the replicas of a rule, these registries among them.

        Who was none joins, at `since` in seconds since 1970, or now.
        """
        known = self.of(rule)
        new = sorted(set(registries) - set(known))
        if not new:
            return known

        def work(connection: Connection) -> None:
            for name in new:
                connection.execute(
                    upsert(connection, replicas)
                    .values(
                        rule=rule, registry=name, joined_at=now_epoch() if since is None else since
                    )
                    .on_conflict_do_nothing()
                )

        self._database.write(work)
        return self.of(rule)

    def leave(self, rule: str, stay: Iterable[str]) -> None:
        """Forget the replicas of a rule but those that stay."""
        gone = sorted(set(self.of(rule)) - set(stay))

        def work(connection: Connection) -> None:
            for table in (replicas, replica_drift):
                connection.execute(
                    delete(table).where(table.c.rule == rule, table.c.registry.in_(gone))
                )

        if gone:
            self._database.write(work)

    def forget_strays(self) -> None:
        """Forget the replicas of rules that are gone or replicate no longer."""
        known = select(rules.c.name).where(rules.c.spec.like(f'%"mode":"{REPLICATE}"%'))
        strays = exists().where(replicas.c.rule.not_in(known))
        with self._database.read() as connection:
            if not connection.execute(select(strays)).scalar():
                return

        def work(connection: Connection) -> None:
            for table in (replicas, replica_drift):
                connection.execute(delete(table).where(table.c.rule.not_in(known)))

        self._database.write(work)

    # ---- how far they are ------------------------------------------------------------------------

    def backfill(self, rule: SyncRule) -> str | None:
        """Save a full execution where a replica waits for one and none is open; returns its id.

        A replica waits from when it joins, and from when somebody asks for a repair, until a full
        execution made after that has brought it everything; after one that has not, AGAIN_SECONDS.
        """
        last = (
            select(func.max(executions.c.created_at))
            .where(executions.c.rule == rule.name, FULL)
            .scalar_subquery()
        )
        since = func.coalesce(replicas.c.repair_asked_at, replicas.c.joined_at)
        waits = select(replicas.c.registry).where(
            replicas.c.rule == rule.name,
            replicas.c.fenced.is_(False),
            replicas.c.caught_up_at.is_(None) | replicas.c.repair_asked_at.is_not(None),
            (since > func.coalesce(last, 0)) | (last < now_epoch() - AGAIN_SECONDS),
        )
        query = waits.where(~_is_open(rule.name))
        with self._database.read() as connection:
            if connection.execute(query.limit(1)).first() is None:
                return None

        def work(connection: Connection) -> str | None:
            identity, made_at = insert_full(connection, rule, trigger=TRIGGER)
            return None if made_at is None else identity

        return self._database.write(work)

    def last_full(self, rule: str) -> tuple[str, float] | None:
        """Return the last full execution of a rule that looked at everything, and when it was made."""
        query = (
            select(executions.c.id, executions.c.created_at)
            .where(
                executions.c.rule == rule,
                FULL,
                executions.c.planned,
                executions.c.state.in_(COMPLETE),
            )
            .order_by(executions.c.id.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else (str(row.id), float(row.created_at))

    def is_paused(self, rule: str) -> bool:
        """Whether somebody has paused a rule."""
        query = select(rules.c.name).where(rules.c.name == rule, rules.c.paused_at.is_not(None))
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def is_running(self, rule: str) -> bool:
        """Whether a full execution of a rule is open."""
        with self._database.read() as connection:
            return bool(connection.execute(select(_is_open(rule))).scalar_one())

    def repositories(self, execution: str) -> Iterator[str]:
        """Yield the primary's repositories that an execution has looked at."""
        after = ""
        while True:
            query = (
                select(selections.c.repository)
                .where(selections.c.execution_id == execution, selections.c.repository > after)
                .order_by(selections.c.repository)
                .limit(_AT_ONCE)
            )
            with self._database.read() as connection:
                names = list(connection.execute(query).scalars())
            yield from names
            if len(names) < _AT_ONCE:
                return
            after = names[-1]

    def failed_in(self, execution: str) -> frozenset[str]:
        """Return the destinations to which something failed in an execution."""
        query = (
            select(copies.c.destination_registry)
            .where(
                copies.c.execution_id == execution,
                copies.c.state.in_([CopyState.FAILED, CopyState.SUPERSEDED, CopyState.STOPPED]),
            )
            .distinct()
        )
        with self._database.read() as connection:
            return frozenset(connection.execute(query).scalars())

    def caught_up(self, rule: str, registry: str, made_at: float) -> None:
        """Note that a full execution made at `made_at` has left nothing open at a replica."""

        def work(connection: Connection) -> None:
            mine = and_(replicas.c.rule == rule, replicas.c.registry == registry)
            connection.execute(
                update(replicas)
                .where(mine, replicas.c.caught_up_at.is_(None), replicas.c.joined_at <= made_at)
                .values(caught_up_at=now_epoch())
            )
            connection.execute(
                update(replicas)
                .where(mine, replicas.c.repair_asked_at <= made_at)
                .values(repair_asked_at=None, held=False)
            )

        self._database.write(work)

    def compared(self, rule: str, registry: str, execution: str, note: str) -> None:
        """Note that a replica's own listing was compared after an execution; `note`: what was not seen."""
        self._database.write(
            lambda connection: connection.execute(
                update(replicas)
                .where(
                    replicas.c.rule == rule,
                    replicas.c.registry == registry,
                    replicas.c.compared_in < execution,
                )
                .values(compared_in=execution, compared_at=now_epoch(), note=note)
            )
        )

    def ask_repair(self, rule: str, registry: str) -> None:
        """Have what somebody else moved at a replica put right once, by the next full execution.

        A fenced one is left alone.
        """

        def work(connection: Connection) -> None:
            asked = upsert(connection, replicas).values(
                rule=rule, registry=registry, joined_at=now_epoch(), repair_asked_at=now_epoch()
            )
            connection.execute(
                asked.on_conflict_do_update(
                    index_elements=["rule", "registry"],
                    set_={"repair_asked_at": asked.excluded.repair_asked_at},
                    where=replicas.c.fenced.is_(False),
                )
            )

        self._database.write(work)

    def progress(self, rule: str) -> tuple[float, dict[str, Progress]]:
        """Return when a rule's last full execution was made, 0 for none, and its copies by destination."""
        last = (
            select(executions.c.id, executions.c.created_at)
            .where(executions.c.rule == rule, FULL)
            .order_by(executions.c.id.desc())
            .limit(1)
        )
        counts: dict[str, dict[str, int]] = {}
        with self._database.read() as connection:
            row = connection.execute(last).first()
            if row is None:
                return 0.0, {}
            query = (
                select(copies.c.destination_registry, copies.c.state, func.count())
                .where(copies.c.execution_id == row.id)
                .group_by(copies.c.destination_registry, copies.c.state)
            )
            for registry, state, count in connection.execute(query):
                counts.setdefault(registry, {})[state] = int(count)
        found = {registry: _progress(states) for registry, states in counts.items()}
        return float(row.created_at), found


def _is_open(rule: str) -> Any:
    return exists().where(
        executions.c.rule == rule,
        executions.c.kind == "full",
        executions.c.state.not_in(ENDED_EXECUTIONS),
    )


def _progress(counts: dict[str, int]) -> Progress:
    def total(states: Iterable[str]) -> int:
        return sum(counts.get(state, 0) for state in states)

    return Progress(
        copied=total([CopyState.COPIED, CopyState.UNCHANGED]),
        waiting=total(OPEN_COPIES),
        failed=total([CopyState.FAILED, CopyState.SUPERSEDED]),
    )


def replica(row: Row[Any]) -> Replica:
    """Return the replica of a row."""
    return Replica(
        row.rule,
        row.registry,
        row.joined_at,
        row.caught_up_at,
        bool(row.fenced),
        bool(row.held),
        row.repair_asked_at,
        row.compared_in,
        row.compared_at,
        row.told,
        row.note,
    )
