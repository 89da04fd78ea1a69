"""Documents of examinations: what a registry can do."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.answers import AnswerSchema
from api.schemas.common import StrictSchema
from api.schemas.fields import Flag, Judged, Name
from service.model.reference import validate_repository


class NewExaminationSchema(StrictSchema):
    """Where may be written, and whether at all; and from which region the registry is looked at."""

    region = Name(data_key="from", metadata={"example": "eu-west"})
    repository = Judged(validate_repository, longest=240)
    write = Flag()


class FindingSchema(AnswerSchema):
    """One ability."""

    name = fields.String(required=True)
    result = fields.String(required=True, metadata={"enum": ["yes", "no", "unknown"]})
    detail = fields.String(required=True)
    means = fields.String(required=True, metadata={"description": "what Transship does about it"})


class ExaminationSchema(AnswerSchema):
    """What was found, and which repositories were written to."""

    schema = fields.Integer(required=True)
    registry = fields.String(required=True)
    written = fields.List(fields.String(), required=True)
    findings = fields.List(fields.Nested(FindingSchema), required=True)


class RemoteExaminationSchema(AnswerSchema):
    """An examination by a worker of a region; findings are there once it has ended."""

    schema = fields.Integer(required=True)
    id = fields.String(required=True)
    registry = fields.String(required=True)
    region = fields.String(required=True)
    state = fields.String(
        required=True, metadata={"enum": ["pending", "running", "ended", "failed", "expired"]}
    )
    worker = fields.String(required=True, metadata={"description": "the process that took it"})
    written = fields.List(fields.String(), required=True)
    findings = fields.List(fields.Nested(FindingSchema), required=True)
    reason = fields.String(required=True)
    hint = fields.String(required=True)
    created_at = fields.DateTime(required=True)
    deadline_at = fields.DateTime(required=True)
    ended_at = fields.DateTime(required=True, allow_none=True)
