"""The outbox of webhooks: an event is saved by the transaction that it tells of, or not at all."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Row, Select, insert, select

from service.model.rule import SyncRule
from service.model.subscription import Subscription, cloud_event
from service.store import codec
from service.store.clock import now_epoch
from service.store.tables import copies, executions
from service.store.tables_governance import webhook_deliveries, webhooks

SOURCE = "/transship"


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
    row = connection.execute(
        select(copies, executions.c.project)
        .join(executions, executions.c.id == copies.c.execution_id)
        .where(copies.c.id == copy)
    ).first()
    if row is None:
        return
    _save(
        connection,
        wanted,
        f"copy.{row.state}",
        rule=row.rule,
        project=row.project,
        subject=f"executions/{row.execution_id}/copies/{row.id}",
        data={
            "execution": row.execution_id,
            "copy": row.id,
            "rule": row.rule,
            "project": row.project,
            "source": _place(row, "source"),
            "destination": _place(row, "destination"),
            "digest": row.digest,
            "state": row.state,
            "class": row.failure_class,
            "reason": row.reason,
            "attempts": row.attempts,
            "bytes": row.bytes_copied,
        },
    )


def rule_told(connection: Connection, rule: SyncRule, *, late: bool, lag_seconds: float) -> None:
    """Tell the webhooks that a rule is behind its freshness, or has caught up. In the noting transaction."""
    _save(
        connection,
        _subscriptions(connection),
        "rule.late" if late else "rule.fresh",
        rule=rule.name,
        project=rule.project,
        subject=f"rules/{rule.name}",
        data={
            "rule": rule.name,
            "project": rule.project,
            "freshness_seconds": rule.freshness_seconds,
            "lag_seconds": round(lag_seconds, 3),
        },
    )


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
) -> None:
    receivers = [one for one in subscriptions if one.wants(event, rule=rule, project=project)]
    if not receivers:
        return
    at = float(connection.execute(select(now_epoch())).scalar_one())
    for receiver in receivers:
        identity = f"{int(time.time() * 1000):012x}{os.urandom(6).hex()}"
        document = cloud_event(identity, event, source=SOURCE, subject=subject, at=at, data=data)
        connection.execute(
            insert(webhook_deliveries).values(
                id=identity,
                webhook=receiver.name,
                event=event,
                body=json.dumps(document, separators=(",", ":")),
                state="pending",
                created_at=at,
            )
        )
