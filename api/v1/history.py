"""/api/v1/overview/history: what landed minute by minute, for the charts of the first page."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from flask import Blueprint, Response
from marshmallow import fields

from api.bodies import query
from api.context import services
from api.operations import operation
from api.render import instant
from api.schemas.answers import AnswerSchema
from api.v1.shared import answer, is_own
from service.store.history import MINUTES, Hour

blueprint = Blueprint("history", __name__, url_prefix="/api/v1/overview")

MOST_RULES = 12


class LateSchema(AnswerSchema):
    """From when to when a rule was behind its objective somewhere."""

    began_at = fields.DateTime(required=True)
    ended_at = fields.DateTime(
        required=True, allow_none=True, metadata={"description": "null: it still is"}
    )


class RuleHistorySchema(AnswerSchema):
    """The hour of one rule."""

    rule = fields.String(required=True)
    objective_seconds = fields.Float(required=True, allow_none=True)
    copies = fields.Integer(required=True, metadata={"description": "that landed in the hour"})
    seconds = fields.List(
        fields.Float(allow_none=True),
        required=True,
        metadata={
            "description": "of each minute, the longest time from a change, as it was told of or found, to its copy; "
            "null: nothing landed"
        },
    )
    late = fields.List(fields.Nested(LateSchema), required=True)


class HistorySchema(AnswerSchema):
    """The last hour, minute by minute, the oldest first; the last minute still goes on."""

    began_at = fields.DateTime(required=True)
    copies = fields.List(
        fields.Integer(), required=True, metadata={"description": "that landed in each minute"}
    )
    bytes = fields.List(
        fields.Integer(),
        required=True,
        metadata={"description": "that the copies of each minute had read, whenever they did"},
    )
    rules = fields.List(
        fields.Nested(RuleHistorySchema),
        required=True,
        metadata={"description": f"at most {MOST_RULES}: the late ones, then the slowest"},
    )
    rules_total = fields.Integer(required=True)


@blueprint.get("/history")
@operation(
    "Show what landed in each minute of the last hour; a project's token sees its rules only",
    role="viewer",
    results={200: ("the last hour", HistorySchema)},
)
def show_history() -> Response:
    """Answer what the caller may know; some seconds old at most."""
    query(())
    return answer(_shown(services().history.hour()))


def _shown(hour: Hour) -> dict[str, Any]:
    copies = [0] * MINUTES
    moved = [0] * MINUTES
    rules: dict[str, dict[str, Any]] = defaultdict(
        lambda: {"copies": 0, "seconds": [None] * MINUTES, "late": []}
    )
    for one in hour.landed:
        if not is_own(one.project):
            continue
        copies[one.minute] += one.copies
        moved[one.minute] += one.bytes
        rule = rules[one.rule]
        rule["copies"] += one.copies
        rule["seconds"][one.minute] = round(one.seconds, 1)
    for late in hour.late:
        if is_own(late.project):
            span = {"began_at": instant(late.began_at), "ended_at": instant(late.ended_at)}
            rules[late.rule]["late"].append(span)
    worst = sorted(
        rules,
        key=lambda name: (
            not rules[name]["late"],
            -max((one for one in rules[name]["seconds"] if one is not None), default=0.0),
            name,
        ),
    )
    return {
        "began_at": instant(hour.began_at),
        "copies": copies,
        "bytes": moved,
        "rules": [
            {"rule": name, "objective_seconds": hour.objectives.get(name), **rules[name]}
            for name in worst[:MOST_RULES]
        ],
        "rules_total": len(rules),
    }
