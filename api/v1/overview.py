"""/api/v1/overview: whether everything is where it should be, what moves, and what needs somebody."""

from __future__ import annotations

from dataclasses import asdict

from flask import Blueprint, Response
from marshmallow import fields

from api.bodies import query
from api.context import services
from api.operations import operation
from api.schemas.answers import AnswerSchema
from api.v1.shared import actor, answer, is_own
from service.replication.attention import SEVERITIES, Attention
from service.store.figures import FigureStore

blueprint = Blueprint("overview", __name__, url_prefix="/api/v1/overview")


class ConcernSchema(AnswerSchema):
    """Something that is not as it should be."""

    severity = fields.String(required=True, metadata={"enum": list(SEVERITIES)})
    kind = fields.String(required=True)
    name = fields.String(required=True)
    what = fields.String(required=True)
    action = fields.String(required=True)


class OverviewSchema(AnswerSchema):
    """The whole at a glance."""

    concerns = fields.List(fields.Nested(ConcernSchema), required=True)
    rules = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    executions = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    copies = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    bytes_per_second = fields.Float(required=True)


@blueprint.get("")
@operation(
    "Show what needs attention, and what moves; a project's token sees its rules only",
    role="viewer",
    results={200: ("the whole at a glance", OverviewSchema)},
)
def show_overview() -> Response:
    """Answer what the caller may know."""
    query(())
    found = services()
    attention = Attention(FigureStore(found.database), found.incidents, found.region_load)
    overview = attention.overview(is_own, platform=actor().project is None)
    return answer(
        {
            "concerns": [asdict(one) for one in overview.concerns],
            "rules": overview.rules,
            "executions": overview.executions,
            "copies": overview.copies,
            "bytes_per_second": round(overview.bytes_per_second, 1),
        }
    )
