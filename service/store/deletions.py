"""Deletions in SQL: who decided, what became of each tag.

looking (first look) -> checking (second look) -> pending (grace) or waiting (approval) -> done;
cancelled from checking, waiting and pending. A tag is pending until it is deleted, kept or failed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, and_, exists, select, update

from service.errors import Conflict, NotFoundInStore
from service.model.rule import SyncRule
from service.model.states import OPEN_COPIES
from service.store.audit import Change, append
from service.store.clock import now_epoch
from service.store.creation import insert_tags
from service.store.deletion_scans import DeletionScans
from service.store.deletion_values import (
    CANCELLED,
    CHECKING,
    DONE,
    KEPT,
    PENDING,
    WAITING,
    Deletion,
    DeletionTag,
    WrittenTag,
    count_pending,
    forget_tag,
    tags_of,
    written,
)
from service.store.held_tags import held_among
from service.store.tables import copies, rules, written_tags
from service.store.tables_deletions import deletion_tags, deletions

AT_BORDER = "waits at a border: "
"""So begins the reason of a deletion that nobody may carry out who is there."""


class DeletionStore(DeletionScans):
    """The tables of deletions."""

    # ---- deciding --------------------------------------------------------------------------------

    def approve(self, identity: str, *, by: str) -> Deletion:
        """Let a deletion that waits run into its grace period. Raises NotFoundInStore, Conflict."""

        def work(connection: Connection) -> None:
            changed = connection.execute(
                update(deletions)
                .where(deletions.c.id == identity, deletions.c.state == WAITING)
                .values(
                    state=PENDING,
                    due_at=now_epoch() + deletions.c.grace_seconds,
                    decided_by=by,
                    decided_at=now_epoch(),
                )
            )
            if changed.rowcount != 1:
                raise _not_open(connection, identity, "does not wait for an approval")

        self._database.write(work)
        return self.get(identity)

    def cancel(self, identity: str, *, by: str, reason: str = "") -> Deletion:
        """Keep what is not deleted yet; Transship lets go of these tags, and never deletes them.

        Raises NotFoundInStore, and Conflict for a deletion that is through.
        """

        def work(connection: Connection) -> None:
            row = connection.execute(
                select(deletions).where(
                    deletions.c.id == identity, deletions.c.state.in_((CHECKING, WAITING, PENDING))
                )
            ).first()
            if row is None:
                raise _not_open(connection, identity, "is through")
            for tag in connection.execute(tags_of(identity, PENDING)).all():
                forget_tag(connection, row.registry, tag.repository, tag.tag)
            connection.execute(
                update(deletion_tags)
                .where(deletion_tags.c.deletion_id == identity, deletion_tags.c.state == PENDING)
                .values(state=KEPT, reason=reason or "cancelled", updated_at=now_epoch())
            )
            connection.execute(
                update(deletions)
                .where(deletions.c.id == identity)
                .values(
                    state=CANCELLED,
                    decided_by=by,
                    decided_at=now_epoch(),
                    finished_at=now_epoch(),
                    reason=reason,
                )
            )

        self._database.write(work)
        return self.get(identity)

    # ---- deleting --------------------------------------------------------------------------------

    def due(self) -> list[Deletion]:
        """Return deletions whose grace period is over and whose rule is not paused."""
        paused = exists().where(rules.c.name == deletions.c.rule, rules.c.paused_at.is_not(None))
        return self._deletions(
            deletions.c.state == PENDING, deletions.c.due_at <= now_epoch(), ~paused
        )

    def pending(self, identity: str) -> list[WrittenTag]:
        """Return the tags of a deletion about which nothing is settled."""
        with self._database.read() as connection:
            return [written(row) for row in connection.execute(tags_of(identity, PENDING))]

    def held_by(self, registry: str, tag: WrittenTag) -> str:
        """Return the release that alone moves a tag, "" where there is none."""
        name = (registry, tag.repository, tag.tag)
        with self._database.read() as connection:
            return held_among(connection, [name]).get(name, "")

    def owned(self, registry: str, tag: WrittenTag) -> bool:
        """Whether Transship still counts a tag at that digest as its own, and no copy goes there."""
        mine = exists().where(
            written_tags.c.registry == registry,
            written_tags.c.repository == tag.repository,
            written_tags.c.tag == tag.tag,
            written_tags.c.digest == tag.digest,
        )
        on_its_way = exists().where(
            copies.c.destination_registry == registry,
            copies.c.destination_repository == tag.repository,
            copies.c.destination_reference == tag.tag,
            copies.c.state.in_(OPEN_COPIES),
        )
        with self._database.read() as connection:
            return bool(connection.execute(select(and_(mine, ~on_its_way))).scalar_one())

    def twin(self, registry: str, tag: WrittenTag) -> str | None:
        """Return another tag that Transship wrote with the same digest beside it."""
        query = (
            select(written_tags.c.tag)
            .where(
                written_tags.c.registry == registry,
                written_tags.c.repository == tag.repository,
                written_tags.c.digest == tag.digest,
                written_tags.c.tag != tag.tag,
            )
            .limit(1)
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def settle(
        self,
        deletion: Deletion,
        tag: WrittenTag,
        state: str,
        *,
        reason: str = "",
        failure_class: str = "",
        hint: str = "",
        forget: bool = False,
        note: Change | None = None,
    ) -> None:
        """Say what became of a tag; `forget`: it is no longer there, or no longer Transship's.

        `note` goes into the audit log with it.
        """

        def work(connection: Connection) -> None:
            connection.execute(
                update(deletion_tags)
                .where(
                    deletion_tags.c.deletion_id == deletion.id,
                    deletion_tags.c.repository == tag.repository,
                    deletion_tags.c.tag == tag.tag,
                    deletion_tags.c.state == PENDING,
                )
                .values(
                    state=state,
                    reason=reason,
                    failure_class=failure_class,
                    hint=hint,
                    updated_at=now_epoch(),
                )
            )
            if forget:
                forget_tag(connection, deletion.registry, tag.repository, tag.tag)
            if note is not None:
                append(connection, note)

        self._database.write(work)

    def hold(self, deletion: Deletion, reason: str) -> None:
        """Say what keeps a deletion back; once in the audit log for each thing that does."""
        told = f"{AT_BORDER}{reason}"

        def work(connection: Connection) -> None:
            changed = connection.execute(
                update(deletions)
                .where(
                    deletions.c.id == deletion.id,
                    deletions.c.state.in_((CHECKING, PENDING)),
                    deletions.c.reason != told,
                )
                .values(reason=told)
            )
            if changed.rowcount == 1:
                after = {"registry": deletion.registry, "reason": reason}
                actor = f"rule {deletion.rule}"
                project = deletion.project
                append(
                    connection,
                    Change(actor, "hold", "deletion", deletion.id, project, after=after),
                )

        self._database.write(work)

    def forget(self, registry: str, tags: Iterable[WrittenTag]) -> None:
        """Let go of tags that are not at the destination any more."""
        gone = list(tags)

        def work(connection: Connection) -> None:
            for tag in gone:
                forget_tag(connection, registry, tag.repository, tag.tag)

        if gone:
            self._database.write(work)

    def end(self, deletion: Deletion, *, again_seconds: float) -> str:
        """End a deletion whose tags are all settled; else look at it again later."""

        def work(connection: Connection) -> str:
            left = count_pending(connection, deletion.id)
            values: dict[str, Any] = (
                {"due_at": now_epoch() + again_seconds}
                if left
                else {"state": DONE, "finished_at": now_epoch()}
            )
            if deletion.reason.startswith(AT_BORDER):
                values["reason"] = ""  # it was let through
            connection.execute(
                update(deletions)
                .where(deletions.c.id == deletion.id, deletions.c.state == PENDING)
                .values(**values)
            )
            return PENDING if left else DONE

        return self._database.write(work)

    def copy_again(self, rule: SyncRule, tag: WrittenTag) -> None:
        """Have a tag that came back while it was deleted copied at once."""
        self._database.write(
            lambda connection: insert_tags(
                connection, rule, [(tag.source_repository, tag.source_reference)], trigger="event"
            )
        )

    # ---- looking at them -------------------------------------------------------------------------

    def get(self, identity: str) -> Deletion:
        """Return a deletion; raises NotFoundInStore."""
        found = self._deletions(deletions.c.id == identity)
        if not found:
            raise NotFoundInStore(f"there is no deletion {identity}")
        return found[0]

    def tags(self, identity: str, *, after: str = "", limit: int = 1000) -> list[DeletionTag]:
        """Return the tags of a deletion in the order of `repository:tag`, after that one."""
        name = deletion_tags.c.repository + ":" + deletion_tags.c.tag
        query = (
            select(deletion_tags)
            .where(deletion_tags.c.deletion_id == identity, name > after)
            .order_by(name)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [
                DeletionTag(
                    written(row),
                    row.state,
                    row.failure_class,
                    row.reason,
                    row.hint,
                    row.updated_at,
                )
                for row in connection.execute(query)
            ]

    def list(
        self,
        *,
        rule: str | None = None,
        state: str | None = None,
        project: str | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> list[Deletion]:
        """Return deletions, the newest first."""
        wanted = [
            condition
            for value, condition in (
                (rule, deletions.c.rule == rule),
                (state, deletions.c.state == state),
                (project, deletions.c.project == project),
                (after, deletions.c.id < (after or "")),
            )
            if value is not None
        ]
        return self._deletions(*wanted, limit=limit)


def _not_open(connection: Connection, identity: str, why: str) -> Exception:
    state = connection.execute(
        select(deletions.c.state).where(deletions.c.id == identity)
    ).scalar_one_or_none()
    if state is None:
        return NotFoundInStore(f"there is no deletion {identity}")
    return Conflict(f"the deletion {identity} {why}: it is {state}")
