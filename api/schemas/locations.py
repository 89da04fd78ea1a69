"""Where an image is, and what a verification found: the shapes of the answers."""

from __future__ import annotations

from marshmallow import fields, validate

from api.schemas.answers import AnswerSchema, ExecutionSchema
from api.schemas.common import StrictSchema
from api.schemas.fields import Flag, Name
from service.replication.locate import LocationState


class LocationSchema(AnswerSchema):
    """One registry."""

    registry = fields.String(required=True)
    state = fields.String(
        required=True, validate=validate.OneOf([state.value for state in LocationState])
    )
    why = fields.String(required=True)
    repository = fields.String(required=True, allow_none=True)
    reference = fields.String(required=True, allow_none=True)
    digest = fields.String(required=True, allow_none=True)
    rule = fields.String(required=True, allow_none=True)
    proved = fields.Boolean(
        required=True, metadata={"description": "the registry was asked just now"}
    )


class LocationsSchema(AnswerSchema):
    """Every registry, by name."""

    schema = fields.Integer(required=True)
    repository = fields.String(required=True)
    reference = fields.String(required=True)
    locations = fields.List(fields.Nested(LocationSchema), required=True)


class VerificationInputSchema(StrictSchema):
    """What to verify."""

    rule = Name(required=True, metadata={"example": "fleet"})
    repair = Flag(metadata={"description": "copy again what is missing, stale or holed"})


class VerificationSchema(ExecutionSchema):
    """A verification: an execution that writes nothing, and what it found so far."""

    checked = fields.Integer(required=True)
    whole = fields.Integer(required=True)
    holes = fields.Integer(required=True)
    repaired = fields.Integer(required=True)
    unreachable = fields.Integer(required=True)
    repair = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "the execution that copies findings again"},
    )


class VerificationPageSchema(AnswerSchema):
    """One page."""

    items = fields.List(fields.Nested(VerificationSchema), required=True)
    next = fields.String(required=True, allow_none=True)
