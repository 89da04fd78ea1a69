"""What a restored database may not believe: whatever it says was so when the backup was made.

Since then blobs were collected, tags were moved, executions ran that it knows nothing of, and
Transship itself went on. So proofs are void, absences are looked for anew, and what the rules say is
compared with the registries once (reliability.md F108).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from service.model.states import (
    ENDED_EXECUTIONS,
    OPEN_COPIES,
    BlobState,
    CopyState,
    ExecutionState,
)
from service.store import codec
from service.store.clock import now_epoch
from service.store.creation import DEADLINE_SECONDS, insert_full
from service.store.database import upsert
from service.store.deletion_values import CANCELLED, KEPT, OPEN, PENDING
from service.store.recovery import again
from service.store.tables import (
    copies,
    copy_blobs,
    digest_tags,
    execution_unchanged,
    executions,
    leases,
    ledgers,
    presence,
    processes,
    rules,
    selections,
)
from service.store.tables_content import execution_left_out
from service.store.tables_deletions import deletion_scans, deletion_tags, deletions

TRIGGER = "restore"
REASON = "the database was restored from a backup"


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What became of what the backup said: counts."""

    executions_going_on: int
    rules_to_run: int
    ledgers_raised: int
    deletions_cancelled: int


def settle(connection: Connection) -> Aftermath:
    """Make a restored database fit to be worked with, in the transaction that restores it."""
    connection.execute(delete(processes))
    connection.execute(delete(leases))
    _let_go(connection)
    return Aftermath(
        ledgers_raised=_raise_ledgers(connection),
        deletions_cancelled=_cancel_deletions(connection),
        rules_to_run=_run_rules(connection),
        executions_going_on=int(
            connection.execute(
                select(func.count()).where(
                    executions.c.state.not_in(ENDED_EXECUTIONS), executions.c.trigger != TRIGGER
                )
            ).scalar_one()
        ),
    )


def _let_go(connection: Connection) -> None:
    """Have nobody hold anything: who held it is gone, and did not die of it."""
    under_way = OPEN_COPIES - {CopyState.PENDING}
    connection.execute(update(copies).where(copies.c.state.in_(under_way)).values(**again()))
    connection.execute(
        update(copy_blobs).where(copy_blobs.c.state == BlobState.PENDING).values(owner="")
    )
    connection.execute(
        update(executions)
        .where(executions.c.state.not_in(ENDED_EXECUTIONS))
        .values(planner="", plan_sent_at=0)
    )


def _raise_ledgers(connection: Connection) -> int:
    """Have no proof believed: raise the epoch of every registry that has any."""
    proved = connection.execute(select(presence.c.registry, presence.c.scope).distinct()).all()
    for registry, scope in proved:
        raised = upsert(connection, ledgers).values(
            registry=registry, scope=scope, epoch=1, reason=REASON, raised_at=now_epoch()
        )
        connection.execute(
            raised.on_conflict_do_update(
                index_elements=["registry", "scope"],
                set_={
                    "epoch": ledgers.c.epoch + 1,
                    "reason": raised.excluded.reason,
                    "raised_at": raised.excluded.raised_at,
                },
            )
        )
    return len(proved)


def _cancel_deletions(connection: Connection) -> int:
    """Have no absence believed: what was to be deleted is looked for anew after the next full run.

    The tags stay Transship's, unlike those of a deletion that a person cancels.
    """
    still_open = select(deletions.c.id).where(deletions.c.state.in_(OPEN))
    connection.execute(
        update(deletion_tags)
        .where(deletion_tags.c.deletion_id.in_(still_open), deletion_tags.c.state == PENDING)
        .values(state=KEPT, reason=REASON, updated_at=now_epoch())
    )
    cancelled = connection.execute(
        update(deletions)
        .where(deletions.c.state.in_(OPEN))
        .values(state=CANCELLED, reason=REASON, finished_at=now_epoch())
    ).rowcount
    connection.execute(delete(deletion_scans))
    last = (
        select(executions.c.rule, func.max(executions.c.id))
        .where(executions.c.kind == "full", executions.c.state.in_(ENDED_EXECUTIONS))
        .group_by(executions.c.rule)
    )
    connection.execute(insert(deletion_scans).from_select(["rule", "execution_id"], last))
    return cancelled


def _run_rules(connection: Connection) -> int:
    """Compare each rule that runs by itself with the registries once, whatever its triggers are.

    What was pushed since the backup was told to a database that is no more. An open full run has
    looked at some of it too early: it is planned from the start.
    """
    count = 0
    for row in connection.execute(select(rules.c.spec).where(rules.c.enabled.is_(True))).all():
        rule = codec.load_rule(row.spec)
        trigger = rule.trigger
        if not (trigger.event or trigger.schedule or trigger.every_seconds is not None):
            continue
        identity, made_at = insert_full(connection, rule, trigger=TRIGGER)
        if made_at is None:
            _plan_anew(connection, identity, rule.deadline_seconds or DEADLINE_SECONDS)
        count += 1
    return count


def _plan_anew(connection: Connection, execution: str, deadline_seconds: float) -> None:
    """Have an open execution forget what it has found, and look again; it keeps its name."""
    for table in (copies, selections, digest_tags, execution_unchanged, execution_left_out):
        connection.execute(delete(table).where(table.c.execution_id == execution))
    connection.execute(
        update(executions)
        .where(executions.c.id == execution, executions.c.state != ExecutionState.STOPPING)
        .values(
            planned=False,
            catalog_cursor="",
            catalog_done=False,
            plan_attempts=0,
            not_before=0,
            failure_class="",
            reason="",
            deadline_at=now_epoch() + deadline_seconds,
        )
    )
