"""What the API answers of reports: executions by section, failures by class, a rule file, a receipt."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.answers import (
    AnswerSchema,
    BlobCountsSchema,
    CopyCountsSchema,
    CrossedSchema,
    FailureSchema,
)
from api.schemas.migration import FleetSchema, MigrationFindingSchema, SurveySchema


class LogicalBytesSchema(AnswerSchema):
    """Bytes of what was copied."""

    copied = fields.Integer(
        required=True, metadata={"description": "read from registries: each unique blob once"}
    )
    saved = fields.Integer(
        required=True,
        metadata={"description": "not read, but mounted or found there"},
    )
    logical = fields.Integer(
        required=True,
        metadata={
            "description": "the sum of both: the least that the copied images hold, since a blob that an execution "
            "has put into a repository for one image is not counted for the next one"
        },
    )


class SpanSchema(AnswerSchema):
    """When executions were under way."""

    began_at = fields.DateTime(required=True, allow_none=True)
    ended_at = fields.DateTime(
        required=True, allow_none=True, metadata={"description": "none while one goes on"}
    )
    seconds = fields.Float(
        required=True, metadata={"description": "in which at least one was under way"}
    )


class SectionRunSchema(SpanSchema):
    """One execution of a section."""

    execution = fields.String(required=True)
    rule = fields.String(required=True)
    state = fields.String(required=True)


class SectionSchema(SpanSchema):
    """A part of a report: a rule, or a wave of a migration, with its executions."""

    label = fields.String(required=True)
    state = fields.String(required=True)
    copies = fields.Nested(CopyCountsSchema, required=True)
    bytes = fields.Nested(LogicalBytesSchema, required=True)
    fleet = fields.Nested(
        FleetSchema,
        required=True,
        allow_none=True,
        metadata={"description": "of a wave: what the inventory has counted of it"},
    )
    executions = fields.List(fields.Nested(SectionRunSchema), required=True)


class ReportDestinationSchema(AnswerSchema):
    """One destination's part of a report."""

    copies = fields.Nested(CopyCountsSchema, required=True)
    bytes = fields.Nested(LogicalBytesSchema, required=True)


class FailureClassSchema(AnswerSchema):
    """Failures of one class, with what mends them."""

    failure_class = fields.String(required=True, data_key="class")
    copies = fields.Integer(required=True)
    meaning = fields.String(required=True)
    fix = fields.String(required=True)
    retryable = fields.Boolean(required=True)


class ReportReceiptSchema(AnswerSchema):
    """The receipt of what was committed, as GET /receipts makes it."""

    instance = fields.String(required=True)
    made = fields.DateTime(required=True)
    entries = fields.Integer(required=True)
    sha256 = fields.String(required=True, metadata={"description": "of the receipt's file, in hex"})
    signature = fields.String(required=True, metadata={"description": "Ed25519, in Base64"})
    public_key = fields.String(required=True, metadata={"description": "in PEM"})


class ReportMigrationSchema(AnswerSchema):
    """Where a migration stands, and what the newest look found wrong."""

    name = fields.String(required=True)
    source = fields.String(required=True)
    destination = fields.String(required=True)
    state = fields.String(required=True)
    proved = fields.Boolean(required=True, allow_none=True)
    inventory = fields.Nested(SurveySchema, required=True, allow_none=True)
    freeze = fields.Nested(SurveySchema, required=True, allow_none=True)
    proof = fields.Nested(SurveySchema, required=True, allow_none=True)
    findings = fields.List(
        fields.Nested(MigrationFindingSchema),
        required=True,
        metadata={"description": "at most 200 of them; the looks count all"},
    )


class FullReportSchema(SpanSchema):
    """What executions came to in the end: where several came to one name, the last of them says."""

    schema = fields.Integer(required=True)
    title = fields.String(required=True)
    made_at = fields.DateTime(required=True)
    state = fields.String(required=True)
    copies = fields.Nested(CopyCountsSchema, required=True)
    blobs = fields.Nested(BlobCountsSchema, required=True)
    bytes = fields.Nested(LogicalBytesSchema, required=True)
    requests = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    links = fields.List(fields.Nested(CrossedSchema), required=True)
    sections = fields.List(fields.Nested(SectionSchema), required=True)
    destinations = fields.Dict(
        keys=fields.String(), values=fields.Nested(ReportDestinationSchema), required=True
    )
    warnings = fields.List(fields.String(), required=True)
    failures_total = fields.Integer(required=True)
    failure_classes = fields.List(fields.Nested(FailureClassSchema), required=True)
    failures = fields.List(
        fields.Nested(FailureSchema),
        required=True,
        metadata={"description": "at most 5,000 of them; the classes count all"},
    )
    rule_file = fields.Dict(
        required=True,
        allow_none=True,
        metadata={"description": "a transship.yaml that carries out what failed, and only that"},
    )
    rule_file_note = fields.String(
        required=True, metadata={"description": "why there is no rule file"}
    )
    receipt = fields.Nested(ReportReceiptSchema, required=True, allow_none=True)
    migration = fields.Nested(ReportMigrationSchema, required=True, allow_none=True)
