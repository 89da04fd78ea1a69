"""What the API answers of regions and links."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.answers import AnswerSchema
from api.schemas.region import LinkSchema, RegionSchema


class WorkersSchema(AnswerSchema):
    """The workers of a region that are alive."""

    processes = fields.Integer(required=True)
    slots = fields.Integer(
        required=True, metadata={"description": "tasks at once, near registries"}
    )


class DepthSchema(AnswerSchema):
    """One queue of a region."""

    depth = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "messages; none when Redis does not answer"},
    )


class RegionQueueSchema(AnswerSchema):
    """What waits for a region's workers: messages in Redis, copies in SQL."""

    urgent = fields.Nested(DepthSchema, required=True)
    commit = fields.Nested(DepthSchema, required=True)
    copy = fields.Nested(DepthSchema, required=True)
    waiting = fields.Integer(
        required=True,
        metadata={"description": "copies that no worker has taken; 100000 means so many or more"},
    )
    oldest_seconds = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "age of the oldest execution that one of them belongs to"},
    )


class RegionAnswerSchema(RegionSchema):
    """A region as written, with who works there; `declared` false: it is merely in use."""

    effective = fields.Nested(RegionSchema, required=True)
    declared = fields.Boolean(required=True)
    set = fields.String(allow_none=True, required=True)
    version = fields.Integer(required=True, metadata={"description": "0: nobody has declared it"})
    created_at = fields.DateTime(allow_none=True, required=True)
    updated_at = fields.DateTime(allow_none=True, required=True)
    workers = fields.Nested(WorkersSchema, required=True)
    served_by = fields.String(
        required=True,
        metadata={
            "description": "the region whose workers do its work: of one machine, the machine's own"
        },
    )
    queue = fields.Nested(RegionQueueSchema, required=True)


class RegionPageSchema(AnswerSchema):
    """One page of regions."""

    items = fields.List(fields.Nested(RegionAnswerSchema), required=True)
    next = fields.String(allow_none=True, required=True)


class LinkAnswerSchema(LinkSchema):
    """A link as written; its name is FROM:TO."""

    name = fields.String(required=True, metadata={"example": "us-east:eu-west"})
    effective = fields.Nested(LinkSchema, required=True)
    crossed_bytes = fields.Integer(
        required=True,
        metadata={
            "description": "bytes of blobs that took this way in the executions that are kept"
        },
    )
    set = fields.String(allow_none=True, required=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class LinkPageSchema(AnswerSchema):
    """One page of links."""

    items = fields.List(fields.Nested(LinkAnswerSchema), required=True)
    next = fields.String(allow_none=True, required=True)
