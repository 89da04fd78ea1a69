"""Plans: what goes in, and the figures that come out."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.answers import AnswerSchema, ExecutionSchema
from api.schemas.common import StrictSchema
from api.schemas.fields import Name


class PlanInputSchema(StrictSchema):
    """What to plan."""

    rule = Name(required=True, metadata={"example": "fleet"})
    document = fields.Dict(
        keys=fields.String(),
        metadata={"description": "the rule as it would be saved; absent: as it is saved"},
    )


class PlanBytesSchema(AnswerSchema):
    """Bytes that would be moved, and bytes that sharing and mounts spare."""

    unique = fields.Integer(required=True)
    saved = fields.Integer(required=True)


class PlanDestinationSchema(AnswerSchema):
    """What goes to one destination."""

    copies = fields.Integer(required=True)
    unique = fields.Integer(required=True)
    saved = fields.Integer(required=True)
    blobs = fields.Integer(required=True, metadata={"description": "blobs that are moved"})


class PlanProblemSchema(AnswerSchema):
    """What cannot be done as things stand."""

    source = fields.String(required=True, allow_none=True)
    destination = fields.String(required=True, allow_none=True)
    reason = fields.String(required=True)


class PlannedWaySchema(AnswerSchema):
    """What one registry is to be read of for another."""

    source = fields.String(required=True, data_key="from")
    target = fields.String(required=True, data_key="to")
    bytes = fields.Integer(required=True)
    cost = fields.Float(
        required=True,
        allow_none=True,
        metadata={
            "description": "by the link between their regions; none where that tells no price"
        },
    )


class PlanSchema(ExecutionSchema):
    """A plan; its figures are complete when its state has ended."""

    schema = fields.Integer(required=True)
    plan = fields.String(required=True)
    copies = fields.Integer(required=True)
    bytes = fields.Nested(PlanBytesSchema, required=True)
    requests = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata={"description": "by registry; an estimate"},
    )
    destinations = fields.Dict(
        keys=fields.String(), values=fields.Nested(PlanDestinationSchema), required=True
    )
    links = fields.List(
        fields.Nested(PlannedWaySchema),
        required=True,
        metadata={"description": "the tree: who is to feed whom, and with how much"},
    )
    cost = fields.Float(
        required=True, allow_none=True, metadata={"description": "of all links that have a price"}
    )
    seconds_needed = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "that bandwidth and request limits ask for at least"},
    )
    problems = fields.List(fields.Nested(PlanProblemSchema), required=True)


class PlanPageSchema(AnswerSchema):
    """One page."""

    items = fields.List(fields.Nested(PlanSchema), required=True)
    next = fields.String(required=True, allow_none=True)
