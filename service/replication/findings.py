"""What plans and verifications came to: the objects that `--json` prints (DESIGN section 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from service.model.states import ExecutionState
from service.replication.report import MAX_FAILURES, SCHEMA, failures_of, overall_state
from service.store.executions import ExecutionRecord, ExecutionStore
from service.store.saved_plans import SavedPlanStore
from service.store.verifications import VerificationStore

COUNTED = ("checked", "whole", "holes", "repaired", "unreachable")


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
        "state": record.state.value,
        "copies": figures.get("copies", 0),
        "bytes": {"unique": figures.get("unique", 0), "saved": figures.get("saved", 0)},
        "requests": figures.get("requests", {}),
        "destinations": figures.get("destinations", {}),
        "links": figures.get("links", []),
        "cost": figures.get("cost"),
        "seconds_needed": figures.get("seconds"),
        "problems": [*failed, *figures.get("problems", [])][:MAX_FAILURES],
    }


def plans_report(
    store: ExecutionStore, plans: SavedPlanStore, identities: Sequence[str], seconds: float
) -> dict[str, Any]:
    """Return what several plans of one command come to together, and each."""
    records = [store.get(identity) for identity in identities]
    return plans_together(
        [
            {"rule": record.rule, **plan_report(store, record, plans.figures(record.id))}
            for record in records
        ],
        seconds,
    )


def plans_together(each: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """Return one object for the plans of one command; each is a `plan_report` with its rule."""
    requests: dict[str, int] = {}
    for one in each:
        for registry, count in one["requests"].items():
            requests[registry] = requests.get(registry, 0) + count
    costs = [one["cost"] for one in each if one["cost"] is not None]
    needed = [one["seconds_needed"] for one in each if one["seconds_needed"] is not None]
    return {
        "schema": SCHEMA,
        "plan": each[0]["plan"] if len(each) == 1 else None,
        "state": overall_state([ExecutionState(one["state"]) for one in each]),
        "copies": sum(one["copies"] for one in each),
        "bytes": {name: sum(one["bytes"][name] for one in each) for name in ("unique", "saved")},
        "requests": requests,
        "links": _together(each),
        "cost": sum(costs) if costs else None,
        "seconds": max(needed, default=None),
        "problems": [problem for one in each for problem in one["problems"]][:MAX_FAILURES],
        "plans": [dict(one) for one in each],
        "took": round(seconds, 3),
    }


def _together(each: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Add up what plans move from registry to registry."""
    ways: dict[tuple[str, str], dict[str, Any]] = {}
    for way in (way for one in each for way in one["links"]):
        known = ways.setdefault((way["from"], way["to"]), {**way, "bytes": 0, "cost": None})
        known["bytes"] += way["bytes"]
        if way["cost"] is not None:
            known["cost"] = (known["cost"] or 0) + way["cost"]
    return [ways[way] for way in sorted(ways)]


def verifications_report(
    store: ExecutionStore,
    verifications: VerificationStore,
    identities: Sequence[str],
    seconds: float,
) -> dict[str, Any]:
    """Return what verifications found, and what of it was put right."""
    found = [asdict(verifications.findings(identity)) for identity in identities]
    records = [store.get(identity) for identity in identities]
    failures = [failure for record in records for failure in failures_of(store, record)]
    states = [record.state for record in records]
    return verifications_together(identities, states, found, failures, seconds)


def verifications_together(
    identities: Sequence[str],
    states: Sequence[ExecutionState],
    found: Sequence[Mapping[str, Any]],
    failures: Sequence[Mapping[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    """Return one object for the verifications of one command; `found` are their counts."""
    return {
        "schema": SCHEMA,
        "state": overall_state(states),
        **{name: sum(int(one[name]) for one in found) for name in COUNTED},
        "failures_total": len(failures),
        "failures": list(failures[:MAX_FAILURES]),
        "verifications": list(identities),
        "seconds": round(seconds, 3),
    }
