"""Documents of registrations: webhooks that a provider is to have for us."""

from __future__ import annotations

from urllib.parse import urlsplit

from marshmallow import fields

from api.schemas.answers import AnswerSchema
from api.schemas.common import StrictSchema
from api.schemas.credentials import role_arn
from api.schemas.fields import Flag, Items, Judged, Name
from service.errors import InvalidInput
from service.model.reference import validate_repository
from service.replication.registration import MOST_PLACES


def server_url(value: str) -> str:
    """Return the URL of this server as a provider reaches it, without a / at its end; raises InvalidInput."""
    parts = urlsplit(value)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise InvalidInput("it is not https://HOST", hint="as the registry reaches this server")
    if parts.username or parts.query or parts.fragment:
        raise InvalidInput("it has more than scheme, host, port and path")
    return value.rstrip("/")


class NewRegistrationSchema(StrictSchema):
    """Where events are to be sent, and of which repositories; else of those of all rules that listen to the registry."""

    url = Judged(server_url, required=True, metadata={"example": "https://transship.example"})
    repositories = Items(Judged(validate_repository, longest=255), most=1000, least=1)
    rules = Items(Name(), most=1000, least=1)
    remove = Flag()
    role = Judged(
        role_arn,
        longest=2048,
        metadata={"description": "by which AWS's EventBridge sends: events:InvokeApiDestination"},
    )


class PlaceSchema(AnswerSchema):
    """What came of one place."""

    place = fields.String(
        required=True,
        metadata={"description": "a project, a namespace, an owner, a repository"},
    )
    result = fields.String(
        required=True,
        metadata={"enum": ["changed", "unchanged", "removed", "absent", "failed"]},
    )
    reason = fields.String(required=True)


class RegistrationSchema(AnswerSchema):
    """What came of a registration."""

    schema = fields.Integer(required=True)
    registry = fields.String(required=True)
    provider = fields.String(required=True)
    address = fields.String(
        required=True,
        metadata={
            "description": f"that events are sent to, without the secret; of at most {MOST_PLACES} places"
        },
    )
    places = fields.List(fields.Nested(PlaceSchema), required=True)
