"""How each outcome of work changes the rows: every statement on a copy is conditional on its fence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Double,
    Integer,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    update,
)

from service.model.content import spell_platforms
from service.model.states import BlobState, CopyState
from service.model.work import (
    BlobsAhead,
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
from service.protections import without
from service.store import attempts, outbox, relay
from service.store.clock import now_epoch
from service.store.crossings import note_crossings
from service.store.database import insert_of, upsert
from service.store.precedence import let_go_before
from service.store.routes import let_go_on
from service.store.tables import (
    copies,
    copy_blobs,
    ledgers,
    presence,
    written_tags,
)
from service.store.tallies import add_crossed, add_requests

PUT_OFF_SECONDS = 3.0
"""A copy that is put off for so long, or fails a second time, holds up no other one."""


def is_at(ref: CopyRef) -> Any:
    """Return the condition that a copy still has the fence: every write of a task hangs on it."""
    return and_(copies.c.id == ref.id, copies.c.fence == ref.fence)


def prove(connection: Connection, execution: str, proofs: Sequence[Proof]) -> None:
    """Write proofs under the epoch that stands in this transaction.

    In one order whoever writes: PostgreSQL would find deadlocks between processes otherwise.
    """
    rows = [
        {
            "registry": proof.registry,
            "scope": proof.scope,
            "b_registry": proof.registry,
            "b_scope": proof.scope,
            "digest": proof.digest,
            "repository": proof.repository,
            "size": proof.size,
            "execution_id": execution,
        }
        for proof in sorted(proofs, key=lambda p: (p.registry, p.scope, p.digest, p.repository))
    ]
    connection.execute(_proving(connection.dialect.name), rows)


@cache
def _proving(dialect: str) -> Any:
    epoch = select(ledgers.c.epoch).where(
        ledgers.c.registry == bindparam("b_registry"), ledgers.c.scope == bindparam("b_scope")
    )
    statement = insert_of(dialect, presence).values(
        epoch=func.coalesce(epoch.scalar_subquery(), 0), proved_at=now_epoch()
    )
    return statement.on_conflict_do_update(
        index_elements=["registry", "scope", "digest", "repository"],
        set_={
            name: statement.excluded[name]
            for name in ("size", "epoch", "execution_id", "proved_at")
        },
    )


def _count(connection: Connection, work: CopyWork, counters: Counters) -> dict[str, int]:
    """Add requests to the execution's; return the parameters that add up on the copy (`_ADDED`)."""
    add_requests(connection, work.execution, counters.requests)
    add_crossed(connection, work.execution, work.destination_registry, counters.crossed)
    note_crossings(connection, work, counters)
    return {f"b_{name}": getattr(counters, name) for name in _COUNTED}


def _ended(connection: Connection, outcome: CopyEnded) -> None:
    work = outcome.work
    changed = connection.execute(
        _ENDING,
        {
            **_at(work.ref),
            **_count(connection, work, outcome.counters),
            "b_state": outcome.state,
            "b_digest": outcome.digest or work.digest,
            "b_class": outcome.failure_class,
            "b_reason": outcome.reason,
            "b_hint": outcome.hint,
        },
    )
    if changed.rowcount != 1:
        return
    attempts.note_end(connection, outcome)
    outbox.copy_ended(connection, work.ref.id)
    if work.routed:
        let_go_on(connection, work.ref.id)
    if outcome.state is CopyState.COPIED:
        came_from = {work.reads_from.registry: 0}
        add_crossed(connection, work.execution, work.destination_registry, came_from, copies=1)
    if outcome.state in (CopyState.COPIED, CopyState.UNCHANGED):
        digest = outcome.digest or work.digest
        connection.execute(
            _writing_tag(connection.dialect.name),
            {
                "registry": work.destination_registry,
                "repository": work.destination_repository,
                "tag": work.destination_reference,
                "digest": digest,
                "rule": work.rule,
                "platforms": _platforms(connection, work, digest, outcome),
                "source_registry": work.source_registry,
                "source_repository": work.source_repository,
                "source_reference": work.source_reference,
                "seen_in": work.execution,
            },
        )
    if outcome.state is CopyState.COPIED:
        relay.tell(
            connection,
            work.destination_registry,
            work.destination_repository,
            work.destination_reference,
            outcome.digest or work.digest,
        )


