"""What the API answers of one copy: its way, its tries and its blobs."""

from __future__ import annotations

from marshmallow import fields, validate

from api.schemas.answers import AnswerSchema, BlobCountsSchema, CopySchema
from service.model.states import BlobState
from service.store.attempts import MOST_ATTEMPTS, OUTCOMES


class BlobSchema(AnswerSchema):
    """One blob of a copy that has fanned out."""

    digest = fields.String(required=True)
    media_type = fields.String(required=True)
    size = fields.Integer(required=True, metadata={"description": "in bytes"})
    state = fields.String(
        required=True, validate=validate.OneOf([state.value for state in BlobState])
    )
    failure_class = fields.String(required=True, data_key="class")
    reason = fields.String(required=True)
    updated_at = fields.DateTime(required=True)


class TriesSchema(AnswerSchema):
    """How often a copy was begun, and why again."""

    failures = fields.Integer(
        required=True, metadata={"description": "count against its attempts; the others do not"}
    )
    throttles = fields.Integer(
        required=True, metadata={"description": "a registry asked for patience"}
    )
    replans = fields.Integer(required=True, metadata={"description": "the source's tag had moved"})
    crashes = fields.Integer(
        required=True, metadata={"description": "the process that carried it out ended"}
    )


class AttemptSchema(AnswerSchema):
    """One attempt of a copy that did not simply succeed, or several in a row that came to the same."""

    number = fields.Integer(
        required=True, metadata={"description": "which attempt; of several, the last one"}
    )
    times = fields.Integer(required=True, metadata={"description": "how many came to the same"})
    outcome = fields.String(
        required=True,
        validate=validate.OneOf(OUTCOMES),
        metadata={
            "description": "again: it waits for its next one; died: its process ended; or the state that the copy "
            "ended in"
        },
    )
    counted = fields.Boolean(
        required=True, metadata={"description": "counts against the copy's attempts"}
    )
    failure_class = fields.String(required=True, data_key="class")
    reason = fields.String(required=True)
    worker = fields.String(
        required=True, metadata={"description": "the process: its host, process id and a mark"}
    )
    region = fields.String(required=True)
    bytes = fields.Integer(required=True, metadata={"description": "read by its last step"})
    began_at = fields.DateTime(
        required=True,
        metadata={"description": "of a copy that several tasks share: its last step's"},
    )
    ended_at = fields.DateTime(required=True)


class CopyDetailSchema(CopySchema):
    """One source reference on its way to one destination, whole."""

    region = fields.String(required=True, metadata={"description": "whose workers carry it out"})
    read_from = fields.String(
        required=True,
        metadata={"description": "where its bytes are read: the source, or another destination"},
    )
    behind = fields.Integer(
        required=True,
        allow_none=True,
        metadata={"description": "the copy of this execution that brought them there"},
    )
    route = fields.List(
        fields.String(),
        required=True,
        metadata={"description": "registries, from the source to the destination"},
    )
    tries = fields.Nested(TriesSchema, required=True)
    next_at = fields.DateTime(
        required=True,
        allow_none=True,
        metadata={"description": "when it is tried again, where it waits for that"},
    )
    bytes_saved = fields.Integer(
        required=True, metadata={"description": "not read, but mounted or found there"}
    )
    blob_counts = fields.Nested(BlobCountsSchema, required=True)
    meaning = fields.String(
        required=True, metadata={"description": "what its class means; empty without one"}
    )
    attempts_log = fields.List(
        fields.Nested(AttemptSchema),
        required=True,
        metadata={
            "description": f"the last {MOST_ATTEMPTS}, the oldest first; none of a copy that succeeded at once"
        },
    )
    blobs = fields.List(
        fields.Nested(BlobSchema),
        required=True,
        metadata={
            "description": "of a copy that has fanned out, at most 1,000 of them; one that a single task carries out "
            "has none"
        },
    )
    blobs_total = fields.Integer(required=True)
