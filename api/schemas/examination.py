"""Documents of examinations: what a registry can do."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.answers import AnswerSchema
from api.schemas.common import StrictSchema
from api.schemas.fields import Flag, Judged
from service.model.reference import validate_repository


class NewExaminationSchema(StrictSchema):
    """Where may be written, and whether at all."""

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