@cache
def _writing_tag(dialect: str) -> Any:
    statement = insert_of(dialect, written_tags).values(written_at=now_epoch())
    new = statement.excluded
    overwritten = (
        "digest",
        "rule",
        "platforms",
        "source_registry",
        "source_repository",
        "source_reference",
        "written_at",
    )
    return statement.on_conflict_do_update(
        index_elements=["registry", "repository", "tag"],
        set_={
            "seen_in": case(  # a younger execution may have seen it since this one began
                (written_tags.c.seen_in > new.seen_in, written_tags.c.seen_in), else_=new.seen_in
            ),
            **{key: new[key] for key in overwritten},
        },
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
    changed = connection.execute(
        _POSTPONING,
        {
            **_at(outcome.work.ref),
            **_count(connection, outcome.work, outcome.counters),
            "b_digest": outcome.digest or outcome.work.digest,
            "b_pause": outcome.pause_seconds,
            "b_failures": int(outcome.failed and not without("attempt-counter")),
            "b_replans": int(outcome.replanned),
            "b_throttles": int(outcome.failure_class == "throttled"),
            "b_class": outcome.failure_class,
            "b_reason": outcome.reason,
            "b_region": outcome.region or outcome.work.region,
        },
    )
    if changed.rowcount == 1:
        attempts.note_again(connection, outcome)
        let_go_before(connection, outcome.work.ref.id)
        if outcome.work.routed and _is_put_off(outcome):
            let_go_on(connection, outcome.work.ref.id)


def _is_put_off(outcome: CopyPostponed) -> bool:
    """Whether who waits for the copy does better to go on from another registry that has the image."""
    again = outcome.failed and outcome.work.failures > 0
    return again or outcome.away or outcome.pause_seconds >= PUT_OFF_SECONDS


def _waits(connection: Connection, outcome: CopyWaits) -> None:
    connection.execute(
        _WAITING,
        {
            **_at(outcome.work.ref),
            **_count(connection, outcome.work, outcome.counters),
            "b_digest": outcome.work.digest,
            "b_waiting_on": outcome.digest,
        },
    )


def _fans_out(connection: Connection, outcome: CopyFansOut) -> None:
    ref = outcome.work.ref
    changed = connection.execute(
        _FANNING_OUT,
        {
            **_at(ref),
            **_count(connection, outcome.work, outcome.counters),
            "b_digest": outcome.work.digest,
        },
    )
    if changed.rowcount == 0:
        return
    connection.execute(
        _fanning_out_blobs(connection.dialect.name),
        [
            {
                "copy_id": ref.id,
                "digest": blob.digest,
                "size": blob.size,
                "media_type": blob.media_type,
                "part": part,
                "task_id": task_id,
                "state": BlobState.PENDING,
                "owner": "",
                "fence": ref.fence,
            }
            for part, (blobs, task_id) in enumerate(
                zip(outcome.parts, outcome.task_ids, strict=True)
            )
            for blob in blobs
        ],
    )


@cache
def _fanning_out_blobs(dialect: str) -> Any:
    statement = insert_of(dialect, copy_blobs).values(updated_at=now_epoch())
    overwritten = (
        "size",
        "media_type",
        "part",
        "task_id",
        "state",
        "owner",
        "fence",
        "updated_at",
    )
    return statement.on_conflict_do_update(
        index_elements=["copy_id", "digest"],
        set_={name: statement.excluded[name] for name in overwritten},
    )


def _part_ended(connection: Connection, outcome: PartEnded) -> None:
    work = outcome.part.copy
    connection.execute(
        _PART_ENDING, {"b_id": work.ref.id, **_count(connection, work, outcome.counters)}
    )
    if outcome.blobs:
        connection.execute(
            _PLACING,
            [
                {
                    **_at(work.ref),
                    "b_digest": blob.digest,
                    "b_state": blob.state,
                    "b_class": blob.failure_class,
                    "b_reason": blob.reason,
                    "b_pause": blob.pause_seconds,
                }
                for blob in outcome.blobs
            ],
        )


def _ahead(connection: Connection, outcome: BlobsAhead) -> None:
    counted = _count(connection, outcome.work, outcome.counters)
    connection.execute(_PART_ENDING, {"b_id": outcome.work.ref.id, **counted})


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


# ---- statements, built once: building one costs more than running it -----------------------------

_COUNTED = ("blobs_copied", "blobs_mounted", "blobs_present", "bytes_copied", "bytes_saved")
_ADDED = {name: copies.c[name] + bindparam(f"b_{name}", type_=BigInteger) for name in _COUNTED}
_OWNED = and_(
    copies.c.id == bindparam("b_id"),
    copies.c.fence == bindparam("b_fence"),
    # no IN: SQLAlchemy spells that out anew at each execution
    or_(copies.c.state == CopyState.RUNNING, copies.c.state == CopyState.COPYING),
)
_ENDING = (
    update(copies)
    .where(_OWNED)
    .values(
        state=bindparam("b_state"),
        digest=bindparam("b_digest"),
        owner="",
        waiting_on="",
        failure_class=bindparam("b_class"),
        reason=bindparam("b_reason"),
        hint=bindparam("b_hint"),
        updated_at=now_epoch(),
        **_ADDED,
    )
)
_POSTPONING = (
    update(copies)
    .where(_OWNED)
    .values(
        state=CopyState.PENDING,
        owner="",
        fence=copies.c.fence + 1,
        digest=bindparam("b_digest"),
        region=bindparam("b_region"),
        not_before=now_epoch() + bindparam("b_pause", type_=Double),
        failures=copies.c.failures + bindparam("b_failures", type_=Integer),
        replans=copies.c.replans + bindparam("b_replans", type_=Integer),
        throttles=copies.c.throttles + bindparam("b_throttles", type_=Integer),
        failure_class=bindparam("b_class"),
        reason=bindparam("b_reason"),
        updated_at=now_epoch(),
        **_ADDED,
    )
)
_WAITING = (
    update(copies)
    .where(_OWNED)
    .values(
        state=CopyState.WAITING,
        digest=bindparam("b_digest"),
        owner="",
        waiting_on=bindparam("b_waiting_on"),
        updated_at=now_epoch(),
        **_ADDED,
    )
)
_FANNING_OUT = (
    update(copies)
    .where(
        copies.c.id == bindparam("b_id"),
        copies.c.fence == bindparam("b_fence"),
        copies.c.state == CopyState.RUNNING,
    )
    .values(
        state=CopyState.COPYING,
        digest=bindparam("b_digest"),
        owner="",
        updated_at=now_epoch(),
        **_ADDED,
    )
)
_PART_ENDING = (
    update(copies).where(copies.c.id == bindparam("b_id")).values(updated_at=now_epoch(), **_ADDED)
)


_PLACING = (
    update(copy_blobs)
    .where(
        copy_blobs.c.copy_id == bindparam("b_id"),
        copy_blobs.c.fence == bindparam("b_fence"),
        copy_blobs.c.digest == bindparam("b_digest"),
    )
    .values(
        state=bindparam("b_state"),
        owner="",
        failure_class=bindparam("b_class"),
        reason=bindparam("b_reason"),
        pause_seconds=bindparam("b_pause"),
        updated_at=now_epoch(),
    )
)


def _at(ref: CopyRef) -> dict[str, int]:
    return {"b_id": ref.id, "b_fence": ref.fence}


_APPLY: dict[type, Callable[[Connection, Any], None]] = {
    CopyEnded: _ended,
    CopyPostponed: _postponed,
    CopyWaits: _waits,
    CopyFansOut: _fans_out,
    PartEnded: _part_ended,
    BlobsAhead: _ahead,
    LedgerDistrusted: _distrusted,
    Wake: _wake,
}


def apply(connection: Connection, outcome: Outcome) -> None:
    """Record one outcome."""
    _APPLY[type(outcome)](connection, outcome)
