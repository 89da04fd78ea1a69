"""What a set of executions came to: the one object that `--json` prints (DESIGN section 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.model.states import CopyState, ExecutionState
from service.store.executions import CopyRecord, ExecutionRecord, ExecutionStore, Totals

MAX_FAILURES = 1000
SCHEMA = 1


def report(store: ExecutionStore, identities: Sequence[str], seconds: float) -> dict[str, Any]:
    """Return state, counts, failures and warnings of executions that belong to one command."""
    records = [store.get(identity) for identity in identities]
    totals = store.totals_by_destination(identities)
    overall = totals.pop("", Totals())
    stopped = any(record.state is ExecutionState.STOPPED for record in records)
    failures = [failure for record in records for failure in failures_of(store, record)]
    return {
        "schema": SCHEMA,
        "execution": records[0].id if len(records) == 1 else None,
        "state": overall_state([record.state for record in records]),
        "copies": copies(overall),
        "blobs": blobs(overall),
        "bytes": transferred(overall),
        "requests": store.requests(identities),
        "links": store.crossed(identities),
        "seconds": round(seconds, 3),
        "executions": [_execution(store, record) for record in records],
        "destinations": {
            name: {
                "state": _destination_state(entry, stopped=stopped),
                "copies": copies(entry),
                "bytes": transferred(entry),
            }
            for name, entry in sorted(totals.items())
        },
        "warnings": [warning for record in records for warning in record.warnings],
        "failures_total": len(failures),
        "failures": failures[:MAX_FAILURES],
    }


def copies(totals: Totals) -> dict[str, int]:
    """Return the counts of copies."""
    return {
        "copied": totals.copied,
        "unchanged": totals.unchanged,
        "skipped": totals.skipped,
        "failed": totals.failed,
        "pending": totals.pending,
    }


def blobs(totals: Totals) -> dict[str, int]:
    """Return the counts of blobs."""
    return {
        "copied": totals.blobs_copied,
        "mounted": totals.blobs_mounted,
        "present": totals.blobs_present,
    }


def transferred(totals: Totals) -> dict[str, int]:
    """Return bytes read from sources, and bytes that sharing spared."""
    return {"copied": totals.bytes_copied, "saved": totals.bytes_saved}


def overall_state(states: Sequence[ExecutionState]) -> str:
    """Return one state for several executions: the worst of them, partial where some succeeded."""
    if not states or all(state is ExecutionState.SUCCEEDED for state in states):
        return ExecutionState.SUCCEEDED.value
    if any(not state.ended for state in states):
        return ExecutionState.RUNNING.value
    if ExecutionState.STOPPED in states:
        return ExecutionState.STOPPED.value
    if all(state is ExecutionState.FAILED for state in states):
        return ExecutionState.FAILED.value
    return ExecutionState.PARTIAL.value


def failure(copy: CopyRecord) -> dict[str, Any]:
    """Return one failed copy as people and programs read it."""
    return {
        "rule": copy.rule,
        "source": spell(copy.source_registry, copy.source_repository, copy.source_reference),
        "destination": spell(
            copy.destination_registry, copy.destination_repository, copy.destination_reference
        ),
        "digest": copy.digest or None,
        "class": copy.failure_class,
        "reason": copy.reason,
        "hint": copy.hint,
        "attempts": copy.attempts,
        "retryable": copy.failure_class in RETRYABLE,
    }


RETRYABLE = frozenset({"network", "server", "throttled", "corrupt", "stopped", "superseded"})


def spell(registry: str, repository: str, reference: str) -> str:
    """Return registry/repository:tag or @digest."""
    separator = "@" if ":" in reference else ":"
    return f"{registry}/{repository}{separator}{reference}"


def failures_of(store: ExecutionStore, record: ExecutionRecord) -> list[dict[str, Any]]:
    """Return what failed of an execution: itself first, then its copies."""
    found = [
        failure(copy)
        for copy in store.copies(
            record.id, states=[CopyState.FAILED, CopyState.SUPERSEDED], limit=MAX_FAILURES + 1
        )
    ]
    own = own_failure(record)
    if own is not None:
        found.insert(0, own)
    return found


def own_failure(record: ExecutionRecord) -> dict[str, Any] | None:
    """Return what failed of an execution as a whole; None where nothing did."""
    if not record.reason or record.state not in (ExecutionState.FAILED, ExecutionState.PARTIAL):
        return None
    return {
        "rule": record.rule,
        "source": None,
        "destination": None,
        "digest": None,
        "class": record.failure_class or "invalid",
        "reason": record.reason,
        "hint": "",
        "attempts": 1,
        "retryable": record.failure_class in RETRYABLE,
    }


def _execution(store: ExecutionStore, record: ExecutionRecord) -> dict[str, Any]:
    totals = store.totals(record.id)
    ended = record.finished_at or record.created_at
    return {
        "execution": record.id,
        "rule": record.rule,
        "state": record.state.value,
        "copies": copies(totals),
        "blobs": blobs(totals),
        "bytes": transferred(totals),
        "seconds": round(ended - record.created_at, 3),
    }


def _destination_state(totals: Totals, *, stopped: bool) -> str:
    if totals.pending:
        return ExecutionState.RUNNING.value
    if stopped:
        return ExecutionState.STOPPED.value
    if totals.failed:
        done = totals.copied or totals.unchanged
        return (ExecutionState.PARTIAL if done else ExecutionState.FAILED).value
    return ExecutionState.SUCCEEDED.value
