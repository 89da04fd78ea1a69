"""Promotions as rows are read into values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from service.model.pipeline import Gate, Name, PromotionState, StepState
from service.store import codec


@dataclass(frozen=True, slots=True)
class Promotion:
    """One digest on its way to one stage. Times are seconds since 1970 by the database's clock.

    `gate` is the position that it waits for; `gates` when all have agreed. `found`: the digest that stood under the
    name at the stage before, "" for nothing, None where that is not known. `takes_back`: the promotion that it undoes.
    """

    id: str
    pipeline: str
    project: str
    from_stage: str
    stage: str
    trigger: str
    source: Name
    digest: str
    destination: Name
    state: PromotionState
    gate: int
    gates: int
    execution: str
    found: str | None
    asked_by: str
    takes_back: str
    reason: str
    created_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class Step:
    """One gate of a promotion, or what is told when it is placed."""

    promotion: str
    position: int
    gate: Gate
    state: StepState
    attempts: int
    not_before: float
    deadline_at: float | None
    status: int | None
    reason: str
    begun_at: float | None
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class Approval:
    """Who has agreed at a gate, and to which digest."""

    position: int
    actor: str
    digest: str
    at: float


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of a promotion's history."""

    at: float
    actor: str
    event: str
    gate: int | None
    reason: str


Promotions = list[Promotion]


def as_promotion(row: Row[Any]) -> Promotion:
    """Return the promotion of a row."""
    return Promotion(
        row.id,
        row.pipeline,
        row.project,
        row.from_stage,
        row.stage,
        row.trigger,
        Name(row.source_registry, row.source_repository, row.source_tag),
        row.digest,
        Name(row.registry, row.repository, row.tag),
        PromotionState(row.state),
        row.gate,
        row.gates,
        row.execution_id,
        row.found,
        row.asked_by,
        row.takes_back,
        row.reason,
        row.created_at,
        row.ended_at,
    )


def as_step(row: Row[Any]) -> Step:
    """Return the step of a row."""
    return Step(
        row.promotion,
        row.position,
        codec.load(Gate, json.loads(row.spec)),
        StepState(row.state),
        row.attempts,
        row.not_before,
        row.deadline_at,
        row.status,
        row.reason,
        row.begun_at,
        row.ended_at,
    )
