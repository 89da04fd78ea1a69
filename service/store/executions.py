"""Executions and their copies as the faces read them; totals are counted, never kept in one hot row."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from service.errors import NotFoundInStore
from service.model.rule import SyncRule
from service.model.states import OPEN_COPIES, CopyState, ExecutionState
from service.store import codec
from service.store.clock import now_epoch
from service.store.conditions import rule_is_paused
from service.store.creation import insert_full, insert_tags
from service.store.database import Database
from service.store.flows import FlowStore
from service.store.stopping import begin_stop
from service.store.tables import copies, execution_requests, execution_unchanged, executions
from service.store.tables_regions import execution_links


@dataclass(frozen=True, slots=True)
class ExecutionRecord:
    """One run of one rule."""

    id: str
    rule: str
    trigger: str
    kind: str  # full | tags
    state: ExecutionState
    reason: str
    failure_class: str
    warnings: tuple[str, ...]
    planned: bool
    created_at: float
    started_at: float | None
    finished_at: float | None
    project: str = "default"


LISTED = "list them: transship executions ls"


@dataclass(frozen=True, slots=True)
class Totals:
    """What an execution has done so far; bytes as read from the source, or not read thanks to sharing.

    A copy that failed has saved nothing, whatever of it lay there already.
    """

    copied: int = 0
    unchanged: int = 0
    skipped: int = 0
    failed: int = 0
    pending: int = 0
    blobs_copied: int = 0
    blobs_mounted: int = 0
    blobs_present: int = 0
    bytes_copied: int = 0
    bytes_saved: int = 0


@dataclass(frozen=True, slots=True)
class CopyRecord:
    """One source reference on its way to one destination."""

    id: int
    rule: str
    execution: str
    source_registry: str
    source_repository: str
    source_reference: str
    destination_registry: str
    destination_repository: str
    destination_reference: str
    digest: str
    state: CopyState
    failure_class: str
    reason: str
    hint: str
    attempts: int
    bytes_copied: int
    updated_at: float
    entry: int = 0  # of the rule's select, that took it


Copies = list[CopyRecord]
Ways = list[dict[str, Any]]


class ExecutionStore:
    """The tables of executions and copies, for starting, stopping and reading."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def flows(self) -> FlowStore:
        """Return the store of what goes on from what."""
        return FlowStore(self._database)

    def create(
        self, rule: SyncRule, *, trigger: str, idempotency_key: str | None = None
    ) -> ExecutionRecord:
        """Save a pending execution of the rule as it stands now.

        While an execution of the rule is open, the same one is returned: at most one full execution
        a rule. The same idempotency key returns the execution it made first; with another rule it
        raises Conflict.
        """

        def work(connection: Connection) -> ExecutionRecord:
            identity, created_at = insert_full(
                connection, rule, trigger=trigger, idempotency_key=idempotency_key
            )
            if created_at is not None:
                return _new(identity, rule, trigger, created_at)
            query = select(executions).where(executions.c.id == identity)
            return _record(connection.execute(query).one())

        return self._database.write(work)

    def create_tags(
        self,
        rule: SyncRule,
        references: Sequence[tuple[str, str]],
        *,
        trigger: str = "event",
        idempotency_key: str | None = None,
    ) -> ExecutionRecord:
        """Save a pending execution of some source references, beside the rule's full one."""

        def work(connection: Connection) -> str:
            return insert_tags(
                connection, rule, references, trigger=trigger, idempotency_key=idempotency_key
            )

        return self.get(self._database.write(work))

    def get(self, identity: str) -> ExecutionRecord:
        """Return one execution. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(select(executions).where(executions.c.id == identity)).first()
        if row is None:
            raise NotFoundInStore(f"there is no execution {identity}", hint=LISTED)
        return _record(row)

    def spec(self, identity: str) -> SyncRule:
        """Return the rule as it stood when the execution was created."""
        with self._database.read() as connection:
            text = connection.execute(
                select(executions.c.spec).where(executions.c.id == identity)
            ).scalar_one_or_none()
        if text is None:
            raise NotFoundInStore(f"there is no execution {identity}", hint=LISTED)
        return codec.load_rule(text)

    def list(
        self,
        *,
        rule: str | None = None,
        state: str | None = None,
        kind: str | None = None,
        project: str | None = None,
        since: float | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[ExecutionRecord]:
        """Return executions, the newest first; `after` is the id of the last one seen.

        `since` leaves out those that were created before (seconds since 1970).
        """
        query = select(executions).order_by(executions.c.id.desc()).limit(limit)
        if rule is not None:
            query = query.where(executions.c.rule == rule)
        if state is not None:
            query = query.where(executions.c.state == state)
        if kind is not None:
            query = query.where(executions.c.kind == kind)
        if project is not None:
            query = query.where(executions.c.project == project)
        if since is not None:
            query = query.where(executions.c.created_at >= since)
        if after is not None:
            query = query.where(executions.c.id < after)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def unfinished_references(
        self, identity: str, limit: int, classes: Collection[str] = ()
    ) -> Sequence[tuple[str, str]]:
        """Return the source references, at most `limit`, of which a copy failed or was stopped.

        `classes`: only of failures of these classes; none are all.
        """
        bad = [CopyState.FAILED, CopyState.SUPERSEDED, CopyState.STOPPED]
        query = (
            select(copies.c.source_repository, copies.c.source_reference)
            .where(copies.c.execution_id == identity, copies.c.state.in_(bad))
            .distinct()
            .limit(limit)
        )
        if classes:
            query = query.where(copies.c.failure_class.in_(classes))
        with self._database.read() as connection:
            return [(row[0], row[1]) for row in connection.execute(query)]

    def unfinished_classes(self, identity: str) -> Sequence[str]:
        """Return the classes of what failed or was stopped, sorted."""
        bad = [CopyState.FAILED, CopyState.SUPERSEDED, CopyState.STOPPED]
        query = (
            select(copies.c.failure_class)
            .where(copies.c.execution_id == identity, copies.c.state.in_(bad))
            .distinct()
            .order_by(copies.c.failure_class)
        )
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def overdue(self) -> Sequence[str]:
        """Return the open executions whose deadline has passed; a paused rule's clock stands still."""
        query = select(executions.c.id).where(
            executions.c.state.in_([ExecutionState.PENDING, ExecutionState.RUNNING]),
            executions.c.deadline_at < now_epoch(),
            ~rule_is_paused(executions.c.rule),
        )
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def request_stop(self, identity: str, *, reason: str = "") -> ExecutionRecord:
        """Begin to stop: the fence of every open copy rises, so that queued and running tasks give up."""
        self._database.write(lambda connection: begin_stop(connection, identity, reason))
        return self.get(identity)

    def totals(self, identity: str) -> Totals:
        """Count what the execution has done."""
        return self.totals_by_destination([identity]).get("", Totals())

    def totals_by_destination(self, identities: Iterable[str]) -> dict[str, Totals]:
        """Return totals by destination registry, and of all under the empty name."""
        wanted = list(identities)
        query = (
            select(
                copies.c.destination_registry,
                copies.c.state,
                func.count(),
                func.sum(copies.c.blobs_copied),
                func.sum(copies.c.blobs_mounted),
                func.sum(copies.c.blobs_present),
                func.sum(copies.c.bytes_copied),
                func.sum(copies.c.bytes_saved),
            )
            .where(copies.c.execution_id.in_(wanted))
            .group_by(copies.c.destination_registry, copies.c.state)
        )
        unchanged = (
            select(execution_unchanged.c.registry, func.sum(execution_unchanged.c.unchanged))
            .where(execution_unchanged.c.execution_id.in_(wanted))
            .group_by(execution_unchanged.c.registry)
        )
        sums: dict[str, dict[str, int]] = {"": dict.fromkeys(Totals.__slots__, 0)}
        with self._database.read() as connection:
            for registry, count in connection.execute(unchanged):
                for name in ("", registry):
                    entry = sums.setdefault(name, dict.fromkeys(Totals.__slots__, 0))
                    entry["unchanged"] += int(count)
            for registry, state, count, *figures in connection.execute(query):
                counted_as = _COUNTED_AS[CopyState(state)]
                for name in ("", registry):
                    entry = sums.setdefault(name, dict.fromkeys(Totals.__slots__, 0))
                    entry[counted_as] += count
                    for field, figure in zip(_SUMMED, figures, strict=True):
                        if field != "bytes_saved" or counted_as != "failed":
                            entry[field] += int(figure or 0)
        return {name: Totals(**entry) for name, entry in sums.items()}

    def requests(self, identities: Iterable[str]) -> dict[str, int]:
        """Return the HTTP requests sent so far, by registry."""
        query = (
            select(execution_requests.c.registry, func.sum(execution_requests.c.requests))
            .where(execution_requests.c.execution_id.in_(list(identities)))
            .group_by(execution_requests.c.registry)
        )
        with self._database.read() as connection:
            return {registry: int(count) for registry, count in connection.execute(query)}

    def crossed(self, identities: Iterable[str]) -> Ways:
        """Return the blobs' bytes that went from registry to registry so far, and the copies they made."""
        query = (
            select(
                execution_links.c.from_registry,
                execution_links.c.to_registry,
                func.sum(execution_links.c.copies),
                func.sum(execution_links.c.bytes),
            )
            .where(execution_links.c.execution_id.in_(list(identities)))
            .group_by(execution_links.c.from_registry, execution_links.c.to_registry)
            .order_by(execution_links.c.from_registry, execution_links.c.to_registry)
        )
        with self._database.read() as connection:
            return [
                {"from": sender, "to": receiver, "copies": int(count), "bytes": int(moved)}
                for sender, receiver, count, moved in connection.execute(query)
            ]

    def copies(
        self,
        identity: str,
        *,
        states: Iterable[str] | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> Copies:
        """Return copies in the order of their ids, from the first one after `after`."""
        query = (
            select(copies)
            .where(copies.c.execution_id == identity)
            .order_by(copies.c.id)
            .limit(limit)
        )
        if states is not None:
            query = query.where(copies.c.state.in_(list(states)))
        if after is not None:
            query = query.where(copies.c.id > after)
        with self._database.read() as connection:
            return [as_copy(row) for row in connection.execute(query)]


_SUMMED = ("blobs_copied", "blobs_mounted", "blobs_present", "bytes_copied", "bytes_saved")
_COUNTED_AS = {
    **dict.fromkeys(OPEN_COPIES, "pending"),
    CopyState.COPIED: "copied",
    CopyState.UNCHANGED: "unchanged",
    CopyState.SKIPPED: "skipped",
    CopyState.STOPPED: "skipped",
    CopyState.SUPERSEDED: "failed",
    CopyState.FAILED: "failed",
}


def _new(identity: str, rule: SyncRule, trigger: str, created_at: float) -> ExecutionRecord:
    return ExecutionRecord(
        id=identity,
        rule=rule.name,
        trigger=trigger,
        kind="full",
        state=ExecutionState.PENDING,
        reason="",
        failure_class="",
        warnings=(),
        planned=False,
        created_at=created_at,
        started_at=None,
        finished_at=None,
        project=rule.project,
    )


def _record(row: Row[Any]) -> ExecutionRecord:
    return ExecutionRecord(
        id=row.id,
        rule=row.rule,
        trigger=row.trigger,
        kind=row.kind,
        state=ExecutionState(row.state),
        reason=row.reason,
        failure_class=row.failure_class,
        warnings=tuple(json.loads(row.warnings)),
        planned=bool(row.planned),
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        project=row.project,
    )


def as_copy(row: Row[Any]) -> CopyRecord:
    """Return the copy of a row."""
    return CopyRecord(
        id=row.id,
        rule=row.rule,
        execution=row.execution_id,
        source_registry=row.source_registry,
        source_repository=row.source_repository,
        source_reference=row.source_reference,
        destination_registry=row.destination_registry,
        destination_repository=row.destination_repository,
        destination_reference=row.destination_reference,
        digest=row.digest,
        state=CopyState(row.state),
        failure_class=row.failure_class,
        reason=row.reason,
        hint=row.hint,
        attempts=row.attempts,
        bytes_copied=row.bytes_copied,
        updated_at=row.updated_at,
        entry=row.entry,
    )
