"""What the API answers of replicas, and what a promotion is told."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.answers import AnswerSchema
from api.schemas.common import StrictSchema
from api.schemas.fields import Flag
from service.model.replica import KINDS, STATES


class DriftCountSchema(AnswerSchema):
    """How much somebody else changed at a replica."""

    moved = fields.Integer(required=True)
    deleted = fields.Integer(required=True, metadata={"description": "not copied again yet"})
    added = fields.Integer(required=True)


class ProgressSchema(AnswerSchema):
    """The copies to a replica in the last full execution since it joined."""

    copied = fields.Integer(required=True)
    waiting = fields.Integer(required=True)
    failed = fields.Integer(required=True)


class ReplicaLagSchema(AnswerSchema):
    """How long the oldest change at the primary is not at the replica yet."""

    seconds = fields.Float(required=True)
    waiting = fields.Integer(required=True)


class ReplicaSchema(AnswerSchema):
    """A registry that keeps the whole instance of a primary."""

    rule = fields.String(required=True)
    registry = fields.String(required=True)
    primary = fields.String(required=True)
    project = fields.String(required=True)
    state = fields.String(required=True, metadata={"enum": list(STATES)})
    joined_at = fields.DateTime(required=True, allow_none=True)
    caught_up_at = fields.DateTime(required=True, allow_none=True)
    compared_at = fields.DateTime(
        required=True,
        allow_none=True,
        metadata={"description": "when its own list of repositories and tags was compared"},
    )
    lag = fields.Nested(ReplicaLagSchema, required=True)
    progress = fields.Nested(ProgressSchema, required=True)
    policy = fields.String(
        required=True,
        metadata={
            "enum": ["report", "repair"],
            "description": "what becomes of a tag that somebody else has moved there",
        },
    )
    held = fields.Boolean(
        required=True,
        metadata={"description": "a former primary: nothing is overwritten before a repair"},
    )
    drift = fields.Nested(DriftCountSchema, required=True)
    note = fields.String(
        required=True, metadata={"description": "what the last comparison could not look at"}
    )


class ReplicaPageSchema(AnswerSchema):
    """A page of replicas."""

    items = fields.List(fields.Nested(ReplicaSchema), required=True)
    next = fields.String(allow_none=True, required=True)


class DriftSchema(AnswerSchema):
    """One thing that somebody else changed at a replica."""

    repository = fields.String(required=True)
    tag = fields.String(
        required=True, allow_none=True, metadata={"description": "none: the whole repository"}
    )
    kind = fields.String(required=True, metadata={"enum": list(KINDS)})
    wanted = fields.String(
        required=True, allow_none=True, metadata={"description": "the primary's digest, if known"}
    )
    found = fields.String(required=True, allow_none=True)
    state = fields.String(required=True, metadata={"enum": ["open", "repaired"]})
    first_at = fields.DateTime(required=True)
    seen_at = fields.DateTime(required=True)
    repaired_at = fields.DateTime(required=True, allow_none=True)


class DriftPageSchema(AnswerSchema):
    """A page of drift."""

    items = fields.List(fields.Nested(DriftSchema), required=True)
    next = fields.String(allow_none=True, required=True)


class MissingSchema(AnswerSchema):
    """Something that a replica may lack, and that would be lost with the primary."""

    repository = fields.String(required=True)
    tag = fields.String(required=True)
    why = fields.String(required=True)
    held_by = fields.String(
        required=True, allow_none=True, metadata={"description": "another replica that has it"}
    )


class PromotionSchema(AnswerSchema):
    """What a promotion would be, or was."""

    rule = fields.String(required=True)
    primary = fields.String(required=True, metadata={"description": "the primary of now"})
    registry = fields.String(required=True)
    known_until = fields.DateTime(
        required=True,
        allow_none=True,
        metadata={
            "description": "when the last whole comparison began: what nobody told of since is not in it"
        },
    )
    missing = fields.List(fields.Nested(MissingSchema), required=True)


class PromoteSchema(StrictSchema):
    """Whether what the new primary may lack is given up."""

    accept_missing = Flag()
