"""Releases: what goes in, and how they are told of."""

from __future__ import annotations

from marshmallow import fields

from api.schemas.answers import AnswerSchema
from api.schemas.common import StrictSchema
from api.schemas.fields import Flag, Items, Judged, Name
from service.model.release import MAX_IMAGES, ReleaseState, TagState, parse_image


def _image(text: str) -> str:
    parse_image(text)
    return text


class ReleaseInputSchema(StrictSchema):
    """A release that is to be staged; without images it is of all that the rule takes."""

    name = Name(required=True, metadata={"example": "2026-12"})
    rule = Name(required=True, metadata={"example": "fleet"})
    images = Items(
        Judged(_image, longest=500),
        most=MAX_IMAGES,
        least=1,
        metadata={"example": ["team/app:stable", "team/web:stable@sha256:" + 64 * "0"]},
    )


class RollbackSchema(StrictSchema):
    """How a release is rolled back; an empty object, or no body at all: when all of it can be."""

    force = Flag(
        load_default=False,
        metadata={"description": "do not look first whether all can go back"},
    )


class ReleaseSchema(AnswerSchema):
    """A release, and where it stands."""

    schema = fields.Integer(required=True)
    name = fields.String(required=True)
    rule = fields.String(required=True)
    project = fields.String(required=True)
    state = fields.String(required=True, metadata={"enum": [one.value for one in ReleaseState]})
    reason = fields.String(required=True)
    images = fields.Integer(
        required=True, metadata={"description": "0: not resolved yet, all that the rule takes"}
    )
    tags = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata={"description": "how many tags, over all destinations, are in which state"},
    )
    execution = fields.String(
        required=True, allow_none=True, metadata={"description": "that stages it"}
    )
    window_seconds = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "from the first to the last tag of its last flip or rollback"},
    )
    created_at = fields.DateTime(required=True)
    changed_at = fields.DateTime(required=True)


class ReleasePageSchema(AnswerSchema):
    """One page."""

    items = fields.List(fields.Nested(ReleaseSchema), required=True)
    next = fields.String(required=True, allow_none=True)


class ReleaseTagSchema(AnswerSchema):
    """One image of a release at one destination."""

    registry = fields.String(required=True)
    region = fields.String(required=True)
    repository = fields.String(required=True)
    tag = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "none: the image is staged by its digest only"},
    )
    digest = fields.String(required=True)
    previous = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "what the tag was before the flip; empty: it was not there; "
            "none: nobody has looked yet"
        },
    )
    state = fields.String(required=True, metadata={"enum": [one.value for one in TagState]})
    reason = fields.String(required=True)
    flipped_at = fields.DateTime(required=True, allow_none=True)


class ReleaseTagPageSchema(AnswerSchema):
    """One page."""

    items = fields.List(fields.Nested(ReleaseTagSchema), required=True)
    next = fields.String(required=True, allow_none=True)
