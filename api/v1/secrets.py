"""/api/v1/secrets: they come in, and go to their hosts only."""

from __future__ import annotations

from flask import Blueprint, Response, request

from api import changes, render
from api.bodies import query, read_json
from api.context import services
from api.operations import operation
from api.pagination import page
from api.schemas.answers import SecretPageSchema, SecretSchema
from api.schemas.common import load
from api.schemas.governance import NewSecretSchema
from api.v1.shared import NAME, answer, missing, named
from api.versions import expected_version
from service.errors import NotFoundInStore
from service.store.secrets import SecretRecord

blueprint = Blueprint("secrets", __name__, url_prefix="/api/v1/secrets")


@blueprint.get("")
@operation(
    "List secrets by name, without their values",
    role="admin",
    platform=True,
    results={200: ("one page", SecretPageSchema)},
    paged=True,
)
def list_secrets() -> Response:
    """Answer one page."""
    return page(
        "secrets",
        lambda after, limit, _: services().secrets.list(after, limit),
        lambda record: record.name,
        render.secret,
        grammar=NAME,
    )


@blueprint.get("/<name>")
@operation(
    "Show what is known of a secret",
    role="admin",
    platform=True,
    results={200: ("it, without its value", SecretSchema)},
)
def show_secret(name: str) -> Response:
    """Answer one secret's record."""
    query(())
    record = _find(name)
    return answer(render.secret(record), version=record.version)


@blueprint.put("/<name>")
@operation(
    "Store a secret for the hosts that may receive it; without `value` the hosts become fewer",
    role="admin",
    platform=True,
    body=NewSecretSchema,
    results={200: ("replaced", SecretSchema), 201: ("stored", SecretSchema)},
    headers={"If-Match": "the ETag that was read", "If-None-Match": "* to create only"},
)
def put_secret(name: str) -> Response:
    """Store one secret, sealed."""
    query(())
    wanted = load(NewSecretSchema(), named(read_json(), name))
    try:
        current: SecretRecord | None = services().secrets.get(name)
    except NotFoundInStore:
        current = None
    expected = expected_version(current.version if current else None)
    changes.note(
        action="replace" if current else "create",
        before={"hosts": list(current.hosts)} if current else None,
        after={"hosts": wanted["hosts"], "value": "set" if "value" in wanted else "kept"},
    )
    record = services().secrets.put(
        name,
        wanted.get("value"),
        [host.lower() for host in wanted["hosts"]],
        expected_version=expected,
    )
    if current is not None:
        return answer(render.secret(record), version=record.version)
    return answer(render.secret(record), 201, version=record.version, Location=request.path)


@blueprint.delete("/<name>")
@operation(
    "Forget a secret that no registry uses",
    role="admin",
    platform=True,
    results={204: ("forgotten", None)},
    headers={"If-Match": "the ETag that was read"},
)
def delete_secret(name: str) -> Response:
    """Forget one secret."""
    record = _find(name)
    expected_version(record.version)
    changes.note(before={"hosts": list(record.hosts)})
    services().secrets.delete(name)
    return Response(status=204)


def _find(name: str) -> SecretRecord:
    try:
        return services().secrets.get(name)
    except NotFoundInStore:
        raise missing("secret", name, (one.name for one in services().secrets.list())) from None
