"""The shape of what the API answers, for the OpenAPI document; tests hold answers to it."""

from __future__ import annotations

from marshmallow import RAISE, Schema, fields, validate

from api.schemas.common import StrictSchema
from api.schemas.fields import Choice, Name
from api.schemas.registry import RegistrySchema
from api.schemas.rule import RuleSchema
from service.model.states import CopyState, ExecutionState
from service.store.tokens import ROLES


class AnswerSchema(Schema):
    """An answer: exactly these keys."""

    class Meta:
        """Nothing else comes."""

        unknown = RAISE


class ItemSchema(AnswerSchema):
    """What every stored object has beside what was written."""

    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class RegistryAnswerSchema(RegistrySchema):
    """A registry as written, secrets as {"set": bool}, with its defaults under `effective`."""

    effective = fields.Nested(RegistrySchema, required=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class RuleAnswerSchema(RuleSchema):
    """A rule as written, with its defaults under `effective`."""

    effective = fields.Nested(RuleSchema, required=True)
    version = fields.Integer(required=True)
    next_run_at = fields.DateTime(allow_none=True, required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class CopyCountsSchema(AnswerSchema):
    """Copies by how they ended; pending ones have not."""

    copied = fields.Integer(required=True)
    unchanged = fields.Integer(required=True)
    skipped = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    pending = fields.Integer(required=True)


class BlobCountsSchema(AnswerSchema):
    """Blobs by how they came to the destination."""

    copied = fields.Integer(required=True)
    mounted = fields.Integer(required=True)
    present = fields.Integer(required=True)


class ByteCountsSchema(AnswerSchema):
    """Bytes read from the source, and bytes that did not have to be."""

    copied = fields.Integer(required=True)
    saved = fields.Integer(required=True)


class DestinationCountsSchema(AnswerSchema):
    """One destination's part of an execution."""

    copies = fields.Nested(CopyCountsSchema, required=True)
    bytes = fields.Nested(ByteCountsSchema, required=True)


class ExecutionSchema(AnswerSchema):
    """One run of one rule."""

    id = fields.String(required=True)
    rule = fields.String(required=True)
    trigger = fields.String(required=True)
    state = fields.String(
        required=True, validate=validate.OneOf([state.value for state in ExecutionState])
    )
    reason = fields.String(required=True)
    failure_class = fields.String(required=True, data_key="class")
    warnings = fields.List(fields.String(), required=True)
    planned = fields.Boolean(required=True, metadata={"description": "every copy is known"})
    created_at = fields.DateTime(required=True)
    started_at = fields.DateTime(allow_none=True, required=True)
    finished_at = fields.DateTime(allow_none=True, required=True)
    seconds = fields.Float(required=True)


class ExecutionDetailSchema(ExecutionSchema):
    """One run with its totals."""

    copies = fields.Nested(CopyCountsSchema, required=True)
    blobs = fields.Nested(BlobCountsSchema, required=True)
    bytes = fields.Nested(ByteCountsSchema, required=True)
    requests = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    destinations = fields.Dict(
        keys=fields.String(), values=fields.Nested(DestinationCountsSchema), required=True
    )


class CopySchema(AnswerSchema):
    """One source reference on its way to one destination."""

    id = fields.Integer(required=True)
    rule = fields.String(required=True)
    execution = fields.String(required=True)
    source = fields.String(required=True, metadata={"example": "east/team/app:1.2"})
    destination = fields.String(required=True)
    digest = fields.String(required=True)
    state = fields.String(
        required=True, validate=validate.OneOf([state.value for state in CopyState])
    )
    failure_class = fields.String(required=True, data_key="class")
    reason = fields.String(required=True)
    hint = fields.String(required=True)
    attempts = fields.Integer(required=True)
    bytes = fields.Integer(required=True)
    updated_at = fields.DateTime(required=True)


class NewTokenSchema(StrictSchema):
    """A token to be made."""

    name = Name(required=True)
    role = Choice(*ROLES, required=True)


class TokenSchema(AnswerSchema):
    """What is known of a token; its text is shown once, when it is made."""

    name = fields.String(required=True)
    role = fields.String(required=True, validate=validate.OneOf(ROLES))
    created_at = fields.DateTime(required=True)
    revoked_at = fields.DateTime(allow_none=True, required=True)
    token = fields.String()


class ProblemFieldSchema(AnswerSchema):
    """One wrong field."""

    field = fields.String(required=True)
    message = fields.String(required=True)
    hint = fields.String(required=True)


class ProblemSchema(AnswerSchema):
    """An error (RFC 9457)."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    code = fields.String(required=True)
    instance = fields.String(required=True)
    hint = fields.String()
    errors = fields.List(fields.Nested(ProblemFieldSchema))


class NoBodySchema(StrictSchema):
    """An empty object, or no body at all."""


class RegistryPageSchema(AnswerSchema):
    """One page of registries."""

    items = fields.List(fields.Nested(RegistryAnswerSchema), required=True)
    next = fields.String(allow_none=True, required=True)


class RulePageSchema(AnswerSchema):
    """One page of rules."""

    items = fields.List(fields.Nested(RuleAnswerSchema), required=True)
    next = fields.String(allow_none=True, required=True)


class ExecutionPageSchema(AnswerSchema):
    """One page of executions, the newest first."""

    items = fields.List(fields.Nested(ExecutionSchema), required=True)
    next = fields.String(allow_none=True, required=True)


class CopyPageSchema(AnswerSchema):
    """One page of copies."""

    items = fields.List(fields.Nested(CopySchema), required=True)
    next = fields.String(allow_none=True, required=True)


class TokenPageSchema(AnswerSchema):
    """One page of tokens."""

    items = fields.List(fields.Nested(TokenSchema), required=True)
    next = fields.String(allow_none=True, required=True)
