"""Stored objects as the API's JSON."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from api.schemas.governance import effective_project, effective_webhook
from api.schemas.registry import effective_registry
from api.schemas.rule import effective_rule
from service.bootstrap import Services
from service.model.failure_classes import words
from service.model.health import Health
from service.replication import report
from service.store.audit import AuditRecord, Verdict
from service.store.executions import CopyRecord, ExecutionRecord, Totals
from service.store.incidents import Incident
from service.store.projects import StoredProject
from service.store.registries import StoredRegistry
from service.store.rules import StoredRule
from service.store.secrets import SecretRecord
from service.store.standing import Hold, Retry
from service.store.tokens import TokenRecord
from service.store.webhooks import Delivery, StoredWebhook


def instant(seconds: float | None) -> str | None:
    """Return seconds since 1970 as RFC 3339 in UTC, to the millisecond."""
    if seconds is None:
        return None
    stamp = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


def registry(stored: StoredRegistry) -> dict[str, Any]:
    """Return a registry: what was written, secrets as {"set": bool}, defaults under `effective`."""
    written = dict(stored.document)
    effective = effective_registry(stored.endpoint)
    if stored.endpoint.credentials.stored:
        shown = {"password": {"set": stored.secret_set}}
        written["credentials"] = {**written.get("credentials", {}), **shown}
        effective["credentials"] |= shown
    return {
        **written,
        "effective": effective,
        "set": stored.set,
        "version": stored.version,
        "paused_at": instant(stored.paused_at),
        "health": None if stored.health is None else _health(stored.health),
        "created_at": instant(stored.created_at),
        "updated_at": instant(stored.updated_at),
    }


def _health(health: Health) -> dict[str, Any]:
    return {
        "state": health.state,
        "since": instant(health.since),
        "checked_at": instant(health.checked_at),
        "reason": health.reason,
        "holds": health.holds,
    }


def rule(stored: StoredRule, alerts: Sequence[Incident] = ()) -> dict[str, Any]:
    """Return a rule: what was written, defaults under `effective`; `alerts`: what is wrong with it now."""
    return {
        **stored.document,
        "effective": effective_rule(stored.rule),
        "set": stored.set,
        "version": stored.version,
        "next_run_at": instant(stored.next_run_at),
        "paused_at": instant(stored.paused_at),
        "late_since": instant(stored.late_since),
        "alerts": [
            {
                "kind": one.kind,
                "region": one.region or None,
                "since": instant(one.began_at),
                "reason": one.reason,
            }
            for one in alerts
        ],
        "created_at": instant(stored.created_at),
        "updated_at": instant(stored.updated_at),
    }


def execution(record: ExecutionRecord, holds: Sequence[Hold] = ()) -> dict[str, Any]:
    """Return an execution without its totals; `seconds` until now while it has not ended.

    `holds` are the pauses that it waits behind.
    """
    ended = record.finished_at or time.time()
    return {
        "id": record.id,
        "rule": record.rule,
        "project": record.project,
        "kind": record.kind,
        "trigger": record.trigger,
        "state": record.state.value,
        "reason": record.reason,
        "class": record.failure_class,
        "warnings": list(record.warnings),
        "held_by": [
            {
                "kind": one.kind,
                "name": one.name,
                "paused_at": instant(one.since),
                "reason": one.reason,
            }
            for one in holds
        ],
        "planned": record.planned,
        "created_at": instant(record.created_at),
        "started_at": instant(record.started_at),
        "finished_at": instant(record.finished_at),
        "seconds": round(max(0.0, ended - record.created_at), 3),
    }


def new_execution(record: ExecutionRecord, services: Services) -> dict[str, Any]:
    """Return an execution that was asked for just now: one that has not begun has done nothing."""
    return execution_detail(record, services, begun=record.started_at is not None)


def execution_detail(
    record: ExecutionRecord, services: Services, *, begun: bool = True
) -> dict[str, Any]:
    """Return an execution with its totals, as the command line's --json has them."""
    executions, standing = services.executions, services.standing
    goes_on = begun and not record.state.ended
    by_destination = executions.totals_by_destination([record.id]) if begun else {}
    total = by_destination.pop("", Totals())
    return {
        **execution(record, standing.holds([record]).get(record.id, ())),
        "flows": executions.flows().of(record.id) if begun else [],
        "retrying": [retry(one) for one in standing.retries(record.id)] if goes_on else [],
        "copies": report.copies(total),
        "blobs": report.blobs(total),
        "bytes": report.transferred(total),
        "requests": executions.requests([record.id]) if begun else {},
        "links": executions.crossed([record.id]) if begun else [],
        "destinations": {
            name: {"copies": report.copies(totals), "bytes": report.transferred(totals)}
            for name, totals in sorted(by_destination.items())
        },
    }


