"""/api/v1/webhooks: who is told of outcomes, and whether the telling came through."""

from __future__ import annotations

from flask import Blueprint, Response, request

from api import changes, render
from api.bodies import query, read_json, single
from api.context import services
from api.operations import operation
from api.pagination import page
from api.schemas.answers import DeliveryPageSchema, WebhookAnswerSchema, WebhookPageSchema
from api.schemas.governance import WebhookSchema, load_webhook
from api.v1.shared import NAME, answer, in_own_project, is_own, keep, missing, named
from api.versions import expected_version
from service.errors import FieldProblem, InvalidFields, NotFoundInStore
from service.model.rule_check import suggest
from service.store.webhooks import DELIVERED, FAILED, PENDING, Delivery, StoredWebhook

blueprint = Blueprint("webhooks", __name__, url_prefix="/api/v1/webhooks")
_STATES = (PENDING, DELIVERED, FAILED)


@blueprint.get("")
@operation(
    "List webhooks by name; a project's token sees the project's",
    role="operator",
    results={200: ("one page", WebhookPageSchema)},
    paged=True,
)
def list_webhooks() -> Response:
    """Answer one page."""
    return page(
        "webhooks",
        lambda after, limit, _: keep(
            services().webhooks.list,
            lambda stored: stored.wanted.name,
            lambda stored: is_own(stored.wanted.project),
            after,
            limit,
        ),
        lambda stored: stored.wanted.name,
        render.webhook,
        grammar=NAME,
    )


@blueprint.get("/<name>")
@operation("Show a webhook", role="operator", results={200: ("the webhook", WebhookAnswerSchema)})
def show_webhook(name: str) -> Response:
    """Answer one webhook."""
    query(())
    stored = _find(name)
    return answer(render.webhook(stored), version=stored.version)


@blueprint.put("/<name>")
@operation(
    "Create or replace a webhook; the stored secret stays while the url does",
    role="admin",
    body=WebhookSchema,
    results={200: ("replaced", WebhookAnswerSchema), 201: ("created", WebhookAnswerSchema)},
    headers={"If-Match": "the ETag that was read", "If-None-Match": "* to create only"},
)
def put_webhook(name: str) -> Response:
    """Save what was written, the secret apart."""
    query(())
    document = in_own_project(named(read_json(), name), "webhooks")
    if isinstance(document, dict) and document.get("secret") == {"set": True}:
        document = {key: value for key, value in document.items() if key != "secret"}
    wanted, secret = load_webhook(document)
    if wanted.project is not None:
        _check_project(wanted.project)
    try:
        current: StoredWebhook | None = services().webhooks.get(name)
    except NotFoundInStore:
        current = None
    if current is not None and not is_own(current.wanted.project):
        raise NotFoundInStore(f"there is no webhook named {name}", hint="choose another name")
    expected = expected_version(current.version if current else None)
    written = {key: value for key, value in document.items() if key != "secret"}
    changes.note(
        action="replace" if current else "create",
        project=wanted.project or "",
        before=current.document if current else None,
        after={**written, "secret": "set"} if secret else written,
    )
    stored = services().webhooks.put(
        wanted, document=written, secret=secret, expected_version=expected
    )
    if current is not None:
        return answer(render.webhook(stored), version=stored.version)
    return answer(render.webhook(stored), 201, version=stored.version, Location=request.path)


@blueprint.delete("/<name>")
@operation(
    "Forget a webhook, and what is still to be sent to it",
    role="admin",
    results={204: ("forgotten", None)},
    headers={"If-Match": "the ETag that was read"},
)
def delete_webhook(name: str) -> Response:
    """Forget one webhook."""
    stored = _find(name)
    expected_version(stored.version)
    changes.note(before=stored.document, project=stored.wanted.project or "")
    services().webhooks.delete(name)
    return Response(status=204)


@blueprint.get("/<name>/deliveries")
@operation(
    "List what was, or is to be, sent to a webhook, the newest first",
    role="operator",
    results={200: ("one page", DeliveryPageSchema)},
    query={"state": "only pending, delivered or failed ones"},
    paged=True,
)
def list_deliveries(name: str) -> Response:
    """Answer one page."""
    _find(name)

    def fetch(after: str | None, limit: int, given: dict[str, list[str]]) -> list[Delivery]:
        state = single(given, "state")
        if state is not None and state not in _STATES:
            problem = FieldProblem("state", f"{state[:40]!r} is no state", suggest(state, _STATES))
            raise InvalidFields((problem,))
        return services().webhooks.deliveries(name, state=state, before=after, limit=limit)

    return page(
        f"deliveries-{name}",
        fetch,
        lambda record: record.id,
        render.delivery,
        grammar=r"[0-9a-f]{24}",
        filters=("state",),
    )


def _find(name: str) -> StoredWebhook:
    try:
        stored = services().webhooks.get(name)
    except NotFoundInStore:
        stored = None
    if stored is None or not is_own(stored.wanted.project):
        known = services().webhooks.list()
        raise missing(
            "webhook", name, (one.wanted.name for one in known if is_own(one.wanted.project))
        )
    return stored


def _check_project(name: str) -> None:
    try:
        services().projects.get(name)
    except NotFoundInStore as error:
        known = [stored.project.name for stored in services().projects.list()]
        problem = FieldProblem("project", error.message, suggest(name, known))
        raise InvalidFields((problem,)) from error
