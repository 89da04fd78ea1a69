"""/hooks: where registries tell what was pushed. Outside /api: a hook's own secret signs in.

Whatever is wrong with who sends it, the answer is the same 401; nothing is called from here.
"""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, Response, request
from marshmallow import fields
from werkzeug.exceptions import RequestEntityTooLarge

from api.context import services
from api.operations import operation
from api.problems import Problem
from api.schemas.answers import AnswerSchema
from api.v1.shared import answer
from service.errors import NotFoundInStore
from service.model.events.parsing import PROVIDERS, parse
from service.model.events.signing import MAX_AGE_SECONDS, prove
from service.telemetry import get_logger

MAX_BODY = 1 << 20
NO_SECRETS = ("no hook is as long as this one is, and as random",)

log = get_logger("hooks")
blueprint = Blueprint("hooks", __name__, url_prefix="/hooks")


class NotificationSchema(AnswerSchema):
    """How many hints of a notification are saved, and how many are of no use here."""

    accepted = fields.Integer(required=True)
    ignored = fields.Integer(required=True)
    notice = fields.String(metadata={"description": "what an administrator has to do"})


RESULTS: dict[int, tuple[str, Any]] = {
    202: ("saved; rules look at it within a second", NotificationSchema),
    200: ("the answer to a handshake of the sender's", None),
}
HEADERS = {
    "X-Transship-Timestamp": f"seconds since 1970, at most {MAX_AGE_SECONDS} s off",
    "X-Transship-Signature": "v1= and HMAC-SHA256 of TIMESTAMP.BODY, in hex",
    "X-Hub-Signature-256": "GitHub's signature",
    "X-ArtifactHub-Secret": "the secret, as Artifact Hub sends it",
    "Authorization": "the secret, bare, as a Bearer token or as the password of Basic",
}


@blueprint.post("/<provider>/<registry>")
@operation("Take a registry's notification", role=None, results=RESULTS, headers=HEADERS)
def take(provider: str, registry: str) -> Response:
    """Save the hints of one notification."""
    return _take(provider, registry, None)


@blueprint.post("/<provider>/<registry>/<token>")
@operation(
    "Take a registry's notification; the secret is the last part of the address",
    role=None,
    results=RESULTS,
)
def take_by_address(provider: str, registry: str, token: str) -> Response:
    """Save the hints of one notification of a sender that cannot sign."""
    return _take(provider, registry, token)


def _take(provider: str, registry: str, token: str | None) -> Response:
    body = raw_body()
    headers = {name.lower(): value for name, value in request.headers.items()}
    secrets = services().hooks.secrets(registry)
    nonces = prove(provider, headers, body, token, secrets or NO_SECRETS, time.time())
    if nonces is None or not secrets:
        raise _refused()
    if provider not in PROVIDERS:
        raise NotFoundInStore(
            f"{provider[:40]!r} is not a provider", hint=f"one of {', '.join(sorted(PROVIDERS))}"
        )
    host = services().registries.get(registry).endpoint.host
    delivery = parse(provider, headers, body, host)
    saved = services().events.accept(registry, nonces, delivery)
    if saved is None:
        raise _refused()
    if delivery.notice:
        log.warning("hook_notice", registry=registry, provider=provider, notice=delivery.notice)
    if delivery.reply is not None:
        return answer(dict(delivery.reply))
    accepted, ignored = saved
    log.info("hook", registry=registry, provider=provider, accepted=accepted, ignored=ignored)
    told: dict[str, Any] = {"accepted": accepted, "ignored": ignored}
    return answer({**told, "notice": delivery.notice} if delivery.notice else told, 202)


def raw_body() -> bytes:
    """Return the raw body. Raises RequestEntityTooLarge above 1 MiB, Problem for an encoded one."""
    request.max_content_length = MAX_BODY + 1
    raw = request.get_data(cache=False)
    if len(raw) > MAX_BODY:
        raise RequestEntityTooLarge
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(415, "unsupported_media_type", "the body may not be compressed")
    return raw


def _refused() -> Problem:
    return Problem(
        401,
        "unauthenticated",
        "the notification is not signed as this hook wants it",
        hint="see `transship registries hook NAME` for how to configure the sender",
    )
