"""What the API answers of flows: executions that go on from one another."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.answers import AnswerSchema


class HopSchema(AnswerSchema):
    """One execution of a flow."""

    execution = fields.String(required=True)
    rule = fields.String(required=True)
    source = fields.String(required=True)
    destinations = fields.List(
        fields.String(), required=True, metadata={"description": "those that it has copied to"}
    )
    trigger = fields.String(required=True)
    state = fields.String(required=True)
    causes = fields.List(
        fields.String(),
        required=True,
        metadata={
            "description": "the executions whose commits it goes on from; none for the first"
        },
    )
    changed_at = fields.DateTime(
        required=True,
        allow_none=True,
        metadata={"description": "when the oldest change was told of that it looks at"},
    )
    created_at = fields.DateTime(required=True)
    finished_at = fields.DateTime(required=True, allow_none=True)
    seconds = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "from the beginning of the flow to the end of this execution"},
    )


class FlowSchema(AnswerSchema):
    """A flow: what one execution, or the push that it was told of, has set off rule by rule."""

    id = fields.String(required=True, metadata={"description": "the first execution"})
    began_at = fields.DateTime(required=True)
    seconds = fields.Float(
        required=True, allow_none=True, metadata={"description": "none while a hop is open"}
    )
    hops = fields.List(fields.Nested(HopSchema), required=True)


class FlowPageSchema(AnswerSchema):
    """The flows that an execution is part of."""

    items = fields.List(fields.Nested(FlowSchema), required=True)
    next = fields.String(allow_none=True, required=True)
