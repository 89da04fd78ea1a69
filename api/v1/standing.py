"""/api/v1/registries/{name}/standing: what a registry takes now, and what it says is left of its quota."""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, Response
from marshmallow import fields

from api.bodies import query
from api.context import services
from api.operations import operation
from api.render import instant
from api.schemas.answers import AnswerSchema
from api.v1.shared import answer, find_registry
from service.errors import StoreUnavailable
from service.model.budget import Standing
from service.store.budgets import RedisBudgets

blueprint = Blueprint("standing", __name__, url_prefix="/api/v1/registries")


class QuotaSchema(AnswerSchema):
    """What a registry has said of its own quota."""

    left = fields.Integer(required=True, metadata={"description": "requests"})
    limit = fields.Integer(required=True, allow_none=True, metadata={"description": "of so many"})
    seconds = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "until it is renewed, or its window; null: not told"},
    )
    told_at = fields.DateTime(required=True)


class StandingSchema(AnswerSchema):
    """Where the fleet's limiter of a registry stands, in the region of the API."""

    known = fields.Boolean(
        required=True, metadata={"description": "false: Redis, which knows it, does not answer"}
    )
    requests_per_second = fields.Float(
        required=True,
        allow_none=True,
        metadata={
            "description": "what the registry's own words hold the fleet to, growing back; null: nothing does"
        },
    )
    blocked_seconds = fields.Float(
        required=True, metadata={"description": "that it wants to be left alone for"}
    )
    processes = fields.Integer(required=True, metadata={"description": "that ask it now"})
    quota = fields.Nested(
        QuotaSchema,
        required=True,
        allow_none=True,
        metadata={"description": "null: it has told of none in the last hour of its use"},
    )


@blueprint.get("/<name>/standing")
@operation(
    "Show what a registry takes now, and what it has said is left of its quota",
    role="viewer",
    results={200: ("where it stands", StandingSchema)},
)
def show_standing(name: str) -> Response:
    """Answer where one registry's limiter stands."""
    query(())
    found = find_registry(name)
    if not services().settings.redis_url:
        return answer(_shown(None))
    try:
        budgets = RedisBudgets(services().redis, services().boot)
        return answer(_shown(budgets.standing(found.endpoint.name)))
    except StoreUnavailable:
        return answer(_shown(None))


def _shown(known: Standing | None) -> dict[str, Any]:
    found = known or Standing()
    quota = found.quota and {
        "left": found.quota.left,
        "limit": found.quota.limit,
        "seconds": found.quota.seconds,
        "told_at": instant(time.time() - found.quota_seconds),
    }
    rate = found.requests_per_second
    return {
        "known": known is not None,
        "requests_per_second": None if rate is None else round(rate, 2),
        "blocked_seconds": round(found.blocked_seconds, 1),
        "processes": found.processes,
        "quota": quota,
    }
