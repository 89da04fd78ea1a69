"""How each outcome of work changes the rows: every statement on a copy is conditional on its fence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, and_, case, select, update

from service.model.content import spell_platforms
from service.model.states import BlobState, CopyState
from service.model.work import (
    CopyEnded,
    CopyFansOut,
    CopyPostponed,
    CopyRef,
    CopyWaits,
    CopyWork,
    Counters,
    LedgerDistrusted,
    Outcome,
    PartEnded,
    Proof,
    Wake,
)
from service.store import outbox
from service.store.clock import now_epoch
from service.store.database import upsert
from service.store.precedence import let_go_before
from service.store.tables import (
    copies,
    copy_blobs,
    execution_requests,
    ledgers,
    presence,
    written_tags,
)


def is_at(ref: CopyRef) -> Any:
    """Return the condition that a copy still has the fence: every write of a task hangs on it."""
    return and_(copies.c.id == ref.id, copies.c.fence == ref.fence)


def prove(connection: Connection, execution: str, proofs: Sequence[Proof]) -> None:
    """Write proofs: one statement for each registry, with the epoch that stands in this transaction.

    In one order whoever writes: PostgreSQL would find deadlocks between processes otherwise.
    """
    by_ledger: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for proof in sorted(proofs, key=lambda proof: (proof.registry, proof.scope, proof.digest)):
        by_ledger.setdefault((proof.registry, proof.scope), []).append(
            {
                "registry": proof.registry,
                "scope": proof.scope,
                "digest": proof.digest,
                "repository": proof.repository,
                "size": proof.size,
                "execution_id": execution,
            }
        )
    for (registry, scope), rows in sorted(by_ledger.items()):
        rows.sort(key=lambda row: (row["digest"], row["repository"]))  # one order: no deadlocks
        epoch = connection.execute(
            select(ledgers.c.epoch).where(ledgers.c.registry == registry, ledgers.c.scope == scope)
        ).scalar_one_or_none()
        now = connection.execute(select(now_epoch())).scalar_one()
        statement = upsert(connection, presence)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["registry", "scope", "digest", "repository"],
                set_={
                    name: statement.excluded[name]
                    for name in ("size", "epoch", "execution_id", "proved_at")
                },
            ),
            [{**row, "epoch": epoch or 0, "proved_at": now} for row in rows],
        )


def _count(connection: Connection, work: CopyWork, counters: Counters) -> dict[str, Any]:
    """Add requests to the execution's, and return the columns that add up on the copy."""
    add_requests(connection, work.execution, counters.requests)
    return {
        name: copies.c[name] + getattr(counters, name)
        for name in (
            "blobs_copied",
            "blobs_mounted",
            "blobs_present",
            "bytes_copied",
            "bytes_saved",
        )
    }


def add_requests(connection: Connection, execution: str, requests: dict[str, int]) -> None:
    """Add to the execution's count of requests by registry."""
    for registry, count in sorted(requests.items()):  # in one order: two writers must not deadlock
        statement = upsert(connection, execution_requests).values(
            execution_id=execution, registry=registry, requests=count
        )
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["execution_id", "registry"],
                set_={"requests": execution_requests.c.requests + statement.excluded.requests},
            )
        )


def _ended(connection: Connection, outcome: CopyEnded) -> None:
    work = outcome.work
    added = _count(connection, work, outcome.counters)
    changed = connection.execute(
        update(copies)
        .where(is_at(work.ref), copies.c.state.in_([CopyState.RUNNING, CopyState.COPYING]))
        .values(
            state=outcome.state,
            digest=outcome.digest or work.digest,
            owner="",
            waiting_on="",
            failure_class=outcome.failure_class,
            reason=outcome.reason,
            hint=outcome.hint,
            updated_at=now_epoch(),
            **added,
        )
    )
    if changed.rowcount == 1:
        outbox.copy_ended(connection, work.ref.id)
    if changed.rowcount == 1 and outcome.state in (CopyState.COPIED, CopyState.UNCHANGED):
        digest = outcome.digest or work.digest
        statement = upsert(connection, written_tags).values(
            registry=work.destination_registry,
            repository=work.destination_repository,
            tag=work.destination_reference,
            digest=digest,
            rule=work.rule,
            platforms=_platforms(connection, work, digest, outcome),
            source_registry=work.source_registry,
            source_repository=work.source_repository,
            source_reference=work.source_reference,
            seen_in=work.execution,
            written_at=now_epoch(),
        )
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["registry", "repository", "tag"],
                set_={
                    "seen_in": case(  # a younger execution may have seen it since this one began
                        (
                            written_tags.c.seen_in > statement.excluded.seen_in,
                            written_tags.c.seen_in,
                        ),
                        else_=statement.excluded.seen_in,
                    ),
                    **{
                        key: statement.excluded[key]
                        for key in (
                            "digest",
                            "rule",
                            "platforms",
                            "source_registry",
                            "source_repository",
                            "source_reference",
                            "written_at",
                        )
                    },
                },
            )
        )


