"""/api/v1/pull-tokens: what clients of gateways log in with (docs/adr/0031)."""

from __future__ import annotations

from flask import Blueprint, Response

from api import changes, render
from api.bodies import query, read_json
from api.context import services
from api.operations import operation
from api.pagination import page
from api.schemas.common import load
from api.schemas.fields import seconds
from api.schemas.gateway import NewPullTokenSchema, PullTokenPageSchema, PullTokenSchema
from api.v1.shared import NAME, answer
from service.errors import InvalidConfiguration
from service.model.pull_token import PullKeys
from service.store.pull_tokens import PullTokenRecord, PullTokenStore

blueprint = Blueprint("pull_tokens", __name__, url_prefix="/api/v1/pull-tokens")


@blueprint.get("")
@operation(
    "List pull tokens by name, revoked and expired ones too",
    role="admin",
    platform=True,
    results={200: ("one page", PullTokenPageSchema)},
    paged=True,
)
def list_pull_tokens() -> Response:
    """Answer one page."""
    return page(
        "pull-tokens",
        lambda after, limit, _: _store().list(after, limit),
        lambda record: record.grant.name,
        show,
        grammar=NAME,
    )


@blueprint.post("")
@operation(
    "Make a pull token; its text is in this answer and nowhere else",
    role="admin",
    platform=True,
    body=NewPullTokenSchema,
    results={201: ("the token", PullTokenSchema)},
)
def make_pull_token() -> Response:
    """Make one token."""
    query(())
    wanted = load(NewPullTokenSchema(), read_json())
    keys = _keys()
    lifetime = wanted.get("expires_in")
    changes.note(
        name=wanted["name"],
        after={"repositories": wanted["repositories"], "expires_in": lifetime},
    )
    record = _store().create(
        wanted["name"], wanted["repositories"], None if lifetime is None else seconds(lifetime)
    )
    body = {**show(record), "token": keys.sign(record.grant)}
    return answer(body, 201, Location=f"/api/v1/pull-tokens/{wanted['name']}")


@blueprint.get("/<name>")
@operation(
    "Answer one pull token, without its text",
    role="admin",
    platform=True,
    results={200: ("the token", PullTokenSchema)},
)
def get_pull_token(name: str) -> Response:
    """Answer one token."""
    return answer(show(_store().get(name)))


@blueprint.delete("/<name>")
@operation(
    "Revoke a pull token: gateways that reach the database refuse it within seconds",
    role="admin",
    platform=True,
    results={204: ("revoked", None)},
)
def revoke_pull_token(name: str) -> Response:
    """Revoke one token."""
    query(())
    _store().revoke(name)
    return Response(status=204)


def show(record: PullTokenRecord) -> dict[str, object]:
    """Return a token as JSON; never its text."""
    grant = record.grant
    return {
        "name": grant.name,
        "repositories": list(grant.repositories),
        "created_at": render.instant(record.created_at),
        "expires_at": render.instant(grant.expires_at),
        "revoked_at": render.instant(record.revoked_at),
    }


def _store() -> PullTokenStore:
    return services().pull_tokens


def _keys() -> PullKeys:
    keyring = services().keyring
    if keyring is None:
        raise InvalidConfiguration(
            "there is no key to sign pull tokens with",
            field="TRANSSHIP_SECRET_KEY_FILE",
            hint="point TRANSSHIP_SECRET_KEY_FILE at a key file, the same for API and gateways",
        )
    return PullKeys(keyring.every)
