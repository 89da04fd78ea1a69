"""The outbox of webhooks: an event is saved by the transaction that it tells of, or not at all.

Copies that are stopped in bulk are one row a webhook, so that a stop stays quick; the notifier makes
events of it bit by bit (`expand`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from service.model.rule import SyncRule
from service.model.states import CopyState
from service.model.subscription import Subscription, cloud_event
from service.store import codec
from service.store.clock import now_epoch
from service.store.tables import copies, executions
from service.store.tables_governance import webhook_deliveries, webhooks

SOURCE = "/transship"
PENDING, EXPANDING = "pending", "expanding"
STOPPED = "copy.stopped"
COPIES_AT_ONCE = 500
FEW_PENDING = 500
"""So many deliveries may wait at a webhook when more events are made of copies stopped in bulk."""


def execution_ended(connection: Connection, execution: Row[Any], state: str, reason: str) -> None:
    """Tell the webhooks that want to know how an execution ended. In the transaction that ends it.

    A plan, which moves nothing, is not told of.
    """
    wanted = [] if execution.kind == "plan" else _subscriptions(connection)
    if not wanted:
        return
    _save(
        connection,
        wanted,
        f"execution.{state!s}",
        rule=execution.rule,
        project=execution.project,
        subject=f"executions/{execution.id}",
        data={
            "execution": execution.id,
            "rule": execution.rule,
            "project": execution.project,
            "kind": execution.kind,
            "trigger": execution.trigger,
            "state": str(state),
            "reason": reason,
        },
    )


def copy_ended(connection: Connection, copy: int) -> None:
    """Tell the webhooks that want single copies how one ended. In the transaction that ends it."""
    wanted = _subscriptions(connection, _OF_COPIES)
    if not wanted:
        return
    row = connection.execute(_COPY.where(copies.c.id == copy)).first()
    if row is None:
        return
    _save(
        connection,
        wanted,
        f"copy.{row.state}",
        rule=row.rule,
        project=row.project,
        subject=_copy_subject(row),
        data=_copy_data(row, row.reason),
    )


def copies_stopped(connection: Connection, execution: str) -> None:
    """Tell of all copies that a stop has just ended: one row a webhook. In the stopping transaction.

    A plan's are not told of: they would not have moved anything.
    """
    wanted = _subscriptions(connection, _OF_COPIES)
    if not wanted:
        return
    row = connection.execute(select(executions).where(executions.c.id == execution)).one()
    if row.kind == "plan":
        return
    for receiver in wanted:
        if receiver.wants(STOPPED, rule=row.rule, project=row.project):
            connection.execute(
                insert(webhook_deliveries).values(
                    id=_identity(),
                    webhook=receiver.name,
                    event=STOPPED,
                    body=json.dumps({"execution": execution, "after": 0}),
                    state=EXPANDING,
                    created_at=now_epoch(),
                )
            )


def to_expand(connection: Connection, few_pending: int) -> list[str]:
    """Return the rows that stand for copies stopped in bulk, of webhooks with few deliveries waiting."""
    waiting = webhook_deliveries.alias("waiting")
    few = (
        select(waiting.c.id)
        .where(waiting.c.webhook == webhook_deliveries.c.webhook, waiting.c.state == PENDING)
        .offset(few_pending)
        .limit(1)
        .correlate(webhook_deliveries)
    )
    query = select(webhook_deliveries.c.id).where(
        webhook_deliveries.c.state == EXPANDING, webhook_deliveries.c.not_before <= now_epoch()
    )
    return list(
        connection.execute(query.where(~few.exists()).order_by(webhook_deliveries.c.id)).scalars()
    )


def to_be_told(connection: Connection) -> set[str]:
    """Return the executions whose copies, stopped in bulk, are not all made events of yet."""
    bodies = connection.execute(
        select(webhook_deliveries.c.body).where(webhook_deliveries.c.state == EXPANDING)
    ).scalars()
    return {str(json.loads(body)["execution"]) for body in bodies}


def expand(connection: Connection, identity: str, at_once: int) -> int:
    """Make events of the next copies that a row stands for; returns how many. At the end it is gone."""
    row = connection.execute(
        select(webhook_deliveries.c.body, webhooks.c.spec)
        .join(webhooks, webhooks.c.name == webhook_deliveries.c.webhook)
        .where(webhook_deliveries.c.id == identity, webhook_deliveries.c.state == EXPANDING)
        .with_for_update(of=webhook_deliveries)
    ).first()
    if row is None:
        return 0
    cursor, receiver = json.loads(row.body), codec.load(Subscription, json.loads(row.spec))
    page = connection.execute(
        _COPY.add_columns(executions.c.reason.label("why"))
        .where(
            copies.c.execution_id == cursor["execution"],
            copies.c.state == CopyState.STOPPED,
            copies.c.id > cursor["after"],
        )
        .order_by(copies.c.id)
        .limit(at_once)
    ).all()
    for copy in page:
        _save(
            connection,
            [receiver],
            STOPPED,
            rule=copy.rule,
            project=copy.project,
            subject=_copy_subject(copy),
            data=_copy_data(copy, copy.why or copy.reason),
            at=copy.updated_at,
        )
    own = webhook_deliveries.c.id == identity
    if len(page) < at_once:
        connection.execute(delete(webhook_deliveries).where(own))
    else:
        body = json.dumps({**cursor, "after": page[-1].id})
        connection.execute(update(webhook_deliveries).where(own).values(body=body))
    return len(page)


def rule_told(connection: Connection, rule: SyncRule, event: str, data: Mapping[str, Any]) -> None:
    """Tell the webhooks what is wrong with a rule, or no longer is. In the noting transaction."""
    _save(
        connection,
        _subscriptions(connection),
        event,
        rule=rule.name,
        project=rule.project,
        subject=f"rules/{rule.name}",
        data={"rule": rule.name, "project": rule.project, **data},
    )


def replica_told(
    connection: Connection, *, rule: str, project: str, registry: str, drift: Mapping[str, int]
) -> None:
    """Tell the webhooks how much somebody else changed at a replica. In the noting transaction."""
    _save(
        connection,
        _subscriptions(connection),
        "replica.drift" if drift else "replica.in_step",
        rule=rule,
        project=project,
        subject=f"replicas/{rule}/{registry}",
        data={"rule": rule, "project": project, "registry": registry, "drift": dict(drift)},
    )


def primary_told(
    connection: Connection, event: str, *, rule: str, project: str, registry: str, before: str = ""
) -> None:
    """Tell the webhooks that a replica is the primary now, in place of `before`, or that a former one follows."""
    _save(
        connection,
        _subscriptions(connection),
        event,
        rule=rule,
        project=project,
        subject=f"replicas/{rule}/{registry}",
        data={"rule": rule, "project": project, "registry": registry}
        | ({"before": before} if before else {}),
    )


def release_told(connection: Connection, release: Row[Any], state: str, reason: str) -> None:
    """Tell the webhooks at what a release has come to rest. In the transaction that brings it there."""
    _save(
        connection,
        _subscriptions(connection),
        f"release.{state!s}",
        rule=release.rule,
        project=release.project,
        subject=f"releases/{release.name}",
        data={
            "release": release.name,
            "rule": release.rule,
            "project": release.project,
            "state": str(state),
            "reason": reason,
        },
    )


def promotion_told(
    connection: Connection, promotion: Row[Any], event: str, reason: str = "", **more: Any
) -> None:
    """Tell the webhooks that a promotion waits for people, or what it has come to. In the transaction of that."""
    _save(
        connection,
        _subscriptions(connection),
        f"promotion.{event}",
        rule="",
        project=promotion.project,
        subject=f"promotions/{promotion.id}",
        data={
            "promotion": promotion.id,
            "pipeline": promotion.pipeline,
            "project": promotion.project,
            "from": promotion.from_stage,
            "stage": promotion.stage,
            "trigger": promotion.trigger,
            "digest": promotion.digest,
            "registry": promotion.registry,
            "repository": promotion.repository,
            "tag": promotion.tag,
            "asked_by": promotion.asked_by,
            "reason": reason,
            **more,
        },
    )


_COPY = select(copies, executions.c.project).join(
    executions, executions.c.id == copies.c.execution_id
)


def _copy_subject(row: Row[Any]) -> str:
    return f"executions/{row.execution_id}/copies/{row.id}"


def _copy_data(row: Row[Any], reason: str) -> dict[str, Any]:
    return {
        "execution": row.execution_id,
        "copy": row.id,
        "rule": row.rule,
        "project": row.project,
        "source": _place(row, "source"),
        "destination": _place(row, "destination"),
        "digest": row.digest,
        "state": row.state,
        "class": row.failure_class,
        "reason": reason,
        "attempts": row.attempts,
        "bytes": row.bytes_copied,
    }


def _identity() -> str:
    return f"{int(time.time() * 1000):012x}{os.urandom(6).hex()}"


def _place(row: Row[Any], side: str) -> str:
    reference = getattr(row, f"{side}_reference")
    separator = "@" if ":" in reference else ":"
    registry, repository = getattr(row, f"{side}_registry"), getattr(row, f"{side}_repository")
    return f"{registry}/{repository}{separator}{reference}"


_ALL = select(webhooks.c.spec).order_by(webhooks.c.name)
_OF_COPIES = _ALL.where(webhooks.c.copies)


def _subscriptions(connection: Connection, query: Select[Any] = _ALL) -> list[Subscription]:
    return [codec.load(Subscription, json.loads(text)) for (text,) in connection.execute(query)]


def _save(
    connection: Connection,
    subscriptions: Iterable[Subscription],
    event: str,
    *,
    rule: str,
    project: str,
    subject: str,
    data: Mapping[str, Any],
    at: float | None = None,
) -> None:
    receivers = [one for one in subscriptions if one.wants(event, rule=rule, project=project)]
    if not receivers:
        return
    if at is None:
        at = float(connection.execute(select(now_epoch())).scalar_one())
    for receiver in receivers:
        identity = _identity()
        document = cloud_event(identity, event, source=SOURCE, subject=subject, at=at, data=data)
        connection.execute(
            insert(webhook_deliveries).values(
                id=identity,
                webhook=receiver.name,
                event=event,
                body=json.dumps(document, separators=(",", ":")),
                state=PENDING,
                created_at=now_epoch(),
            )
        )
