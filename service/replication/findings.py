"""What plans and verifications came to: the objects that `--json` prints (DESIGN section 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service.replication.report import MAX_FAILURES, SCHEMA, failures_of
from service.store.executions import ExecutionRecord, ExecutionStore
from service.store.saved_plans import SavedPlanStore
from service.store.verifications import VerificationStore


def plan_report(
    store: ExecutionStore, record: ExecutionRecord, figures: Mapping[str, Any]
) -> dict[str, Any]:
    """Return one plan: copies, bytes, requests, and what cannot be done."""
    failed = [
        {key: one[key] for key in ("source", "destination", "reason")}
        for one in failures_of(store, record)
    ]
    return {
        "schema": SCHEMA,
        "plan": record.id,
        "copies": figures.get("copies", 0),
        "bytes": {"unique": figures.get("unique", 0), "saved": figures.get("saved", 0)},
        "requests": figures.get("requests", {}),
        "destinations": figures.get("destinations", {}),
        "seconds_needed": figures.get("seconds"),
        "problems": [*failed, *figures.get("problems", [])][:MAX_FAILURES],
    }


def plans_report(
    store: ExecutionStore, plans: SavedPlanStore, identities: Sequence[str], seconds: float
) -> dict[str, Any]:
    """Return what several plans of one command come to together, and each."""
    records = [store.get(identity) for identity in identities]
    each = [plan_report(store, record, plans.figures(record.id)) for record in records]
    requests: dict[str, int] = {}
    for one in each:
        for registry, count in one["requests"].items():
            requests[registry] = requests.get(registry, 0) + count
    needed = [one["seconds_needed"] for one in each if one["seconds_needed"] is not None]
    return {
        "schema": SCHEMA,
        "plan": identities[0] if len(identities) == 1 else None,
        "copies": sum(one["copies"] for one in each),
        "bytes": {name: sum(one["bytes"][name] for one in each) for name in ("unique", "saved")},
        "requests": requests,
        "links": {},
        "cost": None,
        "seconds": max(needed, default=None),
        "problems": [problem for one in each for problem in one["problems"]][:MAX_FAILURES],
        "plans": [{"rule": record.rule, **one} for record, one in zip(records, each, strict=True)],
        "took": round(seconds, 3),
    }


def verifications_report(
    store: ExecutionStore,
    verifications: VerificationStore,
    identities: Sequence[str],
    seconds: float,
) -> dict[str, Any]:
    """Return what verifications found, and what of it was put right."""
    found = [verifications.findings(identity) for identity in identities]
    failures = [
        failure for identity in identities for failure in failures_of(store, store.get(identity))
    ]
    return {
        "schema": SCHEMA,
        "checked": sum(one.checked for one in found),
        "whole": sum(one.whole for one in found),
        "holes": sum(one.holes for one in found),
        "repaired": sum(one.repaired for one in found),
        "unreachable": sum(one.unreachable for one in found),
        "failures_total": len(failures),
        "failures": failures[:MAX_FAILURES],
        "verifications": list(identities),
        "seconds": round(seconds, 3),
    }
