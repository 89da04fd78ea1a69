"""Promotions: what asks for them, and how they and pipelines are told of."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.answers import AnswerSchema
from api.schemas.answers import KeptSecretSchema as KeptSecret
from api.schemas.common import StrictSchema
from api.schemas.fields import Judged, Name, Text
from api.schemas.pipeline import GateSchema, PipelineSchema
from service.model.digest import Digest
from service.model.gate_answers import MAX_REASON
from service.model.pipeline import ASKED, AUTO, GATES, ROLLBACK, PromotionState, StepState


def _digest(text: str) -> str:
    return str(Digest.parse(text))


class EffectivePipelineSchema(PipelineSchema):
    """A pipeline with its defaults."""

    class Meta(PipelineSchema.Meta):
        """The secret does not come out."""

        exclude = ("secret",)


class PipelineAnswerSchema(PipelineSchema):
    """A pipeline as written, its secret as {"set": bool}, with its defaults under `effective`."""

    class Meta(PipelineSchema.Meta):
        """The secret does not come out."""

        exclude = ("secret",)

    effective = fields.Nested(EffectivePipelineSchema, required=True)
    secret_ = fields.Nested(KeptSecret, required=True, data_key="secret")
    set = fields.String(allow_none=True, required=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class PipelinePageSchema(AnswerSchema):
    """One page of pipelines."""

    items = fields.List(fields.Nested(PipelineAnswerSchema), required=True)
    next = fields.String(allow_none=True, required=True)


class NewPromotionSchema(StrictSchema):
    """What is to be promoted: a name at the stage before, and the stage."""

    pipeline = Name(required=True)
    ref = Text(longest=700, required=True, metadata={"example": "shop/web:v1.4"})
    to = Name(required=True)


class ApprovalInputSchema(StrictSchema):
    """The digest that is approved: what somebody has looked at."""

    digest = Judged(_digest, longest=140, required=True)


class RejectionSchema(StrictSchema):
    """The digest that is rejected, and why."""

    digest = Judged(_digest, longest=140, required=True)
    reason = Text(longest=MAX_REASON)


class ImageRollbackSchema(StrictSchema):
    """The earlier digest; without one, what stood there before."""

    digest = Judged(_digest, longest=140)


class PromotionPlaceSchema(AnswerSchema):
    """A name in a registry."""

    registry = fields.String(required=True)
    repository = fields.String(required=True)
    tag = fields.String(required=True, allow_none=True)


class ImagePromotionSchema(AnswerSchema):
    """One digest on its way to one stage."""

    schema = fields.Integer(required=True)
    id = fields.String(required=True)
    pipeline = fields.String(required=True)
    project = fields.String(required=True)
    from_ = fields.String(required=True, data_key="from")
    to = fields.String(required=True)
    trigger = fields.String(required=True, metadata={"enum": [ASKED, AUTO, ROLLBACK]})
    digest = fields.String(required=True)
    source = fields.Nested(PromotionPlaceSchema, required=True)
    destination = fields.Nested(PromotionPlaceSchema, required=True)
    image = fields.String(required=True, metadata={"description": "to pull once it is placed"})
    state = fields.String(required=True, metadata={"enum": [one.value for one in PromotionState]})
    gate = fields.Integer(
        required=True, allow_none=True, metadata={"description": "the one that it waits for"}
    )
    execution = fields.String(required=True, allow_none=True)
    before = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "the digest that stood there before; none: nothing, or not known"},
    )
    asked_by = fields.String(required=True)
    takes_back = fields.String(required=True, allow_none=True)
    reason = fields.String(required=True)
    created_at = fields.DateTime(required=True)
    ended_at = fields.DateTime(required=True, allow_none=True)


class ApprovalAnswerSchema(AnswerSchema):
    """Who has agreed, and to which digest."""

    actor = fields.String(required=True)
    digest = fields.String(required=True)
    at = fields.DateTime(required=True)


class PromotionStepSchema(AnswerSchema):
    """One gate, or what is told afterwards."""

    gate = fields.Integer(required=True)
    kind = fields.String(required=True, metadata={"enum": [*GATES, "after"]})
    wants = fields.Nested(GateSchema, required=True, allow_none=True)
    webhook = fields.String(required=True, allow_none=True)
    state = fields.String(required=True, metadata={"enum": [one.value for one in StepState]})
    approvals = fields.List(fields.Nested(ApprovalAnswerSchema), required=True)
    attempts = fields.Integer(required=True)
    status = fields.Integer(required=True, allow_none=True)
    reason = fields.String(required=True)
    begun_at = fields.DateTime(required=True, allow_none=True)
    deadline_at = fields.DateTime(required=True, allow_none=True)
    ended_at = fields.DateTime(required=True, allow_none=True)


class PromotionHappeningSchema(AnswerSchema):
    """One thing that has happened."""

    at = fields.DateTime(required=True)
    actor = fields.String(required=True)
    event = fields.String(required=True)
    gate = fields.Integer(required=True, allow_none=True)
    reason = fields.String(required=True)


class PromotionDetailSchema(ImagePromotionSchema):
    """A promotion with its gates and its history."""

    steps = fields.List(fields.Nested(PromotionStepSchema), required=True)
    history = fields.List(fields.Nested(PromotionHappeningSchema), required=True)


class PromotionPageSchema(AnswerSchema):
    """One page of promotions, the newest first."""

    items = fields.List(fields.Nested(ImagePromotionSchema), required=True)
    next = fields.String(allow_none=True, required=True)


class GateAnswerSchema(StrictSchema):
    """What a gate's receiver, or a scanner, says; see the how-to."""

    promotion = Text(longest=32, required=True)
    gate = fields.Integer(required=True)
    digest = Text(longest=140, required=True)
    decision = Text(longest=16, metadata={"enum": ["approve", "reject", "wait"]})
    findings = fields.Dict(keys=fields.String(), values=fields.Integer())
    reason = Text(longest=MAX_REASON)


class CountedSchema(AnswerSchema):
    """Whether an answer counted."""

    counted = fields.Boolean(required=True)
    state = fields.String(required=True)