def retry(found: Retry) -> dict[str, Any]:
    """Return copies of one destination that are tried again for one class of reasons."""
    return {
        "destination": found.destination,
        "class": found.failure_class,
        "reason": found.reason,
        "copies": found.copies,
        "tries": found.tries,
        "next_at": instant(found.next_at),
    }


def copy(record: CopyRecord) -> dict[str, Any]:
    """Return one copy."""
    return {
        "id": record.id,
        "rule": record.rule,
        "execution": record.execution,
        "source": report.spell(
            record.source_registry, record.source_repository, record.source_reference
        ),
        "destination": report.spell(
            record.destination_registry,
            record.destination_repository,
            record.destination_reference,
        ),
        "digest": record.digest,
        "state": record.state.value,
        "class": record.failure_class,
        "reason": record.reason,
        "hint": record.hint,
        "fix": words(record.failure_class).fix if record.failure_class else "",
        "attempts": record.attempts,
        "entry": record.entry,
        "bytes": record.bytes_copied,
        "updated_at": instant(record.updated_at),
    }


def token(record: TokenRecord) -> dict[str, Any]:
    """Return what is known of a token."""
    return {
        "name": record.name,
        "id": record.id,
        "role": record.role,
        "project": record.project,
        "region": record.region,
        "expires_at": instant(record.expires_at),
        "created_at": instant(record.created_at),
        "revoked_at": instant(record.revoked_at),
    }


def project(stored: StoredProject) -> dict[str, Any]:
    """Return a project: what was written, defaults under `effective`."""
    return {
        **stored.document,
        "effective": effective_project(stored.project),
        "set": stored.set,
        "version": stored.version,
        "created_at": instant(stored.created_at),
        "updated_at": instant(stored.updated_at),
    }


def secret(record: SecretRecord) -> dict[str, Any]:
    """Return what is known of a secret."""
    return {
        "name": record.name,
        "set": True,
        "hosts": list(record.hosts),
        "version": record.version,
        "created_at": instant(record.created_at),
        "updated_at": instant(record.updated_at),
    }


def webhook(stored: StoredWebhook) -> dict[str, Any]:
    """Return a webhook: what was written, its secret as {"set": bool}."""
    return {
        **stored.document,
        "secret": {"set": stored.secret_set},
        "effective": effective_webhook(stored.wanted),
        "version": stored.version,
        "created_at": instant(stored.created_at),
        "updated_at": instant(stored.updated_at),
    }


def delivery(record: Delivery) -> dict[str, Any]:
    """Return one event on its way to a webhook."""
    return {
        "id": record.id,
        "webhook": record.webhook,
        "event": record.event,
        "state": record.state,
        "attempts": record.attempts,
        "status": record.status,
        "reason": record.reason,
        "created_at": instant(record.created_at),
        "ended_at": instant(record.ended_at),
        "next_at": instant(record.next_at),
    }


def audit(record: AuditRecord) -> dict[str, Any]:
    """Return one row of the audit log."""
    change = record.change
    return {
        "seq": record.seq,
        "at": instant(record.at),
        "actor": change.actor,
        "action": change.action,
        "kind": change.kind,
        "name": change.name,
        "project": change.project,
        "before": None if change.before is None else dict(change.before),
        "after": None if change.after is None else dict(change.after),
        "hash": record.hash,
    }


def verdict(found: Verdict) -> dict[str, Any]:
    """Return what a look at the whole audit log came to."""
    return {
        "whole": found.broken is None,
        "rows": found.rows,
        "head": found.head,
        "broken": found.broken,
        "reason": found.reason,
    }