def _platforms(connection: Connection, work: CopyWork, digest: str, outcome: CopyEnded) -> str:
    """Return the platforms with which a digest stands under a tag now: what was there is still there."""
    if outcome.state is CopyState.COPIED and not outcome.platforms:
        return ""
    known = connection.execute(
        select(written_tags.c.digest, written_tags.c.platforms).where(
            written_tags.c.registry == work.destination_registry,
            written_tags.c.repository == work.destination_repository,
            written_tags.c.tag == work.destination_reference,
        )
    ).first()
    if known is None or known.digest != digest:
        return outcome.platforms
    if outcome.state is CopyState.UNCHANGED:
        return str(known.platforms)
    if not known.platforms:
        return ""
    return spell_platforms([*known.platforms.split(","), *outcome.platforms.split(",")])


def _postponed(connection: Connection, outcome: CopyPostponed) -> None:
    added = _count(connection, outcome.work, outcome.counters)
    changed = connection.execute(
        update(copies)
        .where(is_at(outcome.work.ref), copies.c.state.in_([CopyState.RUNNING, CopyState.COPYING]))
        .values(
            state=CopyState.PENDING,
            owner="",
            fence=copies.c.fence + 1,
            digest=outcome.digest or outcome.work.digest,
            not_before=now_epoch() + outcome.pause_seconds,
            failures=copies.c.failures + int(outcome.failed),
            replans=copies.c.replans + int(outcome.replanned),
            throttles=copies.c.throttles + int(outcome.failure_class == "throttled"),
            failure_class=outcome.failure_class,
            reason=outcome.reason,
            updated_at=now_epoch(),
            **added,
        )
    )
    if changed.rowcount == 1:
        let_go_before(connection, outcome.work.ref.id)


def _waits(connection: Connection, outcome: CopyWaits) -> None:
    added = _count(connection, outcome.work, outcome.counters)
    connection.execute(
        update(copies)
        .where(is_at(outcome.work.ref), copies.c.state.in_([CopyState.RUNNING, CopyState.COPYING]))
        .values(
            state=CopyState.WAITING,
            owner="",
            waiting_on=outcome.digest,
            updated_at=now_epoch(),
            **added,
        )
    )


def _fans_out(connection: Connection, outcome: CopyFansOut) -> None:
    added = _count(connection, outcome.work, outcome.counters)
    ref = outcome.work.ref
    changed = connection.execute(
        update(copies)
        .where(is_at(ref), copies.c.state == CopyState.RUNNING)
        .values(state=CopyState.COPYING, owner="", updated_at=now_epoch(), **added)
    )
    if changed.rowcount == 0:
        return
    for part, (blobs, task_id) in enumerate(zip(outcome.parts, outcome.task_ids, strict=True)):
        for blob in blobs:
            values = {
                "size": blob.size,
                "media_type": blob.media_type,
                "part": part,
                "task_id": task_id,
                "state": BlobState.PENDING,
                "owner": "",
                "fence": ref.fence,
                "updated_at": now_epoch(),
            }
            statement = upsert(connection, copy_blobs).values(
                copy_id=ref.id, digest=blob.digest, **values
            )
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["copy_id", "digest"],
                    set_={key: statement.excluded[key] for key in values},
                )
            )


def _part_ended(connection: Connection, outcome: PartEnded) -> None:
    work = outcome.part.copy
    added = _count(connection, work, outcome.counters)
    connection.execute(
        update(copies).where(copies.c.id == work.ref.id).values(updated_at=now_epoch(), **added)
    )
    for blob in outcome.blobs:
        connection.execute(
            update(copy_blobs)
            .where(
                copy_blobs.c.copy_id == work.ref.id,
                copy_blobs.c.fence == work.ref.fence,
                copy_blobs.c.digest == blob.digest,
            )
            .values(
                state=blob.state,
                owner="",
                failure_class=blob.failure_class,
                reason=blob.reason,
                pause_seconds=blob.pause_seconds,
                updated_at=now_epoch(),
            )
        )


def _distrusted(connection: Connection, outcome: LedgerDistrusted) -> None:
    """Raise the epoch, unless that was done already after the proof that turned out to be void."""
    statement = upsert(connection, ledgers).values(
        registry=outcome.registry,
        scope=outcome.scope,
        epoch=1,
        reason=outcome.reason,
        raised_at=now_epoch(),
    )
    newer = None if outcome.proved_at is None else ledgers.c.raised_at <= outcome.proved_at
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["registry", "scope"],
            set_={
                "epoch": ledgers.c.epoch + 1,
                "reason": statement.excluded.reason,
                "raised_at": statement.excluded.raised_at,
            },
            where=newer,
        )
    )


def _wake(connection: Connection, outcome: Wake) -> None:
    connection.execute(
        update(copies)
        .where(copies.c.id.in_(outcome.copies), copies.c.state == CopyState.WAITING)
        .values(
            state=CopyState.PENDING,
            fence=copies.c.fence + 1,
            waiting_on="",
            not_before=case((copies.c.not_before > now_epoch(), copies.c.not_before), else_=0),
            updated_at=now_epoch(),
        )
    )


_APPLY: dict[type, Callable[[Connection, Any], None]] = {
    CopyEnded: _ended,
    CopyPostponed: _postponed,
    CopyWaits: _waits,
    CopyFansOut: _fans_out,
    PartEnded: _part_ended,
    LedgerDistrusted: _distrusted,
    Wake: _wake,
}


def apply(connection: Connection, outcome: Outcome) -> None:
    """Record one outcome."""
    _APPLY[type(outcome)](connection, outcome)
