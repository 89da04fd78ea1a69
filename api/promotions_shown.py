"""Pipelines and promotions as the API answers them."""

from __future__ import annotations

from typing import Any

from api.context import services
from api.render import instant
from api.schemas.pipeline import effective_gate, effective_pipeline
from service.errors import NotFoundInStore
from service.model.pipeline import AFTER, Name
from service.store.pipelines import StoredPipeline
from service.store.promotion_values import Approval, Promotion, Step


def show_pipeline(stored: StoredPipeline) -> dict[str, Any]:
    """Return a pipeline: what was written, its secret as {"set": bool}, defaults under `effective`."""
    return {
        **stored.document,
        "secret": {"set": stored.secret_set},
        "effective": effective_pipeline(stored.pipeline),
        "set": stored.set,
        "version": stored.version,
        "created_at": instant(stored.created_at),
        "updated_at": instant(stored.updated_at),
    }


def show_promotion(promotion: Promotion) -> dict[str, Any]:
    """Return a promotion as JSON."""
    there = promotion.destination
    waits = not promotion.state.ended and promotion.gate < promotion.gates
    return {
        "schema": 1,
        "id": promotion.id,
        "pipeline": promotion.pipeline,
        "project": promotion.project,
        "from": promotion.from_stage,
        "to": promotion.stage,
        "trigger": promotion.trigger,
        "digest": promotion.digest,
        "source": _place(promotion.source),
        "destination": _place(there),
        "image": f"{_host(there.registry)}/{there.repository}@{promotion.digest}",
        "state": promotion.state.value,
        "gate": promotion.gate if waits else None,
        "execution": promotion.execution or None,
        "before": promotion.found or None,
        "asked_by": promotion.asked_by,
        "takes_back": promotion.takes_back or None,
        "reason": promotion.reason,
        "created_at": instant(promotion.created_at),
        "ended_at": instant(promotion.ended_at),
    }


def show_detail(promotion: Promotion) -> dict[str, Any]:
    """Return a promotion with its gates, who has approved, and its history."""
    store = services().promotions
    approvals = store.approvals(promotion.id)
    return {
        **show_promotion(promotion),
        "steps": [_step(step, approvals) for step in store.steps(promotion.id)],
        "history": [
            {
                "at": instant(one.at),
                "actor": one.actor,
                "event": one.event,
                "gate": one.gate,
                "reason": one.reason,
            }
            for one in store.history(promotion.id)
        ],
    }


def _step(step: Step, approvals: tuple[Approval, ...]) -> dict[str, Any]:
    gate = step.gate
    return {
        "gate": step.position,
        "kind": gate.kind,
        "wants": None if gate.kind == AFTER else effective_gate(gate),
        "webhook": gate.url or None,
        "state": step.state.value,
        "approvals": [
            {"actor": one.actor, "digest": one.digest, "at": instant(one.at)}
            for one in approvals
            if one.position == step.position
        ],
        "attempts": step.attempts,
        "status": step.status,
        "reason": step.reason,
        "begun_at": instant(step.begun_at),
        "deadline_at": instant(step.deadline_at),
        "ended_at": instant(step.ended_at),
    }


def _place(name: Name) -> dict[str, Any]:
    return {"registry": name.registry, "repository": name.repository, "tag": name.tag or None}


def _host(registry: str) -> str:
    try:
        return services().registries.get(registry).endpoint.host
    except NotFoundInStore:
        return registry
