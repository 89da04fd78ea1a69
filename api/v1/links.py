"""/api/v1/links: what joins regions; a link's name is FROM:TO, and it leads in this direction alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from flask import Blueprint, Response, request

from api import changes, render
from api.bodies import query, read_json
from api.context import services
from api.operations import operation
from api.pagination import page
from api.schemas.region import LinkSchema, effective_link, load_link
from api.schemas.region_answers import LinkAnswerSchema, LinkPageSchema
from api.v1.shared import NAME, answer, missing, named, set_parameter
from api.versions import expected_version
from service.errors import FieldProblem, InvalidFields, NotFoundInStore
from service.model.region_check import check_link
from service.store.regions import StoredLink

blueprint = Blueprint("links", __name__, url_prefix="/api/v1/links")


@blueprint.get("")
@operation(
    "List links by name", role="viewer", results={200: ("one page", LinkPageSchema)}, paged=True
)
def list_links() -> Response:
    """Answer one page."""
    return page(
        "links",
        lambda after, limit, _: services().links.list(after, limit),
        lambda stored: stored.link.name,
        partial(_shown, crossed=services().links.crossed()),
        grammar=f"{NAME}:{NAME}",
    )


@blueprint.get("/<name>")
@operation("Show a link", role="viewer", results={200: ("the link", LinkAnswerSchema)})
def show_link(name: str) -> Response:
    """Answer one link."""
    query(())
    stored = _find(name)
    return answer(_shown(stored), version=stored.version)


@blueprint.put("/<name>")
@operation(
    "Create or replace a link between two declared regions",
    role="admin",
    platform=True,
    body=LinkSchema,
    results={200: ("replaced", LinkAnswerSchema), 201: ("created", LinkAnswerSchema)},
    headers={"If-Match": "the ETag that was read", "If-None-Match": "* to create only"},
    query={"set": "the set that the link belongs to from now on"},
)
def put_link(name: str) -> Response:
    """Save a link."""
    owner = set_parameter()
    document = _document(name)
    link = load_link(document)
    current = _stored(name)
    expected = expected_version(current.version if current else None)
    if problems := check_link(link, services().regions.jurisdictions()):
        raise InvalidFields(problems)
    changes.note(
        action="replace" if current else "create",
        before=current.document if current else None,
        after=document,
    )
    stored = services().links.put(
        link, document=document, expected_version=expected, set_name=owner
    )
    body = _shown(stored)
    if current is not None:
        return answer(body, version=stored.version)
    return answer(body, 201, version=stored.version, Location=request.path)


@blueprint.delete("/<name>")
@operation(
    "Forget a link",
    role="admin",
    platform=True,
    results={204: ("forgotten", None)},
    headers={"If-Match": "the ETag that was read"},
)
def delete_link(name: str) -> Response:
    """Forget one link."""
    current = _find(name)
    expected_version(current.version)
    changes.note(before=current.document)
    services().links.delete(name)
    return Response(status=204)


def _document(name: str) -> Any:
    """Return the body with the path's ends in it; what it says of them has to agree."""
    document = named(read_json(), name)
    if not isinstance(document, dict):
        return document
    source, _, target = name.partition(":")
    wrong = [
        FieldProblem(key, f"differs from {end!r} in the path", "leave it out")
        for key, end in (("from", source), ("to", target))
        if document.get(key, end) != end
    ]
    if wrong:
        raise InvalidFields(tuple(wrong))
    rest = {key: value for key, value in document.items() if key != "name"}
    return {"from": source, "to": target, **rest}


def _stored(name: str) -> StoredLink | None:
    try:
        return services().links.get(name)
    except NotFoundInStore:
        return None


def _find(name: str) -> StoredLink:
    stored = _stored(name)
    if stored is None:
        raise missing("link", name, (link.name for link in services().links.all()))
    return stored


def _shown(stored: StoredLink, crossed: Mapping[str, int] | None = None) -> dict[str, Any]:
    moved = services().links.crossed() if crossed is None else crossed
    return {
        "name": stored.link.name,
        **stored.document,
        "effective": effective_link(stored.link),
        "crossed_bytes": moved.get(stored.link.name, 0),
        "set": stored.set,
        "version": stored.version,
        "created_at": render.instant(stored.created_at),
        "updated_at": render.instant(stored.updated_at),
    }
