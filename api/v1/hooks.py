"""/api/v1/registries/{name}/hook: the secret with which a registry sends its events."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request
from marshmallow import fields

from api.bodies import query, refuse_body
from api.context import services
from api.operations import operation
from api.render import instant
from api.schemas.answers import AnswerSchema
from api.v1.shared import answer
from service.store.hooks import HookRecord

blueprint = Blueprint("registry_hooks", __name__, url_prefix="/api/v1/registries/<name>/hook")


class HookSchema(AnswerSchema):
    """What is known of a registry's hook; its secret is shown once, when it is made."""

    registry = fields.String(required=True)
    path = fields.String(
        required=True, metadata={"description": "of this server; PROVIDER is the sender's kind"}
    )
    version = fields.Integer(required=True, metadata={"description": "counts secrets"})
    previous = fields.Boolean(
        required=True, metadata={"description": "whether the secret before this one still holds"}
    )
    created_at = fields.DateTime(required=True)
    rotated_at = fields.DateTime(allow_none=True, required=True)
    received_at = fields.DateTime(
        allow_none=True,
        required=True,
        metadata={"description": "when the last authentic notification came"},
    )
    notice = fields.String(
        required=True, metadata={"description": "what the sender wants an administrator to do"}
    )
    secret = fields.String()


@blueprint.get("")
@operation(
    "Show a registry's hook, without its secret",
    role="operator",
    platform=True,
    results={200: ("the hook", HookSchema)},
)
def show_hook(name: str) -> Response:
    """Answer one hook."""
    query(())
    return answer(_shown(services().hooks.get(name)))


@blueprint.put("")
@operation(
    "Take events of a registry; the secret is in the answer that makes the hook, and nowhere else",
    role="admin",
    platform=True,
    results={200: ("it was there", HookSchema), 201: ("made, with its secret", HookSchema)},
)
def put_hook(name: str) -> Response:
    """Make a registry's hook, unless it is there."""
    query(())
    refuse_body()
    secret, record = services().hooks.create(name)
    if secret is None:
        return answer(_shown(record))
    return answer({**_shown(record), "secret": secret}, 201, Location=request.path)


@blueprint.post("/rotation")
@operation(
    "Make a new secret; the one before holds until the next rotation or until it is ended",
    role="admin",
    platform=True,
    results={201: ("the new secret", HookSchema)},
)
def rotate_hook(name: str) -> Response:
    """Make a new secret beside the current one."""
    query(())
    refuse_body()
    secret, record = services().hooks.rotate(name)
    return answer({**_shown(record), "secret": secret}, 201)


@blueprint.delete("/previous")
@operation(
    "End the secret before the current one, at once",
    role="admin",
    platform=True,
    results={200: ("the hook", HookSchema)},
)
def retire_secret(name: str) -> Response:
    """End the older one of two secrets."""
    query(())
    return answer(_shown(services().hooks.retire(name)))


@blueprint.delete("")
@operation(
    "Take no more events of a registry",
    role="admin",
    platform=True,
    results={204: ("it takes none", None)},
)
def delete_hook(name: str) -> Response:
    """Forget a hook and its secrets."""
    query(())
    services().hooks.delete(name)
    return Response(status=204)


def _shown(record: HookRecord) -> dict[str, Any]:
    return {
        "registry": record.registry,
        "path": f"/hooks/PROVIDER/{record.registry}",
        "version": record.version,
        "previous": record.previous,
        "created_at": instant(record.created_at),
        "rotated_at": instant(record.rotated_at),
        "received_at": instant(record.received_at),
        "notice": record.notice,
    }
