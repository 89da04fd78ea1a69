"""Documents between home and the agents of far regions (docs/adr/0017)."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, validate

from api.schemas.answers import AnswerSchema
from api.schemas.common import StrictSchema
from api.schemas.fields import Text, Whole
from service.model.states import CopyState
from service.store.attempts import LONGEST_REASON, OUTCOMES
from service.store.examinations import ENDED, FAILED

AGENT = {"longest": 64}
_STATES = sorted({state for state in CopyState if state.ended} | {CopyState.PENDING})


def _way(value: list[Any]) -> None:
    kinds = [type(one) for one in value]
    if kinds != [str, str, int] or not 0 <= value[2] < 2**62:
        raise ValidationError("must be from registry, to registry, bytes")


def _held(**options: Any) -> fields.List[Any]:
    return fields.List(
        fields.List(fields.Integer(strict=True), validate=validate.Length(equal=2)),
        validate=validate.Length(max=5000),
        metadata={"description": "copies from here, each with the fence that it was lent with"},
        **options,
    )


def _known() -> fields.Dict:
    return fields.Dict(
        keys=fields.String(validate=validate.Length(max=255)),
        values=fields.String(validate=validate.Length(max=255)),
        validate=validate.Length(max=5000),
        load_default=None,
        metadata={"description": "registries that it was told of, each with the version told"},
    )


class LeaseWishSchema(StrictSchema):
    """Who asks, what it can do, and what it has."""

    agent = Text(required=True, **AGENT)
    host = Text(required=True, longest=255)
    slots = Whole(required=True, least=0, most=100_000)
    room = Whole(required=True, least=0, most=500)
    held = _held(required=True)
    registries = _known()


class LentCopySchema(AnswerSchema):
    """A copy as its row is: what is read where, and where it goes."""

    id = fields.Integer(required=True)
    fence = fields.Integer(required=True)


def _stop() -> fields.List[Any]:
    return fields.List(
        fields.Integer(), required=True, metadata={"description": "copies to let go of"}
    )


def _registries() -> fields.List[Any]:
    description = "those that the copies name, or that have changed, with their stored secrets"
    return fields.List(fields.Dict(), required=True, metadata={"description": description})


class LeaseSchema(AnswerSchema):
    """A page of copies, and all that is needed for them."""

    lease_seconds = fields.Float(required=True)
    watch_seconds = fields.Float(
        required=True, metadata={"description": "how often to ask while copies are in hand"}
    )
    takes_attempts = fields.Boolean(
        required=True, metadata={"description": "outcomes may tell of `attempts`"}
    )
    stop = _stop()
    copies = fields.List(fields.Nested(LentCopySchema), required=True)
    executions = fields.Dict(required=True)
    registries = _registries()
    digest_tags = fields.List(fields.Dict(), required=True)
    examinations = fields.List(fields.Dict(), required=True)
    regions = fields.List(fields.Dict(), required=True)
    links = fields.List(fields.Dict(), required=True)


class LentAttemptSchema(StrictSchema):
    """What an attempt of a copy came to there, where it did not simply succeed."""

    number = Whole(required=True, least=0, most=2**31 - 1)
    times = Whole(required=True, least=1, most=2**31 - 1)
    outcome = fields.String(required=True, validate=validate.OneOf(OUTCOMES))
    counted = fields.Boolean(required=True)
    failure_class = fields.String(required=True, validate=validate.Length(max=16))
    reason = fields.String(required=True, validate=validate.Length(max=LONGEST_REASON))
    worker = fields.String(required=True, validate=validate.Length(max=64))
    region = fields.String(required=True, validate=validate.Length(max=64))
    bytes = Whole(required=True, least=0, most=2**62)
    began_at = fields.Float(required=True)
    ended_at = fields.Float(required=True)


class LentOutcomeSchema(StrictSchema):
    """What became of a copy; pending: it is given back."""

    copy = Whole(required=True, least=1, most=2**62)
    fence = Whole(required=True, least=0, most=2**31 - 1)
    state = fields.String(required=True, validate=validate.OneOf(_STATES))
    region = fields.String(
        required=True,
        validate=validate.Length(max=64),
        metadata={
            "description": "whose workers are to do it, when it is given back; empty: the same"
        },
    )
    digest = fields.String(required=True, validate=validate.Regexp(r"\A(\w+:[0-9a-f]{32,128})?\Z"))
    failure_class = fields.String(required=True, validate=validate.Length(max=16))
    reason = fields.String(required=True, validate=validate.Length(max=20_000))
    hint = fields.String(required=True, validate=validate.Length(max=20_000))
    platforms = fields.String(required=True, validate=validate.Length(max=20_000))
    blobs_copied = Whole(required=True, least=0, most=2**31 - 1)
    blobs_mounted = Whole(required=True, least=0, most=2**31 - 1)
    blobs_present = Whole(required=True, least=0, most=2**31 - 1)
    bytes_copied = Whole(required=True, least=0, most=2**62)
    bytes_saved = Whole(required=True, least=0, most=2**62)
    attempts = fields.List(
        fields.Nested(LentAttemptSchema),
        load_default=list,
        validate=validate.Length(max=500),
    )


class MovedSchema(StrictSchema):
    """What an execution has asked and moved since it was told last."""

    requests = fields.Dict(keys=fields.String(), values=Whole(least=0, most=2**62), required=True)
    bytes = fields.List(
        fields.List(fields.Raw(), validate=_way),
        required=True,
        metadata={"description": "from registry, to registry, bytes"},
    )


class CrossingSchema(StrictSchema):
    """A row for the audit log: bytes that went across a border."""

    actor = Text(required=True, longest=128)
    name = Text(required=True, longest=255)
    project = fields.String(required=True, validate=validate.Length(max=128))
    after = fields.Dict(required=True)


class ExaminedSchema(StrictSchema):
    """What a worker of the region found out of a registry."""

    id = Text(required=True, longest=32)
    state = fields.String(required=True, validate=validate.OneOf([ENDED, FAILED]))
    findings = fields.List(fields.Dict(), required=True, validate=validate.Length(max=100))
    reason = fields.String(required=True, validate=validate.Length(max=20_000))
    hint = fields.String(required=True, validate=validate.Length(max=20_000))


class AccountSchema(StrictSchema):
    """A batch of outcomes; the same number is recorded once."""

    agent = Text(required=True, **AGENT)
    number = Whole(required=True, least=1, most=2**62)
    outcomes = fields.List(
        fields.Nested(LentOutcomeSchema), required=True, validate=validate.Length(max=500)
    )
    executions = fields.Dict(keys=fields.String(), values=fields.Nested(MovedSchema), required=True)
    crossings = fields.List(
        fields.Nested(CrossingSchema), required=True, validate=validate.Length(max=500)
    )
    examinations = fields.List(
        fields.Nested(ExaminedSchema), required=True, validate=validate.Length(max=100)
    )
    held = _held(load_default=None)
    registries = _known()


class RecordedSchema(AnswerSchema):
    """The last batch of the agent that is recorded: the one that was told, unless its numbers have gone back."""

    number = fields.Integer(required=True)
    stop = _stop()
    registries = _registries()
