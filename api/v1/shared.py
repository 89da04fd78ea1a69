"""What the resources of registries and rules both need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from flask import Response, json

from api.versions import etag
from service.bootstrap import Services
from service.errors import FieldProblem, InvalidFields
from service.model.endpoint import RegistryEndpoint
from service.store.rules import StoredRule

T = TypeVar("T")
_PAGE = 500
NAME = r"[a-z0-9][a-z0-9._-]{0,62}"
READ_ONLY = ("effective", "version", "created_at", "updated_at", "next_run_at", "id")


def named(document: Any, name: str) -> Any:
    """Return the document with the path's name in it.

    Raises InvalidFields for a body that names another object, or writes what is read only.
    """
    if not isinstance(document, dict):
        return document
    wrong = [
        FieldProblem(key, "is read only", "leave it out") for key in READ_ONLY if key in document
    ]
    if wrong:
        raise InvalidFields(tuple(wrong))
    if document.get("name", name) != name:
        problem = FieldProblem("name", f"differs from {name!r} in the path", "leave it out")
        raise InvalidFields((problem,))
    return {**document, "name": name}


def endpoints(services: Services) -> dict[str, RegistryEndpoint]:
    """Return all registries by name."""
    found: dict[str, RegistryEndpoint] = {}
    after: str | None = None
    while page := services.registries.list(after, _PAGE):
        found.update((stored.endpoint.name, stored.endpoint) for stored in page)
        after = page[-1].endpoint.name
    return found


def all_rules(services: Services) -> Iterator[StoredRule]:
    """Yield every rule."""
    after: str | None = None
    while page := services.rules.list(after, _PAGE):
        yield from page
        after = page[-1].rule.name


def answer(
    document: Any, status: int = 200, *, version: int | None = None, **headers: str
) -> Response:
    """Return a JSON answer, with its ETag when it has a version."""
    response = Response(f"{json.dumps(document)}\n", status=status, mimetype="application/json")
    if version is not None:
        response.headers["ETag"] = etag(version)
    for name, value in headers.items():
        response.headers[name] = value
    return response
