"""How deletions come about: what a run did not see, looked at twice, and held to the cap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, func, insert, select, tuple_, update

from service.model.rule import DeletePolicy
from service.model.states import ExecutionState
from service.protections import without
from service.store import codec
from service.store.clock import now_epoch
from service.store.creation import new_id
from service.store.database import Database, upsert
from service.store.deletion_values import (
    CHECKING,
    DELETED,
    DONE,
    FAILED,
    FAILED_SECONDS,
    LOOKING,
    OPEN,
    PENDING,
    WAITING,
    Deletion,
    Scan,
    WrittenTag,
    count_pending,
    written,
)
from service.store.tables import executions, rules, selections, written_tags
from service.store.tables_deletions import deletion_scans, deletion_tags, deletions

AT_ONCE = 500


class DeletionScans:
    """The first half of a deletion's life; a part of its store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---- looking ---------------------------------------------------------------------------------

    def due_scans(self) -> list[Scan]:
        """Return what is to be looked at: the last full run of a deleting rule, if it succeeded.

        A rule that is off, paused or running is left alone, and so is a run that matched nothing:
        an empty list is no proof of absence (reliability.md P6).
        """
        query = (
            select(rules.c.name, rules.c.spec, deletion_scans.c.execution_id)
            .outerjoin(deletion_scans, deletion_scans.c.rule == rules.c.name)
            .where(
                rules.c.enabled.is_(True),
                rules.c.paused_at.is_(None),
                rules.c.spec.like('%"enabled":true,"everything"%'),
            )
        )
        found = []
        with self._database.read() as connection:
            for row in connection.execute(query):
                rule = codec.load_rule(row.spec)
                if not rule.delete.enabled:
                    continue
                last = connection.execute(
                    select(executions.c.id, executions.c.state, executions.c.spec)
                    .where(executions.c.rule == rule.name, executions.c.kind == "full")
                    .order_by(executions.c.id.desc())
                    .limit(1)
                ).first()
                if last is None or last.id == row.execution_id:
                    continue
                ran = codec.load_rule(last.spec)
                if (
                    last.state == ExecutionState.SUCCEEDED
                    and ran.source == rule.source
                    and ran.delete.enabled
                    and self._matched(connection, last.id)
                ):
                    found.append(Scan(rule, last.id))
        return found

    @staticmethod
    def _matched(connection: Connection, execution: str) -> bool:
        total = connection.execute(
            select(func.sum(selections.c.matched)).where(selections.c.execution_id == execution)
        ).scalar_one()
        return bool(total)

    def scanned(self, scan: Scan) -> None:
        """Say that a scan is through."""

        def work(connection: Connection) -> None:
            statement = upsert(connection, deletion_scans).values(
                rule=scan.rule.name, execution_id=scan.execution
            )
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["rule"], set_={"execution_id": statement.excluded.execution_id}
                )
            )

        self._database.write(work)

    def candidates(self, scan: Scan, registry: str) -> Iterator[list[WrittenTag]]:
        """Yield the rule's tags at a destination that the run has not seen, by source repository.

        Tags that are in an open deletion, or that could not be deleted a while ago, are left out.
        """
        busy = exists().where(
            deletion_tags.c.deletion_id == deletions.c.id,
            deletions.c.registry == written_tags.c.registry,
            deletion_tags.c.repository == written_tags.c.repository,
            deletion_tags.c.tag == written_tags.c.tag,
            deletion_tags.c.digest == written_tags.c.digest,
            (deletions.c.state.in_(OPEN) & (deletion_tags.c.state == PENDING))
            | (
                (deletion_tags.c.state == FAILED)
                & (deletion_tags.c.updated_at > now_epoch() - FAILED_SECONDS)
            ),
        )
        query = (
            select(written_tags)
            .where(
                written_tags.c.rule == scan.rule.name,
                written_tags.c.registry == registry,
                written_tags.c.source_registry == scan.rule.source,
                written_tags.c.seen_in < scan.execution,
                ~busy,
            )
            .order_by(
                written_tags.c.source_repository, written_tags.c.repository, written_tags.c.tag
            )
        )
        group: list[WrittenTag] = []
        for row in self._rows(query):
            item = written(row)
            if group and item.source_repository != group[0].source_repository:
                yield group
                group = []
            if ":" not in item.tag and ":" not in item.source_reference:
                group.append(item)
        if group:
            yield group

    def _rows(self, query: Any) -> Iterator[Row[Any]]:
        """Yield rows by their order, some hundreds in memory; rows may be forgotten meanwhile."""
        key = tuple_(
            written_tags.c.source_repository, written_tags.c.repository, written_tags.c.tag
        )
        after = ("", "", "")
        while True:
            with self._database.read() as connection:
                rows = connection.execute(query.where(key > after).limit(AT_ONCE)).all()
            yield from rows
            if len(rows) < AT_ONCE:
                return
            after = (rows[-1].source_repository, rows[-1].repository, rows[-1].tag)

    def drop_unfinished(self, scan: Scan) -> None:
        """Forget first looks of the rule that a crash, or a source that went silent, broke off."""
        self._database.write(
            lambda connection: connection.execute(
                delete(deletions).where(
                    deletions.c.rule == scan.rule.name, deletions.c.state == LOOKING
                )
            )
        )

    def begin(self, scan: Scan, registry: str) -> str:
        """Open a deletion for what is being looked at."""

        def work(connection: Connection) -> str:
            identity = new_id()
            connection.execute(
                insert(deletions).values(
                    id=identity,
                    rule=scan.rule.name,
                    project=scan.rule.project,
                    execution_id=scan.execution,
                    registry=registry,
                    state=LOOKING,
                    grace_seconds=scan.rule.delete.grace_seconds,
                    cap_percent=scan.rule.delete.cap_percent,
                    created_at=now_epoch(),
                )
            )
            return identity

        return self._database.write(work)

    def add(self, identity: str, tags: Sequence[WrittenTag], *, alarming: bool) -> None:
        """Add tags that were absent at the first look; `alarming` ones want an approval."""

        def work(connection: Connection) -> None:
            connection.execute(
                insert(deletion_tags),
                [
                    {
                        "deletion_id": identity,
                        "repository": tag.repository,
                        "tag": tag.tag,
                        "digest": tag.digest,
                        "source_registry": tag.source_registry,
                        "source_repository": tag.source_repository,
                        "source_reference": tag.source_reference,
                        "state": PENDING,
                        "updated_at": 0.0,
                    }
                    for tag in tags
                ],
            )
            if alarming:
                connection.execute(
                    update(deletions).where(deletions.c.id == identity).values(alarming=True)
                )

        if tags:
            self._database.write(work)

    def looked(self, identity: str) -> None:
        """End the first look; a deletion of nothing is dropped."""

        def work(connection: Connection) -> None:
            count = count_pending(connection, identity)
            if count == 0:
                connection.execute(delete(deletions).where(deletions.c.id == identity))
                return
            connection.execute(
                update(deletions)
                .where(deletions.c.id == identity, deletions.c.state == LOOKING)
                .values(state=CHECKING, tags=count, looked_at=now_epoch())
            )

        self._database.write(work)

    # ---- deciding --------------------------------------------------------------------------------

    def to_check(self, absence_seconds: float) -> list[Deletion]:
        """Return deletions whose first look is long enough ago for the second one."""
        return self._deletions(
            deletions.c.state == CHECKING, deletions.c.looked_at <= now_epoch() - absence_seconds
        )

    def decide(self, identity: str) -> str:
        """Let what is absent at both looks run into its grace period, or wait for an approval.

        It waits when it, with what is under way and what was deleted within a day, is more than the
        cap of the rule's tags at the destination. Returns the new state.
        """

        def work(connection: Connection) -> str:
            row = connection.execute(
                select(deletions).where(deletions.c.id == identity, deletions.c.state == CHECKING)
            ).first()
            if row is None:
                return ""
            count = count_pending(connection, identity)
            total = _total(connection, row.rule, row.registry)
            if count == 0:
                values: dict[str, Any] = {"state": DONE, "finished_at": now_epoch()}
                values["reason"] = "everything is at the source again, or cannot be looked at"
            else:
                others = _recent(connection, row)
                reason = _why_it_waits(row, count, others, total + others)
                values = {"state": WAITING if reason else PENDING, "reason": reason}
                if not reason:
                    values["due_at"] = now_epoch() + row.grace_seconds
            connection.execute(
                update(deletions)
                .where(deletions.c.id == identity)
                .values(tags=count, of_tags=total, **values)
            )
            return str(values["state"])

        return self._database.write(work)

    def _deletions(self, *conditions: Any, limit: int = 1000) -> list[Deletion]:
        query = select(deletions).where(*conditions).order_by(deletions.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [
                Deletion(
                    row.id,
                    row.rule,
                    row.project,
                    row.execution_id,
                    row.registry,
                    row.state,
                    row.tags,
                    row.of_tags,
                    row.reason,
                    row.due_at,
                    row.decided_by,
                    row.decided_at,
                    row.created_at,
                    row.finished_at,
                )
                for row in connection.execute(query)
            ]


def _total(connection: Connection, rule: str, registry: str) -> int:
    query = select(func.count()).where(
        written_tags.c.rule == rule, written_tags.c.registry == registry
    )
    return int(connection.execute(query).scalar_one())


def _recent(connection: Connection, row: Any) -> int:
    """Return how many tags other deletions of the rule there take, or took within a day."""
    query = (
        select(func.count())
        .select_from(deletion_tags.join(deletions, deletion_tags.c.deletion_id == deletions.c.id))
        .where(
            deletions.c.rule == row.rule,
            deletions.c.registry == row.registry,
            deletions.c.id != row.id,
            (deletions.c.state.in_((PENDING,)) & (deletion_tags.c.state == PENDING))
            | (
                (deletion_tags.c.state == DELETED)
                & (deletion_tags.c.updated_at > now_epoch() - FAILED_SECONDS)
            ),
        )
    )
    return int(connection.execute(query).scalar_one())


def _why_it_waits(row: Any, count: int, others: int, total: int) -> str:
    if row.alarming:
        return "a source repository is gone or empty: that wants an approval, whatever the cap"
    cap = row.cap_percent
    allowed = max(DeletePolicy.CAP_FLOOR, int(total * cap / 100)) if cap > 0 else 0
    if count + others <= allowed or without("delete-cap"):
        return ""
    so_far = f" and {others} of the last day" if others else ""
    return (
        f"{count} tags{so_far} are more than the cap of {cap:g} % of the rule's {total} tags at "
        f"{row.registry}, which allows {allowed}"
    )
